"""Results of groups of cases, by what is known of them: the center and any field of their table.

They are measured with the evaluation, by its metrics, and kept as numbers of groups: nothing of a single case.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.cases import column, fields_of
from medkit.evaluation import files
from medkit.evaluation.digits import fewest_digits
from medkit.evaluation.measure import CaseRows, counted, joined
from medkit.evaluation.results import MetricValue
from medkit.evaluation.values import lacks, value_of
from medkit.protocols import Case
from medkit.protocols.labels import as_number

MOST_GROUPS = 8
MOST_FIELDS = 12
FEWEST = 3
"""Patients on whom a number of a group rests, if it is told: one of fewer would be that of a person."""
PARTS = 3
"""Groups of equal size that a measurement is divided into."""

UID = re.compile(r"\d+(\.\d+){3,}")
"""What names a DICOM study or series, as in the manifests of ``medkit data folder``: it divides nothing."""
IDENTIFIER = re.compile(r"-?0\d")

Values = Mapping[str, MetricValue]


@dataclass(frozen=True)
class Group:
    """A group with the number of its ``patients``, and the values that are not withheld by metric."""

    patients: int
    values: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Subgroups:
    """Groups by field, and ``left_out``, why a field or a metric has none."""

    fields: Mapping[str, Mapping[str, Group]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        plain = {
            name: {
                group: {"patients": found.patients, "values": {m: v.json() for m, v in found.values.items()}}
                for group, found in groups.items()
            }
            for name, groups in self.fields.items()
        }
        return {"fields": plain, "left_out": dict(self.left_out)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Subgroups:
        fields = {
            name: {
                group: Group(
                    found["patients"], _told({m: MetricValue.from_json(v) for m, v in found["values"].items()})
                )
                for group, found in groups.items()
            }
            for name, groups in plain["fields"].items()
        }
        return cls(fields, plain["left_out"])


def _told(values: Values) -> Values:
    """Without numbers of fewer than ``FEWEST`` patients, which earlier versions kept."""
    return {name: value for name, value in values.items() if not 0 < value.n_patients < FEWEST}


def subgroups(rows: Sequence[CaseRows], cases: Sequence[Case], metrics: Sequence[Any]) -> Subgroups:
    """Measure the groups of all fields that divide ``cases``; ``rows`` are in their order.

    Metrics whose intervals would be computed anew for every draw (the Frechet distance) are left out.
    """
    quick = [metric for metric in metrics if hasattr(metric, "of_sums") or hasattr(metric, "weighted")]
    left_out = {metric.name: "takes too long to measure of every group" for metric in metrics if metric not in quick}
    found: dict[str, dict[str, Group]] = {}
    for name in ("center", *fields_of(cases)):
        groups = grouped(list(column(cases, name)), numbered=name == "center")
        if isinstance(groups, str):
            left_out |= {name: groups} if groups else {}
        elif len(found) == MOST_FIELDS:
            left_out[name] = f"there are {MOST_FIELDS} others"
        else:
            each = {
                group: _measured([kept for kept in rows if groups[kept.index] == group], cases, quick, counted(rows))
                for group in _in_order(groups)
            }
            if any(group.patients >= FEWEST for group in each.values()):
                found[name] = each
            else:
                left_out[name] = f"no group of it has {FEWEST} patients"
    told = {name for each in found.values() for group in each.values() for name in group.values}
    if found:
        left_out |= {
            m.name: f"rests on fewer than {FEWEST} patients in every group" for m in quick if m.name not in told
        }
    return Subgroups(found, left_out)


def grouped(values: Sequence[Any], numbered: bool = False) -> list[str] | str:
    """The group of each value, "" of one that is not known; or why they make none ("" where all are alike, or UIDs).

    Numbers written as texts, as all cells of a CSV file are, are numbers, unless they are ``numbered`` things.
    """
    texts = ["" if _unknown(value) else str(value) for value in values]
    counts = Counter(text for text in texts if text)
    if len(counts) < 2 or all(UID.fullmatch(text) for text in counts):
        return ""
    numbers = np.array([math.nan if _unknown(value) else _number(value) for value in values])
    numeric = not numbered and all(
        text == "" or math.isfinite(number) for text, number in zip(texts, numbers, strict=True)
    )
    few = len(counts) <= MOST_GROUPS
    # A field strength of 1.5 or 3 makes two groups; ages of 45.7 and 60.1 are those of persons.
    measured = numeric and not _whole(numbers) and min(counts.values()) < FEWEST
    if few and not measured:
        return texts
    if not numeric:
        return f"it has {len(counts)} values"
    found = _thirds(numbers)
    return found if len({*found} - {""}) > 1 else texts if few else ""


def _number(value: Any) -> float:
    """A value's number; nan of a text that is none, or begins with a zero as an identifier (0042) does."""
    return math.nan if isinstance(value, bool) or IDENTIFIER.match(str(value)) else as_number(value)


def _whole(numbers: np.ndarray) -> bool:
    known = numbers[~np.isnan(numbers)]
    return bool((known == np.round(known)).all())


def _thirds(numbers: np.ndarray) -> list[str]:
    """The group of each number in ``PARTS`` of equal size, by names with edges that divide the numbers as they are
    divided: whole ones of whole numbers such as dates (20210304)."""
    known = np.unique(numbers[~np.isnan(numbers)])
    edges = np.nanquantile(numbers, np.arange(1, PARTS) / PARTS)
    edges = np.unique(np.ceil(edges) if _whole(numbers) else edges)
    told = [str(int(edge)) if _whole(numbers) else _edge(float(edge), known) for edge in edges]
    names = [f"below {told[0]}", *(f"{a} to below {b}" for a, b in pairwise(told)), f"{told[-1]} and more"]
    return ["" if math.isnan(x) else names[int(np.searchsorted(edges, x, "right"))] for x in numbers]


def _edge(edge: float, known: np.ndarray) -> str:
    """An edge in as few digits as divide the sorted numbers in the same way."""
    place = np.searchsorted(known, edge)
    return fewest_digits(edge, lambda told: bool(np.searchsorted(known, told) == place))


def _unknown(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float | np.floating) and math.isnan(value))


def _in_order(groups: Sequence[str]) -> list[str]:
    """The groups by their names, ``below`` before others; what is not known makes none."""
    found = {group for group in groups if group}
    return sorted(found, key=lambda name: (not name.startswith("below "), "more" in name, name))


def _measured(rows: Sequence[CaseRows], cases: Sequence[Case], metrics: Sequence[Any], counts: str) -> Group:
    patients = len({cases[kept.index].patient for kept in rows})
    if patients < FEWEST:
        return Group(patients)
    values = {}
    for metric in metrics:
        there = [kept for kept in rows if metric.name in kept.counts]
        owners = [cases[kept.index].patient for kept in there for _ in range(kept.counts[metric.name])]
        empty = sum(len(kept.lines) for kept in rows) - len(owners)
        columns = joined([kept.columns[metric.name] for kept in there])
        value = value_of(metric, columns, owners, empty, True)
        # Patients outside a ratio's denominator hide nobody, nor do negatives the one positive of an AUC.
        of_few = 0 < value.n_patients < FEWEST or lacks(metric, columns, owners)
        if not (of_few and math.isfinite(value.value)):
            values[metric.name] = replace(value, counted=counts)
    return Group(patients, values)


def read_subgroups(path: Path) -> Subgroups | None:
    """The groups of one evaluation; None where there is no file, as in runs of earlier versions."""
    if not path.is_file():
        return None
    plain = files.read_json(path)
    return files.guarded(path, lambda: Subgroups.from_json(plain))
