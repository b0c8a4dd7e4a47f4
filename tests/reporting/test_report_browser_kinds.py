"""Reports of runs that denoise, and of runs that estimate a number, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reporting.browser import PAPER, Watched, browser

import medkit

RECIPES = {"denoising": "tiny_ldct", "regression": "tiny_pedxnet_boneage"}


@pytest.fixture(scope="module")
def driven() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module", params=list(RECIPES))
def page(request: pytest.FixtureRequest, driven: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a run does, and its report."""
    folder = tmp_path_factory.mktemp("kinds") / "run"
    medkit.run(RECIPES[request.param], folder, device="cpu", quiet=True)
    return request.param, folder / "report.html"


def test_every_case_and_view_is_drawn_without_a_complaint_or_a_network(driven: Any, page: tuple[str, Path]) -> None:
    kind, path = page
    report = Watched(driven, path)
    form = "#viewer-form select[name={}]"
    if kind == "denoising":
        for case in report.page.locator(form.format("case") + " option").all():
            report.page.select_option(form.format("case"), case.get_attribute("value"))
            for view in report.page.locator(form.format("view") + " option").all():
                report.page.select_option(form.format("view"), view.get_attribute("value"))
                report.wait_until_drawn()
    report.page.fill("#cases-controls input[name=filter]", "x")
    report.context.close()
    assert report.foreign == []
    assert report.complaints == []


def test_it_fits_a_telephone_and_a_sheet_of_paper(driven: Any, page: tuple[str, Path]) -> None:
    phone = Watched(driven, page[1], viewport={"width": 400, "height": 800})
    across = phone.run("() => document.documentElement.scrollWidth")
    paper = Watched(driven, page[1], viewport=PAPER)
    wide = paper.too_wide_on_paper()
    for one in (phone, paper):
        one.context.close()
    assert across <= 400
    assert wide == []
