"""A section of the report: how long the epochs of each stage took."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry: Any) -> None:
    """There are no components here."""


@hookimpl
def medkit_report(run: Any) -> list[tuple[str, str]]:
    seconds: dict[str, list[float]] = {}
    for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        epoch = json.loads(line)
        seconds.setdefault(epoch["stage"], []).append(epoch["seconds"])
    rows = "".join(
        f"<tr><td>{escape(stage)}</td><td>{len(took)}</td><td>{sum(took) / len(took):.2f}</td></tr>"
        for stage, took in seconds.items()
    )
    return [("Speed", f"<table><tr><th>stage</th><th>epochs</th><th>seconds an epoch</th></tr>{rows}</table>")]
