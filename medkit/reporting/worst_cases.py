"""The cases on which a stage did worst, for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medkit.evaluation.worst import worst_first
from medkit.reporting.run_results import RunResults
from medkit.reporting.tables import number

SHOWN = 8


@dataclass(frozen=True)
class Worst:
    """The worst cases of one evaluation ``by`` a metric, each with its value; ``of`` says how many cases there are."""

    split: str
    stage: str
    by: str
    cases: Sequence[tuple[str, str]]
    of: str


def worst_cases(run: RunResults, stage: str, split: str) -> Iterator[Worst]:
    """One, or none where no metric has a value per case and no case has a probability and a label."""
    values = run.of(stage).get(split, {})
    higher = {name: value.higher_is_better for name, value in values.items()}
    by, found = worst_first(run.cases.of(stage, split), higher)
    if not found:
        return
    unit = f" ({values[by].unit})" if by in values and values[by].unit else ""
    cases = [(row["case"], number(value)) for value, row in found[:SHOWN]]
    yield Worst(split, stage, f"{by}{unit}", cases, f"of {run.counted(stage, [row['patient'] for _, row in found])}")
