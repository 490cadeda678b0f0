"""Which parameter gets which norm: the order of rules, what they look at, what is refused and what is printed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steepest.errors import InvalidArgument, UnknownName
from steepest.norms import (
    L2,
    Blockwise,
    Flattened,
    LInf,
    MaxColumn,
    MaxRow,
    Nuclear,
    Scaled,
    Schatten,
    Spectral,
    Split,
)
from steepest.optim import Muon, Route, SteepestDescent, muon_norm, route, scion_rules


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.qkv = nn.Linear(4, 12)
        self.out = nn.Linear(4, 4, bias=False)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 2)
        self.wte = nn.Embedding(10, 4)
        self.pos_emb = nn.Parameter(torch.zeros(6, 4))
        self.block = Block()
        self.head = nn.Linear(4, 10)


def norms(model: nn.Module, rules) -> dict[str, object]:
    return {name: to.norm for name, to in route(model, rules).items()}


def test_the_first_rule_that_applies_decides():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    rules = [("0.weight", Spectral()), ("*.weight", MaxRow()), ("*", LInf())]
    assert norms(model, rules) == {
        "0.weight": Spectral(),
        "0.bias": LInf(),
        "1.weight": MaxRow(),
        "1.bias": LInf(),
    }
    assert set(norms(model, rules[::-1]).values()) == {LInf()}


def test_a_mapping_is_tried_in_its_order_and_an_iterator_is_taken():
    model = nn.Linear(3, 2)
    rules = {"weight": Spectral(), "*": L2()}
    assert norms(model, rules) == norms(model, iter(rules.items())) == {"weight": Spectral(), "bias": L2()}


@pytest.mark.parametrize(
    ("pattern", "applies"),
    [
        ("block.qkv.weight", True),
        ("*qkv*", True),
        ("block.*.weight", True),
        ("block.[pq]kv.weigh?", True),
        ("*", True),
        ("qkv.weight", False),
        ("Block.*", False),
        ("block.qkv", False),
    ],
)
def test_a_pattern_is_of_the_whole_name_as_in_a_shell(pattern, applies):
    assert (norms(Transformer(), [(pattern, LInf()), ("*", L2())])["block.qkv.weight"] == LInf()) is applies


def test_a_type_is_that_of_the_module_that_owns_the_parameter_or_one_it_inherits_from():
    model = Transformer()
    found = norms(
        model, [(nn.Linear, L2()), (nn.modules.conv._ConvNd, LInf()), (Block, MaxRow()), ("*", Scaled(L2(), 2))]
    )
    assert {name for name, norm in found.items() if norm == L2()} == {
        "block.qkv.weight", "block.qkv.bias", "block.out.weight", "head.weight", "head.bias",
    }  # fmt: skip
    assert {name for name, norm in found.items() if norm == LInf()} == {"patches.weight", "patches.bias"}
    assert MaxRow() not in found.values()  # a Block owns no parameter itself
    assert norms(model, [(Transformer, L2()), ("*", LInf())])["pos_emb"] == L2()


def test_a_predicate_sees_name_owner_and_parameter():
    model, seen = Transformer(), []

    def tall(name: str, module: nn.Module, parameter: nn.Parameter) -> bool:
        seen.append((name, module, parameter))
        return parameter.ndim == 2 and parameter.shape[0] > parameter.shape[1]

    found = norms(model, [(tall, MaxColumn()), ("*", L2())])
    assert {name for name, norm in found.items() if norm == MaxColumn()} == {
        "wte.weight", "pos_emb", "block.qkv.weight", "head.weight",
    }  # fmt: skip
    assert ("block.qkv.weight", model.block.qkv, model.block.qkv.weight) in [
        (name, module, parameter) for name, module, parameter in seen if name == "block.qkv.weight"
    ]


def test_a_target_is_a_norm_a_route_or_a_function_of_the_parameter_that_returns_one():
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3))
    routing = route(
        model,
        [
            ("0.weight", Route(Spectral(), factor=2.0)),
            ("1.weight", lambda p: Route(Scaled(MaxRow(), by=float(p.shape[0])), 0.5)),
            ("*", lambda p: Scaled(L2(), by=float(p.numel()))),
        ],
    )
    assert dict(routing) == {
        "0.weight": Route(Spectral(), 2.0),
        "0.bias": Route(Scaled(L2(), 2.0), 1.0),
        "1.weight": Route(Scaled(MaxRow(), 3.0), 0.5),
        "1.bias": Route(Scaled(L2(), 3.0), 1.0),
    }


def tied() -> nn.Module:
    model = nn.ModuleDict({"wte": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["wte"].weight
    return model


@pytest.mark.parametrize(
    "selector", ["wte.weight", "head.*", nn.Embedding, nn.Linear, lambda name, *_: name == "head.weight"]
)
def test_a_tied_weight_answers_to_each_of_its_names_and_modules(selector):
    assert norms(tied(), [(selector, LInf()), ("*", L2())]) == {"wte.weight": LInf()}


def test_frozen_parameters_are_left_out():
    model = nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    routing = route(model, {"bias": L2()})
    assert list(routing) == ["bias"]
    assert [name for group in routing.param_groups(0.1) for name, _ in group["params"]] == ["bias"]


def test_parameters_without_a_rule_are_named_and_refused():
    message = r"every trainable parameter needs a rule \(got 'none for 0.bias, 1.bias'\). End with"
    with pytest.raises(InvalidArgument, match=message):
        route(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), {"*.weight": Spectral()})


@pytest.mark.parametrize(
    "norm",
    [
        Spectral(),
        Nuclear(),
        Schatten(4.0),
        MaxRow(),
        MaxColumn(),
        Flattened(Spectral()),
        Scaled(Spectral(), 2.0),
        Split(Spectral(exact=True), 2),
    ],
    ids=str,
)
def test_a_norm_of_matrices_for_a_vector_is_refused_by_name(norm):
    with pytest.raises(InvalidArgument, match=r"must have a matrix \(got 'the parameter 0.bias of shape \(2,\)'\)"):
        route(nn.Sequential(nn.Linear(3, 2)), {"*": norm})


@pytest.mark.parametrize("target", [Blockwise({"a": L2()}), "Spectral", None])
def test_a_route_leads_to_the_norm_of_one_tensor(target):
    with pytest.raises(InvalidArgument, match="a rule must lead to the norm of one tensor"):
        Route(target)


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf")])
def test_a_factor_is_finite_and_not_negative(factor):
    with pytest.raises(InvalidArgument, match=r"factor must be a number in \[0, inf\)"):
        Route(L2(), factor)


@pytest.mark.parametrize("norm", [Spectral(), Scaled(Spectral(), 2.0), Split(Spectral(), 2, dim=1)], ids=str)
def test_the_spectral_norm_on_an_embedding_warns(norm):
    with pytest.warns(UserWarning, match=r"0.weight is an embedding .* MaxRow\(\) steps each by itself"):
        route(nn.Sequential(nn.Embedding(5, 4)), {"*": norm})


@pytest.mark.parametrize("norm", [Spectral(), Scaled(Spectral(), 2.0)], ids=str)
def test_the_spectral_norm_on_a_kernel_that_is_not_flattened_warns(norm):
    message = (
        r"weight has 4 dimensions and steps as a stack of matrices of shape \(2, 3\); .* Flattened\(Spectral\(\)\)"
    )
    with pytest.warns(UserWarning, match=message):
        route(nn.Conv2d(3, 4, (2, 3), bias=False), {"*": norm})


def test_nothing_warns_where_kernels_are_flattened_and_embeddings_step_by_rows():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Conv2d(3, 4, 2, bias=False))
    route(model, [(nn.Embedding, MaxRow()), ("*", Scaled(Flattened(Spectral()), 2.0))])


def test_it_prints_as_a_table():
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 2, bias=False), "qkv": nn.Linear(2, 6), "head": nn.Linear(4, 2)})
    model["scale"] = nn.ParameterList([nn.Parameter(torch.tensor(1.0))])
    rules = {
        "conv.*": Scaled(Flattened(Spectral()), 2.0),
        "qkv.weight": Split(Spectral(exact=True), 3),
        "head.weight": Route(Scaled(LInf(), 4.0), 60),
        "*": Scaled(L2(), 0.25),
    }
    assert str(route(model, rules)).splitlines() == [
        "parameter    shape          module         norm                        lr factor  step",
        "conv.weight  4 x 3 x 2 x 2  Conv2d         2 flattened Spectral        1          0.5 lr",
        "qkv.weight   6 x 2          Linear         Spectral, exact of 3 parts  1          1 lr",
        "qkv.bias     6              Linear         0.25 L2                     1          4 lr",
        "head.weight  2 x 4          Linear         4 LInf                      60         15 lr",
        "head.bias    2              Linear         0.25 L2                     1          4 lr",
        "scale.0      scalar         ParameterList  0.25 L2                     1          4 lr",
    ]


def test_it_is_a_mapping_that_suggests_the_nearest_name():
    routing = route(nn.Linear(3, 2), {"*": L2()})
    assert len(routing) == 2
    assert "bias" in routing
    assert "typo" not in routing
    with pytest.raises(UnknownName, match=r"no such trainable parameter \(got 'wieght'\). Did you mean weight\?"):
        routing["wieght"]


def test_parameters_of_one_norm_and_factor_make_a_group_with_their_names():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    routing = route(model, {"2.weight": Route(Spectral(), 0.5), "*.weight": Spectral(), "*": L2()})
    groups = routing.param_groups(lr=0.2)
    assert [([name for name, _ in g["params"]], g["norm"], g["factor"]) for g in groups] == [
        (["0.weight", "1.weight"], Spectral(), 1.0),
        (["0.bias", "1.bias", "2.bias"], L2(), 1.0),
        (["2.weight"], Spectral(), 0.5),
    ]
    assert {group["lr"] for group in groups} == {0.2}
    for group in groups:
        for name, parameter in group["params"]:
            assert parameter is model.get_parameter(name)


@pytest.mark.parametrize("make", [SteepestDescent, lambda groups: Muon(groups, 0.5)], ids=["SteepestDescent", "Muon"])
def test_optimizers_take_the_groups_and_step_in_their_norms(make):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    routing = route(model, {"1.weight": Route(LInf(), 0.5), "*.weight": MaxRow(), "*": L2()})
    optimizer = make(routing.param_groups(0.2))
    for group in optimizer.param_groups:
        group["mode"] = "constrained"
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        norm, factor = routing[name].norm, routing[name].factor
        torch.testing.assert_close(p.data, before[name] - 0.2 * factor * norm.duality_map(torch.ones_like(p)))


def test_by_default_a_small_transformer_is_routed_as_the_docstring_says():
    routing = route(Transformer())
    row, kernel = Scaled(MaxRow(), 4**-0.5), Scaled(Flattened(Spectral()), (12 / 4) ** 0.5)
    assert dict(routing) == {
        "pos_emb": Route(row),
        "patches.weight": Route(kernel),
        "patches.bias": Route(Scaled(L2(), 4**-0.5)),
        "wte.weight": Route(row),
        "block.norm.weight": Route(Scaled(L2(), 4**-0.5)),
        "block.norm.bias": Route(Scaled(L2(), 4**-0.5)),
        "block.qkv.weight": Route(Scaled(Spectral(), (4 / 12) ** 0.5)),
        "block.qkv.bias": Route(Scaled(L2(), 12**-0.5)),
        "block.out.weight": Route(Scaled(Spectral(), 1.0)),
        "head.weight": Route(Scaled(LInf(), 4.0), 60.0),
        "head.bias": Route(Scaled(L2(), 10**-0.5)),
    }


def test_rules_of_your_own_go_before_those_of_scion():
    model = Transformer()
    own = [("*qkv.weight", Split(Spectral(), parts=3)), *scion_rules(model)]
    assert route(model, own)["block.qkv.weight"].norm == Split(Spectral(), parts=3)
    assert {n: to for n, to in route(model, own).items() if "qkv.weight" not in n} == {
        n: to for n, to in route(model).items() if "qkv.weight" not in n
    }


def test_an_output_tied_to_the_embedding_is_an_output():
    assert dict(route(tied())) == {"wte.weight": Route(Scaled(LInf(), 4.0), 60.0)}


@pytest.mark.parametrize("rules", [3, "x", [None], ["x"], {1: 2}, {"*": None}, ("*", LInf()), [("*", "LInf")]], ids=str)
def test_rules_are_pairs_of_a_selector_and_a_target(rules):
    with pytest.raises(InvalidArgument, match=r"must be (pairs|a pair)|must lead to"):
        route(nn.Linear(3, 2), rules)


@pytest.mark.parametrize("model", [None, "x", nn.Linear, [nn.Linear(2, 2)]], ids=str)
def test_only_a_module_is_routed(model):
    for call in (route, scion_rules):
        with pytest.raises(InvalidArgument, match=r"model must be a torch.nn.Module"):
            call(model)


def test_a_row_is_asked_for_by_name_and_the_rate_of_groups_is_a_number():
    routing = route(nn.Linear(3, 2), {"*": L2()})
    with pytest.raises(InvalidArgument, match="name must be a string"):
        routing[0]
    for lr in (None, -1, float("nan"), "1", torch.ones(2)):
        with pytest.raises(InvalidArgument, match="lr must be"):
            routing.param_groups(lr)


SPECTRAL, ROWS, LARGEST = "Spectral", "MaxRow", "LInf"


class OwnTable(nn.Module):
    """A layer of one's own, of which only the name is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(5, 4))


