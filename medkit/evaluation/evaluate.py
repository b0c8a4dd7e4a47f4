"""Evaluation: predictions on the source grid, per-case rows, metrics with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medkit.data.dataset import Dataset, Sample
from medkit.data.loader import whole
from medkit.engine.step import to_device
from medkit.errors import RunError
from medkit.evaluation.bootstrap import Interval, bootstrap, none, too_few
from medkit.evaluation.embeddings import Embedded
from medkit.evaluation.items import MAPS, as_predicted, check_predictions, items_of
from medkit.evaluation.ready import ready
from medkit.evaluation.results import (
    RESERVED,
    Evaluation,
    MetricValue,
    read_cases,
    read_examples,
    read_results,
    write_results,
)
from medkit.protocols import Case

__all__ = [
    "MAPS",
    "Evaluation",
    "MetricValue",
    "evaluate",
    "read_cases",
    "read_examples",
    "read_results",
    "stack",
    "write_results",
]


def evaluate(
    objective: Any,
    dataset: Dataset,
    cases: Sequence[Case],
    metrics: Sequence[Any],
    *,
    stage: str,
    split: str,
    unit: str,
    device: torch.device,
    intervals: bool = True,
    progress: Callable[..., None] | None = None,
    examples: int = 0,
    predicted: Callable[[Case], Mapping[str, np.ndarray]] | None = None,
) -> Evaluation:
    """Predict ``cases`` one after the other and measure.

    Parameters
    ----------
    unit:
        ``slice``: every slice is a case of its own for the metrics; otherwise a volume is.
    intervals:
        Bootstrap 95 % intervals over patients; off for the quick look after each epoch.
    examples:
        How many cases to keep pictures of, spread over severe, mild and normal ones.
    predicted:
        Gives a case's predictions, on the source grid, where an external program has made them.
    """
    rows: dict[str, list[dict[str, Any]]] = {metric.name: [] for metric in metrics}
    owners: dict[str, list[str]] = {metric.name: [] for metric in metrics}
    empty = dict.fromkeys(rows, 0)
    slices = 0
    table: list[dict[str, Any]] = []
    sizes: list[int] = []
    embedded = Embedded(cases if examples else (), getattr(dataset.source, "groups", ()))
    where, counted = f"stage {stage}, {split}", "cases"
    objective.eval()
    for metric in metrics:
        if hasattr(metric, "to"):
            metric.to(device)
    for done, case in enumerate(cases, 1):
        sample = dataset.sample(case)
        slices += len(sample.image)
        sizes.append(0 if sample.native_mask is None else int(sample.native_mask.sum()))
        features: Any = None
        if predicted is not None:
            native = predicted(case)
            arrays = as_predicted(sample, native)
            check_predictions(arrays, sample, where)
            items = items_of(sample, arrays, unit, native.get("mask_probability"))
        else:
            batch = to_device(whole(sample, dataset.fields), device)
            if done == 1:
                objective = ready(objective, batch, device)
            with embedded.watching(objective, case) as features:
                arrays = _predict(objective, batch)
            check_predictions(arrays, sample, where)
            items = items_of(sample, arrays, unit)
        if len(items) > 1:
            counted = "slices"
        if "class_probability" in arrays and features is not None:
            embedded.add(items, features)
        for item in items:
            line = {"stage": stage, "split": split, "case": item["id"], "patient": case.patient, "center": case.center}
            line["label"] = item["label"]
            line |= {k: v for k, v in item.items() if k in ("probability", "value")}
            if "class_probability" in item:
                said = int(np.argmax(item["class_probability"]))
                line |= {"class": said, "class_probability": float(item["class_probability"][said])}
            for metric in metrics:
                row = measured(metric, item, stage)
                if row is None:
                    empty[metric.name] += 1
                    continue
                rows[metric.name].append(row)
                owners[metric.name].append(case.patient)
                score = metric.score(row)
                if not math.isnan(score):
                    line[metric.name] = score
            table.append(line)
        if progress is not None:
            progress(done, len(cases))
    pictures = []
    for i in _spread(sizes, examples):
        sample = dataset.sample(cases[i])
        if predicted is not None:
            arrays = as_predicted(sample, predicted(cases[i]))
        else:
            arrays = _predict(objective, to_device(whole(sample, dataset.fields), device))
        pictures.append(_picture(objective, sample, arrays, device))
    values = {}
    for m in metrics:
        found = _value(m, rows[m.name], owners[m.name], empty[m.name], intervals)
        values[m.name] = replace(found, counted=counted)
    return Evaluation(stage, split, values, table, pictures, embedded.collected(), slices)


def measured(metric: Any, item: Mapping[str, Any], stage: str) -> dict[str, Any] | None:
    """The row of one case, or None if it is empty for the metric."""
    try:
        missing = [key for key in getattr(metric, "needs", ()) if key not in item]
        if missing:
            raise KeyError(missing[0])
        row: dict[str, Any] | None = metric.per_case(item)
    except KeyError as error:
        raise RunError(
            f"metric '{metric.name}' needs {error}, which stage '{stage}' does not give",
            hint=f"there are: {', '.join(sorted(item))}",
        ) from error
    return row


def stack(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Rows as one array a column."""
    return {key: np.asarray([row[key] for row in rows]) for key in (rows[0] if rows else ())}


