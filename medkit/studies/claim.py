"""What became of a claim: whether the comparison supports it, contradicts it or leaves it undecided."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medkit.evaluation.verdict import Verdict
from medkit.evaluation.verdict_change import ChangeVerdict
from medkit.evaluation.verdict_spread import SpreadVerdict
from medkit.studies.judge import BesideMeans, Judged

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
KINDS = ("better", "worse", "steadier", "loses_less")
"""What methods may be claimed to be, compared with the reference."""


@dataclass(frozen=True)
class ClaimVerdict:
    """What was ``found`` about a claim, in a word and a sentence.

    It is supported if everything it says about every method is shown, at every point of the study and after correction;
    contradicted if the opposite is shown for any of them at any point. ``numbers`` are those it was judged by, if
    these are not verdicts on means.
    """

    says: str
    source: str
    found: str
    why: str
    numbers: Sequence[Mapping[str, Any]] = ()
    limits: str = ""
    """What the study cannot say about the claim, in its author's words."""


@dataclass(frozen=True)
class _Compared:
    """A method against the reference: which of them is shown to be as claimed, in words, and what was needed."""

    method: str
    other: str
    shown: str | None
    against: str
    needed: str
    p: float


def judged_claim(
    claim: Mapping[str, Any],
    verdicts: Sequence[Judged],
    spreads: Sequence[BesideMeans] = (),
    changes: Sequence[BesideMeans] = (),
) -> ClaimVerdict:
    """Judge a claim, as a study's file has it, by the verdicts of its first comparison.

    ``spreads`` and ``changes`` are what methods claimed to be steadier, or to lose less, are judged by.
    """
    of: Mapping[str, Sequence[Any]] = {
        "better": verdicts,
        "worse": verdicts,
        "steadier": spreads,
        "loses_less": changes,
    }
    each: list[_Compared] = []
    asked = 0
    for kind in KINDS:
        wanted = claim.get(kind) or ()
        asked += len(wanted) * len(of[kind])
        each += [READ[kind](verdict) for at in of[kind] for verdict in at.verdicts if verdict.a in wanted]
    wrong = [one for one in each if one.shown == one.other]
    right = [one for one in each if one.shown == one.method]
    if wrong:
        found, why = CONTRADICTED, f"{wrong[0].against} {_names(wrong)} in {len(wrong)} of {asked} comparisons"
    elif each and len(right) == asked:
        found, why = SUPPORTED, f"shown in {_all(asked)}, after correction"
    else:
        found, why = UNDECIDED, _undecided(each, len(right), asked)
    numbers = [row for at in (*spreads, *changes) for row in at.json()]
    return ClaimVerdict(claim["says"], claim.get("source") or "", found, why, numbers, claim.get("limits") or "")


def _undecided(each: Sequence[_Compared], right: int, asked: int) -> str:
    why = f"shown in {right} of {asked} comparisons" if asked else "nothing has been compared"
    if missing := asked - len(each):
        return f"{why}; {missing} could not be judged"
    if undecided := [one for one in each if one.shown is None]:
        closest = min(undecided, key=lambda one: 1.0 if math.isnan(one.p) else one.p)
        why += f"; {closest.needed}"
    return why


def _better(verdict: Verdict) -> _Compared:
    against = f"'{verdict.b}' is shown to be better than"
    return _Compared(verdict.a, verdict.b, verdict.better, against, _needed(verdict), verdict.p_holm)


def _worse(verdict: Verdict) -> _Compared:
    shown = {verdict.a: verdict.b, verdict.b: verdict.a}.get(verdict.better or "")
    against = f"worse than '{verdict.b}' was said of, and better is shown of,"
    return _Compared(verdict.a, verdict.b, shown, against, _needed(verdict), verdict.p_holm)


def _needed(verdict: Verdict) -> str:
    """How large a difference it would have taken."""
    text = f"'{verdict.a}' minus '{verdict.b}' is {verdict.estimate:.3g}"
    if verdict.smallest_difference == verdict.smallest_difference:
        text += f", and a study of this size shows differences from {verdict.smallest_difference:.3g}"
    return text


def _steadier(verdict: SpreadVerdict) -> _Compared:
    against = f"trainings of '{verdict.b}' are shown to differ less than those of"
    needed = (
        f"trainings of '{verdict.a}' deviate {verdict.ratio:.3g} times as much as those of '{verdict.b}', "
        f"{verdict.low:.3g} to {verdict.high:.3g}"
    )
    return _Compared(verdict.a, verdict.b, verdict.steadier, against, needed, verdict.p_holm)


def _loses_less(verdict: ChangeVerdict) -> _Compared:
    against = f"'{verdict.b}' is shown to lose less than"
    needed = (
        f"'{verdict.a}' loses {verdict.estimate:.3g} less than '{verdict.b}', {verdict.low:.3g} to {verdict.high:.3g}"
    )
    return _Compared(verdict.a, verdict.b, verdict.loses_less, against, needed, verdict.p_holm)


READ: Mapping[str, Callable[[Any], _Compared]] = {
    "better": _better,
    "worse": _worse,
    "steadier": _steadier,
    "loses_less": _loses_less,
}


def _names(compared: Sequence[_Compared]) -> str:
    return " and ".join(dict.fromkeys(f"'{one.method}'" for one in compared))


def _all(count: int) -> str:
    return "the one comparison" if count == 1 else f"all {count} comparisons"
