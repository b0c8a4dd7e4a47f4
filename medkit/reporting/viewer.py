"""The report's viewer: slices of some cases that the run has kept, as many as the page has room for."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from medkit.evaluation.case_table import Row, numeral
from medkit.evaluation.same_cases import by_case
from medkit.evaluation.slices import Stack, read_stacks
from medkit.reporting.page import inline_json
from medkit.reporting.run_results import RunResults
from medkit.reporting.tables import number

ABOUT = 600
"""Approximate bytes of a case besides its pictures."""

Kept = tuple[str, str, Stack]
"""Stage, split and the slices of a case."""


@dataclass(frozen=True)
class Viewer:
    """The viewer's ``data`` (None where there is none), how many cases it has, and what was left out."""

    data: Any
    counts: str
    left_out: str = ""


MISSING = (
    "This run has kept no slices: it was made by an earlier version, or its report asks for none (maps: {cases: 0}). "
    "'medkit evaluate RUN --split SPLIT' measures a split again and keeps them."
)


def viewer(run: RunResults, folder: Path, room: int) -> Viewer | None:
    """The cases of all evaluations in turn, until ``room`` bytes are full; None for a run without results.

    A picture that several stages share, such as the image itself, is included once.
    """
    evaluations = [(stage, split) for stage in run.results for split in run.of(stage)]
    if not evaluations:
        return None
    kept = list(_in_turns(folder, evaluations))
    if not kept:
        return Viewer(None, MISSING)
    pictures: dict[bytes, int] = {}
    shown: list[Kept] = []
    for stage, split, one in kept:
        new = {data for data in one.pictures.values() if data not in pictures}
        size = sum(4 * (len(data) // 3 + 1) for data in new) + ABOUT + 60 * len(one.numbers)
        if size > room:
            continue
        room -= size
        shown.append((stage, split, one))
        pictures |= {data: len(pictures) + i for i, data in enumerate(sorted(new))}
    shown.sort(key=lambda found: evaluations.index(found[:2]))
    data = {
        "cases": [_plain(run, found, pictures) for found in shown],
        "pictures": [base64.b64encode(data).decode() for data in pictures],
    }
    cases = len({(split, one.case) for _, split, one in shown})
    counts = (
        f"{cases} case{'s' if cases != 1 else ''}, chosen to show severe, mild and normal cases and the worst of each "
        f"evaluation; every case is in the table below."
    )
    left = len(kept) - len(shown)
    left_out = f"{left} of {len(kept)} were left out: the page has no room for more." if left else ""
    return Viewer(inline_json(data) if shown else None, counts, left_out)


def _in_turns(folder: Path, evaluations: Sequence[tuple[str, str]]) -> Iterator[Kept]:
    """The first case of each evaluation, then the second of each, and so on."""
    each = [
        [(stage, split, one) for one in read_stacks(folder / "slices" / f"{stage}.{split}.npz")]
        for stage, split in evaluations
    ]
    for turn in zip_longest(*each):
        yield from (found for found in turn if found is not None)


def _plain(run: RunResults, found: Kept, pictures: Mapping[bytes, int]) -> dict[str, Any]:
    stage, split, one = found
    layers = {name: pictures[data] for name, data in one.pictures.items()}
    return {"stage": stage, "split": split, **one.about, "layers": layers, "told": _told(run, stage, split, one)}


def _told(run: RunResults, stage: str, split: str, one: Stack) -> list[str]:
    """What was measured for the case, or for each of its slices where slices are the cases."""
    metrics = list(run.of(stage).get(split, {}))
    declared = run.labels(stage) is not None
    rows = by_case(run.cases.of(stage, split))
    if one.case in rows:
        return [_line(rows[one.case], ["value", *metrics], declared)]
    each = [rows.get(f"{one.case}#{z}") for z in one.numbers]
    return [_line(row, metrics, declared) if row else "" for row in each] if any(each) else []


def _line(row: Row, names: Sequence[str], declared: bool) -> str:
    """The label, as the data block declares it or else of the source, and numbers by name."""
    label = [f"label {row['labels']}"] if declared and row.get("labels") else []
    known = names if declared else ["label", *names]
    numbers = [f"{name} {number(value)}" for name in known if (value := numeral(row, name)) is not None]
    return ", ".join([*label, *numbers])
