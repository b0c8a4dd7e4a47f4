"""What a design of seeds and patients can show, and which design a difference needs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.optimize import brentq

from medkit.errors import InputError
from medkit.evaluation.bootstrap import FEWEST
from medkit.evaluation.verdict_variance import Spread

POWER, LEVEL = 0.8, 0.95
MOST = 100_000
"""Patients beyond which no design is looked for."""
SHARES = (np.arange(500) + 0.5) / 500


@dataclass(frozen=True)
class Design:
    """How many patients are needed with so many seeds per method; None if no number of patients is enough."""

    seeds: int
    patients: int | None


def power(spread: Spread, difference: float) -> float:
    """The probability that an interval from such a study is on the right side of 0; nan if nothing varies."""
    error = spread.of_estimate()
    variance, degrees = float(error.variance), float(error.degrees)
    if not variance > 0:
        return math.nan
    bound = special.stdtrit(degrees, (1 + LEVEL) / 2)
    errors = np.sqrt(special.chdtri(degrees, SHARES) / degrees)  # estimated over true standard error
    return float(special.ndtr(abs(difference) / math.sqrt(variance) - bound * errors).mean())


def smallest_difference(spread: Spread, wanted: float = POWER) -> float:
    """The true difference that such a study would show with the power ``wanted``; nan if nothing varies."""
    scale = math.sqrt(float(spread.of_estimate().variance))
    if not scale > 0:
        return math.nan
    return scale * float(brentq(lambda times: power(spread, times * scale) - wanted, 0.0, 50.0, xtol=1e-6))


def designs(
    spread: Spread, difference: float, seeds: Iterable[int] = (3, 4, 5, 7, 10, 15, 20), wanted: float = POWER
) -> list[Design]:
    """How many patients each number of seeds needs to show a difference, if variances are as estimated.

    Raises
    ------
    InputError
        for a difference of 0, or if nothing varies.
    """
    if not (math.isfinite(difference) and difference != 0):
        raise InputError(f"a difference of {difference:g} cannot be planned for", hint="give one that would matter")
    if not float(spread.of_estimate().variance) > 0:
        raise InputError("nothing varies in this study, so nothing can be planned from it")
    return [Design(n, _patients(spread, difference, n, wanted)) for n in seeds]


def _patients(spread: Spread, difference: float, seeds: int, wanted: float) -> int | None:
    def enough(patients: int) -> bool:
        return power(spread.planned([seeds] * len(spread.seeds), patients), difference) >= wanted

    low, high = FEWEST - 1, FEWEST
    while not enough(high):
        if high >= MOST:
            return None
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
