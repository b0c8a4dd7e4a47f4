"""Bootstrap intervals of 70,000 patients with one row each: all draws at once against joining the rows of each draw.

The definition (as version 0.1.0 computed it) draws patients, joins their rows and computes the metric, draw by draw;
it is timed over 20 draws. Both are timed in turn in one process. The median of the ratios of five rounds is printed,
once including the counting of draws, and once with draws that another metric has already counted.

    OMP_NUM_THREADS=1 python benchmarks/bench_bootstrap.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from medkit_benchmarks import script

from medkit.evaluation import bootstrap as drawing
from medkit.evaluation.bootstrap import bootstrap
from medkit.evaluation.values import interval
from medkit.parts.metrics_classification import AUC, F1, Sensitivity
from medkit.parts.metrics_multiclass import MacroF1, Top1
from medkit.parts.metrics_regression import MAE, R2
from medkit.parts.metrics_segmentation import DiceScore

PATIENTS, DRAWS, TIMED, ROUNDS = 70_000, 1000, 20, 5


def definition(metric: Any, rows: dict[str, np.ndarray], patients: list[str], draws: int) -> None:
    """Patients drawn, their rows joined, the metric computed."""
    _, index = np.unique(np.asarray(patients), return_inverse=True)
    order = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[order], np.arange(index.max() + 2))
    members = [order[bounds[i] : bounds[i + 1]] for i in range(index.max() + 1)]
    rng = np.random.default_rng(0)
    for drawn in rng.integers(len(members), size=(draws, len(members))):
        picked = np.concatenate([members[i] for i in drawn])
        metric.compute({name: column[picked] for name, column in rows.items()})


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    script.parser(__doc__).parse_args()
    rng = np.random.default_rng(0)
    patients = [f"p{i}" for i in range(PATIENTS)]
    label = (rng.random(PATIENTS) < 0.3).astype(float)
    scores = {"label": label, "probability": 0.2 * label + 0.8 * rng.random(PATIENTS)}
    scores["value"] = rng.normal(0, 1, PATIENTS)
    classes = {"class": rng.integers(0, 30, PATIENTS), "said": rng.integers(0, 30, PATIENTS)}
    for metric, rows in (
        (AUC(), scores),
        (F1(), scores),
        (Sensitivity(), scores),
        (MAE(), scores),
        (R2(), {**scores, "label": scores["value"] + rng.normal(0, 1, PATIENTS)}),
        (DiceScore(), scores),
        (Top1(), classes),
        (MacroF1(), classes),
    ):
        compare(metric, rows, patients)


def compare(metric: Any, rows: dict[str, np.ndarray], patients: list[str]) -> None:
    """Print how many times faster than the definition one metric's intervals are."""
    slow: list[float] = []
    found: dict[str, list[float]] = {"reported interval": [], "bootstrap": [], "bootstrap, draws counted before": []}
    reported = partial(interval, value=metric.compute(rows))
    for _ in range(ROUNDS):
        none, some = (seconds(partial(definition, metric, rows, patients, draws)) for draws in (0, TIMED))
        slow.append(none + (some - none) * DRAWS / TIMED)
        for name, work in zip(found, (reported, bootstrap, bootstrap), strict=True):
            if "before" not in name:
                drawing._kept.cache_clear()
            found[name].append(slow[-1] / seconds(partial(work, metric, rows, patients)))
    text = "; ".join(f"{name} {statistics.median(ratios):.0f}x" for name, ratios in found.items())
    print(f"{metric.name}: {statistics.median(slow):.0f} s by definition; {text}", flush=True)


if __name__ == "__main__":
    main()
