import math
from functools import partial

import pytest
from tests.report.looks import LAPTOP, PHONE, contrast, cut_off, texts_cut_off

from steepest.compare import Budget, compare
from steepest.errors import OutputError
from steepest.features import FeatureObserver, change_of
from steepest.report import write, write_page
from steepest.report._page.page import _digits
from steepest.tasks import digits

WIDE = {"width": 1200, "height": 900}


@pytest.fixture(scope="module")
def comparison():
    return compare(
        digits(width=16, depth=2),
        ["sgd", "adamw"],
        ["he", "zero"],
        seeds=3,
        budget=Budget(rates=5, tuning_seeds=1, steps=20),
        workers=1,
        observers={"features": FeatureObserver},
    )


@pytest.fixture(scope="module")
def report(comparison, tmp_path_factory):
    return write(comparison, tmp_path_factory.mktemp("report"), command="steepest compare --task </script><b>digits")


@pytest.fixture
def open_page(open_file, report):
    return partial(open_file, report)


def visible(page, figure, series):
    return page.evaluate(
        "([id, name]) => document.getElementById(id).data"
        ".filter(t => t.legendgroup === name).map(t => t.visible !== false)",
        [figure, series],
    )


@pytest.mark.browser
def test_the_verdict_is_read_first_then_what_to_use_what_it_costs_and_what_to_type(open_page, comparison):
    page = open_page()
    verdict = comparison.verdict
    assert page.locator("h1").inner_text() == verdict.headline
    assert page.title() == "digits: a fair trial"
    boxes = page.locator(".decision > div")
    texts = boxes.all_inner_texts()
    assert [text.splitlines()[0] for text in texts] == ["What to use", "What it costs", "What to type next"]
    standing = comparison.standings[verdict.choice]
    assert comparison.label(verdict.choice) in texts[0]
    assert f"learning rate {standing.lr:.3g}" in texts[0]
    assert f"{1e3 * standing.seconds_per_step:.3g} ms per step" in texts[1]
    assert boxes.last.bounding_box()["y"] + boxes.last.bounding_box()["height"] < WIDE["height"], "without scrolling"
    assert verdict.next_step.command in boxes.nth(2).locator("code").text_content()
    assert verdict.next_step.gist in texts[2]


@pytest.mark.browser
def test_sections_stand_in_the_order_of_the_decision(open_page, comparison):
    page = open_page()
    assert page.locator("main h2").all_inner_texts() == [
        f"Differences from {comparison.label(comparison.verdict.choice)}",
        "While training",
        "Sensitivity to the learning rate",
        "What a step costs",
        "Exploration: outside of the verdict and its 95%",
        "Gradients, and why a run does not train",
        "Tangent features (NTK) of the first in the ranking",
        "What was run",
    ]
    facts = page.locator("header ul.facts").inner_text()
    runs = f"runs {len(comparison.histories)}"
    for each in ("parameters 1,482", "training examples 1,438", "validation examples 359", "batch size 100", runs):
        assert each in facts


@pytest.mark.browser
def test_the_next_command_is_copied_as_it_is_typed(open_page, comparison):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    button = page.locator(".decision").get_by_role("button", name="Copy")
    button.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == comparison.verdict.next_step.command


@pytest.mark.browser
def test_differences_from_the_choice_are_drawn_and_tabled_with_their_intervals(open_page, comparison):
    page = open_page()
    display = comparison.differences()
    rows = {
        row.locator("th").inner_text().strip(): row.locator("td").all_inner_texts()
        for row in page.locator("#h-differences ~ table").first.locator("tbody tr").all()
    }
    assert set(rows) == {comparison.label(cell) for cell in comparison.design.cells}
    for name, estimate in display.differences.items():
        low, high = display.lows[name], display.highs[name]
        known = math.isfinite(low) and math.isfinite(high)
        assert rows[name][1:3] == ([signed(estimate), f"{signed(low)} to {signed(high)}"] if known else ["", ""])
    drawn = page.evaluate("document.getElementById('differences').data.map(trace => trace.name)")
    assert sorted(drawn) == sorted(name for name in display.differences if math.isfinite(display.lows[name]))
    assert "∞" not in page.locator("main").inner_text()


