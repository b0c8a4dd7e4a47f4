"""From values per case to the value that results report: not always their plain mean.

A mean over classes is of each class's mean over the cases that have it; a mean over slices weighs a volume by its
slices. A difference beside two values has to be that of the two, so tests take the same means of the same rows of
``cases.csv``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkit.errors import InputError

Table = Mapping[str, Mapping[str, Any]]
"""Rows of one evaluation by their case."""

WEIGHT = "weight_of_"
"""Begins the column of ``cases.csv`` that says how much a case's value of a metric counts in the mean."""

AGREE = 1e-6
"""How far two ways to one difference may be apart, as a share of the values: by rounding only."""

ROUNDED = 0.03
"""How far rounding to two digits may move a mean over classes, as a share of the differences between them."""


def known(row: Mapping[str, Any], column: str) -> bool:
    """Whether a row has a number there; an empty cell has none, nor does an unknown label."""
    return math.isfinite(number_in(row, column))


def number_in(row: Mapping[str, Any], column: str) -> float:
    """The number in a row of ``cases.csv``, or nan.

    Tables that show what is there take :func:`medkit.evaluation.case_table.numeral`, which passes over all else.

    Raises
    ------
    InputError
        for a cell that is neither empty nor a number: a test without its case would be another one.
    """
    text = row.get(column)
    try:
        found = math.nan if text in (None, "") else float(text)  # type: ignore[arg-type]
    except ValueError as error:
        what = f"'{column}' of case '{row.get('case')}' is not a number: '{text}'"
        raise InputError(what, "cases.csv", "'medkit evaluate RUN' writes it again") from error
    return found if math.isfinite(found) else math.nan


def scores(
    metric: str, first: Table, second: Table, cases: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The values of ``cases`` in two tables, (n,) or of a mean over classes (n,K), and how much each case counts.

    A class that a case does not have is nan in both; the weights are None if all cases count the same.
    """
    names = classes_behind(metric, [*first.values(), *second.values()]) or [metric]
    a, b = (np.array([[number_in(table[case], name) for name in names] for case in cases]) for table in (first, second))
    there = np.isfinite(a) & np.isfinite(b)
    some = there.any(0)
    a, b = (np.where(there, each, np.nan)[:, some] for each in (a, b))
    column = WEIGHT + metric
    weighed = all(known(table[case], column) for table in (first, second) for case in cases)
    weights = np.array([float(first[case][column]) for case in cases]) if weighed else None
    return (a, b, weights) if a.shape[1] > 1 else (a[:, 0], b[:, 0], weights)


def classes_behind(metric: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns ``METRIC_CLASS`` of which a metric is the mean over classes; none if it is not one.

    Names alone do not tell, as those of metrics may begin alike (``rmse``, ``rmse_hu``): the values have to agree.

    Raises
    ------
    InputError
        where they agree but for a few cells, or digits: of an edited or rounded table another number would be taken.
    """
    columns = dict.fromkeys(name for row in rows for name in row if name.startswith(f"{metric}_"))
    names = [name for name in columns if any(known(row, name) for row in rows)]
    if not names:
        return []
    each = np.array([[number_in(row, name) for name in names] for row in rows])
    mean = np.array([number_in(row, metric) for row in rows])
    there = np.isfinite(each)
    count = there.sum(1)
    if ((count > 0) != np.isfinite(mean)).any():
        return []
    found = np.where(there, each, 0).sum(1) / np.maximum(count, 1)
    off = np.where(count > 0, np.abs(found - np.where(count > 0, mean, 0)), 0)
    wrong = off > 1e-9 * np.abs(found) + 1e-12
    if not wrong.any():
        return names
    if _spoilt(each, off, wrong):
        case = rows[int(np.argmax(off))].get("case")
        what = f"'{metric}' of case '{case}' is not the mean of its classes, as in a table that was edited or rounded"
        raise InputError(what, "cases.csv", "'medkit evaluate RUN' writes it again")
    return []


def _spoilt(each: np.ndarray, off: np.ndarray, wrong: np.ndarray) -> bool:
    """Whether values (n,K) of classes have a mean beside them that is ``off`` in a few rows, or a little in all.

    Only rows whose classes differ tell: in others anything between them is near their mean.
    """
    spread = np.array([np.ptp(row[np.isfinite(row)]) if np.isfinite(row).any() else 0 for row in each])
    telling = spread > 0
    few = 2 * wrong[telling].sum() < telling.sum()
    return bool(telling.any() and (few or off.sum() <= ROUNDED * spread.sum()))


def is_of(difference: float, first: float, second: float) -> bool:
    """Whether a ``difference`` is that of two reported values, except for rounding."""
    return abs(difference - (first - second)) <= AGREE * max(abs(first), abs(second), 1e-12)
