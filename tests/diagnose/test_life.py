"""What a monitor leaves behind: no hook, no tensor, no exception of its own."""

from __future__ import annotations

import copy
import gc
import io
import math
import pickle
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steepest.diagnose import Monitor


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(4, 20), nn.ReLU(), nn.Dropout(0.1), nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 2)
        )


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 4, generator=generator)
    return x, (x.sum(dim=1) > 0).long()


def train(
    model: nn.Module,
    monitor: Monitor | None,
    optimizer: torch.optim.Optimizer,
    steps: range = range(6),
    after: Callable[[int], None] = lambda _: None,
) -> list[Tensor]:
    """Train under a seed of its own; the weights at the end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for step in steps:
            x, y = batch(step)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.record(step, loss, target=y)
            after(step)
    return [p.detach().clone() for p in model.parameters()]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def hooks(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[dict[int, Any]]:
    """Every table in which a hook could be."""
    tables = [optimizer._optimizer_step_post_hooks, optimizer._optimizer_step_pre_hooks]
    for module in model.modules():
        tables += [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks]
        tables += [module._backward_pre_hooks, module._forward_hooks_with_kwargs, module._forward_hooks_always_called]
    for p in model.parameters():
        tables.append(p._backward_hooks or {})
    return [dict(table) for table in tables]


def reachable_tensors(root: object) -> list[Tensor]:
    """Every tensor that an object keeps alive; what a function reaches only as a global is not kept alive by it."""
    found: list[Tensor] = []
    seen: set[int] = set()
    left = [root]
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, (type, types.ModuleType, str, bytes, int, float)):
            continue
        seen.add(id(each))
        if isinstance(each, Tensor):
            found.append(each)
        elif isinstance(each, types.FunctionType):
            left += [each.__closure__, each.__defaults__, each.__kwdefaults__]
        else:
            left += gc.get_referents(each)
    return found


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(each), Tensor) for each in gc.get_objects())


@contextmanager
def exactly_one_warning() -> Iterator[None]:
    """The training is told once, and no more, that it is not watched any longer."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [each.category for each in caught] == [RuntimeWarning], [str(each.message) for each in caught]
    assert "the monitor has failed and switched itself off; training goes on" in str(caught[0].message)


def test_leaving_the_block_leaves_all_hooks_as_they_were():
    model = network()
    optimizer = sgd(model)
    called = []
    mine = [
        model.register_forward_hook(lambda *_: called.append("model")),
        model[1].register_forward_pre_hook(lambda *_: called.append("layer")),
        optimizer.register_step_post_hook(lambda *_: called.append("optimizer")),
    ]
    before = hooks(model, optimizer)
    with Monitor(model, optimizer) as monitor:
        assert hooks(model, optimizer) != before
        train(model, monitor, optimizer, range(2))
    assert hooks(model, optimizer) == before
    assert len(called) == 2 * len(mine)


@pytest.mark.parametrize("every", [1, 4])
def test_an_exception_in_the_loop_passes_through_and_the_hooks_are_gone(every):
    model = network()
    optimizer = sgd(model)
    before = hooks(model, optimizer)

    def fail(step: int) -> None:
        if step == 4:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"), Monitor(model, optimizer, every=every) as monitor:
        train(model, monitor, optimizer, after=fail)
    assert hooks(model, optimizer) == before
    assert monitor.history["step"] == [step for step in range(5) if step % every == 0]
    assert monitor.diagnosis().cause == "healthy"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_passes_through_too(error):
    model = network()
    optimizer = sgd(model)
    before = hooks(model, optimizer)

    def fail(step: int) -> None:
        raise error

    with pytest.raises(error), Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer, after=fail)
    assert hooks(model, optimizer) == before


def test_an_exception_inside_the_forward_pass_leaves_no_trace_in_the_next_block():
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer, range(1))
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            model(torch.ones(2, 5))
        train(model, monitor, optimizer, range(1, 3))
    assert monitor.history["step"] == [0, 1, 2]
    assert monitor.diagnosis().cause == "healthy"


def test_after_the_block_weights_gradients_and_modules_can_be_collected():
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer)
    refs = [weakref.ref(each) for each in (*model.parameters(), *model.modules(), optimizer)]
    del model, optimizer
    gc.collect()
    assert [ref() for ref in refs] == [None] * len(refs)
    assert len(monitor.history["step"]) == 6


