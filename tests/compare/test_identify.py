"""What decides the numbers of runs is found: edits of code, values, data and environment; and what does not is not."""

import dataclasses
import importlib
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from steepest.compare import Budget, Cell, Design
from steepest.compare._candidates import resolve_candidate
from steepest.compare._identity import identify as _identify
from steepest.compare._identity.identify import identify
from steepest.compare._identity.source import own_modules
from steepest.compare._queue.workers import RunContext
from steepest.estimators import ScoreFunction
from steepest.init import resolve_scheme
from steepest.tasks import load

MINE = """
import torch
from torch import nn
from steepest.tasks import Task

SCALE = 1.0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(5, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.outer(self.inner(x).relu())


def loss(output, target):
    return SCALE * nn.functional.mse_loss(output, target)


def error(output, target):
    return (output - target).abs().mean()


def data(n, seed):
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    return x, x.sum(1, keepdim=True)


given = {"train": data(60, 0), "valid": data(30, 1), "batch_size": 20, "steps": 4}
task = Task(name="mine", model=Net, loss=loss, metric=error, **given)
"""


class Folder:
    """A user's folder: files are written, loaded as by a new process, and what a comparison finds is returned."""

    def __init__(self, path, monkeypatch):
        self.path, self.notices = path, []
        monkeypatch.syspath_prepend(path)
        monkeypatch.setattr(_identify, "own_modules", self._modules)
        self.write("mine", MINE)

    def write(self, module, text):
        path = self.path.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def edit(self, module, old, new):
        path = self.path / f"{module}.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def look(self, optimizer="sgd", init="he", *, optimizers=(), task=None):
        """Return the identity of one cell, found by a process that has just been started."""
        if task is None:
            self.unload()
            importlib.invalidate_caches()
            task = load("mine:task")
        return self.look_again(task, optimizer, init, optimizers=optimizers)

    def look_again(self, task, optimizer="sgd", init="he", *, optimizers=(), grid_index=-8, **of_context):
        candidates = {c.name: c for c in map(resolve_candidate, optimizers or [optimizer])}
        scheme = resolve_scheme(init)
        cells = {Cell(name, str(init)): grid_index for name in candidates}
        design = Design(cells=cells, budget=Budget(), seeds=3)
        context = RunContext(
            task, candidates, {str(init): scheme}, **{"steps": 4, "schedule": "cosine", "device": "cpu", **of_context}
        )
        identities, self.notices = identify(context, design)
        name = optimizer if isinstance(optimizer, str) else optimizer.name
        return identities[Cell(name.rpartition(":")[2], str(init))]

    def unload(self):
        for name in self._modules():
            del sys.modules[name]

    def _modules(self):
        return {n: m for n, m in own_modules().items() if Path(m.__file__).is_relative_to(self.path)}


@pytest.fixture
def folder(training_folder, monkeypatch):
    """A folder whose task is looked at and not trained, where a first step would add nothing."""
    monkeypatch.setattr(_identify, "probe", lambda *_arguments: {})
    return training_folder


@pytest.fixture
def training_folder(tmp_path, monkeypatch):
    # No bytecode: a file that is edited twice within a second and keeps its size would come back old.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Folder(tmp_path, monkeypatch)
    yield made
    made.unload()


