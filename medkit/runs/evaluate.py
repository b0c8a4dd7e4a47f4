"""Evaluation: predictions on the source grid, per-case rows, metrics with intervals."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medkit.data.dataset import Dataset, Sample
from medkit.data.loader import whole
from medkit.data.transforms import prepare
from medkit.engine.stage import to_device
from medkit.errors import InputError, RunError
from medkit.protocols import Case
from medkit.records import write_atomically
from medkit.runs.embeddings import Embedded, Embedding, write_embedding
from medkit.runs.ready import ready
from medkit.runs.stats import bootstrap_interval

MAPS = ("mask_probability", "reconstruction", "output")
KEYS = ("stage", "split", "case", "patient", "center")


@dataclass(frozen=True)
class MetricValue:
    """A number with its 95 % interval (bootstrap over patients, unless the metric has one of its own).

    ``n`` cases were counted, ``n_empty`` were empty by the metric's ``rule``. ``extras`` hold numbers that go with it,
    such as the low-dose input's own value.
    """

    value: float
    low: float
    high: float
    n: int
    n_empty: int
    unit: str = ""
    higher_is_better: bool = True
    extras: Mapping[str, float] = field(default_factory=dict)
    rule: str = ""

    def json(self) -> dict[str, Any]:
        own: dict[str, Any] = {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "n_empty": self.n_empty,
        }
        words = {"unit": self.unit, "higher_is_better": self.higher_is_better, "rule": self.rule}
        whole = {**own, **words, **self.extras}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in whole.items()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> MetricValue:
        names = ("value", "low", "high", "n", "n_empty", "unit", "higher_is_better", "rule")
        own = {k: plain[k] for k in names if k in plain}
        known: dict[str, Any] = {k: float("nan") if v is None else v for k, v in own.items()}
        return cls(**known, extras={k: v for k, v in plain.items() if k not in own})


@dataclass
class Evaluation:
    """What was found on one split."""

    stage: str
    split: str
    values: dict[str, MetricValue]
    cases: list[dict[str, Any]]
    examples: list[dict[str, Any]]
    embedding: Embedding | None = None

    def summary(self) -> str:
        """Values in one line."""
        return "  ".join(
            f"{name} {v.value:.4g} [{v.low:.4g}, {v.high:.4g}] (n = {v.n})" for name, v in self.values.items()
        )


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
    table: list[dict[str, Any]] = []
    pictures: list[dict[str, Any]] = []
    wanted = _spread(dataset, cases, examples) if examples else set()
    embedded = Embedded(cases if examples else (), getattr(dataset.source, "groups", ()))
    objective.eval()
    for metric in metrics:
        if hasattr(metric, "to"):
            metric.to(device)
    for done, case in enumerate(cases, 1):
        sample = dataset.sample(case)
        features: Any = None
        if predicted is not None:
            native = predicted(case)
            arrays = _prepared(sample, native)
            items = _items(sample, arrays, unit, native.get("mask_probability"))
        else:
            batch = to_device(whole(sample, dataset.fields), device)
            if done == 1:
                objective = ready(objective, batch, device)
            with torch.inference_mode(), embedded.watching(objective, case) as features:
                found = objective.predict(batch)
            arrays = {name: value.float().cpu().numpy() for name, value in found.items()}
            items = _items(sample, arrays, unit)
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
                row = _measure(metric, item, stage)
                if row is None:
                    empty[metric.name] += 1
                    continue
                rows[metric.name].append(row)
                owners[metric.name].append(case.patient)
                score = metric.score(row)
                if not math.isnan(score):
                    line[metric.name] = score
            table.append(line)
        if case.id in wanted:
            pictures.append(_picture(objective, sample, arrays, device))
        if progress is not None:
            progress(done, len(cases))
    values = {m.name: _value(m, rows[m.name], owners[m.name], empty[m.name], intervals) for m in metrics}
    return Evaluation(stage, split, values, table, pictures, embedded.collected())


def _prepared(sample: Sample, native: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Predictions on the source grid as a network on prepared slices would have made them: maps (D,1,H,W)."""
    arrays = {}
    for name, array in native.items():
        if name not in MAPS:
            arrays[name] = array
            continue
        shape = (len(sample.image), *sample.native_shape)
        if array.shape != shape:
            raise RunError(f"{name} of case '{sample.case.id}' is {array.shape}, its image {shape}")
        if name == "mask_probability":
            air = np.full(shape, -1000, np.int16)
            made, _ = prepare(sample.steps, {"image": air, "mask": (array > 0.5).astype(np.uint8)})
            arrays[name] = made["mask"][:, None].astype(np.float32)
        else:
            arrays[name] = prepare(sample.steps, {"image": array})[0]["image"][:, None]
    return arrays


