"""What each patient contributes to a number that is not a mean of per-case values, such as the area under a curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medkit.errors import InputError
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