def test_what_flowed_through_the_model_is_kept_alive_not_even_inside_the_block():
    model = network()
    optimizer = sgd(model)
    refs = []
    with Monitor(model, optimizer) as monitor:
        for step in range(3):
            x, y = batch(step)
            hidden = model[1](model[0](x))
            output = model(x)
            loss = nn.functional.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            refs += [weakref.ref(each) for each in (x, y, hidden, output)]
            monitor.record(step, loss, target=y)
        del x, y, hidden, output, loss
        gc.collect()
        assert [ref() for ref in refs] == [None] * len(refs)
        assert all(not tensor.requires_grad for tensor in reachable_tensors(monitor._activations._pending))


@pytest.mark.parametrize("with_optimizer", [True, False])
@pytest.mark.parametrize("steps", [0, 5, 70])
def test_after_the_block_no_tensor_is_reachable_from_the_monitor(steps, with_optimizer):
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer if with_optimizer else None) as monitor:
        train(model, monitor, optimizer, range(steps))
    assert [tuple(tensor.shape) for tensor in reachable_tensors(monitor)] == []
    assert len(monitor.history["step"]) == steps


def test_a_monitor_that_is_closed_can_be_pickled():
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer)
    assert pickle.loads(pickle.dumps(monitor.diagnosis())) == monitor.diagnosis()
    assert pickle.loads(pickle.dumps(monitor.summary())).diagnosis == monitor.diagnosis()


@pytest.mark.parametrize("steps", [640, pytest.param(2000, marks=pytest.mark.slow)])
def test_after_many_steps_no_more_tensors_are_alive_than_after_a_few_hundred(steps):
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    optimizer = sgd(model)
    counts: dict[int, int] = {}

    def count(step: int) -> None:
        if step % 32 == 20 and (256 < step < 300 or step > steps - 60):
            counts[step] = live_tensors()

    with Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer, range(steps), count)
    early = max(number for step, number in counts.items() if step < 300)
    late = max(number for step, number in counts.items() if step > 300)
    assert late <= early + 16  # samples of the weights at up to 16 steps are kept, more or fewer at a time
    assert len(monitor.history["step"]) == steps


def test_reading_at_every_step_piles_up_no_tensors():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    optimizer = sgd(model)
    counts: dict[int, int] = {}

    def read(step: int) -> None:
        monitor.diagnosis()
        if step in (24, 49):
            counts[step] = live_tensors()

    with Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer, range(50), read)
    assert counts[49] <= counts[24] + 8  # at most sixteen samples of the weights are kept, fewer at first


FAILURES = [
    "activations.sample",
    "activations.statistics",
    "activations.floating",
    "activations.unregistered",
    "activations.ActivationWatch.take",
    "activations.ActivationWatch.arm",
    "activations.ActivationWatch.flush",
    "parameters.ParameterWatch.sample",
    "parameters.ParameterWatch.weight_norms",
    "parameters.ParameterWatch.gradient_norms",
    "parameters.ParameterWatch.measure",
    "parameters.ParameterWatch.flush",
    "parameters.ParameterWatch._relative",
    "units.share_of_copies",
    "units.UnitWatch.look",
    "targets.TargetWatch.capture",
    "targets.TargetWatch.flush",
]


