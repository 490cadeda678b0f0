from __future__ import annotations

import copy
import json
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from tests.report.looks import LAPTOP, PHONE, cut_off, texts_cut_off
from torch import nn

from steepest.features import Features, Snapshots, features
from steepest.linearize import Linearization
from steepest.report import as_json, write
from steepest.tasks import curve

WIDE = {"width": 1200, "height": 900}
STEPS = (0, 10, 2000)
COMMAND = "steepest features --task </script><b>curve"


def network(seed):
    return curve(6, 2).build(seed)


def snapshots(*models, task=None):
    x, y = (task or curve(6, 2)).train
    found = Snapshots((x,), y, 40.0, (0.0, 1.0))
    for step, model in zip(STEPS, models, strict=False):
        found.observe(step, model)
    return found


@pytest.fixture(scope="module")
def report():
    # Three unrelated networks of the same shape: more changes than in any training.
    return Features(
        snapshots=snapshots(*map(network, range(3))),
        task_name="curve",
        losses={0: 0.5, 10: 0.25, 2000: 0.0625},
        settings={"steps": "2,000"},
    )


@pytest.fixture(scope="module")
def path(report, tmp_path_factory):
    return write(report, tmp_path_factory.mktemp("features"), COMMAND)


@pytest.fixture
def open_page(open_file, path):
    return partial(open_file, path)


def go_to(page, key):
    """Move the slider by a key, and wait until all charts show its step."""
    slider = page.get_by_role("slider", name="Step of training")
    slider.focus()
    page.keyboard.press(key)
    page.locator("main[aria-busy=false]").wait_for()


def curve_of(page, figure, trace):
    return page.evaluate("([id, i]) => Array.from(document.getElementById(id)._fullData[i].y)", [figure, trace])


@pytest.mark.browser
def test_whether_it_has_fitted_is_read_first_then_the_regime_and_what_rank_and_alignment_are(open_page, report):
    page = open_page()
    assert page.locator("h1").inner_text() == report.fit
    assert page.locator("#verdict p").all_inner_texts() == [f"{report.headline}.", *report.details]
    text = page.locator("body").inner_text()
    for word, meaning in (("rank", "the number of independent directions"), ("alignment", "is the cosine between")):
        assert 0 <= text.lower().index(word) <= text.index(meaning) < text.lower().index(word) + 40
    assert page.title() == "curve: tangent features (NTK)"


@pytest.mark.browser
def test_every_figure_is_drawn_and_fits(open_page):
    page = open_page()
    figures = page.locator(".figure")
    names = [figures.nth(i).get_attribute("id") for i in range(figures.count())]
    layers = [f"layer-{i}-{j}" for i in (1, 2, 3) for j in (1, 2)]
    principal = [f"principal-{k}" for k in range(1, 7)]
    assert names == ["function", "change", "spectrum", *principal, *layers, "learning"]
    for i in range(figures.count()):
        assert figures.nth(i).locator(".main-svg").count() > 0
        assert figures.nth(i).bounding_box()["width"] <= WIDE["width"]


@pytest.mark.slow
@pytest.mark.browser
def test_the_slider_moves_with_the_keyboard_and_says_where_it_is(open_page, report):
    page = open_page()
    slider = page.get_by_role("slider", name="Step of training")
    ranks = [each.svd.rank for each in report.snapshots.found]
    labels = [
        f"step 0 of 2,000 · loss 0.5 · rank {ranks[0]}",
        f"step 10 of 2,000 · loss 0.25 · rank {ranks[1]}",
        f"step 2,000 of 2,000 · loss 0.0625 · rank {ranks[2]}",
    ]
    assert page.locator("#at").inner_text() == labels[2]
    for key, index in (("Home", 0), ("ArrowRight", 1), ("End", 2), ("ArrowLeft", 1)):
        go_to(page, key)
        assert slider.input_value() == str(index)
        assert slider.get_attribute("aria-valuetext") == labels[index]
        assert page.locator("#at").inner_text() == labels[index]