class Named(nn.Module):
    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.head = nn.Linear(4, 7)


def parametrized(layer: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(layer)


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        (lambda: Named(embed=nn.Linear(4, 4)), "embed.weight", SPECTRAL),
        (lambda: Named(time_embed=nn.Sequential(nn.Linear(4, 4))), "time_embed.0.weight", SPECTRAL),
        (lambda: Named(patch_embedding=nn.Conv2d(3, 4, 2)), "patch_embedding.weight", SPECTRAL),
        (lambda: Named(emb=nn.Bilinear(2, 3, 4)), "emb.weight", SPECTRAL),
        (lambda: Named(emb=nn.GRUCell(2, 3)), "emb.weight_ih", SPECTRAL),
        (lambda: Named(a=nn.Embedding(5, 4)), "a.weight", ROWS),
        (lambda: Named(a=nn.EmbeddingBag(5, 4)), "a.weight", ROWS),
        (lambda: Named(embed=parametrized(nn.Linear(4, 4))), "embed.parametrizations.weight.original1", SPECTRAL),
        (lambda: Named(a=parametrized(nn.Embedding(5, 4))), "a.parametrizations.weight.original1", ROWS),
        (lambda: nn.Sequential(nn.Linear(4, 4), parametrized(nn.Linear(4, 3))),
         "1.parametrizations.weight.original1", LARGEST),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.utils.spectral_norm(nn.Linear(4, 3))), "1.weight_orig", LARGEST),
        (lambda: Named(wte=OwnTable()), "wte.weight", ROWS),
        (lambda: Named(other=OwnTable()), "other.weight", SPECTRAL),
        (lambda: Named(embed=nn.Sequential(OwnTable())), "embed.0.weight", SPECTRAL),
        (lambda: tied(), "wte.weight", LARGEST),
    ],
)  # fmt: skip
def test_a_layer_is_told_by_its_type_and_only_what_has_none_by_its_own_name(model, name, expected):
    assert expected in str(route(model())[name].norm)


def test_muon_of_a_module_tells_layers_by_their_type():
    linear = nn.Sequential(nn.Linear(4, 4, bias=False))
    linear.add_module("embed", nn.Linear(4, 3, bias=False))
    assert {str(group["norm"]) for group in Muon(linear, 0.1).param_groups} == {str(muon_norm(torch.zeros(4, 4)))}
    with pytest.raises(InvalidArgument, match=r"hidden matrices \(got 'the embedding embed.weight'\)"):
        Muon(linear.named_parameters(), 0.1)  # a name is all there is
    Muon([("embed.0.weight", nn.Parameter(torch.zeros(4, 4)))], 0.1)
    for table in (nn.Embedding(5, 4), nn.EmbeddingBag(5, 4)):
        with pytest.raises(InvalidArgument, match=r"hidden matrices \(got 'the embedding 1.weight'\)"):
            Muon(nn.Sequential(nn.Linear(4, 4, bias=False), table), 0.1)
        Muon(nn.Sequential(nn.Linear(4, 4, bias=False), table.requires_grad_(False)), 0.1)
    with pytest.raises(InvalidArgument, match=r"Muon must have matrices \(got 'a parameter of shape \(3,\)'\)"):
        Muon(nn.Linear(4, 3), 0.1)
