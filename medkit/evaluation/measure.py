"""What is kept of an evaluated case: rows of its metrics and lines of ``cases.csv``, none of its images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medkit.errors import RunError
from medkit.evaluation.case_digests import known_by
from medkit.evaluation.items import items_of
from medkit.evaluation.prediction import CasePrediction
from medkit.evaluation.reported import WEIGHT
from medkit.protocols.labels import Labels

Columns = dict[str, np.ndarray]


@dataclass
class CaseRows:
    """What is kept of the ``index``-th case.

    Attributes
    ----------
    lines:
        One line of ``cases.csv`` per item: the case itself, or each of its slices.
    columns, counts:
        Rows of the items that are not empty for a metric, stacked, and how many, by the metric's name.
    slices:
        Of the case.
    truth:
        Positive voxels of the true mask.
    features:
        Rows of :class:`medkit.evaluation.embeddings.Embedded`.
    """

    index: int
    slices: int
    truth: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    columns: dict[str, Columns] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    features: list[dict[str, Any]] = field(default_factory=list)


def rows_of(
    index: int, prediction: CasePrediction, metrics: Sequence[Any], where: tuple[str, str], unit: str
) -> tuple[CaseRows, list[dict[str, Any]]]:
    """Measure a case; its rows, and the items that they were measured on.

    Parameters
    ----------
    where:
        Stage and split.
    unit:
        ``slice``: every slice is a separate item; otherwise the case is one.
    """
    sample = prediction.sample
    truth = 0 if sample.native_mask is None else int(np.count_nonzero(sample.native_mask))
    kept = CaseRows(index, len(sample.image), truth)
    items = items_of(sample, prediction.arrays, unit, prediction.on_source)
    known = known_by(sample)
    rows: dict[str, list[dict[str, Any]]] = {metric.name: [] for metric in metrics}
    for item in items:
        line = _line(item, where) | known
        for metric in metrics:
            row = measured(metric, item, where[0])
            if row is None:
                continue
            rows[metric.name].append(row)
            score = metric.score(row)
            if not math.isnan(score):
                line[metric.name] = score
                if unit != "slice" and hasattr(metric, "weight"):
                    line[WEIGHT + metric.name] = float(metric.weight(row))
        kept.lines.append(line)
    kept.columns = {name: stack(found) for name, found in rows.items() if found}
    kept.counts = {name: len(found) for name, found in rows.items() if found}
    return kept, items


def _line(item: Mapping[str, Any], where: tuple[str, str]) -> dict[str, Any]:
    """What ``cases.csv`` says about an item before its metrics."""
    stage, split = where
    line = {"stage": stage, "split": split, "case": item["id"], "patient": item["patient"], "center": item["center"]}
    line["label"] = item["label"]
    line |= {name: item[name] for name in item if name in ("probability", "value")}
    if "class_probability" in item:
        predicted = int(np.argmax(item["class_probability"]))
        line |= {"class": predicted, "class_probability": float(item["class_probability"][predicted])}
    declared = item.get("declared")
    if isinstance(declared, Labels):
        line["labels"] = declared.told(item["labels"])
        line |= said_of(declared, item)
    return line


def said_of(declared: Labels, found: Mapping[str, Any]) -> dict[str, Any]:
    """What probabilities (K,) of declared classes say, by the names of the classes: ``class`` and ``probability_NAME``,
    nothing if there are none."""
    name = "label_probability" if declared.kind == "any_of" else "class_probability"
    if name not in found or len(found[name]) != len(declared):
        return {}
    each = {f"probability_{n}": float(p) for n, p in zip(declared.names, found[name], strict=True)}
    return {"class": declared.told(declared.said(np.asarray(found[name]))), **each}


def measured(metric: Any, item: Mapping[str, Any], stage: str) -> dict[str, Any] | None:
    """The row of one item, or None if it is empty for the metric, as it is without the truth that the metric reads."""
    return row_and_lack(metric, item, stage)[0]


def row_and_lack(metric: Any, item: Mapping[str, Any], stage: str) -> tuple[dict[str, Any] | None, set[str]]:
    """As :func:`measured`, with what the metric asked for that is not known: ``label``, ``mask``."""
    unknown = unlabelled(item)
    asked = Asked(item) if unknown else item
    try:
        missing = [key for key in getattr(metric, "needs", ()) if key not in item]
        if missing:
            raise KeyError(missing[0])
        row: dict[str, Any] | None = metric.per_case(asked)
        if isinstance(asked, Asked) and (lack := asked.read & unknown):
            return None, lack  # whatever it makes of a label that is not a number
    except KeyError as error:
        if error.args[0] in unknown:
            return None, {error.args[0]}
        raise RunError(
            f"metric '{metric.name}' needs {error}, which stage '{stage}' does not give",
            hint=f"there are: {', '.join(sorted(item))}",
        ) from error
    return row, set()


class Asked(dict[str, Any]):
    """An item that records in ``read`` what it was asked for by name; copying all of it does not count as asking."""

    def __init__(self, item: Mapping[str, Any]) -> None:
        super().__init__(item)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)


def unlabelled(item: Mapping[str, Any]) -> set[str]:
    """What is not known about an item: its ``label``, its ``mask``, or both."""
    found = {"label"} if math.isnan(item.get("label", math.nan)) else set()
    if isinstance(item.get("declared"), Labels) and np.isnan(item["labels"]).all():
        found.add("labels")
    return found if "mask" in item else {*found, "mask", "class_masks"}


def stack(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Rows as one array per column."""
    return {key: np.asarray([row[key] for row in rows]) for key in (rows[0] if rows else ())}


def joined(blocks: Sequence[Columns]) -> Columns:
    """Stacked rows of several cases, one after another: what :func:`stack` makes of all rows."""
    return {key: np.concatenate([block[key] for block in blocks]) for key in (blocks[0] if blocks else ())}


def counted(rows: Sequence[CaseRows]) -> str:
    """What the numbers of these cases count: each case as a whole, or its slices."""
    return "slices" if any(len(kept.lines) > 1 for kept in rows) else "cases"


def in_order(shares: Sequence[Sequence[CaseRows]]) -> list[CaseRows]:
    """The rows of all ranks in the order of the cases."""
    return sorted((kept for share in shares for kept in share), key=lambda kept: kept.index)
