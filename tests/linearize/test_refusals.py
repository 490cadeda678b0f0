"""Bad input: an error that says what is wrong and what to do, or a result that says what it is."""

from __future__ import annotations

import math

import pytest
import torch
from tests.linearize.dense import dense
from torch import nn
from torch.nn import functional as F

from steepest.errors import InvalidArgument, SteepestError, UnknownName
from steepest.linearize import Linearization


def net(*layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), *layers, nn.Linear(8, 2)).double()


def points(n=6, size=3, seed=1):
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Applied(nn.Module):
    """A network, and a function of what it returns."""

    def __init__(self, function):
        super().__init__()
        self.inner, self.function = net(), function

    def forward(self, x):
        return self.function(self.inner(x))


def test_a_model_without_trainable_parameters_is_refused():
    for model in (nn.Tanh(), net().requires_grad_(False)):
        with pytest.raises(InvalidArgument, match="parameters that require gradients"):
            Linearization(model, points())


def test_what_is_no_module_is_refused():
    with pytest.raises(InvalidArgument, match=r"model must be a torch.nn.Module \(got <function"):
        Linearization(lambda x: x, points())


def test_a_frozen_parameter_has_no_columns():
    model = net()
    model[0].requires_grad_(False)
    lin = Linearization(model, points())
    assert list(lin.paths) == ["2.weight", "2.bias"]
    torch.testing.assert_close(lin.features(), dense(model, (points(),)))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(3, 2).double(), nn.Linear(3, 5).double()

    def forward(self, x):
        return self.used(x)


def test_a_parameter_that_the_outputs_do_not_depend_on_has_zero_columns_and_that_is_said():
    model = Unused()
    lin = Linearization(model, points())
    assert {name for name, path in lin.paths.items() if path == "zero"} == {"spare.weight", "spare.bias"}
    assert "zero columns: spare.weight, spare.bias" in repr(lin)
    assert not lin.features(parameters=["spare.weight", "spare.bias"]).any()
    torch.testing.assert_close(lin.features(), dense(model, (points(),)))
    torch.testing.assert_close(lin.kernel(), lin.features() @ lin.features().T)
    assert not (lin.rmatvec(torch.ones(12, dtype=torch.float64))[lin.labels.columns("spare.weight")]).any()


def test_an_output_that_is_not_asked_for_leaves_zero_columns_as_well():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 1).double(), nn.Linear(3, 1).double()

        def forward(self, x):
            return self.a(x), self.b(x)

    lin = Linearization(Two(), points(), outputs=0)
    assert (lin.paths["b.weight"], lin.paths["b.bias"]) == ("zero", "zero")


def test_columns_that_are_zero_by_value_are_right():
    model = net()
    with torch.no_grad():
        model[2].weight.zero_()
    lin = Linearization(model, points())
    assert not lin.features(parameters="0.weight").any()
    torch.testing.assert_close(lin.features(), dense(model, (points(),)))


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (points(size=4), r"the model must take x, examples of shapes \(4,\)"),
        (points()[0, 0], "first dimension counts the examples"),
        (points(0), "At least one example"),
        ((), "At least one example"),
        ((points(5), points(6)), "first dimension counts the examples"),
        ((points(), points()), "the model must take x"),
        ([[1.0, 2.0, 3.0]], "x must be a dense tensor"),
        (points().numpy(), "x must be a dense tensor"),
        (None, "x must be a dense tensor"),
        (points().float(), "the model must take x"),
        (points().long(), "the model must take x"),
    ],
    ids=["shape", "no dimension", "empty", "no inputs", "lengths", "two", "list", "numpy", "none", "float32", "int"],
)
def test_inputs_that_the_model_does_not_take_are_refused(x, says):
    with pytest.raises(InvalidArgument, match=says):
        Linearization(net(), x)


@pytest.mark.parametrize("use", ["features", "kernel", "predictions", "principal_features"])
@pytest.mark.parametrize(
    "x",
    [points(size=4), points(0), points().float(), (points(), points()), points()[0, 0]],
    ids=["shape", "empty", "float32", "two", "no dimension"],
)
def test_fresh_inputs_that_the_model_does_not_take_are_refused(use, x):
    lin = Linearization(net(), points())
    with pytest.raises(InvalidArgument):
        getattr(lin, use)(x)


@pytest.mark.parametrize("outputs", [2, -1, [0, 5], []])
def test_outputs_that_there_are_not_are_refused(outputs):
    with pytest.raises(InvalidArgument, match="outputs must be whole numbers from 0 to 1"):
        Linearization(net(), points(), outputs)


@pytest.mark.parametrize("p", [0.3, 0.9])
@pytest.mark.parametrize("n", [6, 40])
def test_dropout_is_refused_unless_a_seed_fixes_one_draw(p, n, rng_untouched):
    model, x = net(nn.Dropout(p)), points(n)
    with pytest.raises(InvalidArgument, match=r"dropout is on.*2: Dropout.*model.eval\(\), or pass a seed"):
        Linearization(model, x)
    with rng_untouched():
        lin = Linearization(model, x, seed=5)
        found, predictions = lin.features(), lin.predictions()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = dense(model, (x,))
        torch.manual_seed(5)
        torch.testing.assert_close(predictions, model(x).detach())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(lin.kernel(), expected @ expected.T)
    other = Linearization(model, x, seed=6).features()
    assert (other - expected).abs().max() > 0.01