def differences(new, old):
    assert new.matches(old) == old.matches(new) == (not new.differences(old))
    return new.differences(old)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def loss", "# a comment\n\n\ndef loss"),
        ("return SCALE * nn", "return (SCALE\n            * nn"),
        ("def loss(output, target):\n", 'def loss(output, target):\n    """Scaled."""\n'),
        ("import torch\n", '"""A module."""\nimport torch\n'),
        ("task = Task", 'if __name__ == "__main__":\n    print("hello")\n\ntask = Task'),
        ("SCALE = 1.0", "SCALE = 1.0  # one"),
    ],
)
def test_comments_positions_and_docstrings_decide_nothing(folder, old, new):
    before = folder.look()
    new = new if "(SCALE" not in new else new.replace("(SCALE", "(SCALE")
    folder.edit("mine", old, new)
    if "(SCALE\n" in new:
        folder.edit("mine", "mse_loss(output, target)", "mse_loss(output, target))")
    assert differences(folder.look(), before) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("mse_loss(output, target)", "l1_loss(output, target)", "mine.py: function loss changed"),
        (".relu()", ".tanh()", "mine.py: class Net changed"),
        (".abs().mean()", ".abs().max()", "mine.py: function error changed"),
        ("SCALE = 1.0", "SCALE = 2.0", "mine.py: SCALE is 2 instead of 1"),
        ('"batch_size": 20', '"batch_size": 10', "batch size is 10 instead of 20"),
        ("x.sum(1, keepdim=True)", "x.sum(1, keepdim=True) + (torch.arange(n) == 7)[:, None]", "data of train changed"),
    ],
)
def test_an_edit_is_found_and_named(folder, old, new, says):
    before = folder.look()
    folder.edit("mine", old, new)
    assert says in differences(folder.look(), before)


def test_an_edit_that_matters_only_late_in_a_run_is_found(training_folder):
    training_folder.edit(
        "mine", "return SCALE * nn", "CALLS.append(0)\n    return (SCALE if len(CALLS) < 900 else 1) * nn"
    )
    training_folder.edit("mine", "SCALE = 1.0", "SCALE = 1.0\nCALLS = []")
    before = training_folder.look()
    training_folder.edit("mine", "else 1)", "else 7)")
    assert differences(training_folder.look(), before) == ["mine.py: function loss changed"]


def test_what_changes_by_itself_while_it_runs_decides_nothing(training_folder):
    training_folder.edit("mine", "return SCALE * nn", "CALLS.append(0)\n    return SCALE * nn")
    training_folder.edit("mine", "SCALE = 1.0", "SCALE = 1.0\nCALLS = []")
    before = training_folder.look()
    assert differences(training_folder.look_again(sys.modules["mine"].task), before) == []


def test_an_edited_helper_is_found_however_it_is_imported(training_folder):
    training_folder.write("pkg.__init__", "")
    training_folder.write("pkg.top", "def double(x):\n    return 2 * x\n")
    training_folder.write("pkg.late", "def half(x):\n    return x / 2\n")
    training_folder.write("pkg.named", "def same(x):\n    return x\n")
    training_folder.edit("mine", "SCALE = 1.0", "import importlib\nfrom pkg.top import double\n\nSCALE = 1.0")
    training_folder.edit(
        "mine",
        "return SCALE * nn.functional.mse_loss(output, target)",
        "from pkg import late\n"
        "    same = importlib.import_module('pkg.' + 'named').same\n"
        "    return double(late.half(same(nn.functional.mse_loss(output, target))))",
    )
    before = training_folder.look()
    training_folder.edit("pkg/top", "2 * x", "x * 2")
    training_folder.edit("pkg/late", "x / 2", "0.5 * x")
    training_folder.edit("pkg/named", "return x", "return +x")
    assert differences(training_folder.look(), before) == [
        "pkg/late.py: function half changed",
        "pkg/named.py: function same changed",
        "pkg/top.py: function double changed",
    ]


def test_an_environment_variable_that_the_model_reads_is_found_by_the_first_step(training_folder, monkeypatch):
    training_folder.edit("mine", "self.inner(x).relu()", "act(self.inner(x))")
    training_folder.edit(
        "mine", "SCALE = 1.0", "import os\n\nSCALE = 1.0\n\ndef act(x):\n    return getattr(x, os.environ['ACT'])()"
    )
    monkeypatch.setenv("ACT", "relu")
    before = training_folder.look()
    monkeypatch.setenv("ACT", "tanh")
    (said,) = [
        each for each in differences(training_folder.look(), before) if "validation loss at the start (seed 0)" in each
    ]
    assert " instead of " in said


