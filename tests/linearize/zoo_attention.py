"""Architectures of the zoo with attention, from torch's modules to whole language models."""

from __future__ import annotations

from typing import Any

import torch
from tests.linearize.zoo import Net, architecture, draw, parameter, tokens
from torch import nn
from torch.nn import functional as F


def encoder_layer(**options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, **options)


@architecture(3, others=(1, 4))
def encoder_after_norm():
    return Net(lambda s, x: s.f(s.e(x).mean(1)), e=encoder_layer(), f=nn.Linear(4, 2)), draw(4, 4)


@architecture(3, others=(1, 4))
def encoder_before_norm():
    return Net(lambda s, x: s.e(x)[:, 0], e=encoder_layer(norm_first=True, activation="gelu")), draw(4, 4)


@architecture(3, others=(1, 4))
def encoder_time_first():
    return Net(lambda s, x: s.e(x.transpose(0, 1))[-1], e=nn.TransformerEncoderLayer(4, 2, 6)), draw(4, 4)


@architecture(4, others=(1, 3))
def encoder_time_first_as_many_as_examples():
    return Net(
        lambda s, x: s.e(x.transpose(0, 1)).square().mean(0), e=nn.TransformerEncoderLayer(4, 1, 6, bias=False)
    ), draw(4, 4)


@architecture(3, others=(1, 4))
def encoder_stack_with_padding():
    stack = nn.TransformerEncoder(encoder_layer(), 2, nn.LayerNorm(4), enable_nested_tensor=False)
    padded = torch.tensor([False, False, False, True])
    return Net(lambda s, x: s.e(x, src_key_padding_mask=padded.expand(len(x), -1)).mean(1), e=stack), draw(4, 4)


@architecture(3, others=(1, 4))
def one_encoder_layer_used_twice():
    return Net(lambda s, x: s.e(s.e(x)).mean(1), e=encoder_layer()), draw(3, 4)


@architecture(3, others=(1, 4))
def encoder_and_decoder():
    net = nn.Transformer(4, 2, 1, 1, 4, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(3).isinf()
    return Net(lambda s, x, y: s.t(x, y, tgt_mask=mask, tgt_is_causal=True).mean(1), t=net), lambda n: (
        draw(4, 4)(n),
        draw(3, 4)(n),
    )


@architecture(3, others=(1, 4))
def self_attention_with_weights():
    def run(s, x):
        out, weights = s.a(x, x, x)
        return out.sum(1), weights[:, 0]

    return Net(run, a=nn.MultiheadAttention(4, 2, batch_first=True)), draw(3, 4)


@architecture(3, others=(1, 5))
def self_attention_without_weights():
    def run(s, x):
        x = x.transpose(0, 1)
        return s.a(x, x, x, need_weights=False, attn_mask=torch.ones(5, 5).triu(1).bool())[0].sum(0)

    return Net(run, a=nn.MultiheadAttention(4, 2, bias=False)), draw(5, 4)


@architecture(3, others=(1, 2))
def cross_attention():
    net = nn.MultiheadAttention(4, 2, kdim=3, vdim=2, batch_first=True)
    return Net(lambda s, q, k, v: s.a(q, k, v)[0].sum(1), a=net), lambda n: (
        draw(2, 4)(n),
        draw(5, 3)(n),
        draw(5, 2)(n),
    )


@architecture(3, others=(1, 5))
def attention_with_bias_and_padding():
    def run(s, x):
        hidden = (x[:, :, 0] > 0.5) & (torch.arange(x.shape[1]) > 0)
        return s.a(x, x, x, key_padding_mask=hidden, need_weights=False, average_attn_weights=False)[0].mean(1)

    return Net(run, a=nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True)), draw(4, 4)


@architecture(3, others=(1, 4))
def fused_causal_attention():
    def run(s, x):
        q, k, v = s.qkv(x).unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        return s.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)).mean(1)

    return Net(run, qkv=nn.Linear(4, 12), out=nn.Linear(4, 2)), draw(4, 4)


