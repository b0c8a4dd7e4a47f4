"""What was found, and the files that hold it: ``results.json``, ``cases.csv`` and what ``KEPT`` names."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medkit.errors import InputError
from medkit.evaluation import files
from medkit.evaluation.case_table import write_cases
from medkit.evaluation.embeddings import Embedding, write_embedding
from medkit.evaluation.slices import Stack, write_stacks
from medkit.paths import typed
from medkit.records import encoded, write_atomically

KEPT = {"examples": "npz", "embeddings": "npz", "slices": "npz", "subgroups": "json"}
"""Folders of a run that have a file ``STAGE.SPLIT`` of an evaluation, with its ending."""

SEEN_MARK = "†"
"""Marks every number of a test set with patients who were seen in training."""


@dataclass(frozen=True)
class MetricValue:
    """A number with its 95 % interval.

    ``n`` rows (``counted`` says of what) of ``n_patients`` patients were counted, ``n_empty`` were empty by the
    metric's ``rule``. ``method`` says how the interval was made, or why there is none; in ``n_undefined`` of a
    bootstrap's draws the metric was not defined. ``patients``, ``cases`` and ``slices`` count the test set itself,
    ``seen`` those of its patients who were seen in training (:mod:`medkit.runs.seen`). The stage was trained on
    ``trained_on`` patients, out of ``trained_of`` in the split that it trains on (more, if it trains on a
    fraction). ``extras`` hold numbers that go with the value, such as the low-dose input's own.
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
    n_patients: int = 0
    counted: str = "cases"
    method: str = ""
    n_undefined: int = 0
    patients: int = 0
    cases: int = 0
    slices: int = 0
    seen: int = 0
    trained_on: int = 0
    trained_of: int = 0

    def json(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extras"}
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in {**own, **self.extras}.items()
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> MetricValue:
        """What :meth:`json` gave, here or in an earlier version."""
        own = {k: v for k, v in plain.items() if k in RESERVED}
        known: dict[str, Any] = {k: float("nan") if v is None else v for k, v in own.items()}
        for item in fields(cls):
            if item.type in ("int", "float") and not isinstance(known.get(item.name, 0), int | float):
                raise TypeError(f"{item.name} is not a number")
            if item.type == "str" and not isinstance(known.get(item.name, ""), str):
                raise TypeError(f"{item.name} is not a text")
        return cls(**known, extras={k: v for k, v in plain.items() if k not in own})

    @property
    def people(self) -> int:
        """How many patients were counted. Where cases are parts of one person's scan, each with a name of its own, the
        interval is over ``n_patients`` parts, but they show fewer people."""
        return min(self.n_patients, self.patients) if self.patients else self.n_patients

    @property
    def counts(self) -> str:
        """``52 slices, 2 patients``: never rows alone, as they are not independent."""
        patients = f"{self.people} patient{'s' if self.people != 1 else ''}"
        if not self.n_patients:  # nobody was counted, or an earlier version did not count patients
            return f"n = {self.n}"
        if self.people < self.n_patients:
            return f"{self.n} {self.counted} of {patients}, and the interval is over {self.counted}"
        if self.n == self.n_patients and self.counted == "cases":
            return patients
        return f"{self.n} {self.counted if self.n != 1 else self.counted.removesuffix('s')}, {patients}"

    def told(self, mark: str = "") -> str:
        """Value, with a ``mark``, interval and counts in a few words, for a log."""
        value = "undefined" if math.isnan(self.value) else f"{self.value:.4g}"
        interval = "no interval" if math.isnan(self.low) else f"{self.low:.4g}, {self.high:.4g}"
        patients = f"{self.people or '?'} patient{'s' if self.people != 1 else ''}"
        return f"{value}{mark} [{interval}] n={self.n} of {patients}"


RESERVED = frozenset(f.name for f in fields(MetricValue)) - {"extras"}
"""Names that a metric's ``extras`` may not have."""


def recorded(name: str, known: Iterable[str]) -> str:
    """The name that results use for a metric of a recipe: ``rmse`` is recorded as ``rmse_hu`` if it is in HU, and
    ``nsd`` as ``nsd_2mm``, beside which each class has its own (``nsd_2mm_SAH``).

    ``name`` itself if it is there, if none fits, or if several do.
    """
    known = {*known}
    longer = sorted((other for other in known if other.startswith(f"{name}_")), key=len)
    if name in known or not longer or not all(other.startswith(f"{longer[0]}_") for other in longer[1:]):
        return name
    return longer[0]


@dataclass
class Evaluation:
    """What was found on one split; ``slices`` counts it, ``stacks`` are those of the cases that are shown."""

    stage: str
    split: str
    values: dict[str, MetricValue]
    cases: list[dict[str, Any]]
    examples: list[dict[str, Any]]
    embedding: Embedding | None = None
    slices: int = 0
    stacks: Sequence[Stack] = ()
    subgroups: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return self.stage, self.split

    def summary(self) -> str:
        """Values in one line."""
        if not self.values:
            return "nothing to evaluate"
        text = "  ".join(f"{name} {value.told()}" for name, value in self.values.items())
        seen = max((value.seen for value in self.values.values()), default=0)
        return f"{text}  ({seen} patients were seen in training)" if seen else text


def write_results(folder: Path, evaluation: Evaluation) -> None:
    """Add one evaluation to a run folder, in place of any earlier one; doing it twice changes nothing.

    ``results.json`` is written last: a number that is there has its cases and pictures.
    """
    stage, split = evaluation.key
    write_cases(folder, stage, split, evaluation.cases)
    if evaluation.embedding is not None:
        write_embedding(folder / "embeddings" / f"{stage}.{split}.npz", evaluation.embedding)
    if evaluation.examples:
        _write_examples(folder / "examples" / f"{stage}.{split}.npz", evaluation.examples)
    if evaluation.stacks:
        write_stacks(folder / "slices" / f"{stage}.{split}.npz", evaluation.stacks)
    if evaluation.subgroups:
        path = folder / "subgroups" / f"{stage}.{split}.json"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, encoded(json.dumps(evaluation.subgroups, indent=1) + "\n"))
    path = folder / "results.json"
    results = files.read_json(path) if path.exists() else {}
    results.setdefault(stage, {})[split] = {name: value.json() for name, value in evaluation.values.items()}
    write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())


