from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from steepest.errors import InvalidArgument
from steepest.norms import Flattened, Scaled, Spectral
from steepest.optim import Muon, SteepestDescent, muon_norm, route

SHAPES = [(6, 6), (12, 3), (3, 12), (8, 3, 2, 2), (32, 2, 2, 2), (5, 4, 3)]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)


def conditioned(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """A gradient whose matrix has singular values between 0.2 and 1, well inside of what the iteration lifts."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    generator = np.random.default_rng(seed)
    u, _, vh = np.linalg.svd(generator.standard_normal((rows, columns)), full_matrices=False)
    return torch.tensor((u * generator.uniform(0.2, 1, min(rows, columns))) @ vh).view(shape)


def reference(gradients: list[np.ndarray], lr: float, momentum: float, nesterov: bool) -> np.ndarray:
    """The sum of Muon's steps by SVD, written down from its definition."""
    total = buffer = np.zeros_like(gradients[0])
    for g in gradients:
        buffer = momentum * buffer + g
        v = g + momentum * buffer if nesterov else buffer
        u, _, vh = np.linalg.svd(v.reshape(len(v), -1), full_matrices=False)
        rows, columns = u.shape[0], vh.shape[1]
        total = total - lr * np.sqrt(max(1, rows / columns)) * (u @ vh).reshape(g.shape)
    return total


@pytest.mark.parametrize("nesterov", [True, False], ids=["nesterov", "plain"])
@EVERY_SHAPE
def test_a_step_is_the_polar_factor_of_the_momentum_times_the_root_of_rows_over_columns(shape, nesterov):
    gradient = conditioned(shape, seed=0)
    w = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    w.grad = gradient
    Muon([w], lr=0.1, nesterov=nesterov).step()
    expected = torch.tensor(reference([gradient.numpy()], 0.1, 0.95, nesterov))
    # Singular values lie within 0.15 of 1.
    assert torch.linalg.norm((w.data - expected).flatten()) <= 0.15 * torch.linalg.norm(expected.flatten())


@pytest.mark.parametrize("nesterov", [True, False], ids=["nesterov", "plain"])
@EVERY_SHAPE
def test_its_norm_with_exact_polar_factors_reproduces_the_reference_over_many_steps(shape, nesterov):
    gradients = [conditioned(shape, seed) for seed in range(5)]
    w = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    iterative = muon_norm(w)
    assert isinstance(iterative, Scaled)
    inner = Spectral(exact=True) if w.ndim == 2 else Flattened(Spectral(exact=True))
    norm = Scaled(inner, iterative.by)
    optimizer = SteepestDescent([w], norm, lr=0.1, mode="constrained", momentum=0.95, nesterov=nesterov)
    for gradient in gradients:
        w.grad = gradient
        optimizer.step()
    expected = torch.tensor(reference([g.numpy() for g in gradients], 0.1, 0.95, nesterov))
    torch.testing.assert_close(w.data, expected, rtol=0, atol=1e-10)


@given(rows=st.integers(1, 50), columns=st.integers(1, 50))
def test_its_norm_is_the_spectral_norm_over_the_root_of_rows_over_columns_where_tall(rows, columns):
    norm = muon_norm(torch.zeros(rows, columns))
    assert isinstance(norm, Scaled)
    assert norm.norm == Spectral()
    assert norm.by == pytest.approx(min(1, (columns / rows) ** 0.5))


def test_a_kernel_is_read_as_the_matrix_out_by_in_times_kernel():
    norm = muon_norm(torch.zeros(64, 2, 2, 2))
    assert isinstance(norm, Scaled)
    assert norm.norm == Flattened(Spectral())
    assert norm.by == pytest.approx((64 / 8) ** -0.5)


def test_it_is_constrained_with_nesterov_momentum_of_095_and_no_decay():
    (group,) = Muon([nn.Parameter(torch.zeros(2, 2))], lr=0.1).param_groups
    assert (group["mode"], group["momentum"], group["nesterov"]) == ("constrained", 0.95, True)
    assert group["weight_decay"] == 0


def test_the_length_of_a_step_does_not_depend_on_the_size_of_the_gradient():
    steps = []
    for size in (1e-6, 1.0, 1e6):
        w = nn.Parameter(torch.zeros(6, 6, dtype=torch.float64))
        w.grad = size * conditioned((6, 6), seed=1)
        Muon([w], lr=0.1).step()
        steps.append(w.data)
    torch.testing.assert_close(steps[0], steps[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(steps[2], steps[1], rtol=0, atol=1e-12)


def test_matrices_of_several_shapes_and_kernels_go_together():
    weights = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in SHAPES * 2]
    optimizer = Muon(weights, lr=0.1)
    for seed, w in enumerate(weights):
        w.grad = conditioned(tuple(w.shape), seed)
    optimizer.step()
    for seed, w in enumerate(weights):
        expected = torch.tensor(reference([conditioned(tuple(w.shape), seed).numpy()], 0.1, 0.95, True))
        assert torch.linalg.norm((w.data - expected).flatten()) <= 0.15 * torch.linalg.norm(expected.flatten())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(weights)


def test_groups_and_names_keep_their_options():
    a, b, c = (nn.Parameter(torch.zeros(shape)) for shape in ((2, 2), (4, 2), (2, 4)))
    optimizer = Muon([{"params": [a, b], "lr": 0.5}, {"params": c, "weight_decay": 0.1}], lr=0.1, nonfinite="skip")
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert found == {id(a): (0.5, 0), id(b): (0.5, 0), id(c): (0.1, 0.1)}
    named = Muon([("a", a), ("b", b)], lr=0.1)
    assert {name for group in named.param_groups for name in group["param_names"]} == {"a", "b"}


def test_parameters_may_come_from_a_generator():
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Conv2d(2, 3, 2, bias=False))
    assert sum(len(g["params"]) for g in Muon(net.parameters(), lr=0.1).param_groups) == 2
    assert sum(len(g["params"]) for g in Muon(net.named_parameters(), lr=0.1).param_groups) == 2


REMEDY = r"Pass route\(model\).param_groups\(lr\), which gives every parameter a norm, or use Scion\(model, lr\)\."


@pytest.mark.parametrize("shape", [(3,), ()], ids=str)
def test_vectors_are_refused_with_a_remedy(shape):
    message = rf"Muon must have matrices \(got 'a parameter of shape \(.*\)'\)\. {REMEDY}"
    with pytest.raises(InvalidArgument, match=message):
        Muon([nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(shape))], lr=0.1)
    with pytest.raises(InvalidArgument, match=message):
        muon_norm(torch.zeros(shape))
    optimizer = Muon([nn.Parameter(torch.zeros(2, 2))], lr=0.1)
    with pytest.raises(InvalidArgument, match=message):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(shape))]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    "name", ["wte.weight", "h.wpe.weight", "tok_emb.weight", "embedding", "model.embed_tokens.weight"]
)
def test_embeddings_are_refused_by_name_with_a_remedy(name):
    w = nn.Parameter(torch.zeros(4, 2))
    with pytest.raises(
        InvalidArgument, match=rf"Muon must have hidden matrices \(got 'the embedding {name}'\)\. {REMEDY}"
    ):
        Muon([(name, w)], lr=0.1)