@pytest.mark.browser
def test_the_slider_moves_every_chart_to_what_the_displays_hold(open_page, report):
    page = open_page()
    for key, index in (("Home", 0), ("End", 2), ("ArrowLeft", 1)):
        go_to(page, key)
        snapshot = report.snapshots.found[index]
        curves = snapshot.curves
        spectrum = snapshot.svd.singular_values.numpy().copy()
        spectrum[snapshot.svd.rank :] = math.nan  # those stand on a floor that all steps share
        shown = {
            "function": (4, curves.function.network),
            "learning": (0, snapshot.learning.plot().data[0].y),
            "spectrum": (1, spectrum),
            "layer-1-1": (2, curves.features.curves["0.weight"][0]),
            "layer-3-2": (2, curves.features.curves["4.bias"][0]),
        }
        scale = math.sqrt(200) / curves.principal.singular_values
        for k in range(6):
            shown[f"principal-{k + 1}"] = (1, scale[k] * curves.principal.features[k])
        for figure, (trace, expected) in shown.items():
            drawn = np.array([math.nan if v is None else v for v in curve_of(page, figure, trace)])
            drawn, expected = (np.where(np.isnan(expected), math.nan, each) for each in (drawn, expected))
            if figure in ("spectrum", "learning"):  # on a logarithmic scale
                drawn, expected = np.log10(drawn), np.log10(expected)
            rounding = np.nanmax(expected) - np.nanmin(expected)
            np.testing.assert_allclose(drawn, expected, rtol=0, atol=rounding / 2**16 + 1e-12, err_msg=figure)
        line = page.evaluate("document.getElementById('change').layout.shapes[0].x0")
        assert line == index
        captions = page.locator("#h-principal ~ .panels figcaption").all_inner_texts()
        assert captions[0] == f"1 singular value {curves.principal.singular_values[0]:.3g}"


@pytest.mark.slow
@pytest.mark.browser
def test_elbows_move_with_the_first_layer(open_page, report):
    page = open_page()
    paths = set()
    for key, index in (("Home", 0), ("End", 2)):
        go_to(page, key)
        path = page.evaluate("document.getElementById('layer-1-1').layout.shapes[0].path")
        drawn = [float(x) for x in re.findall(r"M ([-\d.e]+),0", path)]
        inside = [x for x in report.snapshots.found[index].curves.features.elbows if 0 <= x <= 1]
        assert drawn == pytest.approx(inside, rel=1e-5)
        paths.add(path)
    assert len(paths) == 2


@pytest.mark.slow
@pytest.mark.browser
def test_features_have_each_step_s_scale_or_one_for_all(open_page):
    page = open_page()

    def ranges():
        found = []
        for key in ("Home", "End"):
            go_to(page, key)
            found.append(tuple(page.evaluate("document.getElementById('layer-2-1').layout.yaxis.range")))
        return found

    own = ranges()
    assert own[0] != own[1]
    page.get_by_label("one vertical scale for all steps").check()
    low, high = zip(*ranges(), strict=True)
    assert low[0] == low[1] <= min(own[0][0], own[1][0]) + 1e-9
    assert high[0] == high[1] >= max(own[0][1], own[1][1]) * 0.95


@pytest.mark.slow
@pytest.mark.browser
def test_it_plays_from_the_start_and_pauses(open_page):
    page = open_page()
    page.get_by_role("button", name="Play the training").click()
    assert page.locator("#at").inner_text().startswith("step 0 of")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Play the training").wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_light_and_dark_hold_when_the_slider_moves(open_page, scheme):
    page = open_page(color_scheme=scheme)
    go_to(page, "Home")
    colours = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, document.getElementById('function').layout.font.color]"
    )
    ground = sum(int(part) for part in colours[0].removeprefix("rgb(").removesuffix(")").split(","))
    ink = sum(int(colours[1][i : i + 2], 16) for i in (1, 3, 5))
    assert (ground > ink) == (scheme == "light")


@pytest.mark.browser
@pytest.mark.parametrize("size", [PHONE, LAPTOP], ids=["phone", "laptop"])
def test_nothing_is_cut(open_page, size):
    page = open_page(viewport=size)
    go_to(page, "Home")
    assert cut_off(page) == []
    assert texts_cut_off(page) == []


@pytest.mark.browser
def test_in_print_it_is_light_without_controls_and_says_which_step(open_page, report):
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for control in ("#theme", "#play", "#step"):
        assert not page.locator(control).is_visible()
    assert page.locator("#at").inner_text().startswith("step 2,000 of 2,000")


