"""A region of an image, given as one word: ``hu=10:70``, ``disc=256,200,20``, ``box=100:180,200:300``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medkit.errors import InputError

FORMS = "hu=LOW:HIGH, disc=ROW,COLUMN,RADIUS_MM or box=TOP:BOTTOM,LEFT:RIGHT"


@dataclass(frozen=True)
class Region:
    """Pixels of every slice of a scan.

    Attributes
    ----------
    text:
        As it was given.
    kind:
        ``hu``: pixels between two values, inclusive; ``disc``: pixels whose centres are within a radius in mm of the
        one at (row, column); ``box``: rows and columns from the first up to, but without, the last. Rows are counted
        from 0 at the front of the patient, columns from 0 at the right side.
    numbers:
        In the order of the text.
    """

    text: str
    kind: str
    numbers: tuple[float, ...]

    @classmethod
    def of(cls, text: str) -> Region:
        """Parse a region; raises :class:`InputError` for text that is not one."""
        kind, _, rest = str(text).partition("=")
        count = {"hu": 2, "disc": 3, "box": 4}.get(kind)
        try:
            numbers = tuple(float(word) for word in rest.replace(":", ",").split(","))
        except ValueError:
            numbers = ()
        marks = "".join(letter for letter in rest if letter in ":,")
        if len(numbers) != count or marks != {"hu": ":", "disc": ",,", "box": ":,:"}[kind]:
            raise InputError(f"'{text}' is not a region", hint=FORMS)
        if not all(math.isfinite(number) for number in numbers):
            raise InputError(f"a number in the region '{text}' is not finite", hint=FORMS)
        ends = {"hu": (numbers[:2],), "box": (numbers[:2], numbers[2:])}.get(kind, ())
        empty = any(first > last or (kind == "box" and first == last) for first, last in ends)
        if empty or (kind == "disc" and numbers[2] <= 0):
            raise InputError(f"the region '{text}' is empty", hint=FORMS)
        return cls(str(text), kind, numbers)

    def of_slice(self, image: np.ndarray, pixel: float) -> np.ndarray:
        """(H,W) bool: its pixels in a slice in HU with pixels of ``pixel`` mm."""
        row, column = np.ogrid[: image.shape[0], : image.shape[1]]
        if self.kind == "hu":
            return np.asarray((image >= self.numbers[0]) & (image <= self.numbers[1]))
        if self.kind == "disc":
            y, x, radius = self.numbers
            return np.asarray(np.hypot(row - y, column - x) * pixel <= radius)
        top, bottom, left, right = self.numbers
        return np.asarray((row >= top) & (row < bottom) & (column >= left) & (column < right))