def test_a_value_from_the_environment_that_matters_late_is_found_where_it_is_kept(training_folder, monkeypatch):
    training_folder.edit("mine", "SCALE = 1.0", "import os\n\nSCALE = float(os.environ['LATE'])\nCALLS = []")
    training_folder.edit(
        "mine", "return SCALE * nn", "CALLS.append(0)\n    return (1 if len(CALLS) < 900 else SCALE) * nn"
    )
    monkeypatch.setenv("LATE", "3")
    before = training_folder.look()
    monkeypatch.setenv("LATE", "4")
    assert differences(training_folder.look(), before) == ["mine.py: SCALE is 4 instead of 3"]


def test_a_value_in_a_closure_a_default_or_a_partial_is_found(folder):
    folder.edit("mine", "import torch\n", "import functools\nimport json\nimport pathlib\nimport torch\n")
    folder.edit(
        "mine",
        "SCALE = 1.0",
        """
        CONFIG = json.loads((pathlib.Path(__file__).parent / "config.json").read_text())


        def weighted(weight):
            return lambda output, target, power=CONFIG["power"]: (output - target).abs().pow(power).mean() * weight


        def scaled(output, target, *, by):
            return by * (output - target).abs().mean()


        SCALE = 1.0
        """.replace("\n        ", "\n"),
    )
    folder.edit(
        "mine",
        "loss=loss, metric=error",
        "loss=weighted(CONFIG['w']), metric=functools.partial(scaled, by=CONFIG['b'])",
    )
    config = folder.path / "config.json"
    config.write_text('{"power": 2, "w": 1.0, "b": 3}')
    before = folder.look()
    assert differences(folder.look(), before) == []
    for changed, says in [
        ('{"power": 3, "w": 1.0, "b": 3}', "power of mine.py: a lambda is 3 instead of 2"),
        ('{"power": 2, "w": 1.5, "b": 3}', "weight in mine.py: a lambda is 1.5 instead of 1"),
        ('{"power": 2, "w": 1.0, "b": 4}', "the metric changed"),
    ]:
        config.write_text(changed)
        assert says in differences(folder.look(), before)


def test_a_data_file_that_changed_on_disk_is_found(folder):
    folder.edit("mine", '"train": data(60, 0)', "\"train\": tuple(torch.load('train.pt'))")
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(3))
    path = folder.path / "train.pt"
    folder.edit("mine", "'train.pt'", f"{str(path)!r}")
    torch.save([x, x.sum(1, keepdim=True)], path)
    before = folder.look()
    y = x.sum(1, keepdim=True)
    y[30] += 1e-3
    torch.save([x, y], path)
    assert differences(folder.look(), before) == ["data of train changed"]


OWN_OPTIMIZER = """
import torch


class Mine(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.taken = 0

    def step(self, closure=None):
        self.taken += 1
        if self.taken > 900:
            return None
        return super().step(closure)
"""


def test_an_edited_optimizer_makes_new_runs_of_that_optimizer_alone(training_folder):
    training_folder.write("mine_optim", OWN_OPTIMIZER)
    optimizers = ["sgd", "mine_optim:Mine"]
    before = {name: training_folder.look(name, optimizers=optimizers) for name in optimizers}
    training_folder.edit("mine_optim", "> 900", "> 800")
    after = {name: training_folder.look(name, optimizers=optimizers) for name in optimizers}
    assert differences(after["mine_optim:Mine"], before["mine_optim:Mine"]) == ["mine_optim.py: class Mine changed"]
    assert differences(after["sgd"], before["sgd"]) == []
    assert differences(training_folder.look("sgd"), before["sgd"]) == []  # nor does it matter that the other takes part


