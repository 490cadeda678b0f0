"""Each rule on a small run that has the fault, and on a near miss that has not."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steepest.diagnose import CAUSES, Diagnosis, Monitor
from steepest.diagnose._records import Records
from steepest.diagnose._rules import diagnose
from steepest.diagnose._rules.activity import constant_input, constant_output, dead_units, saturated_units
from steepest.diagnose._rules.arithmetic import non_finite
from steepest.diagnose._rules.connections import disconnected_parameters
from steepest.diagnose._rules.data import data_unrelated_to_target
from steepest.diagnose._rules.learning_rate import suggestion
from steepest.diagnose._rules.signal import exploding_gradients, vanishing_gradients
from steepest.diagnose._rules.step_size import learning_rate_too_high, learning_rate_too_low
from steepest.diagnose._rules.weights import symmetric_units, zero_gradients

RULES: dict[str, Callable[[Records], Diagnosis | None]] = {
    "disconnected_parameters": disconnected_parameters,
    "non_finite": non_finite,
    "zero_gradients": zero_gradients,
    "symmetric_units": symmetric_units,
    "constant_input": constant_input,
    "constant_output": constant_output,
    "dead_units at start": partial(dead_units, at_start=True),
    "dead_units": partial(dead_units, at_start=False),
    "saturated_units at start": partial(saturated_units, at_start=True),
    "saturated_units": partial(saturated_units, at_start=False),
    "exploding_gradients": exploding_gradients,
    "vanishing_gradients": vanishing_gradients,
    "learning_rate_too_high": learning_rate_too_high,
    "learning_rate_too_low": learning_rate_too_low,
    "data_unrelated_to_target": data_unrelated_to_target,
}


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def perceptron(width: int = 16, depth: int = 2, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(4, width), activation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 2))


def batch(step: int, rows: int = 32) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(step))
    return x, (x[:, 0] > x[:, 1]).long()


def classify(model: nn.Module, step: int) -> Tensor:
    x, y = batch(step)
    return F.cross_entropy(model(x), y)


def run(
    model: nn.Module,
    loss_of: Callable[[nn.Module, int], Tensor] = classify,
    steps: int = 12,
    lr: float = 0.01,
    kind: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    held: Iterable[nn.Parameter] | None = None,
    with_optimizer: bool = True,
    with_loss: bool = True,
    target_of: Callable[[int], Tensor] | None = None,
    frozen: Iterable[str] = (),
) -> Records:
    """Train a little; what a monitor has recorded."""
    optimizer = kind([p for p in held or model.parameters() if p.requires_grad], lr=lr)
    with (
        Monitor(model, optimizer if with_optimizer else None, frozen=frozen) as monitor,
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(1)
        for step in range(steps):
            optimizer.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            optimizer.step()
            monitor.record(
                step,
                loss.detach() if with_loss else None,
                target=target_of(step) if target_of else None,
            )
    return recorded(monitor)


def recorded(monitor: Monitor) -> Records:
    """What a monitor has recorded, inside its block or after it."""
    return monitor._result or monitor._records()


def asked(rule: str, records: Records) -> Diagnosis | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # as `diagnose` does
        return RULES[rule](records)


def names(diagnosis: Diagnosis | None, rule: str) -> Diagnosis:
    """The diagnosis, when it is well made and names this cause."""
    assert diagnosis is not None, f"{rule} found nothing"
    cause = rule.removesuffix(" at start")
    assert diagnosis.cause == ("constant_output" if cause == "constant_input" else cause)
    well_made(diagnosis)
    return diagnosis


def well_made(diagnosis: Diagnosis) -> None:
    assert diagnosis.cause in CAUSES
    assert isinstance(diagnosis.confidence, float)
    assert 0 <= diagnosis.confidence <= 1
    assert isinstance(diagnosis.evidence, tuple)
    assert diagnosis.evidence
    assert all(isinstance(line, str) and line for line in diagnosis.evidence)
    text = str(diagnosis)
    assert text.startswith(f"{diagnosis.cause} (confidence {diagnosis.confidence:.2f})")
    assert all(line in text for line in (*diagnosis.evidence, diagnosis.remedy))
    assert diagnosis.cause == "non_finite" or not re.search(r"\b(nan|inf)\b", text)
    if diagnosis.cause not in ("healthy", "undetermined"):
        assert diagnosis.remedy.endswith(".")
        assert any(re.search(r"\d", line) for line in diagnosis.evidence) or diagnosis.confidence == 1
        assert isinstance(diagnosis.parameters, tuple)


@pytest.fixture(scope="module")
def healthy() -> Records:
    return run(seeded(perceptron), steps=40, target_of=lambda step: batch(step)[1])


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_speaks_of_a_healthy_run(rule, healthy):
    assert asked(rule, healthy) is None


def test_a_healthy_run_is_called_so_with_more_confidence_the_longer_it_is(healthy):
    found = diagnose(healthy)
    assert found.cause == "healthy"
    well_made(found)
    assert "40 records" in found.evidence[0]
    assert found.confidence == pytest.approx(40 / 50)
    assert found.parameters == ()


def test_before_any_record_nothing_can_be_said():
    found = Monitor(perceptron()).diagnosis()
    assert (found.cause, found.confidence) == ("undetermined", 0.0)
    well_made(found)
    assert "record" in found.remedy


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_speaks_where_nothing_was_recorded(rule):
    assert asked(rule, recorded(Monitor(seeded(perceptron)))) is None or rule == "disconnected_parameters"


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("rule", RULES)
def test_no_rule_speaks_of_a_healthy_run_of_few_steps(rule, steps):
    assert asked(rule, run(seeded(perceptron), steps=steps)) is None


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_speaks_of_a_healthy_run_of_which_only_the_weights_are_known(rule, healthy):
    blind = replace(
        healthy,
        activations={},
        sites={},
        output_gradient=np.full_like(healthy.output_gradient, math.nan),
        loss=np.full_like(healthy.loss, math.nan),
        given=np.zeros_like(healthy.given),
        lr=np.full_like(healthy.lr, math.nan),
    )
    assert asked(rule, blind) is None


# Disconnected parameters


class Branch(nn.Module):
    """A network beside which stands something that may or may not take part."""

    def __init__(self, use: Callable[[nn.Module, Tensor, Tensor], Tensor]):
        super().__init__()
        self.net, self.other, self.use = perceptron(), nn.Linear(4, 2), use

    def forward(self, x):
        return self.use(self, x, self.net(x))


def both(model: Branch, x: Tensor, y: Tensor) -> Tensor:
    return y + model.other(x)


@pytest.mark.parametrize(
    "use",
    [
        lambda *given: given[2],
        lambda model, x, y: y + model.other(x).detach(),
        lambda model, x, y: y + F.linear(x, model.other.weight.data, model.other.bias.data),
    ],
    ids=["not called", "detached", "data"],
)
def test_parameters_without_any_gradient_are_disconnected(use):
    found = names(asked("disconnected_parameters", run(seeded(lambda: Branch(use)))), "disconnected_parameters")
    assert found.parameters == ("other.weight", "other.bias")
    assert found.confidence == 1
    assert "other.weight, other.bias: no gradient at any record (2 of 8 parameters)" in found.evidence
    assert 'Monitor(..., frozen=["other"])' in found.remedy


def test_parameters_that_take_part_are_connected():
    assert asked("disconnected_parameters", run(seeded(lambda: Branch(both)))) is None


@pytest.mark.parametrize("every", [2, 3])
def test_an_expert_that_is_unused_at_some_steps_only_is_connected(every):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.experts, self.calls = nn.Linear(4, 4), nn.ModuleList([perceptron() for _ in range(2)]), 0

        def forward(self, x):
            self.calls += 1
            return self.experts[self.calls % every != 0](self.gate(x))

    records = run(seeded(Experts))
    assert records.rows.missing.any()
    assert asked("disconnected_parameters", records) is None
    assert diagnose(records).cause == "healthy"


def test_parameters_that_need_no_gradient_are_disconnected_unless_it_is_on_purpose():
    model = seeded(perceptron)
    model[0].requires_grad_(False)
    found = names(asked("disconnected_parameters", run(model)), "disconnected_parameters")
    assert found.parameters == ("0.weight", "0.bias")
    assert "requires_grad is False" in found.evidence[0]
    assert "requires_grad_(True)" in found.remedy


@pytest.mark.parametrize("frozen", [["0"], "0", ["0.weight", "0.bias"], ["0.*"], ["?.weight", "*bias"]], ids=str)
def test_frozen_on_purpose_can_be_said_by_module_by_name_and_by_pattern(frozen):
    model = seeded(perceptron)
    model[0].requires_grad_(False)
    assert diagnose(run(model, frozen=frozen)).cause == "healthy"


def test_the_name_of_a_module_does_not_freeze_one_whose_name_begins_alike():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.encoder = nn.Linear(4, 4), perceptron()

        def forward(self, x):
            return self.encoder(self.enc(x))

    model = seeded(Net)
    model.requires_grad_(False)
    model.encoder[2].requires_grad_(True)
    found = asked("disconnected_parameters", run(model, frozen=["enc"]))
    assert found is not None
    assert found.parameters == ("encoder.0.weight", "encoder.0.bias", "encoder.4.weight", "encoder.4.bias")


def test_parameters_that_the_optimizer_does_not_hold_are_disconnected():
    model = seeded(perceptron)
    found = names(asked("disconnected_parameters", run(model, held=model[2:].parameters())), "disconnected_parameters")
    assert found.parameters == ("0.weight", "0.bias")
    assert "not in the optimizer" in found.evidence[0]
    assert "make the optimizer from all of model.parameters()" in found.remedy.lower()


def test_parameters_that_never_move_are_disconnected_also_where_no_optimizer_is_known():
    model = seeded(perceptron)
    records = run(model, held=model[2:].parameters(), with_optimizer=False)
    found = names(asked("disconnected_parameters", records), "disconnected_parameters")
    assert found.parameters == ("0.weight", "0.bias")
    assert "never changes, although it has a gradient" in found.evidence[0]


@pytest.mark.parametrize(("rows", "used"), [(40, range(25, 40)), (5000, range(1, 15))], ids=["small", "large"])
def test_an_embedding_of_which_few_rows_are_used_is_connected(rows, used):
    model = seeded(lambda: nn.Sequential(nn.Embedding(rows, 12), nn.Linear(12, 2)))
    tokens = torch.tensor(list(used))

    def loss_of(model: nn.Module, step: int) -> Tensor:
        return F.cross_entropy(model(tokens), tokens % 2)

    assert asked("disconnected_parameters", run(model, loss_of, kind=torch.optim.SGD, with_optimizer=False)) is None


def test_parameters_in_a_list_that_no_module_knows_are_disconnected():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.head = [nn.Linear(4, 4) for _ in range(2)], nn.Linear(4, 2)

        def forward(self, x):
            for layer in self.layers:
                x = torch.relu(layer(x))
            return self.head(x)

    found = names(asked("disconnected_parameters", run(seeded(Hidden))), "disconnected_parameters")
    assert "4 parameters of shapes" in found.evidence[0]
    assert "(4, 4)" in found.evidence[0]
    assert "nn.ModuleList" in found.remedy


def test_what_an_input_depends_on_is_no_stranger():
    # An encoder with a monitor of its own, or the generator in front of a discriminator.
    encoder = seeded(lambda: nn.Linear(4, 4), 1)
    records = run(
        seeded(perceptron), lambda model, step: F.cross_entropy(model(encoder(batch(step)[0])), batch(step)[1])
    )
    assert asked("disconnected_parameters", records) is None


def test_a_part_that_is_watched_by_itself_has_no_strangers():
    whole = seeded(lambda: nn.Sequential(perceptron(), nn.ReLU(), nn.Linear(2, 2)))
    optimizer = torch.optim.Adam(whole.parameters(), lr=0.01)
    with Monitor(whole[2], optimizer) as monitor:
        for step in range(4):
            optimizer.zero_grad()
            loss = classify(whole, step)
            loss.backward()
            optimizer.step()
            monitor.record(step, loss)
    assert asked("disconnected_parameters", recorded(monitor)) is None


def test_parameters_that_are_left_as_they_are_by_a_rate_of_zero_for_a_while_are_connected():
    model = seeded(perceptron)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with Monitor(model) as monitor:
        for step in range(6):
            optimizer.param_groups[0]["lr"] = 0.1 * max(0, step - 2)
            optimizer.zero_grad()
            loss = classify(model, step)
            loss.backward()
            optimizer.step()
            monitor.record(step, loss)
    assert monitor.diagnosis().cause == "healthy"


# Weights


def fill(model: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(value)
    return model


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize(
    "flat", [lambda y: y[:, :1].softmax(1), lambda y: y[:, :1].sigmoid().round(), lambda y: 0 * y[:, :1].sigmoid()]
)
def test_an_output_without_slope_has_zero_gradients(flat, kind):
    def loss_of(model: nn.Module, step: int) -> Tensor:
        x, y = batch(step)
        return F.mse_loss(flat(model(x)), y.float()[:, None])

    found = diagnose(run(perceptron(), loss_of, kind=kind))
    assert found.cause == "zero_gradients"
    assert "has derivative 0" in found.remedy
    well_made(found)


def test_gradients_that_are_zero_because_nothing_is_left_to_learn_are_healthy():
    def hinge(model: nn.Module, step: int) -> Tensor:
        return (model(batch(step)[0]).square() - 1e6).clamp(min=0).mean()

    assert diagnose(run(perceptron(), hinge)).cause == "healthy"


def test_a_network_of_zeros_has_zero_gradients():
    found = names(asked("zero_gradients", run(fill(perceptron(), 0.0))), "zero_gradients")
    assert found.parameters == ("0.weight", "2.weight", "4.weight")
    assert found.confidence == 1
    assert re.search(r"N\(0, 2/fan_in\), about 0\.\d", found.remedy)


class Residual(nn.Module):
    def __init__(self, zero: tuple[str, ...]):
        super().__init__()
        self.embed, self.one, self.two, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        for name in zero:
            nn.init.zeros_(self.get_parameter(name))

    def forward(self, x):
        x = self.embed(x)
        return self.head(x + self.two(torch.relu(self.one(x))))


@pytest.mark.parametrize("zero", [("two.weight", "two.bias"), ("one.bias", "two.bias", "head.bias")], ids=str)
def test_a_branch_that_starts_at_zero_is_healthy(zero):
    assert diagnose(run(seeded(lambda: Residual(zero)))).cause == "healthy"


def test_a_head_that_starts_at_zero_is_healthy():
    model = seeded(perceptron)
    nn.init.zeros_(model[4].weight)
    nn.init.zeros_(model[4].bias)
    assert diagnose(run(model)).cause == "healthy"


def test_a_branch_of_which_all_weights_are_zero_stays_so():
    zero = ("one.weight", "one.bias", "two.weight")
    found = names(asked("zero_gradients", run(seeded(lambda: Residual(zero)))), "zero_gradients")
    assert found.parameters == ("one.weight", "two.weight")


def test_adapters_of_which_one_factor_starts_at_zero_are_healthy():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.down, self.up = perceptron(), nn.Linear(4, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.base.requires_grad_(False)
            nn.init.zeros_(self.up.weight)

        def forward(self, x):
            return self.base(x) + self.up(self.down(x))

    assert diagnose(run(seeded(Adapted), frozen=["base"])).cause == "healthy"


@pytest.mark.parametrize("value", [0.1, 0.5])
def test_a_layer_of_copies_is_symmetric(value):
    model = seeded(perceptron)
    fill(model[2], value)
    fill(model[4], value)
    found = names(asked("symmetric_units", run(model)), "symmetric_units")
    assert "2.weight" in found.parameters
    assert any("2.weight: 100% of the units equal another one" in line for line in found.evidence)


def test_copies_with_different_outgoing_weights_part_and_are_healthy():
    model = seeded(perceptron)
    fill(model[2], 0.1)
    records = run(model)
    assert records.copies["2.weight"][0] == (-1, 1.0)
    assert asked("symmetric_units", records) is None
    assert diagnose(records).cause == "healthy"


def test_units_that_become_alike_are_not_named_where_they_started_apart(healthy):
    assert asked("symmetric_units", replace(healthy, copies={"2.weight": [(-1, 0.0), (39, 1.0)]})) is None
    assert asked("symmetric_units", replace(healthy, copies={"2.weight": [(-1, 1.0), (39, 1.0)]})) is not None


def test_kernels_of_groups_and_rows_of_embeddings_are_no_copies():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.depthwise, self.head = nn.Embedding(6, 8), nn.Conv1d(8, 8, 3, groups=8), nn.Linear(8, 2)
            nn.init.constant_(self.embed.weight, 0.5)
            nn.init.constant_(self.depthwise.weight, 0.3)
            nn.init.constant_(self.depthwise.bias, 0.0)

        def forward(self, tokens):
            return self.head(self.depthwise(self.embed(tokens).transpose(1, 2)).mean(-1))

    tokens = torch.randint(6, (32, 5), generator=torch.Generator().manual_seed(0))
    records = run(seeded(Net), lambda model, _: F.cross_entropy(model(tokens), (tokens[:, 0] > 2).long()))
    assert asked("symmetric_units", records) is None


def test_copies_that_are_frozen_on_purpose_are_not_named():
    model = seeded(perceptron)
    fill(model[2], 0.1)
    fill(model[4], 0.1)
    for part in (model[2], model[4]):
        part.requires_grad_(False)
    assert asked("symmetric_units", run(model, frozen=["2", "4"])) is None


# Arithmetic


def test_a_loss_that_is_not_finite_is_named_with_its_step():
    records = run(
        seeded(perceptron), lambda model, step: classify(model, step) * (math.nan if step == 7 else 1), steps=10
    )
    found = names(asked("non_finite", records), "non_finite")
    assert "step 7" in " ".join(found.evidence)
    assert found.confidence == 1


def test_the_layer_in_which_it_arose_is_named():
    class Divides(nn.Module):
        def forward(self, x):
            return x / (x - x)

    model = seeded(perceptron)
    model[3] = Divides()
    found = names(asked("non_finite", run(model)), "non_finite")
    assert found.evidence[0].startswith("3: the first tensor")
    assert found.remedy.startswith("Look at what 3 does")


def test_inputs_that_are_not_finite_are_named():
    def loss_of(model: nn.Module, step: int) -> Tensor:
        x, y = batch(step)
        x[3, 2] = math.nan
        return F.cross_entropy(model(x), y)

    found = names(asked("non_finite", run(seeded(perceptron), loss_of)), "non_finite")
    assert "the data are not finite" in found.evidence[0]
    assert "isfinite" in found.remedy


def test_at_the_start_only_the_first_record_counts():
    late = run(seeded(perceptron), lambda model, step: classify(model, step) * (math.nan if step == 5 else 1))
    early = run(seeded(perceptron), lambda model, step: classify(model, step) * math.nan)
    assert non_finite(late, at_start=True) is None
    assert non_finite(early, at_start=True) is not None


def test_a_gradient_that_is_not_finite_for_one_step_and_left_the_weights_alone_is_no_fault(healthy):
    gradient = healthy.rows.gradient.copy()
    gradient[4] = math.inf
    skipped = healthy.stepped.copy()
    skipped[4] = False
    rows = replace(healthy.rows, gradient=gradient)
    assert asked("non_finite", replace(healthy, rows=rows, stepped=skipped)) is None


def test_a_loss_that_is_not_given_is_no_fault(healthy):
    given = healthy.given.copy()
    given[3:6] = False
    loss = np.where(given, healthy.loss, math.nan)
    assert asked("non_finite", replace(healthy, loss=loss, given=given)) is None


# Activity


def kill(model: nn.Sequential, units: int, layer: int = 2) -> nn.Sequential:
    with torch.no_grad():
        model[layer].bias[:units] = -100.0
    return model


def test_a_layer_of_dead_units_is_named():
    found = names(asked("dead_units at start", run(kill(seeded(perceptron), 16))), "dead_units at start")
    assert found.parameters == ("2.weight", "2.bias")
    assert found.evidence[0].startswith("3: 100% of the units are 0 for every example seen")
    assert "bias of 2" in found.remedy


@pytest.mark.parametrize("units", [4, 10])
def test_a_layer_of_which_some_units_are_dead_is_healthy(units):
    assert diagnose(run(kill(seeded(perceptron), units))).cause == "healthy"


def test_units_that_die_in_the_run_are_named_late_and_not_at_the_start():
    model = seeded(perceptron)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with Monitor(model, optimizer) as monitor:
        for step in range(20):
            if step == 10:
                kill(model, 16)
            optimizer.zero_grad()
            loss = classify(model, step)
            loss.backward()
            optimizer.step()
            monitor.record(step, loss)
    assert asked("dead_units at start", recorded(monitor)) is None
    names(asked("dead_units", recorded(monitor)), "dead_units")


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, nn.Tanh, nn.LeakyReLU, nn.ELU])
def test_units_of_other_activations_do_not_die(activation):
    records = run(seeded(lambda: perceptron(activation=activation)))
    assert asked("dead_units at start", records) is asked("dead_units", records) is None


def test_zeros_that_are_made_by_a_mask_are_no_dead_units():
    class Mask(nn.Module):
        def forward(self, x):
            return x * (torch.arange(x.shape[-1]) < 1)

    model = seeded(perceptron)
    model[2] = nn.Sequential(model[2], Mask())
    assert asked("dead_units at start", run(model)) is None


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Softsign])
def test_weights_far_too_large_saturate_a_bounded_activation(activation):
    model = seeded(lambda: perceptron(activation=activation))
    with torch.no_grad():
        model[2].weight.mul_(1e4)
        model[2].bias.add_(torch.tensor([1e4, -1e4]).repeat(8))
    found = names(asked("saturated_units at start", run(model)), "saturated_units at start")
    assert set(found.parameters) >= {"2.weight", "2.bias"}
    assert re.search(r"Divide the weights of 2 by [\d.e+]+", found.remedy)


def test_saturation_is_seen_where_the_activation_is_a_function():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 2)

        def forward(self, x):
            return self.head(torch.tanh(self.two(torch.tanh(self.one(x)))))

    model = seeded(Net)
    assert asked("saturated_units at start", run(model)) is None
    with torch.no_grad():
        model.two.weight.mul_(1e4)
    names(asked("saturated_units at start", run(model)), "saturated_units at start")


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Softsign])
def test_a_bounded_activation_with_sane_weights_is_healthy(activation):
    records = run(seeded(lambda: perceptron(activation=activation)))
    assert asked("saturated_units at start", records) is asked("saturated_units", records) is None


def test_a_confident_output_is_not_saturated():
    model = seeded(lambda: nn.Sequential(*perceptron(), nn.Sigmoid()))
    with torch.no_grad():
        model[4].weight.mul_(1e4)
    records = run(model, lambda model, step: model(batch(step)[0]).square().mean())
    assert asked("saturated_units at start", records) is None


def test_one_hot_inputs_of_a_second_branch_are_not_saturated():
    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.label, self.head = nn.Linear(4, 16), nn.Linear(10, 16), nn.Linear(16, 2)

        def forward(self, x, label):
            return self.head(torch.relu(self.net(x) + self.label(label)))

    def loss_of(model: nn.Module, step: int) -> Tensor:
        x, y = batch(step)
        label = F.one_hot(torch.randint(10, (len(x),), generator=torch.Generator().manual_seed(step)), 10)
        return F.cross_entropy(model(x, label.float()), y)

    assert diagnose(run(seeded(Conditional), loss_of)).cause == "healthy"


def test_a_confident_softmax_between_the_layers_is_not_saturated():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.gate, self.head = nn.Linear(4, 16), nn.Linear(16, 8), nn.Linear(8, 2)
            self.softmax = nn.Softmax(dim=-1)
            nn.init.normal_(self.gate.weight, std=30)

        def forward(self, x):
            return self.head(self.softmax(self.gate(self.embed(x))))

    assert asked("saturated_units at start", run(seeded(Routed))) is None


def test_inputs_that_are_all_the_same_are_named():
    records = run(seeded(perceptron), lambda model, step: F.cross_entropy(model(torch.ones(32, 4)), batch(step)[1]))
    found = names(asked("constant_input", records), "constant_input")
    assert found.evidence[0].startswith("input of 0: the model's input is the same for every example")


def test_inputs_that_are_nearly_the_same_are_not_named():
    def loss_of(model: nn.Module, step: int) -> Tensor:
        x, y = batch(step)
        return F.cross_entropy(model(100 + x), y)

    assert asked("constant_input", run(seeded(perceptron), loss_of)) is None


def test_learned_queries_that_come_first_are_no_constant_input():
    class Perceiver(nn.Module):
        def __init__(self):
            super().__init__()
            self.latents, self.query, self.key = nn.Parameter(torch.randn(3, 8)), nn.Linear(8, 8), nn.Linear(4, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            x = x[:, None] * torch.arange(1, 4)[:, None]
            query, key = self.query(self.latents.expand(len(x), -1, -1)), self.key(x)
            return self.head((query @ key.transpose(1, 2)).softmax(-1) @ key).mean(dim=1)

    assert diagnose(run(seeded(Perceiver))).cause == "healthy"


def test_an_output_that_ignores_the_input_is_named():
    class Averages(nn.Module):
        def forward(self, x):
            return x.mean(dim=0, keepdim=True).expand_as(x)

    model = seeded(perceptron)
    model[3] = nn.Sequential(nn.ReLU(), Averages())
    records = run(model)
    found = names(asked("constant_output", records), "constant_output")
    assert "its standard deviation over examples" in found.evidence[0]
    assert "3.1" in found.evidence[1]


def test_an_output_that_ignores_the_input_at_first_only_is_healthy():
    model = seeded(perceptron)
    nn.init.zeros_(model[4].weight)
    records = run(model)
    assert records.statistic("output", "variation")[0] < 1e-5
    assert asked("constant_output", records) is None


def test_batches_of_one_example_have_no_constant_output():
    def loss_of(model: nn.Module, step: int) -> Tensor:
        x, y = batch(step, 1)
        return F.cross_entropy(model(x), y)

    records = run(seeded(perceptron), loss_of)
    assert asked("constant_output", records) is asked("constant_input", records) is None


# Signal


def test_weights_that_amplify_make_gradients_explode():
    model = seeded(lambda: perceptron(depth=10))
    with torch.no_grad():
        for i in range(0, 20, 2):
            model[i].weight.mul_(8)
    found = names(asked("exploding_gradients", run(model, lr=1e-6)), "exploding_gradients")
    assert found.parameters
    assert re.search(r"gradient norm [\d.e+]+ at step 0", found.evidence[0])
    assert re.search(r"about [\d.]+ times smaller", found.remedy)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_loss_makes_no_gradient_explode_or_vanish(scale):
    records = run(seeded(perceptron), lambda model, step: scale * classify(model, step))
    assert asked("exploding_gradients", records) is asked("vanishing_gradients", records) is None


def test_inputs_far_too_large_make_gradients_explode_and_are_named():
    records = run(seeded(perceptron), lambda model, step: F.cross_entropy(model(1e5 * batch(step)[0]), batch(step)[1]))
    found = names(asked("exploding_gradients", records), "exploding_gradients")
    assert re.search(r"Normalise the inputs: divide them by 1e\+05", found.remedy)


def test_weights_that_shrink_make_gradients_vanish():
    model = seeded(lambda: perceptron(depth=10, activation=nn.Tanh))
    with torch.no_grad():
        for i in range(0, 20, 2):
            model[i].weight.mul_(0.1)
    found = names(asked("vanishing_gradients", run(model, lr=1e-6)), "vanishing_gradients")
    assert "0.weight" in found.parameters
    assert "20.weight" not in found.parameters
    assert re.search(r"about [\d.e+]+ times larger", found.remedy)


@pytest.mark.parametrize("depth", [2, 10])
def test_deep_networks_with_sane_weights_neither_vanish_nor_explode(depth):
    model = seeded(lambda: perceptron(depth=depth, width=32))
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, generator=torch.Generator().manual_seed(depth))
                nn.init.zeros_(layer.bias)
    records = run(model, lr=1e-3)
    assert asked("vanishing_gradients", records) is asked("exploding_gradients", records) is None


# Step sizes


@pytest.mark.parametrize(("kind", "lr"), [(torch.optim.SGD, 1e4), (torch.optim.Adam, 10.0)])
def test_steps_larger_than_the_weights_are_too_large(kind, lr):
    found = names(asked("learning_rate_too_high", run(seeded(perceptron), kind=kind, lr=lr)), "learning_rate_too_high")
    assert "the median weight changed by" in found.evidence[0]
    (rate,) = re.findall(r"Try a learning rate of (\S+) in place of", found.remedy)
    assert 0 < float(rate) < lr


def test_large_steps_that_do_no_harm_are_not_too_large():
    # Normalised weights may turn quickly.
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 2)))
    records = run(model, lr=0.1, steps=30)
    assert records.loss[-1] < 0.5 * records.loss[0]
    assert asked("learning_rate_too_high", records) is None


@pytest.mark.parametrize(("kind", "lr"), [(torch.optim.SGD, 1e-7), (torch.optim.Adam, 1e-7)])
def test_steps_that_get_nowhere_are_too_small(kind, lr):
    found = names(asked("learning_rate_too_low", run(seeded(perceptron), kind=kind, lr=lr)), "learning_rate_too_low")
    assert "of its norm" in found.evidence[0]
    (rate,) = re.findall(r"Try a learning rate of (\S+) in place of", found.remedy)
    assert float(rate) > lr


def test_a_run_that_is_not_ten_records_long_is_not_called_too_slow():
    assert asked("learning_rate_too_low", run(seeded(perceptron), lr=1e-7, steps=9)) is None


def test_a_rate_that_still_rises_is_not_called_too_low(healthy):
    slow = run(seeded(perceptron), lr=1e-7)
    rising = replace(slow, lr=np.linspace(1e-9, 1e-7, len(slow.lr)))
    assert asked("learning_rate_too_low", slow) is not None
    assert asked("learning_rate_too_low", rising) is None


def test_a_run_that_has_arrived_is_not_called_too_slow():
    model = seeded(perceptron)
    run(model, steps=400, lr=0.03)
    assert asked("learning_rate_too_low", run(model, steps=20, lr=1e-4)) is None


@pytest.mark.parametrize("with_optimizer", [True, False])
@pytest.mark.parametrize(
    "lr", [0.0, 1e-7, 1e30, *(pytest.param(r, marks=pytest.mark.slow) for r in (1e-12, 10.0, 1e4))]
)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_every_remedy_of_a_learning_rate_has_a_number(kind, lr, with_optimizer):
    records = run(seeded(perceptron), kind=kind, lr=lr, with_optimizer=with_optimizer)
    found = diagnose(records)
    well_made(found)
    if found.cause.startswith("learning_rate"):
        number = re.search(r"(?:rate of|rate by) (\d\S*\d)", found.remedy) or re.search(r"not 0", found.remedy)
        assert number, found.remedy
        assert number[0] == "not 0" or 0 < float(number[1]) < math.inf


def test_the_rate_to_try_is_proportional_to_the_rate_that_was():
    rates = []
    for lr in (1e-5, 1e-3):
        text = suggestion(run(seeded(perceptron), lr=lr, kind=torch.optim.SGD))
        rates.append(float(re.findall(r"rate of (\S+) ", text)[0]))
    assert rates[0] == pytest.approx(rates[1], rel=0.2)


# Data


def shuffled(step: int) -> Tensor:
    return torch.randint(2, (32,), generator=torch.Generator().manual_seed(1000 + step))


def test_targets_that_have_nothing_to_do_with_the_inputs_are_named():
    records = run(
        seeded(perceptron),
        lambda model, step: F.cross_entropy(model(batch(step)[0]), shuffled(step)),
        steps=60,
        target_of=shuffled,
    )
    found = names(asked("data_unrelated_to_target", records), "data_unrelated_to_target")
    assert re.search(r"the loss has settled at 0\.\d+", found.evidence[0])
    assert "cross entropy" in found.evidence[0]


def test_without_the_targets_they_cannot_be_named():
    def loss_of(model: nn.Module, step: int) -> Tensor:
        return F.cross_entropy(model(batch(step)[0]), shuffled(step))

    assert asked("data_unrelated_to_target", run(seeded(perceptron), loss_of, steps=60)) is None


def test_targets_that_are_learned_are_not_named():
    records = run(seeded(perceptron), steps=60, target_of=lambda step: batch(step)[1])
    assert asked("data_unrelated_to_target", records) is None


def test_targets_with_noise_of_which_something_is_learned_are_not_named():
    def noisy(step: int) -> Tensor:
        flip = torch.rand(32, generator=torch.Generator().manual_seed(step)) < 0.15
        return torch.where(flip, 1 - batch(step)[1], batch(step)[1])

    records = run(
        seeded(perceptron),
        lambda model, step: F.cross_entropy(model(batch(step)[0]), noisy(step)),
        steps=90,
        lr=0.02,
        target_of=noisy,
    )
    assert asked("data_unrelated_to_target", records) is None


def test_a_short_run_says_nothing_of_its_data():
    records = run(
        seeded(perceptron),
        lambda model, step: F.cross_entropy(model(batch(step)[0]), shuffled(step)),
        steps=19,
        target_of=shuffled,
    )
    assert asked("data_unrelated_to_target", records) is None


# Order


def test_the_cause_is_named_and_not_its_effect():
    # Zeros everywhere also make every output constant; NaN in the data also makes the weights NaN.
    assert diagnose(run(fill(perceptron(), 0.0))).cause == "zero_gradients"
    assert diagnose(run(kill(seeded(perceptron), 16))).cause == "dead_units"

    def regress(model: nn.Module, step: int) -> Tensor:
        return (model(batch(step)[0]) - 1).square().mean()

    too_high = run(seeded(perceptron), regress, steps=20, lr=100, kind=torch.optim.SGD)
    assert asked("non_finite", too_high) is not None
    assert diagnose(too_high).cause == "learning_rate_too_high"


def test_weights_that_the_first_step_has_made_infinite_are_that_steps_doing():
    # A record is taken after its step.
    records = run(seeded(perceptron), kind=torch.optim.SGD, lr=1e38)
    assert math.isfinite(records.loss[0])
    assert non_finite(records, at_start=True) is None
    assert diagnose(records).cause == "learning_rate_too_high"


def test_a_diagnosis_can_be_read():
    found = Diagnosis("dead_units", 0.75, ("relu: 95% of the units are 0",), "Set the bias to 0.", ("0.bias",))
    assert str(found) == (
        "dead_units (confidence 0.75)\n  - relu: 95% of the units are 0\n  What to do: Set the bias to 0."
    )
    assert str(Diagnosis("healthy", 0.5, ("10 records",), "")) == "healthy (confidence 0.50)\n  - 10 records"


@pytest.mark.parametrize("name", ["composer", "patch_embed", "token_mixing", "post"])
def test_weights_are_weights_whatever_the_modules_above_are_called(name):
    model = nn.Module()
    model.add_module(name, seeded(perceptron))
    model.forward = getattr(model, name).forward
    records = run(model, lr=1e4, kind=torch.optim.SGD)
    assert records.weights.sum() == sum(p.ndim > 1 for p in model.parameters())
    assert diagnose(records).cause == "learning_rate_too_high"


def test_positions_and_tokens_that_stand_by_themselves_are_no_weights():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.pos_embed, self.cls_token = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.ones(2, 4))
            self.mix = nn.Parameter(torch.ones(4, 4))

    records = recorded(Monitor(Reader()))
    assert [p.name for p in records.parameters if p.is_weight] == ["mix"]
