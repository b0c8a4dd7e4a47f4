"""What a verdict says: numbers, and a sentence for those who do not read tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from medkit.evaluation.results import SEEN_MARK
from medkit.evaluation.statistics import holm
from medkit.evaluation.verdict_power import POWER
from medkit.evaluation.verdict_variance import Spread

ALPHA = 0.05


class Compared:
    """Method ``a`` against ``b``: what verdicts of all kinds have in common."""

    a: str
    b: str
    p: float
    p_holm: float
    seen: tuple[str, ...]

    def shown(self, first: bool) -> str | None:
        """The method that the numbers are in favour of, ``a`` if ``first``; None if they show neither."""
        if not self.p_holm < ALPHA:
            return None
        return self.a if first else self.b


Found = TypeVar("Found", bound=Compared)


def corrected(found: Sequence[Found], **more: Any) -> list[Found]:
    """Verdicts that were made together, each with its ``p_holm``, and with ``more`` that holds for all of them."""
    each = holm([one.p for one in found])
    return [replace(one, p_holm=p, **more) for one, p in zip(found, each, strict=True)]  # type: ignore[type-var]


def marked(found: Sequence[Found], seen: Mapping[str, Sequence[str]]) -> list[Found]:
    """Verdicts with what is known of patients who were ``seen`` in training, by method, a line each."""
    each = [tuple(dict.fromkeys([*seen.get(one.a, ()), *seen.get(one.b, ())])) for one in found]
    return [replace(one, seen=lines) for one, lines in zip(found, each, strict=True)]  # type: ignore[type-var]


@dataclass(frozen=True)
class Verdict(Compared):
    """Method ``a`` against ``b``: the mean difference over trainings and patients, and how certain it is.

    Attributes
    ----------
    estimate, low, high:
        ``a`` minus ``b`` in the metric's unit, with its 95 % interval.
    p, p_holm:
        Two-sided; the second corrected for all ``comparisons`` that were made together.
    probability:
        That ``a`` beats ``b`` when both are trained once more and their means over as many new patients are compared.
    shares:
        Parts of ``patients``, ``seeds`` and ``rest`` in the variance of one training's difference on one patient.
    smallest_difference:
        What a study of this design shows with 80 % power.
    seeds, seeds_b, paired:
        Trainings of ``a`` and of ``b``, and whether their seeds are the same.
    notes:
        What a reader has to know besides the sentence.
    seen:
        Lines on patients tested who were seen in training: then numbers are marked.
    spread:
        What more seeds or patients would bring (:func:`medkit.evaluation.verdict_power.designs`).

    If nothing varies, everything but the estimate is nan.
    """

    a: str
    b: str
    estimate: float
    low: float
    high: float
    p: float
    p_holm: float
    probability: float
    shares: dict[str, float]
    smallest_difference: float
    seeds: int
    seeds_b: int
    patients: int
    paired: bool
    higher_is_better: bool
    spread: Spread = field(repr=False, compare=False)
    comparisons: int = 1
    notes: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def better(self) -> str | None:
        """The method that is shown to be better, after correction for all comparisons; None if none is."""
        return self.shown((self.estimate > 0) == self.higher_is_better)

    @property
    def sentence(self) -> str:
        """All of it in plain English."""
        mark = SEEN_MARK if self.seen else ""
        design = f"{self.seeds} seeds" if self.paired else f"{self.seeds} and {self.seeds_b} seeds"
        design += f", {self.patients} patients" + ("" if self.higher_is_better else "; lower is better")
        difference = f"'{self.a}' minus '{self.b}' is {self.estimate:.3g}{mark}"
        if math.isnan(self.low):
            return f"{difference} in every training and patient ({design}): nothing varies that it could be judged by."
        worse = self.b if self.better == self.a else self.a
        says = f"'{self.better}' is better than '{worse}'"
        if self.better is None:
            says = f"No difference between '{self.a}' and '{self.b}' is shown"
        design += f"; p = {self.p_holm:.2g} after correction" if self.comparisons > 1 else ""
        parts = [f"{name} {100 * share:.0f} %" for name, share in self.shares.items()]
        power = f"{self.smallest_difference:.3g} with {100 * POWER:.0f} % power"
        return (
            f"{says}: {difference} (95 % interval {self.low:.3g}{mark} to {self.high:.3g}{mark}; {design}). "
            f"Trained once more and tested on {self.patients} new patients, '{self.a}' would beat '{self.b}' with a "
            f"probability {_likely(self.probability)}{mark}. Parts of the difference's variance: {', '.join(parts)}. "
            f"A study of this design shows a difference of {power}."
        )

    @property
    def text(self) -> str:
        """The sentence with the notes and what the mark means."""
        return " ".join([self.sentence, *self.notes, *(f"{SEEN_MARK} {line}" for line in self.seen)])

    def json(self) -> dict[str, Any]:
        """Everything but the spread, as plain data; what is undefined is None."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "spread"}
        plain |= {"notes": list(self.notes), "seen": list(self.seen), "better": self.better, "sentence": self.sentence}
        plain["shares"] = {name: _known(share) for name, share in self.shares.items()}
        return {name: _known(value) for name, value in plain.items()}


def _likely(probability: float) -> str:
    """No probability is reported as 0 or 1."""
    if probability < 0.01:
        return "below 0.01"
    return "above 0.99" if probability > 0.99 else f"of {probability:.2f}"


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