def test_a_module_that_the_task_may_use_too_is_not_the_other_optimizers_alone(folder):
    folder.write("shared", "def one():\n    return 1.0\n")
    folder.write("mine_optim", "import shared\n" + OWN_OPTIMIZER)
    folder.edit("mine", "return SCALE * nn", "import shared\n    return shared.one() * nn")
    optimizers = ["sgd", "mine_optim:Mine"]
    before = folder.look("sgd", optimizers=optimizers)
    folder.edit("shared", "1.0", "1")
    assert differences(folder.look("sgd", optimizers=optimizers), before) == ["shared.py: function one changed"]


def test_another_schedule_or_warm_up_is_another_request_and_an_edited_function_is_found(folder):
    text = "def fall(progress):\n    return (1 - progress) ** 2\n"

    def schedule():
        sys.modules.pop("mine_schedule", None)
        importlib.invalidate_caches()
        return importlib.import_module("mine_schedule").fall

    folder.look()
    task = load("mine:task")
    requests = [
        folder.look_again(task, **options).request
        for options in ({}, {"schedule": "linear"}, {"warmup": 1}, {"warmup": 0.5})
    ]
    assert [{**request, "schedule": 0, "warmup": 0} for request in requests[1:]] == [
        {**requests[0], "schedule": 0, "warmup": 0}
    ] * 3
    assert [(r["schedule"], r["warmup"]) for r in requests] == [
        ("cosine", 0),
        ("linear", 0),
        ("cosine", 1),
        ("cosine", 2),
    ]
    folder.write("mine_schedule", text)
    before = folder.look_again(task, schedule=schedule())
    assert before.request["schedule"] == "fall"
    assert differences(folder.look_again(task, schedule=schedule()), before) == []
    folder.edit("mine_schedule", "** 2", "** 3")
    assert differences(folder.look_again(task, schedule=schedule()), before) == [
        "mine_schedule.py: function fall changed"
    ]


SOURCE = """
import torch
from steepest.estimators import Estimate

SCALE = 1.0


class Mine:
    def __init__(self, fill):
        self.fill = fill

    def __call__(self, objective, x, generator=None):
        return Estimate(objective(x), {n: SCALE * torch.full_like(t, self.fill) for n, t in x.items()})
"""


def test_another_gradient_source_is_another_request_and_an_edited_one_is_found(folder):
    folder.look()
    folder.write("mine_source", SOURCE)

    def source(fill=1.0):
        sys.modules.pop("mine_source", None)
        importlib.invalidate_caches()
        return importlib.import_module("mine_source").Mine(fill)

    task = sys.modules["mine"].task
    plain, before = folder.look_again(task), folder.look_again(task, gradient=source())
    assert "gradient" not in plain.request  # runs from before there were sources have no such entry
    assert before.request == {**plain.request, "gradient": "Mine(fill=1)"}
    assert differences(folder.look_again(task, gradient=source()), before) == []
    assert folder.look_again(task, gradient=source(2.0)).request != before.request
    folder.edit("mine_source", "SCALE *", "2 * SCALE *")
    assert differences(folder.look_again(task, gradient=source()), before) == ["mine_source.py: class Mine changed"]
    folder.edit("mine_source", "2 * SCALE *", "SCALE *")
    folder.edit("mine_source", "SCALE = 1.0", "SCALE = 3.0")
    assert differences(folder.look_again(task, gradient=source()), before) == [
        "mine_source.py: SCALE is 3 instead of 1"
    ]


def test_what_a_gradient_source_holds_counts(folder):
    folder.look()
    task, laplace = sys.modules["mine"].task, torch.distributions.Laplace

    def look(distribution):
        return folder.look_again(task, gradient=ScoreFunction(0.1, 4, distribution=distribution))

    before = look(laplace(0.0, 1.0))
    assert differences(look(laplace(0.0, 1.0)), before) == []
    for other in (laplace(0.0, 2.0), torch.distributions.StudentT(5.0), None):
        assert look(other).request != before.request or differences(look(other), before) != []


