"""What to assume of DICOM files whose headers lack or contradict what reading needs: named by the user, and
reported."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from medkit.errors import InputError, did_you_mean

Name = Literal["rescale", "preamble", "signed"]
NAMES: tuple[Name, ...] = get_args(Name)


@dataclass(frozen=True)
class Mend:
    """What to assume if a header does not say it. Files that do say it are read by what they say.

    Attributes
    ----------
    names:
        ``rescale``: CT images without RescaleSlope or RescaleIntercept have both ``slope`` and ``intercept``.
        ``preamble``: files without DICOM's preamble are DICOM; without a transfer syntax, their pixels are uncompressed
        and little-endian. ``signed``: CT pixels declared unsigned are signed if that makes more than 5 % of them -4096
        to -1.
    """

    names: frozenset[Name] = frozenset()
    slope: float = 1.0
    intercept: float = -1024.0

    @classmethod
    def of(cls, names: Sequence[Name], rescale: Sequence[float] = (1.0, -1024.0)) -> Mend:
        """From names, and slope and intercept for ``rescale``.

        Raises
        ------
        InputError
            for another name, or a slope or intercept that gives no values.
        """
        for name in names:
            if name not in NAMES:
                hint = did_you_mean(name, NAMES) or f"one of: {', '.join(NAMES)}"
                raise InputError(f"there is no way to mend headers named '{name}'", "mend", hint)
        slope, intercept = rescale
        if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
            raise InputError(f"rescale needs a slope other than 0 and an intercept, not {list(rescale)}", "rescale")
        return cls(frozenset(names), float(slope), float(intercept))

    def plain(self) -> list[str]:
        """Its names, ``rescale`` with slope and intercept, as :func:`named` reads them."""
        said = {"rescale": f"rescale={self.slope:g},{self.intercept:g}"}
        return [said.get(name, name) for name in NAMES if name in self.names]

    def assumed(self, name: Name) -> str:
        """What a name assumes, in words, to follow 'images'."""
        if name == "rescale":
            lacking = "without RescaleSlope or RescaleIntercept"
            return f"{lacking} were read with slope {self.slope:g} and intercept {self.intercept:g}"
        if name == "preamble":
            return "without preamble were read as DICOM, uncompressed and little-endian unless they say otherwise"
        return "declared unsigned (PixelRepresentation) were read as signed"

    @property
    def notice(self) -> str:
        """For the top of the report."""
        named = [name for name in NAMES if name in self.names]
        if not named:
            return ""
        return f"Headers were repaired because the recipe says so: images {', images '.join(map(self.assumed, named))}."

    def notes(self, mended: Iterable[set[Name]]) -> list[str]:
        """What was mended in a series, with the number of images each."""
        counts = Counter(name for names in mended for name in names)
        return [f"{counts[name]} images {self.assumed(name)}" for name in NAMES if counts[name]]


NOTHING = Mend()


def how(name: Name) -> str:
    """How to give a name, in a recipe and to a command."""
    return f"'mend: [{name}]' (for a command: --mend {name})"


def named(texts: Sequence[str]) -> Mend:
    """From names as a command gets them; ``rescale=SLOPE,INTERCEPT`` says what to assume.

    Raises
    ------
    InputError
        as :meth:`Mend.of`, and for a text of another form.
    """
    names: list[Name] = []
    rescale: Sequence[float] = (1.0, -1024.0)
    for text in texts:
        name, _, numbers = text.partition("=")
        if numbers and name == "rescale":
            try:
                slope, intercept = map(float, numbers.split(","))
            except ValueError as error:
                raise InputError(
                    f"'{text}' is not rescale=SLOPE,INTERCEPT", "--mend", "as in rescale=1,-1024"
                ) from error
            rescale = (slope, intercept)
        names.append(cast("Name", name if name == "rescale" else text))
    return Mend.of(names, rescale)
