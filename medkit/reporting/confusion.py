"""How often which class was predicted for which, for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medkit.evaluation.case_table import Row, numeral
from medkit.reporting.run_results import RunResults

MOST = 30
"""Classes that a page has room for."""
YES_NO = ("negative", "positive")


@dataclass(frozen=True)
class Confusion:
    """Counts by true class (row) and predicted class (column); ``counts`` says of how many rows and patients: those
    with a label and a predicted class."""

    title: str
    names: Sequence[str]
    rows: Sequence[tuple[str, Sequence[int]]]
    counts: str


def confusions(run: RunResults, stages: Sequence[str], splits: Sequence[str]) -> Iterator[Confusion]:
    """A matrix per stage and split whose cases have a label and a predicted class, or are positive or negative."""
    for stage in stages:
        for split in splits:
            found = run.cases.of(stage, split)
            names = _names(run, stage, found)
            if len(names) > MOST:
                continue
            declared = run.labels(stage) is not None
            pairs = [(_declared(row) if declared else _undeclared(row, names), row["patient"]) for row in found]
            known = [(pair, patient) for pair, patient in pairs if {*pair} <= {*names}]
            if known:
                counts = Counter(pair for pair, _ in known)
                rows = [(true, [counts[true, said] for said in names]) for true in names]
                told = run.counted(stage, [patient for _, patient in known])
                yield Confusion(f"{stage}, {split}", names, rows, told)


def _names(run: RunResults, stage: str, rows: Sequence[Row]) -> Sequence[str]:
    """Names of declared classes, numbers of undeclared ones, or yes and no."""
    labels = run.labels(stage)
    if labels is not None:
        return labels.names if labels.kind in ("one_of", "ordered") else ()
    pairs = [(numeral(row, "label"), numeral(row, "class")) for row in rows]
    numbers = {int(number) for pair in pairs if None not in pair for number in pair if number is not None}
    return [str(number) for number in sorted(numbers)] or YES_NO


def _declared(row: Row) -> tuple[str, str]:
    """True and predicted class of a row with declared labels: the source's ``label`` is none of them."""
    return row.get("labels", ""), row.get("class", "")


def _undeclared(row: Row, names: Sequence[str]) -> tuple[str, str]:
    """True and predicted class of a row; a probability above 0.5 predicts positive."""
    label, probability, said = (numeral(row, name) for name in ("label", "probability", "class"))
    if label is None:
        return "", ""
    if names is YES_NO:
        return ("", "") if probability is None else (YES_NO[label > 0], YES_NO[probability > 0.5])
    return f"{label:.0f}", "" if said is None else f"{said:.0f}"
