"""What became of a claim: whether the comparison supports it, contradicts it or leaves it undecided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medkit.evaluation.verdict import Verdict
from medkit.studies.judge import Judged

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


@dataclass(frozen=True)
class ClaimVerdict:
    """What was ``found`` about a claim, in a word and a sentence.

    It is supported if every method that is said to be better is shown to be, at every point of the study and after
    correction; contradicted if the reference is shown to be better than any of them at any point.
    """

    says: str
    source: str
    found: str
    why: str


def judged_claim(claim: Mapping[str, Any], verdicts: Sequence[Judged]) -> ClaimVerdict:
    """Judge a claim, as a study's file has it, by the verdicts of its first comparison."""
    wanted = claim["better"]
    each = [verdict for at in verdicts for verdict in at.verdicts if verdict.a in wanted]
    asked = len(wanted) * len(verdicts)
    shown = [verdict for verdict in each if verdict.better == verdict.a]
    against = [verdict for verdict in each if verdict.better == verdict.b]
    if against:
        found, why = CONTRADICTED, f"'{against[0].b}' is shown to be better than {_names(against)}"
        why += f" in {len(against)} of {asked} comparisons"
    elif each and len(shown) == asked:
        found, why = SUPPORTED, f"shown in {_all(asked)}, after correction"
    else:
        found, why = (
            UNDECIDED,
            f"shown in {len(shown)} of {asked} comparisons" if asked else "nothing has been compared",
        )
        if missing := asked - len(each):
            why += f"; {missing} could not be judged"
        elif undecided := [verdict for verdict in each if verdict.better is None]:
            why += f"; {_needed(undecided)}"
    return ClaimVerdict(claim["says"], claim.get("source") or "", found, why)


def _names(verdicts: Sequence[Verdict]) -> str:
    return " and ".join(dict.fromkeys(f"'{verdict.a}'" for verdict in verdicts))


def _all(count: int) -> str:
    return "the one comparison" if count == 1 else f"all {count} comparisons"


def _needed(undecided: Sequence[Verdict]) -> str:
    """How large a difference it would have taken, for the one that came closest."""
    closest = min(undecided, key=lambda verdict: verdict.p_holm if verdict.p_holm == verdict.p_holm else 1.0)
    text = f"'{closest.a}' minus '{closest.b}' is {closest.estimate:.3g}"
    if closest.smallest_difference == closest.smallest_difference:
        text += f", and a study of this size shows differences from {closest.smallest_difference:.3g}"
    return text
