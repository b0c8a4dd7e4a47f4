"""Which rows of an evaluation are the worst: by the first metric that has a value of each, else by the probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medkit.evaluation.case_table import Row, numeral

WRONG = "distance of the probability from the label"


def worst_first(rows: Sequence[Row], higher_is_better: Mapping[str, bool]) -> tuple[str, list[tuple[float, Any]]]:
    """By what, and the rows that have it with its value, the worst first; none where nothing tells.

    Parameters
    ----------
    rows:
        Lines of ``cases.csv``, as numbers or as texts.
    higher_is_better:
        Of each metric, by name.
    """
    for name, higher in higher_is_better.items():
        if found := [(value, row) for row in rows if (value := numeral(row, name)) is not None]:
            return name, sorted(found, key=lambda one: one[0], reverse=not higher)
    wrong = [(value, row) for row in rows if (value := _wrong(row)) is not None]
    return WRONG, sorted(wrong, key=lambda one: -one[0])


def _wrong(row: Row) -> float | None:
    probability, label = numeral(row, "probability"), numeral(row, "label")
    return None if probability is None or label is None else abs(probability - float(label > 0))
