"""Numbers printed with as many digits as it takes for them to mean what they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable

LONGEST = 1e9


def fewest_digits(value: float, fits: Callable[[float], bool], least: int = 4) -> str:
    """``value`` with the fewest significant digits, ``least`` or more, with which what is printed still ``fits``."""
    if not math.isfinite(value):
        return f"{value:g}"
    texts = [f"{value:.{digits}g}" for digits in range(least, 18)]  # 17 give back any number
    found = next((text for text in texts if fits(float(text))), texts[-1])
    if "e+" in found and abs(value) < LONGEST:
        number = float(found)
        return str(int(number)) if number.is_integer() else str(number)
    return found