def test_the_page_of_31_parameters_is_under_2_megabytes_with_all_it_needs(tmp_path):
    path = write(features(width=10, depth=1, steps=2000), tmp_path)
    assert path.stat().st_size < 2e6


@pytest.mark.parametrize(
    ("losses", "constant", "said"),
    [
        ((1.0, 0.05), 0.6, "has fitted: the validation loss goes from 1 to 0.05 in 10 steps; a constant output has"),
        ((1.0, 0.3), 0.6, "has fitted in part: the validation loss goes from 1 to 0.3 in 10 steps; a constant output"),
        ((1.0, 0.59), 0.6, "has not fitted: the validation loss goes from 1 to 0.59 in 10 steps; a constant output"),
        ((1.0, 0.95), None, "has not fitted: the validation loss goes from 1 to 0.95 in 10 steps"),
        ((-1.0, -2.0), None, "The validation loss goes from -1 to -2 in 10 steps"),
    ],
)
def test_a_fit_is_judged_by_what_a_constant_output_reaches(losses, constant, said):
    found = snapshots(network(0), network(1))
    report = Features(
        snapshots=found,
        task_name="t",
        losses=dict(zip((0, 10), losses, strict=True)),
        settings={},
        constant_loss=constant,
    )
    assert said in report.fit
    assert as_json(report)["fit"] == report.fit


def test_the_page_names_no_address_it_could_ask(path):
    text = path.read_text()
    head = text[: text.index("<script")]
    assert "default-src 'none'" in head
    assert "http" not in head.replace("http-equiv", "")


def test_what_a_user_typed_is_shown_and_not_run(path):
    assert "--task &lt;/script&gt;&lt;b&gt;curve" in path.read_text()


def test_the_numbers_are_all_in_the_results(report, path):
    found = json.loads((path.parent / "results.json").read_text())
    assert found == as_json(report, COMMAND)
    assert [each["loss"] for each in found["snapshots"]] == [0.5, 0.25, 0.0625]
    assert {each["regime"] for each in found["snapshots"]} <= {"lazy", "between", "feature learning"}


def test_a_step_at_which_it_cannot_be_linearised_is_left_out_with_the_reason(tmp_path):
    model = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    found = snapshots(model.eval(), copy.deepcopy(model).train(), model)
    assert [each.step for each in found.found] == [0, 2000]
    report = Features(snapshots=found, task_name="t", losses={0: 1.0, 10: 1.0, 2000: 1.0}, settings={})
    assert "dropout is on" in report.details[-1]
    assert "At step 10 the network could not be linearised" in write(report, tmp_path).read_text()


def test_a_run_of_which_only_the_start_is_seen_has_a_page_too(tmp_path):
    report = Features(snapshots=snapshots(network(0)), task_name="t", losses={0: 1.0}, settings={}, diverged=True)
    assert report.headline == "The run diverged before its features could be computed a second time"
    assert " disabled>" in write(report, tmp_path).read_text()


class SinglePrecision(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1))

    def forward(self, x):
        return x.float() @ self.weight


def test_where_a_model_does_not_run_in_float64_its_own_precision_is_taken_and_said():
    assert snapshots(network(0)).precision == "float64"
    assert snapshots(SinglePrecision()).precision == "float32"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (torch.tensor([2, 0]), [[0, 0, 1], [1, 0, 0]]),
        (torch.tensor([[2], [0]]), [[0, 0, 1], [1, 0, 0]]),
        (torch.arange(6.0).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (torch.tensor([3, 0]), None),
        (torch.tensor([-1, 0]), None),
        (torch.tensor([0.5, 0.5]), None),
        (torch.zeros(2, 3), None),
        (torch.tensor([True, False]), None),
    ],
    ids=["classes", "a column of classes", "numbers", "too many", "ignored", "too few", "zeros", "yes or no"],
)
def test_targets_are_numbers_or_classes_or_nothing_to_align_with(target, expected):
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = Snapshots((x,), target, 1.0)
    found.observe(0, nn.Linear(2, 3))
    alignment = found.found[0].target_alignment
    if expected is None:
        assert alignment is None
    else:
        y = torch.tensor(expected, dtype=torch.float64)
        assert alignment == Linearization(found.linearization._jacobian.network.model, x.double()).alignment(y).value
    assert (found.found[0].learning is None) == (expected is None or not target.is_floating_point())