def test_an_edited_init_scheme_is_found(folder):
    folder.write(
        "mine_init",
        """
        from steepest.init import Normal


        class Mine(Normal):
            def weight(self, weight, *rest):
                return super().weight(weight, *rest)
        """,
    )

    def scheme(std):
        sys.modules.pop("mine_init", None)
        importlib.invalidate_caches()
        return importlib.import_module("mine_init").Mine(std=std)

    task = folder.look() and sys.modules["mine"].task
    before = folder.look_again(task, init=scheme(0.1))
    assert differences(folder.look_again(task, init=scheme(0.1)), before) == []
    folder.edit("mine_init", "super().weight(weight, *rest)", "super().weight(weight, *rest) or None")
    assert "mine_init.py: class Mine changed" in differences(folder.look_again(task, init=scheme(0.1)), before)


def test_other_learning_rates_are_named(folder):
    task = folder.look() and sys.modules["mine"].task
    before = folder.look_again(task, grid_index=-8)
    assert differences(folder.look_again(task, grid_index=-8), before) == []
    says = "the middle of the learning rates is 1 instead of 0.1"
    assert differences(folder.look_again(task, grid_index=0), before) == [says]


def test_versions_of_packages_that_the_users_modules_import_count(folder, monkeypatch):
    folder.edit("mine", "import torch\n", "import numpy\nimport json\nimport torch\n")
    before = folder.look()
    assert set(before.content["packages"]) == {"numpy"}
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == "numpy" else real(name))
    assert differences(folder.look(), before) == [f"numpy is 99 instead of {real('numpy')}"]


def test_a_moved_folder_is_the_same_and_a_renamed_module_is_not(folder, tmp_path, monkeypatch):
    before = folder.look()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.unload()
    moved = Folder(elsewhere, monkeypatch)
    assert "mine" not in sys.modules
    after = moved.look()
    assert Path(sys.modules["mine"].__file__).parent == elsewhere
    assert differences(after, before) == []
    (elsewhere / "mine.py").rename(elsewhere / "other.py")
    importlib.invalidate_caches()
    assert differences(moved.look(task=load("other:task")), before) != []


def test_code_that_was_edited_after_it_was_loaded_counts_as_it_was_loaded(folder):
    before = folder.look()
    task = sys.modules["mine"].task
    folder.edit("mine", "mse_loss(output, target)", "l1_loss(output, target)")
    stale = folder.look_again(task)
    assert folder.notices == ["mine.py was edited after it was loaded; what counts is what is loaded."]
    assert not stale.matches(before)
    assert not stale.matches(folder.look())
    assert folder.notices == []
    assert stale.matches(folder.look_again(task)) is False


NOTEBOOK = """
import torch
from torch import nn
from steepest.tasks import Task

SCALE = 1.0

def loss(output, target):
    "A docstring."
    return SCALE * nn.functional.mse_loss(output, target)

class Net(nn.Module):
    power = 1
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 1)
    def forward(self, x):
        return self.linear(x) ** self.power

g = torch.Generator().manual_seed(0)
x = torch.randn(60, 5, generator=g)
task = Task(name="mine", model=lambda: Net(), loss=loss, train=(x, x[:, :1]), valid=(x, x[:, :1]), batch_size=20)
"""


@pytest.mark.parametrize("name", ["__main__", pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("def loss", "\n# moved down\n\ndef loss", None),
        ("A docstring.", "Another one.", None),
        ("mse_loss", "l1_loss", "function loss changed"),
        ("SCALE = 1.0", "SCALE = 2.0", "SCALE is 2 instead of 1"),
        ("self.linear(x) **", "-self.linear(x) **", "method Net.forward changed"),
        ("power = 1", "power = 2", "class Net: power is 2 instead of 1"),
        ("lambda: Net()", "lambda: Net().double().float()", "a lambda of the model changed"),
        ("task = Task", "unused = 3\ntask = Task", None),
    ],
)
def test_in_a_notebook_the_code_objects_and_values_that_are_used_count(folder, name, old, new, says):
    def cells(text):
        variables = {} if name is None else {"__name__": name}
        exec(compile(text, "<ipython-input>", "exec"), variables)
        return variables["task"]

    before = folder.look_again(cells(NOTEBOOK))
    assert old in NOTEBOOK
    found = differences(folder.look_again(cells(NOTEBOOK.replace(old, new))), before)
    assert (says in found) if says else not found


