"""Whether results side by side are of the same cases: otherwise their numbers compare cases, not methods.

Names are not enough: phantoms of another seed, another column of labels or another folder have the same ones. Rows of
``cases.csv`` therefore hold, beside patient and labels, digests of a case's image and of the truth that it is measured
against (:mod:`medkit.evaluation.case_digests`). What only one of two rows says is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from medkit.evaluation.case_table import CaseTable, Key, Row

Rows = Mapping[str, Row]
"""Rows of one evaluation by their case."""
Cases = Mapping[Key, Rows]
IMAGE, TRUTH = "image", "truth"


def by_case(rows: Iterable[Row]) -> Rows:
    """Rows of one evaluation by their case."""
    return {row["case"]: row for row in rows}


def unlike(first: Rows, second: Rows, *, images: bool = True) -> str:
    """How rows show that cases of the same names are not the same cases; "" where nothing does.

    ``images``: other images count, not only other patients, labels and truths.
    """
    shared = [(row, second[case]) for case, row in first.items() if case in second]
    found = [
        f"{count} {what}"
        for what, differ in DIFFERENCES.items()
        if (images or what != OTHER_IMAGES) and (count := sum(differ(a, b) for a, b in shared))
    ]
    return f"of {len(shared)} cases of the same names {', '.join(found)}" if found else ""


def unknown(first: Rows, second: Rows) -> int:
    """Of how many cases of the same names it is not known whether their images are the same."""
    return sum(not (row.get(IMAGE) and second[case].get(IMAGE)) for case, row in first.items() if case in second)


def _texts_differ(column: str) -> Callable[[Row, Row], bool]:
    return lambda a, b: bool(a.get(column) and b.get(column) and a[column] != b[column])


def _digests_differ(column: str) -> Callable[[Row, Row], bool]:
    """One slice in common is enough: an image made on another machine may differ by rounding in the other."""

    def differ(a: Row, b: Row) -> bool:
        mine, theirs = (set(str(row.get(column) or "").split()) for row in (a, b))
        return bool(mine and theirs and mine.isdisjoint(theirs))

    return differ


def _labels_differ(a: Row, b: Row) -> bool:
    if _texts_differ("labels")(a, b):
        return True
    mine, theirs = _number(a.get("label")), _number(b.get("label"))
    return math.isfinite(mine) and math.isfinite(theirs) and mine != theirs


def _number(cell: Any) -> float:
    return math.nan if cell in (None, "") else float(cell)


OTHER_IMAGES = "show other images"
DIFFERENCES: Mapping[str, Callable[[Row, Row], bool]] = {
    "are of other patients": _texts_differ("patient"),
    OTHER_IMAGES: _digests_differ(IMAGE),
    "have another label": _labels_differ,
    "have another true mask or target": _digests_differ(TRUTH),
}


def cases_of(table: CaseTable) -> Cases:
    """The cases by stage and split."""
    return {key: by_case(table.of(*key)) for key in table.evaluations()}


def different(runs: Mapping[str, Cases]) -> Iterator[str]:
    """A sentence for each stage and split that two or more runs have, if not all of them have the same cases in it."""
    for key in dict.fromkeys(key for cases in runs.values() for key in cases):
        having = {name: cases[key] for name, cases in runs.items() if key in cases}
        if len(having) < 2:
            continue
        split, each = f"'{key[1]}' of stage '{key[0]}'", [frozenset(rows) for rows in having.values()]
        if len(set(each)) > 1:
            counts = ", ".join(f"{len(rows)} in {name}" for name, rows in having.items())
            shared = len(frozenset.intersection(*each))
            yield f"{split} has different cases ({counts}, {shared} in common)"
        (first, rows), *others = having.items()
        for name, other in others:
            if told := unlike(rows, other):
                yield f"{split} has different cases in {first} and {name}: {told}"
