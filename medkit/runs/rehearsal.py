"""Metrics tried on one case before anything is trained: what they need and do not get is reported at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medkit.data.collate import whole
from medkit.data.dataset import Sample
from medkit.data.sample import packed
from medkit.engine.memory import shortage_told
from medkit.engine.step import to_device
from medkit.errors import InputError, MedkitError, RunError
from medkit.evaluation.evaluate import stack
from medkit.evaluation.items import check_predictions, items_of
from medkit.evaluation.measure import row_and_lack
from medkit.guard import cause
from medkit.recipe import Stage
from medkit.runs.workbench import Workbench


def rehearse(bench: Workbench, stage: Stage, objective: Any, metrics: Sequence[Any]) -> None:
    """Predict a case of ``stage`` by its untrained ``objective`` and measure it (a slice, unless the unit is a volume).

    Raises
    ------
    InputError
        if a prediction has a wrong shape, or a metric needs what it is not given or fails.
    RunError
        if a component raises an unknown error.
    """
    dataset = bench.dataset(stage)
    splits = [*bench.evaluated_splits(stage), *([stage.validate] if stage.validate else [])]
    if not metrics or not splits:
        return
    cases = dataset.cases(splits[0])
    lacking = _rehearse(bench, stage, objective, metrics, dataset.sample(cases[0]))
    for truth, name in lacking.items():
        other = next((sample for sample in map(dataset.sample, cases) if _has(sample, truth)), None)
        if other is None:
            what = f"metric '{name}' needs the {truth}, which no case of '{splits[0]}' has"
            raise InputError(what, f"stages.{stage.name}", "leave it out, or label some")
        _rehearse(bench, stage, objective, metrics, other)


def _has(sample: Sample, truth: str) -> bool:
    if truth == "labels":
        return sample.labels is not None and not np.isnan(sample.labels).all()
    return sample.mask is not None if truth == "mask" else not np.isnan(sample.label)


def _rehearse(bench: Workbench, stage: Stage, objective: Any, metrics: Sequence[Any], sample: Sample) -> dict[str, str]:
    """Rehearse on one case; returns what is not known about it, and a metric that asked for that."""
    dataset = bench.dataset(stage)
    if stage.unit != "volume":
        sample = one_slice(sample)
    objective.eval()
    device, where = bench.runtime.device, f"stages.{stage.name}"
    batch = to_device(whole(sample, dataset.fields), device)
    try:
        with shortage_told(stage.name), torch.inference_mode():
            begun = time.monotonic()
            found = objective.predict(batch)
            bench.rehearsed[stage.name] = time.monotonic() - begun
    except MedkitError as error:
        raise InputError(error.what, error.where or where, error.hint) from error
    except Exception as error:  # a component's own, such as a head that raises in forward
        hint = f"fix it, or leave it out: --skip {stage.name}"
        raise RunError(f"the stage cannot predict its first case: {cause(error)}", where, hint) from error
    # Without training a network may predict anything but numbers of the right shape.
    arrays = {name: np.nan_to_num(value.float().cpu().numpy()) for name, value in found.items()}
    try:
        check_predictions(arrays, sample, where)
        items = items_of(sample, arrays, stage.unit)
        lacking: dict[str, str] = {}
        for metric in metrics:
            if hasattr(metric, "to"):
                metric.to(device)
            lacking |= dict.fromkeys(_try(metric, items, stage.name), metric.name)
    except RunError as error:
        raise InputError(error.what, error.where or where, error.hint) from error
    return lacking


def _try(metric: Any, items: Sequence[Mapping[str, Any]], stage: str) -> set[str]:
    """Measure a case; returns what the metric asked for that is not known about it."""
    try:
        found = [row_and_lack(metric, item, stage) for item in items]
        kept = [row for row, _ in found if row is not None]
        if kept:
            metric.compute(stack(kept))
            metric.score(kept[0])
        return {truth for _, lack in found for truth in lack}
    except MedkitError:
        raise
    except Exception as error:
        what = f"metric '{metric.name}' fails on case '{items[0]['id']}': {type(error).__name__}: {error}"
        raise RunError(what) from error


def one_slice(sample: Sample) -> Sample:
    """The middle slice of a prepared case, as a separate case."""
    z = len(sample.image) // 2
    mask = sample.native_mask
    cut = {
        name: array[z : z + 1]
        for name in ("image", "mask", "target", "slice_volumes", "positions")
        if (array := getattr(sample, name)) is not None
    }
    return replace(sample, packed_mask=None if mask is None else packed(mask[z : z + 1], sample.classes), **cut)
