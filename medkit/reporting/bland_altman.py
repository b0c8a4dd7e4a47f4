"""Agreement of measured with true values (Bland and Altman 1986)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medkit.evaluation.bootstrap import bootstrap_interval
from medkit.evaluation.case_table import numeral
from medkit.reporting.run_results import RunResults


@dataclass(frozen=True)
class Agreement:
    """``mean`` of predicted and true value (n,), and their ``difference`` (predicted − true), in ``unit``.

    ``bias`` is the mean difference with its 95 % interval ``low`` to ``high`` over patients; 95 % of the differences
    are expected between ``limits``, bias ∓ 1.96 standard deviations.
    """

    stage: str
    split: str
    unit: str
    mean: np.ndarray
    difference: np.ndarray
    counts: str
    low: float
    high: float

    @property
    def bias(self) -> float:
        return float(self.difference.mean())

    @property
    def limits(self) -> tuple[float, float]:
        half = 1.96 * float(self.difference.std(ddof=1))
        return self.bias - half, self.bias + half


def agreement(run: RunResults, stage: str, split: str) -> Agreement | None:
    """The agreement of an evaluation with a value and a true value per row; None for others, or fewer than 3 rows."""
    truth = _truth(run, stage)
    rows = [row for row in run.cases.of(stage, split) if None not in (numeral(row, "value"), numeral(row, truth))]
    if len(rows) < 3:
        return None
    said, true = (np.array([float(row[name]) for row in rows]) for name in ("value", truth))
    difference, patients = said - true, [row["patient"] for row in rows]
    low, high = bootstrap_interval(_mean, {"difference": difference}, patients)
    unit = _unit(run, stage)
    return Agreement(stage, split, unit, (said + true) / 2, difference, run.counted(stage, patients), low, high)


def _mean(rows: Mapping[str, np.ndarray]) -> float:
    return float(np.mean(rows["difference"]))


def _truth(run: RunResults, stage: str) -> str:
    """The column of true values: measurements that the data block declares are not the source's ``label``."""
    return "label" if run.labels(stage) is None else "labels"


def _unit(run: RunResults, stage: str) -> str:
    labels = run.labels(stage)
    return labels.unit if labels is not None and labels.unit not in ("", "1") else ""