def signed(number):
    return f"{number:+.3g}".replace("-", "\N{MINUS SIGN}")


@pytest.mark.browser
def test_curves_are_over_steps_or_over_seconds_and_a_hidden_series_stays_hidden(open_page, comparison):
    page = open_page()
    page.get_by_role("button", name="adamw + he").click()
    for over in ("seconds", "steps"):
        page.get_by_label(f"over {over}").check()
        for figure, name in (("loss", "loss"), ("curve-1", "training loss"), ("curve-2", "accuracy")):
            expected = comparison.curves(name, over).plot()
            drawn = page.evaluate(
                "id => document.getElementById(id)._fullData.map(trace => Array.from(trace.x ?? []))", figure
            )
            line = next(i for i, trace in enumerate(expected.data) if trace.name == "sgd + zero" and not trace.fill)
            assert drawn[line] == pytest.approx(list(expected.data[line].x))
            assert set(visible(page, figure, "adamw + he")) == {False}
            title = page.evaluate("id => document.getElementById(id).layout.xaxis.title.text", figure)
            assert title == {"steps": "step", "seconds": "seconds of training"}[over]


@pytest.mark.browser
def test_a_series_is_toggled_in_all_charts_with_the_keyboard(open_page):
    page = open_page()
    chip = page.get_by_role("button", name="adamw + he")
    for pressed in ("false", "true"):
        chip.focus()
        page.keyboard.press("Enter")
        assert chip.get_attribute("aria-pressed") == pressed
        for figure in ("loss", "curve-1", "rates", "norms-1"):
            shown = visible(page, figure, "adamw + he")
            assert shown
            assert set(shown) == {pressed == "true"}
            assert set(visible(page, figure, "sgd + he")) <= {True}


@pytest.mark.browser
def test_a_series_has_one_colour_in_all_charts(open_page):
    page = open_page()
    colours = page.evaluate(
        """[...document.querySelectorAll('.figure')].flatMap(element => element.data
            .filter(trace => trace.legendgroup === 'adamw + zero' && trace.mode.startsWith('lines') && !trace.fill)
            .map(trace => trace.line.color))"""
    )
    assert len(colours) == 5, "losses, accuracy, rates and the gradients of its init"
    assert len(set(colours)) == 1


@pytest.mark.browser
def test_every_figure_is_drawn_and_fits(open_page):
    page = open_page()
    figures = page.locator(".figure")
    ids = [figures.nth(i).get_attribute("id") for i in range(figures.count())]
    diagnosed = ["norms-1", "layers-1", "norms-2", "layers-2"]
    assert ids == ["differences", "loss", "curve-1", "curve-2", "rates", *diagnosed, "features"]
    for i in range(figures.count()):
        assert figures.nth(i).locator(".main-svg").count() > 0
        assert figures.nth(i).bounding_box()["width"] <= WIDE["width"]


@pytest.mark.browser
def test_the_features_of_the_first_in_the_ranking_are_shown_at_both_ends(open_page, comparison):
    page = open_page()
    found = change_of(comparison.final_histories(comparison.table()[0].cell)[0])
    said = page.locator("#h-features ~ p").first.inner_text()
    assert f"{found.rows:,} x {found.columns:,} feature matrix" in said
    assert f"is {found.start.rank:,} at initialisation and {found.end.rank:,} at the end" in said
    drawn = page.evaluate("document.getElementById('features').data.map(trace => [trace.name, trace.y.length])")
    assert drawn == [["initialisation", 500], ["end", 500]]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_and_the_button(open_page, scheme):
    page = open_page(color_scheme=scheme)

    def brightness():
        colours = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, document.getElementById('loss').layout.font.color]"
        )
        ground = [int(part) for part in colours[0].removeprefix("rgb(").removesuffix(")").split(",")]
        ink = [int(colours[1][i : i + 2], 16) for i in (1, 3, 5)]
        return sum(ground) / 3, sum(ink) / 3

    ground, ink = brightness()
    assert (ground > ink) == (scheme == "light")
    page.get_by_role("button", name="Switch between light and dark").click()
    page.wait_for_function("document.documentElement.dataset.theme !== undefined")
    ground, ink = brightness()
    assert (ground > ink) == (scheme == "dark")