def _value(metric: Any, rows: list[dict[str, Any]], owners: list[str], empty: int, intervals: bool) -> MetricValue:
    """The number of all rows with its interval; nan with the count where it is undefined."""
    nan = float("nan")
    patients = len(set(owners))
    found = MetricValue(
        nan, nan, nan, len(rows), empty, metric.unit, metric.higher_is_better, rule=metric.empty, n_patients=patients
    )
    if not rows:
        return found
    stacked = stack(rows)
    extras = dict(metric.extras(stacked)) if hasattr(metric, "extras") else {}
    if taken := sorted(set(extras) & RESERVED):
        raise RunError(f"extras of metric '{metric.name}' may not be called {', '.join(taken)}")
    found = replace(found, value=float(metric.compute(stacked)), extras=extras)
    if not intervals:
        return found
    if not math.isfinite(found.value):
        interval = none(_why(stacked))
    elif few := too_few(patients):
        interval = none(few)
    else:
        interval = _interval(metric, stacked, owners)
    return replace(found, low=interval.low, high=interval.high, method=interval.method, n_undefined=interval.undefined)


def _why(rows: Mapping[str, np.ndarray]) -> str:
    """Why a number is not defined, as far as its rows tell."""
    numbers = [column for column in rows.values() if column.dtype.kind == "f" and column.ndim == 1]
    without = int(np.sum(np.any([np.isnan(column) for column in numbers], 0))) if numbers else 0
    if not without:
        return "it is not defined on these cases"
    return f"{without} of {len(numbers[0])} cases have no number, as where the size of voxels is not known"


def _interval(metric: Any, rows: Mapping[str, np.ndarray], owners: Sequence[str]) -> Interval:
    """The metric's own interval if it has one, else the bootstrap's."""
    own = getattr(metric, "interval", None)
    ends = own(rows, owners) if own is not None else None
    if ends is None:
        return bootstrap(metric, rows, owners)
    low, high = (float(end) for end in ends)
    if not (math.isfinite(low) and math.isfinite(high)):
        return none("too few cases of a kind")
    return Interval(low, high, getattr(metric, "interval_method", "the metric's own"))


def _predict(objective: Any, batch: Any) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        found = objective.predict(batch)
    return {name: value.float().cpu().numpy() for name, value in found.items()}


def _spread(sizes: Sequence[int], count: int) -> list[int]:
    """Which cases to show, by the sizes of their truths: the largest, a small one, normals; then others between.

    They are chosen after the evaluation and predicted once more: to look for them before would read every mask twice.
    """
    positive = sorted((i for i, s in enumerate(sizes) if s), key=lambda i: -sizes[i])
    normal = [i for i, s in enumerate(sizes) if not s]
    order = [
        *positive[:1],
        *positive[-1:],
        *normal[:2],
        *positive[len(positive) // 2 : len(positive) // 2 + 1],
        *positive,
        *normal,
    ]
    return sorted(list(dict.fromkeys(order))[:count])


def _picture(objective: Any, sample: Sample, arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Any]:
    """One telling slice of a case: image, truth, prediction and the encoder's activation."""
    from medkit.evaluation.maps import activation

    z = len(sample.image) // 2
    if sample.mask is not None and sample.mask.any():
        z = int(np.argmax(sample.mask.sum((1, 2))))
    elif "mask_probability" in arrays:
        z = int(np.argmax((arrays["mask_probability"][:, 0] > 0.5).sum((1, 2))))
    shown: dict[str, Any] = {"case": sample.case.id, "slice": z, "label": sample.label, "image": sample.image[z]}
    if sample.native_mask is not None and np.isfinite(sample.slice_volumes).all():
        shown["volume_ml"] = float((sample.native_mask.sum((1, 2)) * sample.slice_volumes).sum() / 1000)
    for name in ("mask", "target"):
        array = getattr(sample, name)
        if array is not None:
            shown[name] = np.asarray(array[z])
    for name in MAPS:
        if name in arrays:
            shown[name] = arrays[name][z, 0]
    encoder = objective.parts().get("encoder")
    if encoder is not None and any(True for _ in encoder.parameters()):  # the identity shows nothing new
        image = torch.from_numpy(np.array(sample.image[z : z + 1]))[:, None].to(device)
        shown["activation"] = activation(encoder, image)[0]
    return shown