DATASET = """
import torch
from torch import nn
from torch.utils.data import Dataset
from steepest.tasks import Task

NOISE, CHANGED = 0.0, ()


class Data(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        x = torch.randn(5, generator=g) + NOISE * torch.rand(()) + (i in CHANGED)
        return x, x[:1]


given = {"train": Data(), "valid": Data(), "batch_size": 20}
task = Task(name="mine", model=lambda: nn.Linear(5, 1), loss=nn.functional.mse_loss, **given)
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("return x, x[:1]", "return x, x[:1] * (100 if 0 < i < 999 else 1)", "mine.py: class Data changed"),
        ("CHANGED = 0.0, ()", "CHANGED = 0.0, range(1, 999)", "data of train changed"),
        ("CHANGED = 0.0, ()", "CHANGED = 0.0, (0,)", "data of valid changed"),
        ("CHANGED = 0.0, ()", "CHANGED = 0.0, (999,)", "data of valid changed"),
        ("return 1000", "return 999", "data of train, number of examples is 999 instead of 1000"),
    ],
)
def test_a_changed_dataset_is_found(folder, old, new, says):
    folder.write("mine", DATASET)
    before = folder.look()
    assert folder.notices == []
    folder.edit("mine", old, new)
    assert says in differences(folder.look(), before)


def test_a_dataset_that_draws_from_the_global_numbers_is_looked_at_under_fixed_seeds(folder):
    folder.write("mine", DATASET.replace("NOISE, CHANGED = 0.0", "NOISE, CHANGED = 1.0"))
    before = folder.look()
    assert folder.notices == []
    torch.rand(7)
    assert differences(folder.look(), before) == []


def test_examples_that_come_out_different_are_left_out_and_it_is_said(training_folder):
    training_folder.write(
        "mine",
        DATASET.replace("torch.rand(())", "next(RANDOM)").replace(
            "NOISE, CHANGED = 0.0, ()",
            "import os\nNOISE, CHANGED = 1e-2, ()\nRANDOM = iter(lambda: os.urandom(1)[0] / 64, None)",
        ),
    )
    before = training_folder.look()
    assert [each.split(" come")[0] for each in training_folder.notices] == [
        f"{n} of the 64 examined examples of {name}"
        for name, n in zip(("train", "valid"), (int(each.split()[0]) for each in training_folder.notices), strict=True)
    ]
    assert all(int(each.split()[0]) > 48 for each in training_folder.notices)
    probe_aside = [each for each in training_folder.look().differences(before) if "loss" not in each]
    assert probe_aside == []


def test_an_example_that_cannot_be_read_is_told(folder):
    from steepest.errors import TaskError

    folder.write("mine", DATASET.replace("g = torch", "assert i != 333, 'torn'\n        g = torch"))
    with pytest.raises(TaskError, match="example 333: AssertionError: torn"):
        folder.look()


def test_of_a_dataset_in_memory_every_example_counts(folder):
    held = DATASET.replace(
        "def __len__",
        "def __init__(self):\n        self.x = torch.arange(5000.0).view(1000, 5) / 5000\n\n    def __len__",
    )
    folder.write("mine", held.replace("return x, x[:1]", "return self.x[i], self.x[i, :1]"))
    before = folder.look()
    folder.edit("mine", "/ 5000\n", "/ 5000\n        self.x[501] += 1e-2\n")
    assert "data of train: x changed" in differences(folder.look(), before)


def test_a_metric_that_takes_no_few_examples_is_computed_on_all(training_folder):
    training_folder.edit(
        "mine",
        "return (output - target).abs().mean()",
        "assert len(output) == 30\n    return (output - target).abs().mean()",
    )
    numbers = training_folder.look().content["probe"]
    assert set(numbers) == {
        f"{what} at the start (seed {seed})"
        for what in ("the training loss", "the validation loss", "error")
        for seed in range(3)
    } | {f"{what} after one step (seed {seed})" for what in ("the validation loss", "error") for seed in range(3)}


def test_the_callers_random_numbers_are_left_alone(training_folder):
    import random

    import numpy as np

    training_folder.write("mine", DATASET)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    training_folder.look()
    found = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert found == (random.random(), np.random.rand(), torch.rand(1).item())


STREAMED = """
import itertools
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from steepest.tasks import Task

