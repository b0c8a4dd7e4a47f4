"""Yes-or-no decisions from probabilities: curves over all thresholds, operating points, and calibration.

Everything is computed from the lines of ``cases.csv``, so it can be drawn for any run that has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medkit.evaluation.bootstrap import too_few
from medkit.evaluation.case_table import numeral
from medkit.parts.intervals import NONE, numbered, wilson
from medkit.protocols.labels import NONE as NO_CLASS
from medkit.protocols.labels import SEPARATOR, Labels
from medkit.reporting.run_results import RunResults

CLASSES = 8
"""Most classes that have curves: with more, a figure is unreadable."""
WANTED = 0.95
BINS, LEAST = 10, 10
"""Bins of a calibration curve, and the fewest rows of one."""


@dataclass(frozen=True)
class Scores:
    """Probabilities (n,) and labels (n,) 0 or 1 of the rows of one evaluation, and the patient of each.

    ``name`` is that of the stage, or of one of its classes.
    """

    name: str
    probability: np.ndarray
    label: np.ndarray
    patients: Sequence[str]

    @property
    def both(self) -> bool:
        """Whether there are positives and negatives: otherwise there is no curve."""
        return bool(0 < self.label.sum() < len(self.label))


@dataclass(frozen=True)
class Share:
    """A proportion, with its 95 % interval by patients; nan where there are no rows, or too few patients."""

    top: int
    bottom: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.top / self.bottom if self.bottom else float("nan")


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold gives: rows whose probability is above it are predicted positive."""

    rule: str
    threshold: float
    sensitivity: Share
    specificity: Share
    ppv: Share
    npv: Share


def scores_of(run: RunResults, stage: str, split: str) -> list[Scores]:
    """Scores of an evaluation: one for a probability per row, one for each declared class, none for anything else."""
    rows, labels = run.cases.of(stage, split), run.labels(stage)
    if labels is not None and labels.kind in ("one_of", "any_of"):
        return list(_of_classes(rows, labels))
    found = [
        (probability, label, row["patient"])
        for row in rows
        if (probability := numeral(row, "probability")) is not None and (label := numeral(row, "label")) is not None
    ]
    return [_scores(stage, found)] if found else []


def _of_classes(rows: Sequence[Mapping[str, Any]], labels: Labels) -> Iterator[Scores]:
    for name in labels.names[:CLASSES]:
        found = []
        for row in rows:
            probability, truth = numeral(row, f"probability_{name}"), row.get("labels", "")
            said = truth.split(SEPARATOR) if labels.kind == "any_of" and truth != NO_CLASS else [truth]
            if probability is not None and truth and f"{name}?" not in said:
                found.append((probability, float(name in said), row["patient"]))
        if found:
            yield _scores(name, found)


def _scores(name: str, found: Sequence[tuple[float, float, str]]) -> Scores:
    probability, label, patients = zip(*found, strict=True)
    return Scores(name, np.array(probability), (np.array(label) > 0).astype(float), patients)


def roc(scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(k,) false and true positive rates and the thresholds above which they are reached, from none to all: midway
    between two neighbouring scores, so that one which is printed with a few digits still lies between them."""
    thresholds, found, said = _steps(scores)
    positives = scores.label.sum()
    return (said - found) / (len(scores.label) - positives), found / positives, thresholds


def precision_recall(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """(k,) recall and precision at each score, from the highest on."""
    _, found, said = _steps(scores)
    return found[1:] / scores.label.sum(), found[1:] / said[1:]


def _steps(scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds from the highest score down, with how many rows above each are positive, and how many there are."""
    values, place = np.unique(-scores.probability, return_inverse=True)
    found = np.cumsum(np.bincount(place, scores.label, len(values)))
    said = np.cumsum(np.bincount(place, minlength=len(values)))
    # Between floats that are next to each other the midpoint may be the upper one, which is not above itself.
    midway = np.minimum((-values[1:] - values[:-1]) / 2, np.nextafter(-values[:-1], -np.inf))
    return np.array([-values[0], *midway, -np.inf]), np.append(0, found), np.append(0, said)


def operating_points(scores: Scores) -> list[OperatingPoint]:
    """At 0.5, at 95 % sensitivity or specificity with the best of the other, and at their largest sum (Youden 1950)."""
    points = [_point("probability above 0.5", 0.5, scores)]
    if not scores.both:
        return points
    false, true, thresholds = roc(scores)
    sensitive = int(np.argmax(true >= WANTED))
    specific = int(np.flatnonzero(1 - false >= WANTED)[-1])
    rules = {"sensitivity at least 95 %": sensitive, "specificity at least 95 %": specific}
    rules["largest sensitivity + specificity"] = int(np.argmax(true - false))
    return [*points, *(_point(rule, float(thresholds[i]), scores) for rule, i in rules.items())]


def _point(rule: str, threshold: float, scores: Scores) -> OperatingPoint:
    said, yes = scores.probability > threshold, scores.label > 0
    shares = [
        _share(top, bottom, scores.patients)
        for top, bottom in ((said & yes, yes), (~said & ~yes, ~yes), (said & yes, said), (~said & ~yes, ~said))
    ]
    return OperatingPoint(rule, threshold, *shares)


def _share(top: np.ndarray, bottom: np.ndarray, patients: Sequence[str]) -> Share:
    index, count = numbered(patients)
    among = np.bincount(index, bottom, count)
    few = too_few(int((among > 0).sum()))
    low, high = NONE if few else wilson(np.bincount(index, top, count), among)
    return Share(int(top.sum()), int(bottom.sum()), low, high)


def _cuts(ascending: np.ndarray, bins: int) -> list[int]:
    """Where ``bins`` bins of about equally many values end: not between equal values, and each with LEAST or more."""
    cuts: list[int] = []
    for rows in np.array_split(np.arange(len(ascending)), bins)[:-1]:
        cut = int(np.searchsorted(ascending, ascending[rows[-1]], side="right"))
        if cut - (cuts[-1] if cuts else 0) >= LEAST and len(ascending) - cut >= LEAST:
            cuts.append(cut)
    return cuts


def calibration(scores: Scores) -> list[tuple[float, Share]]:
    """Mean probability and proportion of positives in bins of neighbouring probabilities, about equally many in each.

    Equal probabilities are in one bin: the order of their rows says nothing about them.
    """
    bins = min(BINS, len(scores.label) // LEAST)
    if bins < 2:
        return []
    order, found = np.argsort(scores.probability, kind="stable"), []
    for rows in np.split(order, _cuts(scores.probability[order], bins)):
        patients = [scores.patients[row] for row in rows]
        share = _share(scores.label[rows] > 0, np.ones(len(rows), bool), patients)
        found.append((float(scores.probability[rows].mean()), share))
    return found


def brier(scores: Scores) -> float:
    """Mean square distance of the probability from the label (Brier 1950): 0 is perfect."""
    return float(np.mean((scores.probability - scores.label) ** 2))
