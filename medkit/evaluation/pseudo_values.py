"""What each patient contributes to a number that is not a mean of per-case values, such as the area under a curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medkit.errors import InputError
from medkit.evaluation.bootstrap import FEWEST
from medkit.evaluation.reported import number_in
from medkit.parts.intervals import numbered


def pseudo_values(metric: Any, rows: Mapping[str, np.ndarray], patients: Sequence[str]) -> dict[str, float]:
    """Jackknife pseudo-values of patients, n M - (n - 1) M without the patient (Dorfman et al. 1992 for readers).

    Their mean is the metric M without its bias; for an AUC with one row per patient it is the AUC itself. The metric is
    computed once for each of the n patients.

    Raises
    ------
    InputError
        if the metric is not defined without one of the patients.
    """
    index, count = numbered(patients)
    of: Callable[[np.ndarray], float]
    if hasattr(metric, "weighted"):
        of = metric.weighted(rows)
    else:

        def of(times: np.ndarray) -> float:
            return metric.compute({name: column[times > 0] for name, column in rows.items()})

    whole = float(metric.compute(rows))
    without = np.array([float(of((index != patient).astype(np.uint8))) for patient in range(count)])
    if not np.isfinite([whole, *without]).all():
        what = f"'{metric.name}' is not defined without one of its {count} patients"
        raise InputError(what, hint="it takes at least two patients of each class")
    names = dict.fromkeys(patients)
    return dict(zip(names, (count * whole - (count - 1) * without).tolist(), strict=True))


def class_mean_values(metric: str, classes: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Patients' values whose mean is that over classes of each class's mean over its patients.

    With y the mean of a patient's cases, m a class's mean over its n_k patients, M the mean of all K such means and n
    patients, a patient's value is M + n / K * sum of (y - m) / n_k over the classes she has: what she adds to M, to
    first order (the infinitesimal jackknife). So a class of few patients has as much weight as any other, and its
    patients differ more.

    Parameters
    ----------
    classes:
        The columns of ``lines`` with the values of each class, empty where a case does not have it.

    Raises
    ------
    InputError
        if a class has fewer than six patients.
    """
    index, count = numbered([line["patient"] for line in lines])
    each = np.array([[number_in(line, name) for name in classes] for line in lines])
    there = np.isfinite(each)
    sums, cases = (
        np.stack([np.bincount(index, column, count) for column in values.T], 1)
        for values in (np.where(there, each, 0), there.astype(float))
    )
    has = cases > 0
    for name, several in zip(classes, has.sum(0), strict=True):
        if several < FEWEST:
            what = f"'{metric}' is a mean over classes, and '{name}' has {several} patient{'s' if several != 1 else ''}"
            hint = f"a verdict needs {FEWEST} patients of each class; compare a class that has more"
            raise InputError(what, hint=hint)
    means = np.divide(sums, cases, out=np.zeros_like(sums), where=has)
    of_class = means.sum(0) / has.sum(0)
    added = (np.where(has, means - of_class, 0) / has.sum(0)).sum(1)
    any_class = has.any(1)
    values = of_class.mean() + any_class.sum() / len(classes) * added
    names = list(dict.fromkeys(line["patient"] for line in lines))
    return {names[i]: float(values[i]) for i in np.flatnonzero(any_class)}