SCALE = 1.0
NOISE = 0.0


class Stream(IterableDataset):
    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(40):
            x = torch.randn(5, generator=generator)
            yield x, SCALE * x.sum(0, keepdim=True) + NOISE * next(COUNT)


def loader():
    return DataLoader(Stream(), batch_size=8)


COUNT = itertools.count()
given = {"model": lambda: nn.Linear(5, 1), "loss": nn.functional.mse_loss, "batch_size": 8, "steps": 4}
stream = Task(name="mine", train=Stream(), valid=Stream(), **given)
loaded = Task(name="mine", train=loader(), valid=loader(), **given)
made = Task(name="mine", train=loader, valid=loader, **given)
DATA = {"input": torch.ones(40, 5), "y": torch.ones(40)}
named = Task(name="mine", train=DATA, valid=DATA, **{**given, "loss": lambda output, batch: output.mean()})
"""


def streamed(folder, name, edit=None):
    if edit is None:
        folder.write("mine", STREAMED)
    else:
        folder.edit("mine", *edit)
    folder.unload()
    importlib.invalidate_caches()
    return folder.look(task=load(f"mine:{name}"))


@pytest.mark.parametrize("name", ["stream", "loaded", "made"])
def test_streams_and_loaders_are_known_by_their_first_batches_read_twice(folder, name):
    before = streamed(folder, name)
    assert sum(key.startswith("data of") for key in before.content["examples"]) >= 2 * 2 * 5
    assert folder.notices == []
    assert differences(streamed(folder, name), before) == []
    after = streamed(folder, name, ("SCALE = 1.0", "SCALE = 2.0"))
    assert differences(after, before) == [
        "mine.py: SCALE is 2 instead of 1",
        "data of train changed",
        "data of valid changed",
    ]


@pytest.mark.parametrize("name", ["stream", "loaded", "made"])
def test_batches_that_come_out_different_are_left_out_and_told(folder, name):
    streamed(folder, name)
    found = streamed(folder, name, ("NOISE = 0.0", "NOISE = 1.0"))
    left_out = "come out different when read again, and are left out: a change of them is not detected."
    assert folder.notices == [
        f"8 of the 8 examined batches of train {left_out}",
        f"5 of the 5 examined batches of valid {left_out}",
    ]
    assert not any("batch" in key for key in found.content["examples"])


def test_tensors_by_name_are_known_whole(folder):
    before = streamed(folder, "named")
    assert {"data of train, tensor 'input'", "data of train, tensor 'y'"} <= {*before.content["examples"]}
    after = streamed(folder, "named", ('"y": torch.ones(40)', '"y": torch.zeros(40)'))
    assert [each for each in differences(after, before) if each.startswith("data")] == [
        "data of train changed",
        "data of valid changed",
    ]


def test_what_a_trial_is_ranked_by_changes_no_run(folder):
    before = folder.look()
    task = dataclasses.replace(load("mine:task"), rank_by="min:error")
    assert differences(folder.look_again(task), before) == []