@pytest.mark.browser
@pytest.mark.parametrize("size", [PHONE, LAPTOP], ids=["phone", "laptop"])
def test_nothing_is_cut(open_page, size):
    page = open_page(viewport=size)
    assert cut_off(page) == []
    assert texts_cut_off(page) == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_series_and_texts_stand_out_from_the_page_in_figures_and_buttons_alike(open_page, scheme):
    page = open_page(color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    drawn = page.evaluate(
        """[...document.querySelectorAll('.figure')].flatMap(element => element.data
            .filter(trace => trace.legendgroup && !trace.fill)
            .map(trace => trace.mode.startsWith('lines') ? trace.line.color : trace.marker.color))"""
    )
    shown = page.evaluate(
        "[...document.querySelectorAll('.chip .swatch')].map(e => getComputedStyle(e).backgroundColor)"
    )
    assert len(drawn) > len(shown) == 4
    assert min(contrast(colour, ground) for colour in [*drawn, *shown]) >= 3
    texts = page.evaluate("[...document.querySelectorAll('h1, p, td, th, dt')].map(e => getComputedStyle(e).color)")
    assert min(contrast(colour, ground) for colour in texts) >= 4.5


@pytest.mark.browser
def test_dark_figures_have_colours_of_their_own_and_a_hidden_series_stays_hidden_in_both(open_page):
    page = open_page(color_scheme="light")
    page.get_by_role("button", name="adamw + he").click()

    def colour():
        return page.evaluate("document.getElementById('loss').data[1].line.color")

    light = colour()
    page.get_by_role("button", name="Switch between light and dark").click()
    assert contrast(colour(), "#ffffff") < contrast(light, "#ffffff")
    assert set(visible(page, "loss", "adamw + he")) == {False}


@pytest.mark.browser
def test_in_print_it_is_light_and_open_without_buttons_and_comes_back_as_it_was(open_page):
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print")
    page.locator("html[data-theme=light]").wait_for(state="attached")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#theme").is_visible()
    assert page.locator("details:not([open])").count() == 0
    figure = "[document.getElementById('loss').data[1].line.color, document.getElementById('loss').layout.font.color]"
    assert min(contrast(colour, "#ffffff") for colour in page.evaluate(figure)) >= 3
    page.emulate_media(media="screen")
    page.locator("html:not([data-theme])").wait_for(state="attached")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert min(contrast(colour, ground) for colour in page.evaluate(figure)) >= 4.5
    assert page.locator("details[open]").count() == 0


def test_the_page_names_no_address_it_could_ask(report):
    text = report.read_text()
    head = text[: text.index("<script")]
    assert "default-src 'none'" in head
    assert "http" not in head.replace("http-equiv", "")


def test_what_a_user_typed_is_shown_and_not_run(report):
    assert "&lt;/script&gt;&lt;b&gt;digits" in report.read_text()
    assert "<b>digits" not in report.read_text()


@pytest.mark.parametrize(
    ("value", "shown"), [(0.97, "0.970"), (1234.0, "1.23e+03"), (-0.5, "-0.500"), (math.inf, "∞"), (-math.inf, "−∞")]
)
def test_numbers_keep_their_digits_and_their_sign(value, shown):
    assert _digits(value) == shown


def test_a_report_that_cannot_be_written_is_an_error_and_leaves_nothing(comparison, tmp_path):
    (tmp_path / "file").write_text("somebody's")
    with pytest.raises(OutputError, match="writable"):
        write_page(comparison, tmp_path / "file" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
