"""The number of a metric over all cases, with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medkit.errors import RunError
from medkit.evaluation.bootstrap import Interval, bootstrap, none, too_few
from medkit.evaluation.own_interval import checked_ends
from medkit.evaluation.results import RESERVED, MetricValue
from medkit.parts.intervals import numbered, rests_on_one

Rows = Mapping[str, np.ndarray]


def value_of(metric: Any, rows: Rows, patients: Sequence[str], empty: int, intervals: bool) -> MetricValue:
    """The number from stacked rows, with its interval if ``intervals``; nan with the counts if it is undefined.

    Parameters
    ----------
    patients:
        The patient of each row.
    empty:
        How many cases were empty for the metric; rows that do not count in its number (``among``) are, too.
    """
    nan, everybody = float("nan"), patients
    if patients and hasattr(metric, "among"):
        # A sensitivity says nothing about negatives, and its interval rests on the patients who have positives.
        chosen = np.asarray(metric.among(rows), bool)
        patients = [patient for patient, counts in zip(everybody, chosen, strict=True) if counts]
    several, empty = len(set(patients)), empty + len(everybody) - len(patients)
    about = {"rule": metric.empty, "n_patients": several}
    value = MetricValue(nan, nan, nan, len(patients), empty, metric.unit, metric.higher_is_better, **about)
    if not everybody:
        return value
    extras = dict(metric.extras(rows)) if hasattr(metric, "extras") else {}
    if taken := sorted(set(extras) & RESERVED):
        raise RunError(f"extras of metric '{metric.name}' may not be called {', '.join(taken)}")
    value = replace(value, value=float(metric.compute(rows)), extras=extras)
    if not intervals:
        return value
    if not math.isfinite(value.value):
        ends = none(_why(rows))
    elif few := too_few(several) or rests_on_one(np.bincount(numbered(patients)[0])) or lacks(metric, rows, everybody):
        ends = none(few)
    else:
        ends = interval(metric, rows, everybody, value.value)
    return replace(value, low=ends.low, high=ends.high, method=ends.method, n_undefined=ends.undefined)


def lacks(metric: Any, rows: Rows, patients: Sequence[str]) -> str:
    """Why the metric says that these rows are too few for an interval; "" if it does not."""
    return str(metric.lacks(rows, patients)) if hasattr(metric, "lacks") else ""


def _why(rows: Rows) -> str:
    """Why a number is not defined, as far as its rows show."""
    numbers = [column for column in rows.values() if column.dtype.kind == "f" and column.ndim == 1]
    without = int(np.sum(np.any([np.isnan(column) for column in numbers], 0))) if numbers else 0
    if not without:
        return "it is not defined on these cases"
    return f"{without} of {len(numbers[0])} cases have no number, as where the size of voxels is not known"


def interval(metric: Any, rows: Rows, patients: Sequence[str], value: float) -> Interval:
    """The metric's own interval of its ``value`` if it has one, else the bootstrap's.

    Raises
    ------
    RunError
        if its own cannot be one of the value.
    """
    own = getattr(metric, "interval", None)
    ends = own(rows, patients) if own is not None else None
    if ends is None:
        return bootstrap(metric, rows, patients)
    checked = checked_ends(metric.name, ends, value)
    if checked is None:
        return none("too few cases of a kind")
    return Interval(*checked, getattr(metric, "interval_method", "the metric's own"))
