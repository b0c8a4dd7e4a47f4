"""A browser for tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

TOO_WIDE = """() => [...document.querySelectorAll("table, img, canvas, pre, p")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 || e.scrollWidth > e.clientWidth + 1)
  .map((e) => e.outerHTML.slice(0, 80))"""
DRAWN = "() => { const d = document.getElementById('viewer-canvas').dataset; return d.asked && d.asked === d.drawn; }"
PAPER = {"width": 688, "height": 1017}  # of A4 in CSS pixels: 210 mm less two margins of 14 mm
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium without a network; the test is skipped, with the reason, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra browser)")
    found = os.environ.get("MEDKIT_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed, and MEDKIT_BROWSER names none")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


class Watched:
    """A page with all that it has asked for and complained of.

    Parameters
    ----------
    options:
        Of Playwright's ``new_context``.
    """

    def __init__(self, driven: Any, path: Path, **options: Any) -> None:
        self.context = driven.new_context(offline=True, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type != "log" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())

    @property
    def foreign(self) -> list[str]:
        """What was asked for and does not lie in the page itself."""
        return [url for url in self.asked[1:] if not url.startswith(("data:", "blob:"))]

    def wait_until_drawn(self) -> None:
        """Until the viewer shows all that it was asked for."""
        self.page.wait_for_function(DRAWN)

    def too_wide_on_paper(self) -> list[str]:
        """The beginnings of what a printed page would cut; the viewport has to be that of ``PAPER``."""
        self.page.emulate_media(media="print")
        found: list[str] = self.run(TOO_WIDE)
        return found

    def run(self, script: str, *arguments: Any) -> Any:
        return self.page.evaluate(script, *arguments)