@pytest.mark.parametrize("name", ["member.weight", "h.0.attn.weight", "tower.weight", "assembly.0.weight"])
def test_other_names_are_no_embeddings(name):
    Muon([(name, nn.Parameter(torch.zeros(4, 2)))], lr=0.1)


def test_the_groups_of_a_route_are_taken_with_their_norms_vectors_and_embeddings_among_them():
    net = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    routing = route(net)
    optimizer = Muon(routing.param_groups(0.1), lr=0.5)
    found = {name: (g["norm"], g["lr"] * g["factor"]) for g in optimizer.param_groups for name in g["param_names"]}
    assert found == {name: (to.norm, pytest.approx(0.1 * to.factor)) for name, to in routing.items()}
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for name, p in net.named_parameters():
        norm, lr = found[name]
        # Nesterov's first direction is 1.95 g, and only its direction counts.
        torch.testing.assert_close(p.data, before[name] - lr * norm.duality_map(torch.ones_like(p)))


def spectrum(condition: float) -> torch.Tensor:
    """A gradient of 256 x 1024 whose singular values fall evenly on a logarithmic scale from 1 to 1 / condition."""
    generator = np.random.default_rng(0)
    u, _ = np.linalg.qr(generator.standard_normal((256, 256)))
    v, _ = np.linalg.qr(generator.standard_normal((1024, 256)))
    return torch.tensor((u * np.logspace(0, -np.log10(condition), 256)) @ v.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("condition", "least"), [(1e2, 0.87), (1e7, 0.86)])
@pytest.mark.parametrize("nesterov", [True, False], ids=["nesterov", "plain"])
def test_the_first_step_attains_most_of_what_its_spectral_length_can(dtype, condition, least, nesterov):
    w = nn.Parameter(torch.zeros(256, 1024, dtype=dtype))
    w.grad = spectrum(condition).to(dtype)
    Muon([w], lr=1.0, nesterov=nesterov).step()
    g, step = w.grad.double(), -w.data.double()
    nuclear, spectral = torch.linalg.svdvals(g).sum(), torch.linalg.matrix_norm(step, 2)
    assert float((g * step).sum() / (nuclear * spectral)) >= least
    assert 0.9 <= float(spectral) <= 1.15


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_gradient_of_the_scale_1e_12_gives_the_step_of_one_of_scale_1(dtype):
    steps = []
    for scale in (1.0, 2.0**-40, 1e-12):
        w = nn.Parameter(torch.zeros(256, 1024, dtype=dtype))
        w.grad = (spectrum(1e2) * scale).to(dtype)
        Muon([w], lr=1.0).step()
        steps.append(w.data.double())
    # A power of two changes no digit; another scale rounds the gradient anew, and the iteration may run in bfloat16.
    torch.testing.assert_close(steps[1], steps[0], rtol=0, atol=torch.finfo(dtype).eps * 0.01)
    assert float((steps[2] - steps[0]).norm() / steps[0].norm()) < 0.1