def _items(
    sample: Sample, arrays: Mapping[str, np.ndarray], unit: str, native_mask: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """What metrics see: maps on the source grid, one item a volume or a slice."""
    item: dict[str, Any] = {
        "id": sample.case.id,
        "patient": sample.case.patient,
        "center": sample.case.center,
        "label": sample.label,
        "image": sample.image,
        "slice_volumes": sample.slice_volumes,
        **sample.case.fields,
    }
    if sample.native_mask is not None:
        item["mask"] = sample.native_mask
    if sample.target is not None:
        item["target"] = sample.target
    for name, array in arrays.items():
        if name == "mask_probability":
            restored = native_mask if native_mask is not None else sample.restore(np.ascontiguousarray(array[:, 0]))
            item[name] = restored
        elif name in MAPS:
            item[name] = array[:, 0]
        else:
            item[name] = array
    depth = len(sample.image)
    if unit != "slice":
        for name in ("probability", "value"):
            if name in item:
                # A slice-wise network judges a volume by its most suspicious slice.
                item[name] = float(np.max(item[name]))
        if "class_probability" in item:
            item["class_probability"] = item["class_probability"].mean(0)
        return [item]
    items = []
    for z in range(depth):
        one = dict(item, id=f"{sample.case.id}#{z}")
        for name in ("image", "target", "mask", "slice_volumes", *MAPS):
            if name in one:
                one[name] = item[name][z : z + 1]
        for name in ("probability", "value"):
            if name in one:
                one[name] = float(item[name][z])
        if "class_probability" in one:
            one["class_probability"] = item["class_probability"][z]
        if "mask" in one:
            one["label"] = float(one["mask"].any())
        items.append(one)
    return items


def _measure(metric: Any, item: Mapping[str, Any], stage: str) -> dict[str, Any] | None:
    try:
        return metric.per_case(item)
    except KeyError as error:
        there = sorted({"probability", "class_probability", "value", "mask", "target", *MAPS} & set(item))
        raise InputError(
            f"metric '{metric.name}' needs {error}, which stage '{stage}' does not give",
            hint=f"there are: {', '.join(there)}",
        ) from error


def stack(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Rows as one array a column."""
    return {key: np.asarray([row[key] for row in rows]) for key in (rows[0] if rows else ())}


def _value(metric: Any, rows: list[dict[str, Any]], owners: list[str], empty: int, intervals: bool) -> MetricValue:
    nan = float("nan")
    if not rows:
        return MetricValue(nan, nan, nan, 0, empty, metric.unit, metric.higher_is_better, rule=metric.empty)
    stacked = stack(rows)
    value = metric.compute(stacked)
    low = high = nan
    if intervals and not math.isnan(value):
        own = getattr(metric, "interval", None)
        found = own(stacked, owners) if own else None
        low, high = found if found is not None else bootstrap_interval(metric.compute, stacked, owners)
    extras = metric.extras(stacked) if hasattr(metric, "extras") else {}
    return MetricValue(
        value, low, high, len(rows), empty, metric.unit, metric.higher_is_better, extras, rule=metric.empty
    )


def _spread(dataset: Dataset, cases: Sequence[Case], count: int) -> set[str]:
    """Cases to show: the largest truth, a small one, normals; then others between."""
    sizes = []
    for case in cases:
        mask = dataset.sample(case).native_mask
        sizes.append(int(mask.sum()) if mask is not None else 0)
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
    return {cases[i].id for i in list(dict.fromkeys(order))[:count]}


def _picture(objective: Any, sample: Sample, arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Any]:
    """One telling slice of a case: image, truth, prediction and the encoder's activation."""
    from medkit.runs.maps import activation

    z = len(sample.image) // 2
    if sample.mask is not None and sample.mask.any():
        z = int(np.argmax(sample.mask.sum((1, 2))))
    elif "mask_probability" in arrays:
        z = int(np.argmax((arrays["mask_probability"][:, 0] > 0.5).sum((1, 2))))
    shown: dict[str, Any] = {"case": sample.case.id, "slice": z, "label": sample.label, "image": sample.image[z]}
    if sample.native_mask is not None:
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


def write_results(folder: Path, evaluation: Evaluation) -> None:
    """Merge one evaluation into ``results.json``, ``cases.csv`` and ``examples/``; doing it twice changes nothing."""
    path = folder / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results.setdefault(evaluation.stage, {})[evaluation.split] = {n: v.json() for n, v in evaluation.values.items()}
    write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())
    mine = (evaluation.stage, evaluation.split)
    kept = [row for row in read_cases(folder) if (row["stage"], row["split"]) != mine]
    columns = list(dict.fromkeys(key for row in [*kept, *evaluation.cases] for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: _short(v) for k, v in row.items()} for row in [*kept, *evaluation.cases]])
    write_atomically(folder / "cases.csv", text.getvalue().encode())
    if evaluation.embedding is not None:
        write_embedding(folder / "embeddings" / f"{evaluation.stage}.{evaluation.split}.npz", evaluation.embedding)
    if evaluation.examples:
        arrays: dict[str, np.ndarray] = {}
        for i, shown in enumerate(evaluation.examples):
            for key, value in shown.items():
                # Activations differ by less than half precision resolves.
                half = np.ndim(value) > 0 and key != "activation"
                arrays[f"{i}.{key}"] = np.asarray(value, np.float16) if half else np.asarray(value)
        data = io.BytesIO()
        np.savez_compressed(data, **arrays)  # type: ignore[arg-type]
        (folder / "examples").mkdir(exist_ok=True)
        write_atomically(folder / "examples" / f"{evaluation.stage}.{evaluation.split}.npz", data.getvalue())


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def read_results(folder: Path) -> dict[str, dict[str, dict[str, MetricValue]]]:
    """``results.json`` as values."""
    path = folder / "results.json"
    if not path.is_file():
        raise InputError("the run has no results yet", str(folder), f"'medkit resume {folder}' goes on with it")
    try:
        plain = json.loads(path.read_text())
    except ValueError as error:
        raise RunError(f"not valid JSON ({error})", str(path)) from error
    return {
        stage: {split: {name: MetricValue.from_json(v) for name, v in found.items()} for split, found in splits.items()}
        for stage, splits in plain.items()
    }


def read_cases(folder: Path) -> list[dict[str, Any]]:
    """Rows of ``cases.csv``, all values as text."""
    path = folder / "cases.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_examples(path: Path) -> list[dict[str, Any]]:
    """The pictures of one ``examples/STAGE.SPLIT.npz``."""
    shown: dict[int, dict[str, Any]] = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            index, _, key = name.partition(".")
            array = file[name]
            value = array.astype(np.float32) if array.ndim and array.dtype == np.float16 else array
            shown.setdefault(int(index), {})[key] = value if array.ndim else array.item()
    return [shown[i] for i in sorted(shown)]