def _write_examples(path: Path, examples: Sequence[Mapping[str, Any]]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for i, shown in enumerate(examples):
        for key, value in shown.items():
            # Activations differ by less than half precision resolves.
            half = np.ndim(value) > 0 and key != "activation"
            arrays[f"{i}.{key}"] = np.asarray(value, np.float16) if half else np.asarray(value)
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)  # type: ignore[arg-type]
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, data.getvalue())


def read_results(folder: Path) -> dict[str, dict[str, dict[str, MetricValue]]]:
    """``results.json`` as values."""
    path = folder / "results.json"
    if not path.is_file():
        raise InputError("the run has no results yet", str(folder), f"'medkit resume {typed(folder)}' continues it")
    plain = files.read_json(path)
    return {
        stage: {
            split: {name: files.guarded(path, partial(MetricValue.from_json, value)) for name, value in found.items()}
            for split, found in splits.items()
        }
        for stage, splits in plain.items()
    }


def read_examples(path: Path) -> list[dict[str, Any]]:
    """The pictures of one ``examples/STAGE.SPLIT.npz``."""
    shown: dict[int, dict[str, Any]] = {}
    for name, array in files.read_arrays(path).items():
        index, _, key = name.partition(".")
        if not index.isdecimal():
            raise files.damaged(path, f"an array is named '{name}'")
        value = array.astype(np.float32) if array.ndim and array.dtype == np.float16 else array
        shown.setdefault(int(index), {})[key] = value if array.ndim else array.item()
    return [shown[i] for i in sorted(shown)]
