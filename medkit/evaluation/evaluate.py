"""Evaluation: predictions on the source grid, one row per case, metrics with intervals; on however many ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from medkit.data.dataset import Dataset
from medkit.engine.agreement import together
from medkit.engine.runtime import Runtime
from medkit.evaluation.case_table import read_cases
from medkit.evaluation.embeddings import Embedded
from medkit.evaluation.items import MAPS, check_predictions
from medkit.evaluation.measure import CaseRows, counted, in_order, joined, measured, rows_of, stack
from medkit.evaluation.pictures import picture, spread
from medkit.evaluation.prediction import ByFeatures, ByNetwork, ByProgram, CasePrediction, Predictor, ahead
from medkit.evaluation.results import (
    Evaluation,
    MetricValue,
    read_examples,
    read_results,
    write_results,
)
from medkit.evaluation.slices import Shown, stack_of, worst_of
from medkit.protocols import Case

__all__ = [
    "MAPS",
    "Evaluation",
    "MetricValue",
    "Request",
    "evaluate",
    "measured",
    "read_cases",
    "read_examples",
    "read_results",
    "stack",
    "write_results",
]

Predicted = Callable[[Case], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Request:
    """What is evaluated, and with what.

    Attributes
    ----------
    unit:
        ``slice``: every slice is a separate case for the metrics; otherwise a volume is one case.
    intervals:
        Bootstrap 95 % intervals over patients; off for the quick look after each epoch.
    examples:
        How many cases to keep pictures of, spread over severe, mild and normal ones; of these and of the worst ones
        slices are kept too.
    by_group:
        Measure groups of cases on their own too, by what is known of them.
    features:
        Gives the encoder's features of a case, (D,F) or maps (D,F,h,w), if they have been computed before.
    """

    dataset: Dataset
    cases: Sequence[Case]
    metrics: Sequence[Any]
    stage: str
    split: str
    unit: str
    intervals: bool = True
    examples: int = 0
    features: Callable[[Case], np.ndarray] | None = None
    by_group: bool = False

    @property
    def where(self) -> str:
        return f"stage {self.stage}, {self.split}"


def evaluate(
    objective: Any,
    request: Request,
    runtime: Runtime,
    *,
    progress: Callable[..., None] | None = None,
    predicted: Predicted | None = None,
) -> Evaluation | None:
    """Predict cases one after another and measure them; every rank takes its share of them.

    What is kept of a case is small and goes to the main rank, where the numbers come out like those of a single rank,
    to the last bit. Images and predictions are dropped case by case, so memory does not grow with them.

    Parameters
    ----------
    predicted:
        Gives a case's predictions, on the source grid, if an external program has made them.

    Returns
    -------
    Evaluation or None
        None on all ranks but the main one.

    Raises
    ------
    RunError
        if a prediction is not a number that can be measured, or a metric needs what is missing.
    FailedTogether
        on several ranks, if that or anything else has happened on one of them.
    """
    evaluator, what = _Evaluator(objective, request, runtime, predicted), f"the evaluation of {request.where}"
    strategy = runtime.strategy
    with together(runtime, what):
        mine = evaluator.share(progress)
    rows, pictures = in_order(strategy.gather(mine, what)), []
    if request.examples:
        chosen = spread([kept.truth for kept in rows], request.examples)
        shown = strategy.share((chosen, worst_of(rows, request.metrics)), what)
        with together(runtime, what):
            own = evaluator.pictures(*shown)
        pictures = strategy.gather(own, what)
    with together(runtime, what):
        return evaluator.whole(rows, pictures) if runtime.is_main else None


class _Evaluator:
    """One evaluation, as a rank sees it."""

    def __init__(self, objective: Any, request: Request, runtime: Runtime, predicted: Predicted | None) -> None:
        self.objective, self.request, self.runtime, self.predicted = objective, request, runtime, predicted
        watched = request.cases if request.examples else ()
        self.embedded = Embedded(watched, getattr(request.dataset.source, "groups", ()))

    @cached_property
    def predictor(self) -> Predictor:
        request, self.objective = self.request, self.objective.eval()
        if self.predicted is not None:
            return ByProgram(self.objective, self.predicted, request.dataset)
        if request.features is not None:
            return ByFeatures(self.objective, request.features, request.dataset, self.runtime.device)
        return ByNetwork(self.objective, request.dataset, request.cases[0], self.runtime.device, self.embedded)

    def share(self, progress: Callable[..., None] | None) -> list[CaseRows]:
        """Predict and measure this rank's share of the cases."""
        request, ranks = self.request, self.runtime.world_size
        for metric in request.metrics:
            if hasattr(metric, "to"):
                metric.to(self.runtime.device)
        mine = range(self.runtime.rank, len(request.cases), ranks)
        found = []
        for index, loaded in zip(mine, ahead(lambda i: self.predictor.load(request.cases[i]), mine), strict=True):
            found.append(self._measured(index, self.predictor.predict(loaded)))
            if progress is not None:
                progress(min(len(found) * ranks, len(request.cases)), len(request.cases))
        return found

    def _measured(self, index: int, prediction: CasePrediction) -> CaseRows:
        request = self.request
        check_predictions(prediction.arrays, prediction.sample, request.where)
        kept, items = rows_of(index, prediction, request.metrics, (request.stage, request.split), request.unit)
        if "class_probability" in prediction.arrays:
            kept.features = self.embedded.rows(items, prediction.features)
        return kept

    def pictures(self, chosen: Sequence[int], worst: Sequence[int]) -> dict[int, Shown]:
        """This rank's share of the cases that are shown, predicted again; of ``chosen`` ones with a picture."""
        found = {}
        for index in sorted({*chosen, *worst})[self.runtime.rank :: self.runtime.world_size]:
            prediction = self.predictor.predict(self.predictor.load(self.request.cases[index]))
            drawn = picture(self.predictor.objective, prediction, self.runtime.device) if index in chosen else None
            found[index] = Shown(drawn, stack_of(prediction))
        return found

    def whole(self, rows: Sequence[CaseRows], pictures: Sequence[Mapping[int, Shown]]) -> Evaluation:
        """What results from the rows of all cases and the pictures of all ranks."""
        from medkit.evaluation.subgroups import subgroups

        request = self.request
        drawn = {index: shown for share in pictures for index, shown in share.items()}
        return Evaluation(
            request.stage,
            request.split,
            self._values(rows),
            [line for kept in rows for line in kept.lines],
            [picture for index in sorted(drawn) if (picture := drawn[index].picture) is not None],
            self.embedded.embedding([row for kept in rows for row in kept.features]),
            sum(kept.slices for kept in rows),
            [drawn[index].stack for index in sorted(drawn)],
            subgroups(rows, request.cases, request.metrics).json() if request.by_group else {},
        )

    def _values(self, rows: Sequence[CaseRows]) -> dict[str, MetricValue]:
        """The number of each metric over all cases."""
        from medkit.evaluation.values import value_of  # with scipy.stats, a second that a prediction does not need

        request, items = self.request, sum(len(kept.lines) for kept in rows)
        values = {}
        for metric in request.metrics:
            name = metric.name
            there = [kept for kept in rows if name in kept.counts]
            patients = [request.cases[kept.index].patient for kept in there for _ in range(kept.counts[name])]
            columns = joined([kept.columns[name] for kept in there])
            value = value_of(metric, columns, patients, items - len(patients), request.intervals)
            values[name] = replace(value, counted=counted(rows))
        return values


def _value(metric: Any, rows: list[dict[str, Any]], owners: list[str], empty: int, intervals: bool) -> MetricValue:
    """The number of rows that are not stacked yet."""
    from medkit.evaluation.values import value_of

    return value_of(metric, stack(rows), owners, empty, intervals)