@architecture(3, others=(1, 4))
def attention_by_hand_time_first():
    def run(s, x):
        h = x.transpose(0, 1)
        t, n, _ = h.shape
        q, k, v = (part.reshape(t, n * 2, 2).transpose(0, 1) for part in s.qkv(h).chunk(3, -1))
        scores = torch.baddbmm(s.bias.expand(n * 2, t, t), q, k.mT)
        return s.out((scores.softmax(-1) @ v).transpose(0, 1).reshape(t, n, 4)).mean(0)

    return Net(run, qkv=nn.Linear(4, 12), out=nn.Linear(4, 2), bias=parameter(1, 4, 4)), draw(4, 4)


@architecture(3, others=(1, 4))
def attention_with_learned_queries():
    def run(s, x):
        return torch.stack([(w @ v).flatten() for w, v in zip((s.q @ s.k(x).mT).softmax(-1), s.v(x), strict=True)])

    return Net(run, q=parameter(2, 3), k=nn.Linear(4, 3), v=nn.Linear(4, 2)), draw(3, 4)


@architecture(3, others=(1, 4))
def vision_transformer():
    def run(s, x):
        h = s.patch(x).flatten(2).transpose(1, 2)
        h = torch.cat([s.token.expand(len(x), -1, -1), h], 1) + s.positions
        return s.head(s.norm(s.e(h))[:, 0])

    return Net(
        run,
        patch=nn.Conv2d(1, 4, 2, stride=2),
        token=nn.Parameter(torch.zeros(1, 1, 4)),
        positions=parameter(1, 5, 4),
        e=encoder_layer(norm_first=True),
        norm=nn.LayerNorm(4),
        head=nn.Linear(4, 2),
    ), draw(1, 4, 4)


@architecture(3, others=(1, 4))
def mixer():
    return Net(
        lambda s, x: s.c(x + s.t(s.n(x).mT).mT.relu()).mean(1), t=nn.Linear(4, 4), c=nn.Linear(4, 2), n=nn.LayerNorm(4)
    ), draw(4, 4)


@architecture(3, others=(1, 4))
def rotary_and_gated():
    def run(s, x):
        angles = torch.arange(x.shape[1]) * s.frequency.exp()
        q, k = (torch.view_as_complex(f(x).unflatten(-1, (1, 2))) for f in (s.q, s.k))
        turn = torch.polar(torch.ones_like(angles), angles)[:, None]
        scores = (torch.einsum("ntc,nsc->nts", q * turn, (k * turn).conj()).real).softmax(-1)
        return s.out(F.silu(s.gate(x)) * (scores @ x)).mean(1)

    return Net(
        run, q=nn.Linear(4, 2), k=nn.Linear(4, 2), gate=nn.Linear(4, 4), out=nn.Linear(4, 2), frequency=parameter()
    ), draw(4, 4)


@architecture(3, others=(1, 4))
def tokens_of_a_language_model():
    """A logit for each token and each word, tied to the table."""

    def run(s, x):
        h = s.table(x) + s.places(torch.arange(x.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=h.dtype)
        return F.linear(s.e(h, src_mask=mask, is_causal=True)[:, -1], s.table.weight)

    return Net(run, table=nn.Embedding(5, 4), places=nn.Embedding(6, 4), e=encoder_layer()), tokens(4, 5)


@architecture(3, others=(1, 4), slow=True)
def transformers_gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=9,
        n_positions=5,
        n_embd=4,
        n_layer=1,
        n_head=2,
        attn_implementation="eager",
        bos_token_id=0,
        eos_token_id=0,
    )
    return Net(lambda s, x: s.lm(x, use_cache=False).logits[:, -1, :4], lm=GPT2LMHeadModel(config)), tokens(4, 9)


@architecture(3, others=(1, 4), slow=True)
def transformers_bert():
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=9,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=6,
        max_position_embeddings=6,
    )
    return Net(
        lambda s, x: s.lm(x, attention_mask=(x > 0).long()).logits, lm=BertForSequenceClassification(config)
    ), tokens(4, 9)
