"""What was found, and the files that hold it: ``results.json``, ``cases.csv`` and ``examples/``."""

from __future__ import annotations

import csv
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
from medkit.evaluation.embeddings import Embedding, write_embedding
from medkit.records import encoded, write_atomically

KEYS = ("stage", "split", "case", "patient", "center")


@dataclass(frozen=True)
class MetricValue:
    """A number with its 95 % interval.

    ``n`` rows (``counted`` says of what) of ``n_patients`` patients were counted, ``n_empty`` were empty by the
    metric's ``rule``. ``method`` says how the interval was made, or why there is none; in ``n_undefined`` of a
    bootstrap's draws the metric was not defined. Of the test set itself there are the numbers of its ``patients``,
    ``cases`` and ``slices``, and of its patients who were ``seen`` in training (:mod:`medkit.runs.seen`). ``extras``
    hold numbers that go with the value, such as the low-dose input's own.
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
                raise TypeError(f"{item.name} is no number")
            if item.type == "str" and not isinstance(known.get(item.name, ""), str):
                raise TypeError(f"{item.name} is no text")
        return cls(**known, extras={k: v for k, v in plain.items() if k not in own})

    @property
    def counts(self) -> str:
        """``52 slices, 2 patients``: never rows alone, for they are not independent."""
        patients = f"{self.n_patients} patient{'s' if self.n_patients != 1 else ''}"
        if not self.n_patients:  # nobody was counted, or an earlier version did not count patients
            return f"n = {self.n}"
        if self.n == self.n_patients and self.counted == "cases":
            return patients
        return f"{self.n} {self.counted if self.n != 1 else self.counted.removesuffix('s')}, {patients}"

    def told(self, mark: str = "") -> str:
        """Value, with a ``mark``, interval and counts in a few words, for a log."""
        value = "undefined" if math.isnan(self.value) else f"{self.value:.4g}"
        interval = "no interval" if math.isnan(self.low) else f"{self.low:.4g}, {self.high:.4g}"
        return f"{value}{mark} [{interval}] n={self.n} of {self.n_patients or '?'} patients"


RESERVED = frozenset(f.name for f in fields(MetricValue)) - {"extras"}
"""Names that a metric's ``extras`` may not have."""


def recorded(name: str, known: Iterable[str]) -> str:
    """The name that results have for a metric of a recipe: ``rmse`` is recorded as ``rmse_hu`` where it is in HU.

    ``name`` itself where it is there, where none fits, or where several do.
    """
    known = list(dict.fromkeys(known))
    longer = [other for other in known if other.startswith(f"{name}_")]
    return longer[0] if name not in known and len(longer) == 1 else name


@dataclass
class Evaluation:
    """What was found on one split."""

    stage: str
    split: str
    values: dict[str, MetricValue]
    cases: list[dict[str, Any]]
    examples: list[dict[str, Any]]
    embedding: Embedding | None = None
    slices: int = 0

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
    """Merge one evaluation into ``results.json``, ``cases.csv`` and ``examples/``; doing it twice changes nothing."""
    path = folder / "results.json"
    results = files.read_json(path) if path.exists() else {}
    results.setdefault(evaluation.stage, {})[evaluation.split] = {n: v.json() for n, v in evaluation.values.items()}
    write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())
    _write_cases(folder / "cases.csv", evaluation)
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


def _write_cases(path: Path, evaluation: Evaluation) -> None:
    """Put the rows of one evaluation into ``cases.csv``, in the place of those that were there.

    Numbers are written in full: tests are computed from this file. So are names, which are read back and joined by;
    a name that a spreadsheet would take for a formula is not changed here (only in ``tables/``, which nothing reads).
    """
    columns = list(dict.fromkeys(key for row in evaluation.cases for key in row))
    old = path.read_bytes().decode() if path.is_file() else ""
    head = next(csv.reader(old.splitlines()[:1]), [])
    mine = _lines([{"stage": evaluation.stage, "split": evaluation.split}], KEYS[:2]).rstrip("\n")
    if head[:2] == list(KEYS[:2]) and set(columns) <= set(head) and f"\n{mine}," not in old:
        # The rows of other stages stay as they are, letter by letter: a hundredth of the time of reading them.
        text = old + _lines(evaluation.cases, head)
    else:
        kept = [row for row in read_cases(path.parent) if (row["stage"], row["split"]) != evaluation.key]
        columns = list(dict.fromkeys([*KEYS, *head, *columns]))
        text = _lines([dict(zip(columns, columns, strict=True))], columns) + _lines([*kept, *evaluation.cases], columns)
    write_atomically(path, encoded(text))


def _lines(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    for row in rows:
        writer.writerow({k: repr(float(v)) if isinstance(v, (float, np.floating)) else v for k, v in row.items()})
    return text.getvalue()


def read_results(folder: Path) -> dict[str, dict[str, dict[str, MetricValue]]]:
    """``results.json`` as values."""
    path = folder / "results.json"
    if not path.is_file():
        raise InputError("the run has no results yet", str(folder), f"'medkit resume {folder}' goes on with it")
    plain = files.read_json(path)
    return {
        stage: {
            split: {name: files.guarded(path, partial(MetricValue.from_json, value)) for name, value in found.items()}
            for split, found in splits.items()
        }
        for stage, splits in plain.items()
    }


def read_cases(folder: Path) -> list[dict[str, Any]]:
    """Rows of ``cases.csv``, all values as text."""
    return files.read_rows(folder / "cases.csv", KEYS)


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
