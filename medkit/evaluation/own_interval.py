"""An interval that a metric computes itself is believed only as far as it can be one of the number beside it."""

from __future__ import annotations

import math
from typing import Any

from medkit.errors import RunError

ROUNDING = 1e-6
"""How far outside a number may lie that was computed in another way, as a share of it or of the interval."""
HINT = "interval() gives (low, high) around the value, (nan, nan) if there is none, None for the bootstrap's"


def checked_ends(name: str, ends: Any, value: float) -> tuple[float, float] | None:
    """The ends of a metric's own interval of ``value``; None if the metric says, by (nan, nan), that it has none.

    Raises
    ------
    RunError
        naming the metric, if they are not two numbers, are reversed or not finite, or the value is not between them.
    """
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError) as error:
        raise RunError(f"metric '{name}': its interval is {ends!r:.60}, not two numbers", hint=HINT) from error
    if math.isnan(low) and math.isnan(high):
        return None
    told = f"metric '{name}': its interval goes from {low:.6g} to {high:.6g}"
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RunError(f"{told}, which is not finite", hint=HINT)
    if low > high:
        raise RunError(f"{told}, so its ends are reversed", hint=HINT)
    room = ROUNDING * max(abs(value), high - low)
    if not low - room <= value <= high + room:
        raise RunError(f"{told}, and its value is {value:.6g}, outside of it", hint=HINT)
    return low, high
