"""What became of a claim: whether the comparison supports it, contradicts it or leaves it undecided."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medkit.evaluation.results import SEEN_MARK
from medkit.evaluation.verdict import Verdict
from medkit.evaluation.verdict_change import ChangeVerdict
from medkit.evaluation.verdict_result import Compared
from medkit.evaluation.verdict_spread import SpreadVerdict
from medkit.studies.judge import BesideMeans, Judged
from medkit.studies.places import Missing, told

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
    missing: Sequence[str] = ()
    """Trials that it would take to judge all of it, and that failed or have not been measured yet."""


@dataclass(frozen=True)
class _Compared:
    """A method against the reference: which of them is shown to be as claimed, in words, and what was needed."""

    method: str
    other: str
    shown: str | None
    against: str
    needed: str
    p: float
    notes: Sequence[str] = ()
    """What has to be known besides; of verdicts on means only who was seen, as the rest is shown beside them."""


@dataclass(frozen=True)
class _Open:
    """A comparison that could not be made yet, or not at all: the trials that it lacks, or why."""

    missing: Sequence[Missing]
    why: str = ""


def judged_claim(
    claim: Mapping[str, Any],
    verdicts: Sequence[Judged],
    spreads: Sequence[BesideMeans] = (),
    changes: Sequence[BesideMeans] = (),
) -> ClaimVerdict:
    """Judge a claim, as a study's file has it, by the verdicts of its first comparison.

    ``spreads`` and ``changes`` are what methods claimed to be steadier, or to lose less, are judged by.
    """
    of: Mapping[str, Sequence[Judged | BesideMeans]] = {
        "better": verdicts,
        "worse": verdicts,
        "steadier": spreads,
        "loses_less": changes,
    }
    each: list[_Compared] = []
    open_: list[_Open] = []
    for kind in KINDS:
        for method in claim.get(kind) or ():
            for at in of[kind] or (Judged((), [], "nothing has been compared"),):
                one = _read(kind, method, at)
                if isinstance(one, _Open):
                    open_.append(one)
                else:
                    each.append(one)
    asked = len(each) + len(open_)
    wrong = [one for one in each if one.shown == one.other]
    right = [one for one in each if one.shown == one.method]
    if wrong:
        found, why = CONTRADICTED, f"{wrong[0].against} {_names(wrong)} in {len(wrong)} of {asked} comparisons"
    elif len(right) == asked:
        found, why = SUPPORTED, f"shown in {_all(asked)}, after correction"
    else:
        found, why = UNDECIDED, f"shown in {len(right)} of {asked} comparisons; {_undecided(each, open_)}"
    why = ". ".join([why, *dict.fromkeys(note.rstrip(".") for one in each for note in one.notes)])
    numbers = [row for at in (*spreads, *changes) for row in at.json()]
    missing = list(dict.fromkeys(lacking.trial for one in open_ for lacking in one.missing))
    return ClaimVerdict(
        claim["says"], claim.get("source") or "", found, why, numbers, claim.get("limits") or "", missing
    )


def _read(kind: str, method: str, at: Judged | BesideMeans) -> _Compared | _Open:
    """A method at one point; open as long as a trial of it or of the reference is missing there."""
    verdict = next((one for one in at.verdicts if one.a == method), None)
    if verdict is None:
        return _Open(at.missing, at.why_not)
    lacking = [one for one in at.missing if one.method in (verdict.a, verdict.b)]
    return _Open(lacking) if lacking else READ[kind](verdict)


def _undecided(each: Sequence[_Compared], open_: Sequence[_Open]) -> str:
    """What is missing, else what it would have taken to show what is not shown."""
    if open_:
        missing = list(dict.fromkeys(lacking for one in open_ for lacking in one.missing))
        reasons = [f"no result of {told(missing)}"] if missing else list(dict.fromkeys(one.why for one in open_))
        return ": ".join(filter(None, (f"{len(open_)} could not be judged", "; ".join(reasons))))
    closest = min((one for one in each if one.shown is None), key=lambda one: 1.0 if math.isnan(one.p) else one.p)
    return closest.needed


def _better(verdict: Verdict) -> _Compared:
    against = f"'{verdict.b}' is shown to be better than"
    return _Compared(verdict.a, verdict.b, verdict.better, against, _needed(verdict), verdict.p_holm, _seen(verdict))


def _worse(verdict: Verdict) -> _Compared:
    shown = {verdict.a: verdict.b, verdict.b: verdict.a}.get(verdict.better or "")
    against = f"worse than '{verdict.b}' was said of, and better is shown of,"
    return _Compared(verdict.a, verdict.b, shown, against, _needed(verdict), verdict.p_holm, _seen(verdict))


def _seen(verdict: Compared) -> list[str]:
    return [f"{SEEN_MARK} {line}" for line in verdict.seen]


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
    return _Compared(
        verdict.a, verdict.b, verdict.steadier, against, needed, verdict.p_holm, (*verdict.notes, *_seen(verdict))
    )


def _loses_less(verdict: ChangeVerdict) -> _Compared:
    against = f"'{verdict.b}' is shown to lose less than"
    needed = (
        f"'{verdict.a}' loses {verdict.estimate:.3g} less than '{verdict.b}', {verdict.low:.3g} to {verdict.high:.3g}"
    )
    return _Compared(
        verdict.a, verdict.b, verdict.loses_less, against, needed, verdict.p_holm, (*verdict.notes, *_seen(verdict))
    )


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
