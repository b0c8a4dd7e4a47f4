"""The report in a real browser: what its viewer and its table do, and how it looks on paper and on a telephone."""

from __future__ import annotations

import csv
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small_recipe
from reporting.browser import PAPER, Watched, browser

import medkit
from medkit.data.sample import Sample
from medkit.evaluation.prediction import CasePrediction
from medkit.evaluation.slices import stack_of, write_stacks
from medkit.protocols import Case
from medkit.reporting.report import write_report

HEADS = {"cls": {"use": "smartnet:slice_class"}, "seg": {"use": "smartnet:scse_unet", "widths": [16, 8, 8, 8, 8]}}
STATUS = "#viewer-status"
PIXELS = """() => {
  const canvas = document.getElementById("viewer-canvas");
  return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one stage and its variant, tested slice by slice."""
    objective = {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": HEADS}
    recipe = small_recipe(
        "browser",
        report={"compare": {"test": "paired_t", "metric": ["dice"]}, "maps": {"cases": 2}},
        objective=objective,
        metrics=["auc", "dice"],
        repeat={"slow": {"optim": {"use": "adam", "lr": 1e-6}}},
        epochs=2,
    )
    return medkit.run(recipe, tmp_path_factory.mktemp("browser") / "run", device="cpu", quiet=True).folder


@pytest.fixture(scope="module")
def driven() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def opened(driven: Any, folder: Path) -> Iterator[Callable[..., Watched]]:
    """``opened(**options)`` is the report in a new context."""
    made: list[Watched] = []

    def open_(**options: Any) -> Watched:
        made.append(Watched(driven, folder / "report.html", **options))
        return made[-1]

    yield open_
    for one in made:
        one.context.close()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "cases.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shown(report: Watched) -> list[list[str]]:
    """The texts of the table's rows."""
    found: list[list[str]] = report.run(
        "() => [...document.querySelectorAll('#cases-table tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
    )
    return found


def drawn(report: Watched) -> list[int]:
    """The viewer's pixels, once all that was asked for is drawn."""
    report.wait_until_drawn()
    found: list[int] = report.run(PIXELS)
    return found


def set_to(report: Watched, name: str, value: Any) -> list[int]:
    """Set a control of the viewer; its pixels then."""
    report.run(
        """([name, value]) => {
          const control = document.getElementById("viewer-form").elements[name];
          if (control.type === "checkbox") control.checked = value; else control.value = value;
          control.dispatchEvent(new Event("input", { bubbles: true }));
        }""",
        [name, value],
    )
    return drawn(report)


def restored(target: np.ndarray, output: np.ndarray) -> CasePrediction:
    """What a denoising stage predicts of slices (D,H,W)."""
    depth, shape = len(target), (int(target.shape[1]), int(target.shape[2]))
    sample = Sample(Case("c", "c"), target, None, target, None, shape, np.ones(depth), np.eye(4), np.zeros((depth, 3)))
    return CasePrediction(sample, {"output": output[:, None]})


def grey(pixels: list[int]) -> list[int]:
    """The brightness of pixels that have no colour."""
    assert pixels[0::4] == pixels[1::4] == pixels[2::4]
    return pixels[0::4]


# -- the viewer --------------------------------------------------------------------------------------------------------


def test_arrow_keys_scroll_through_the_slices_of_a_case(opened: Callable[..., Watched]) -> None:
    report = opened()
    canvas = report.page.locator("#viewer-canvas")
    drawn(report)
    canvas.press("Home")
    first = drawn(report)
    told = [report.page.inner_text(STATUS)]
    for key in ("ArrowUp", "ArrowUp", "ArrowDown", "End"):
        canvas.press(key)
        drawn(report)
        told.append(report.page.inner_text(STATUS))
    assert [text.split(";")[0].rstrip(".") for text in told] == [f"Slice {i} (0 to 3)" for i in (0, 1, 2, 1, 3)]
    assert drawn(report) != first


def test_a_narrow_window_makes_more_of_a_slice_black_and_white(opened: Callable[..., Watched]) -> None:
    report = opened()
    set_to(report, "opacity", 0)
    wide = grey(drawn(report))
    set_to(report, "level", 25)
    narrow = grey(set_to(report, "width", 50))
    # From 0 to 50 % of the range: every value is doubled.
    assert narrow == [min(255, 2 * value) for value in wide]
    assert len(set(wide)) > 10


def test_the_overlay_is_coloured_and_fades(opened: Callable[..., Watched]) -> None:
    report = opened()
    for name, value in (("said", False), ("opacity", 100)):
        set_to(report, name, value)
    full = drawn(report)
    marked = [tuple(full[i : i + 3]) for i in range(0, len(full), 4)].count((52, 199, 123))
    assert marked > 0
    grey(set_to(report, "opacity", 0))


def test_the_difference_of_prediction_and_truth_names_its_colours(opened: Callable[..., Watched]) -> None:
    report = opened()
    set_to(report, "opacity", 100)
    pixels = set_to(report, "view", "marks")
    colours = {tuple(pixels[i : i + 3]) for i in range(0, len(pixels), 4)}
    coloured = {colour for colour in colours if len(set(colour)) > 1}
    assert coloured
    assert coloured <= {(52, 199, 123), (255, 64, 160), (255, 159, 28)}
    assert "pink: missed" in report.page.inner_text("#viewer-legend")


def test_a_restored_image_is_shown_beside_its_target_and_their_difference(
    driven: Any, folder: Path, tmp_path: Path
) -> None:
    target = np.tile(np.linspace(0.2, 0.8, 8, dtype=np.float32), (2, 8, 1))
    output = target + np.float32([[[0.1]], [[-0.1]]])
    made = stack_of(restored(target, output))
    copy = shutil.copytree(folder, tmp_path / "run")
    write_stacks(copy / "slices" / "s.test.npz", [made])
    report = Watched(driven, write_report(copy))
    set_to(report, "gain", 5)
    views = report.page.locator("select[name=view] option").all_inner_texts()
    assert views == ["input", "output", "target", "output − target", "input − target"]
    set_to(report, "slice", 1)
    higher = set_to(report, "view", "output-target")
    lower = set_to(report, "slice", 2)
    report.context.close()
    assert all(higher[i] == 255 > higher[i + 2] for i in range(0, len(higher), 4))
    assert all(lower[i + 2] == 255 > lower[i] for i in range(0, len(lower), 4))


def test_a_case_among_the_worst_opens_its_slices(opened: Callable[..., Watched]) -> None:
    report = opened()
    report.page.locator("#stage-1 button.case").first.click()
    drawn(report)
    name = report.page.locator("#stage-1 button.case").first.inner_text().partition("#")
    said = report.page.locator("select[name=case] option:checked").inner_text()
    assert said.startswith(name[0])
    assert report.page.inner_text(STATUS).startswith(f"Slice {name[2]} (0 to 3)")


# -- the table ---------------------------------------------------------------------------------------------------------


def test_a_click_on_a_column_sorts_by_it_and_another_turns_it_round(opened: Callable[..., Watched]) -> None:
    report = opened()
    head = report.page.locator("#cases-table th", has_text="probability")
    column = report.page.locator("#cases-table thead th").all_inner_texts().index("probability")
    for order, reverse in (("ascending", False), ("descending", True)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        values = [float(row[column]) for row in shown(report)]
        assert values == sorted(values, reverse=reverse)
        assert len(set(values)) > 2


def test_the_filter_takes_words_and_bounds_and_tells_how_many_rows_are_left(
    opened: Callable[..., Watched], folder: Path
) -> None:
    report = opened()
    report.page.select_option("#cases-controls select[name=stage]", "s")
    report.page.fill("#cases-controls input[name=filter]", "label=1")
    wanted = [row for row in rows(folder) if row["stage"] == "s" and float(row["label"]) == 1]
    found = shown(report)
    assert [row[2] for row in found] == [row["case"] for row in wanted]
    assert f"of {len(wanted)}, filtered from {len(rows(folder))}" in report.page.inner_text("#cases-status")


def test_the_download_has_the_rows_that_are_left_in_their_order(
    opened: Callable[..., Watched], folder: Path, tmp_path: Path
) -> None:
    report = opened()
    report.page.fill("#cases-controls input[name=filter]", "label=1")
    head = report.page.locator("#cases-table th", has_text="probability")
    head.locator("button").click()
    with report.page.expect_download() as download:
        report.page.click("#cases-controls button[name=download]")
    assert download.value.suggested_filename == "browser-cases.csv"
    download.value.save_as(tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    wanted = sorted(
        (row for row in rows(folder) if float(row["label"]) == 1), key=lambda row: float(row["probability"])
    )
    assert [(row["stage"], row["case"]) for row in found] == [(row["stage"], row["case"]) for row in wanted]
    assert [float(row["probability"]) for row in found] == pytest.approx([float(row["probability"]) for row in wanted])
    assert "patient" not in found[0]


# -- paper, telephone, dark, screen reader -----------------------------------------------------------------------------


def test_printed_on_a4_no_column_is_cut(opened: Callable[..., Watched], tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed (the extra browser)")
    report = opened(color_scheme="dark")
    heads = report.run("() => [...document.querySelectorAll('thead tr')].map(r => r.lastElementChild.innerText.trim())")
    report.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    pages = pypdf.PdfReader(tmp_path / "report.pdf").pages
    text, beyond = [], []

    def seen(part: str, page: list[float], place: list[float], *_: Any) -> None:
        text.append(part)
        across = place[4] * page[0] + place[5] * page[2] + page[4]
        if part.strip() and not 0 <= across <= width:
            beyond.append(part)

    for page in pages:
        width, height = (float(side) for side in (page.mediabox.width, page.mediabox.height))
        assert (round(width), round(height)) == (595, 842)
        page.extract_text(visitor_text=seen)
    # A font may have drawn "fi" as one letter.
    whole = "".join(unicodedata.normalize("NFKC", "".join(text)).split())
    assert [head for head in heads if "".join(head.rstrip("↕").split()) not in whole] == []
    assert beyond == []
    assert "medkit:1" in whole  # the recipe, which is folded on a screen


def test_on_paper_every_table_and_picture_is_as_wide_as_the_page_at_most(opened: Callable[..., Watched]) -> None:
    assert opened(viewport=PAPER).too_wide_on_paper() == []


@pytest.mark.parametrize("width", [400, 320])
def test_on_a_telephone_nothing_but_a_table_scrolls_sideways(opened: Callable[..., Watched], width: int) -> None:
    report = opened(viewport={"width": width, "height": 800})
    assert report.run("() => document.documentElement.scrollWidth") <= width
    boxes = report.run(
        "() => [...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth)"
        ".map(e => [getComputedStyle(e).overflowX, e.tabIndex, e.getAttribute('aria-label')])"
    )
    assert boxes
    assert all(overflow == "auto" and tab == 0 and label for overflow, tab, label in boxes)


CONTRAST = """() => {
  const parse = (text) => { const p = text.match(/[\\d.]+/g).map(Number); return { rgb: p.slice(0, 3), a: p[3] ?? 1 }; };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a > 0) return c.rgb; } return [255, 255, 255]; };
  const weak = [];
  for (const e of document.querySelectorAll("body *")) {
    if (e.disabled || e.closest("script, noscript, option") || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color).rgb), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.slice(0, 30)}`);
  }
  return weak;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(opened: Callable[..., Watched], scheme: str) -> None:
    assert opened(color_scheme=scheme).run(CONTRAST) == []


def test_a_dark_page_is_dark(opened: Callable[..., Watched]) -> None:
    report = opened(color_scheme="dark")
    assert report.run("() => getComputedStyle(document.body).backgroundColor") == "rgb(22, 28, 34)"


def test_a_screen_reader_finds_landmarks_names_and_scopes(opened: Callable[..., Watched]) -> None:
    report = opened()
    counts = report.run(
        "() => ['main', 'nav[aria-label]', 'h1', 'header'].map(s => document.querySelectorAll(s).length)"
    )
    unnamed = report.run(
        """() => [...document.querySelectorAll("th:not([scope]), img:not([alt]), img[alt=''], canvas:not([aria-label])")]
          .concat([...document.querySelectorAll("input, select")].filter((e) => !e.labels.length))
          .concat([...document.querySelectorAll("button")].filter((e) => !e.innerText.trim()))
          .concat([...document.querySelectorAll("nav a")].filter((e) => !document.querySelector(e.hash)))
          .map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert counts == [1, 1, 1, 1]
    assert unnamed == []


def test_the_keyboard_shows_where_it_is(opened: Callable[..., Watched]) -> None:
    report = opened()
    report.page.keyboard.press("Tab")
    assert report.run("() => document.activeElement.innerText") == "Skip to the results"
    assert report.run("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_nothing_is_asked_of_a_network_and_nothing_is_complained_of(opened: Callable[..., Watched]) -> None:
    report = opened()
    for view in ("marks", "image"):
        set_to(report, "view", view)
    report.page.fill("#cases-controls input[name=filter]", "x")
    report.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert report.foreign == []
    assert report.complaints == []


def test_without_scripts_the_page_says_what_is_missing(opened: Callable[..., Watched]) -> None:
    report = opened(java_script_enabled=False)
    text = report.page.inner_text("main")
    assert "The viewer needs scripts" in text
    assert "Sorting and filtering need scripts" in text
    assert "What came out" in text