def break_after(monkeypatch: pytest.MonkeyPatch, place: str, calls: int) -> None:
    """Let a function work so many times and fail ever after."""
    module, _, rest = place.partition(".")
    owner = __import__(f"steepest.diagnose._watch.{module}", fromlist=["_"])
    if "." in rest:
        owner, rest = getattr(owner, rest.partition(".")[0]), rest.partition(".")[2]
    works = getattr(owner, rest)
    count = 0

    def breaks(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count > calls:
            raise RuntimeError("planted")
        return works(*args, **options)

    monkeypatch.setattr(owner, rest, breaks)


# Each place fails after another number of calls; all places after each number are slow.
BROKEN = [
    pytest.param(place, calls, marks=() if i % 3 == j else pytest.mark.slow)
    for i, place in enumerate(FAILURES)
    for j, calls in enumerate((1, 0, 7))
]


@pytest.mark.parametrize(("place", "calls"), BROKEN)
def test_a_failure_inside_is_one_warning_and_the_training_goes_on_as_without(monkeypatch, place, calls):
    alone = network()
    wanted = train(alone, None, sgd(alone), range(40))
    model = network()
    optimizer = sgd(model)
    before = hooks(model, optimizer)
    break_after(monkeypatch, place, calls)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Monitor(model, optimizer) as monitor:
            found = train(model, monitor, optimizer, range(40))
            inside = monitor.diagnosis(), monitor.history
        after = monitor.diagnosis(), monitor.history
    assert all(torch.equal(p, q) for p, q in zip(found, wanted, strict=True))
    assert hooks(model, optimizer) == before
    assert len(caught) <= 1, [str(each.message) for each in caught]
    assert all(each.category is RuntimeWarning for each in caught)
    for diagnosis, history in (inside, after):
        assert diagnosis.cause in ("healthy", "undetermined")
        counts = {len(values) for name in ("gradient_norm", "update_ratio") for values in history[name].values()}
        assert counts == {len(history["step"])} == {len(history["loss"])}


@pytest.mark.parametrize("place", ["activations.sample", "parameters.ParameterWatch.measure"])
def test_a_failing_hook_warns_exactly_once_and_keeps_what_was_recorded_before(monkeypatch, place):
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer, range(3))
        break_after(monkeypatch, place, 0)
        with exactly_one_warning():
            train(model, monitor, optimizer, range(3, 50))
    assert monitor.history["step"] == [0, 1, 2]
    assert all(map(math.isfinite, monitor.history["activations"]["1"]["mean"]))
    assert monitor.diagnosis().cause == "healthy"


def test_a_failing_record_also_without_an_optimizer_is_one_warning(monkeypatch):
    model = network()
    break_after(monkeypatch, "parameters.ParameterWatch.measure", 2)
    with exactly_one_warning(), Monitor(model) as monitor:
        train(model, monitor, sgd(model), range(10))
    assert monitor.history["step"] == [0, 1]


def test_the_models_own_exceptions_are_no_failure_of_the_monitor():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            self.layer(x)
            raise ValueError("of the model")

    model = Fails()
    with Monitor(model) as monitor, pytest.raises(ValueError, match="of the model"):
        model(torch.ones(1, 4))
    assert monitor.diagnosis().cause == "undetermined"


def test_a_copy_of_the_model_is_not_watched_and_does_not_disturb():
    model, alone = network(), network()
    histories = []
    for each, with_copy in ((model, True), (alone, False)):
        optimizer = sgd(each)
        with Monitor(each, optimizer) as monitor:
            train(each, monitor, optimizer, range(2))
            average = copy.deepcopy(each)

            def use(step: int, average: nn.Module = average, used: bool = with_copy) -> None:
                if used:
                    with torch.random.fork_rng(devices=[]):
                        average(batch(step)[0] * 100).sum().backward()

            train(each, monitor, optimizer, range(2, 6), use)
        histories.append(repr(monitor.history))
    assert histories[0] == histories[1]


def test_a_copy_and_a_pickle_of_the_model_work_also_when_the_monitor_is_gone():
    model = network()
    optimizer = sgd(model)
    with Monitor(model, optimizer) as monitor:
        train(model, monitor, optimizer, range(2))
        taken = copy.deepcopy(model), pickle.dumps(model), io.BytesIO()
        torch.save(model, taken[2])
        state = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, state)
        wanted = [p.detach().clone() for p in model.parameters()]
        train(model, monitor, optimizer, range(2, 4))
    taken[2].seek(0)
    for each in (taken[0], pickle.loads(taken[1]), torch.load(taken[2], weights_only=False)):
        assert all(torch.equal(p, q) for p, q in zip(each.parameters(), wanted, strict=True))
        each(batch(0)[0]).sum().backward()
        for p in each.parameters():
            assert p.grad is not None
    state.seek(0)
    model.load_state_dict(torch.load(state)["model"])
    assert monitor.history["step"] == [0, 1, 2, 3]


def test_a_second_monitor_can_be_opened_on_the_same_model_after_the_first():
    model = network()
    optimizer = sgd(model)
    before = hooks(model, optimizer)
    for _ in range(2):
        with Monitor(model, optimizer) as monitor:
            train(model, monitor, optimizer)
        assert monitor.history["step"] == list(range(6))
        assert hooks(model, optimizer) == before