def test_a_seed_fixes_one_draw_for_what_has_no_rule_too(rng_untouched):
    model, x = net(nn.Dropout(0.5), nn.PReLU()).double(), points(20)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = dense(model, (x,))
    with rng_untouched():
        lin = Linearization(model, x, seed=7)
        torch.testing.assert_close(lin.features(), expected)
        torch.testing.assert_close(lin.features(x.clone()), expected)


def test_the_dropout_of_an_attention_is_refused():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(3, 1, dropout=0.1)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    with pytest.raises(InvalidArgument, match=r"dropout is on.*attention: MultiheadAttention"):
        Linearization(Attending().double(), points()[:, None])


def test_fresh_inputs_of_a_seeded_model_get_the_draw_of_their_batch():
    model, fresh = net(nn.Dropout(0.5)), points(30, seed=4)
    lin = Linearization(model, points(), seed=5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = dense(model, (fresh,))
        torch.manual_seed(5)
        torch.testing.assert_close(lin.predictions(fresh), model(fresh).detach())
    torch.testing.assert_close(lin.features(fresh), expected)


def test_dropout_that_is_off_is_no_dropout():
    for model in (net(nn.Dropout(0.5)).eval(), net(nn.Dropout(0.0))):
        torch.testing.assert_close(Linearization(model, points()).features(), dense(model, (points(),)))


def test_random_numbers_that_no_module_announces_are_refused_or_seeded():
    model = Applied(lambda y: F.dropout(y, 0.5))
    with pytest.raises(InvalidArgument, match="pass a seed"):
        Linearization(model, points())
    lin = Linearization(model, points(), seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        torch.testing.assert_close(lin.features(), dense(model, (points(),)))


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("model", [Applied(lambda y: y.argmax(1)), Applied(lambda y: y > 0)])
def test_classes_are_no_outputs(model, check):
    with pytest.raises(InvalidArgument, match="Return logits, not classes"):
        Linearization(model, points(), check=check)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    "function", [torch.Tensor.detach, lambda y: y.argmax(1).double(), lambda y: torch.tensor(y.tolist())]
)
def test_outputs_without_a_gradient_are_refused(function, check):
    with pytest.raises(InvalidArgument, match="depend on a parameter"):
        Linearization(Applied(function), points(), check=check)


def test_outputs_made_without_gradients_are_refused():
    with pytest.raises(InvalidArgument, match=r"torch\.no_grad"):
        Linearization(Applied(torch.no_grad()(lambda y: y.clone().detach())), points())


@pytest.mark.parametrize(
    "function", [lambda y: y.sum(), lambda y: {"loss": y.sum()}, lambda y: y[:3]], ids=["scalar", "loss", "fewer"]
)
def test_outputs_that_do_not_count_the_examples_are_refused(function):
    with pytest.raises(InvalidArgument, match="first dimension must count the 6 examples"):
        Linearization(Applied(function), points())


@pytest.mark.parametrize("function", [str, lambda _: None, lambda y: (y, "text"), lambda _: ()])
def test_what_is_no_tensor_is_refused(function):
    with pytest.raises(InvalidArgument, match="Pass outputs=function"):
        Linearization(Applied(function), points())


def test_batch_normalisation_in_training_mode_is_refused_with_the_reason():
    model = net(nn.BatchNorm1d(8).double())
    with pytest.raises(InvalidArgument, match=r"couples the examples.*2: BatchNorm1d.*model.eval\(\)"):
        Linearization(model, points())
    with pytest.raises(InvalidArgument, match="couples the examples"):
        Linearization(model, points(), seed=0)
    model(points(50))
    model.eval()
    torch.testing.assert_close(Linearization(model, points()).features(), dense(model, (points(),)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", [2, 35], ids=["among the first", "later"])
def test_inputs_that_are_not_finite_are_refused_or_their_spectrum_is(bad, where):
    x = points(40)
    x[where, 1] = bad
    with pytest.raises(SteepestError, match="finite"):
        Linearization(net(), x).svd()


def test_parameters_that_are_not_finite_are_refused():
    model = net()
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    with pytest.raises(InvalidArgument, match="outputs must be finite"):
        Linearization(model, points())


def test_unknown_parameters_get_suggestions():
    lin = Linearization(net(), points())
    for use in (
        lambda: lin.features(parameters="0.wieght"),
        lambda: lin.features(parameters=["2.bias", "0.wieght"]),
        lambda: lin.labels.columns("0.wieght"),
    ):
        with pytest.raises(UnknownName, match=r"no such trainable parameter \(got '0.wieght'\). Did you mean 0.weight"):
            use()


@pytest.mark.parametrize("max_bytes", [0, -1, 2.5, 1e9, math.nan, math.inf, True, None, "1"])
def test_a_budget_is_a_number_of_bytes(max_bytes):
    with pytest.raises(InvalidArgument, match="max_bytes must be a whole number >= 1"):
        Linearization(net(), points(), max_bytes=max_bytes)


@pytest.mark.parametrize(
    "use",
    [
        lambda lin: lin.features(),
        lambda lin: lin.features(points(9, seed=2)),
        lambda lin: lin.features(parameters="0.weight"),
        lambda lin: lin.kernel(),
        lambda lin: lin.kernel(points(7, seed=2)),
        lambda lin: lin.kernel(trace=True),
        lambda lin: lin.svd().singular_values,
        lambda lin: lin.svd(1).singular_values,
        lambda lin: lin.svd(3).right().abs(),
        lambda lin: lin.principal_features(points(9, seed=2), 3).abs(),
    ],
    ids=["features", "fresh", "some", "kernel", "kernel of fresh", "trace", "svd", "largest", "right", "principal"],
)
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_a_budget_too_small_is_refused_with_one_that_does(use, dtype):
    model, x = net() if dtype is None else net().float(), points()
    budget, refusals = 1, 0
    while True:
        try:
            found = use(Linearization(model, x, max_bytes=budget, dtype=dtype))
            break
        except InvalidArgument as error:
            said = int(str(error).split("max_bytes=")[1].split()[0])
            assert said > budget
            budget, refusals = said, refusals + 1
    copies = 0 if dtype is None else 1
    assert refusals - copies in (1, 2)  # the converted model, the decomposition, and then what is made of it
    with pytest.raises(InvalidArgument, match=f"Pass max_bytes={budget} or more"):
        use(Linearization(model, x, max_bytes=budget - 1, dtype=dtype))
    # The Gram matrix and the dense decomposition agree to half of the digits.
    torch.testing.assert_close(found, use(Linearization(model, x, dtype=dtype)), rtol=1e-6, atol=1e-6)


def test_k_larger_than_the_rank_is_refused_with_the_rank():
    model = nn.Linear(5, 1, bias=False).double()
    lin = Linearization(model, points(8, 2) @ points(2, 5))
    with pytest.raises(InvalidArgument, match=r"only 2 singular values exceed the threshold.* Ask for k <= 2"):
        lin.principal_features(k=3)
    assert lin.svd(3).rank == 2


@pytest.mark.parametrize("k", [0, -2, 13, 2.0, True, "2", math.nan])
def test_k_larger_than_the_matrix_is_refused(k):
    with pytest.raises(InvalidArgument, match="Ask for k from 1 to 12"):
        Linearization(net(), points()).svd(k)


def test_vectors_of_the_wrong_length_are_refused():
    lin = Linearization(net(), points())
    rows, columns = lin.shape
    for use, length in (
        (lin.matvec, columns + 1),
        (lin.matvec, rows),
        (lin.rmatvec, columns),
        (lin.__matmul__, rows),
        (lin.adjoint().__matmul__, columns),
    ):
        with pytest.raises(InvalidArgument, match=r"must have length [NP] = "):
            use(torch.zeros(length, dtype=torch.float64))
    with pytest.raises(InvalidArgument, match=r"must have length [NP] = "):
        lin.matvec(torch.zeros(columns, 1, 1, dtype=torch.float64))


def test_a_model_that_cannot_be_copied_is_refused():
    model = net()
    model.held = (i for i in range(3))
    with pytest.raises(SteepestError, match="copyable"):
        Linearization(model, points())


def test_a_complex_parameter_is_refused():
    with pytest.raises(InvalidArgument, match="parameters must be real and dense"):
        Linearization(nn.Linear(3, 2, dtype=torch.complex64), points().to(torch.complex64))


def test_a_mask_is_no_list_of_outputs():
    with pytest.raises(InvalidArgument, match="outputs"):
        Linearization(net(), points(), [True, False])


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, "float32", 3])
def test_a_kernel_is_made_of_real_numbers(dtype):
    with pytest.raises(InvalidArgument, match="dtype must be one of"):
        Linearization(net(), points()).kernel(dtype=dtype)


def test_vectors_of_other_than_real_numbers_are_refused():
    lin = Linearization(net(), points())
    v = torch.ones(lin.shape[1], dtype=torch.float64)
    for wrong in (v.to(torch.complex128), v.long(), v.bool(), v.to_sparse(), v.to("meta"), v.tolist(), v.numpy(), None):
        with pytest.raises(InvalidArgument, match="v must be a"):
            lin.matvec(wrong)
    with pytest.raises(InvalidArgument, match="u must be a floating-point tensor"):
        lin.rmatvec(torch.ones(lin.shape[0], dtype=torch.int64))


def test_a_model_of_no_outputs_is_refused():
    with pytest.raises(InvalidArgument):
        Linearization(net(), points(), lambda y: y[:, :0])
