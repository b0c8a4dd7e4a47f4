"""What a user says of DICOM files whose headers lack or contradict what reading needs: each by its name, and told."""

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
    """What is assumed where a header does not say it. Files that do say it are read by what they say.

    Attributes
    ----------
    names:
        ``rescale``: of CT images without RescaleSlope or RescaleIntercept both are as in ``slope`` and ``intercept``.
        ``preamble``: files without DICOM's preamble are DICOM; without a transfer syntax, their pixels are uncompressed
        and in little-endian order. ``signed``: pixels of CT that are said to be unsigned, and of which more than 5 %
        would be -4096 to -1, are signed.
    """

    names: frozenset[Name] = frozenset()
    slope: float = 1.0
    intercept: float = -1024.0

    @classmethod
    def of(cls, names: Sequence[Name], rescale: Sequence[float] = (1.0, -1024.0)) -> Mend:
        """From names and the slope and intercept of ``rescale``.

        Raises
        ------
        InputError
            for another name, or a rescale that makes no values.
        """
        for name in names:
            if name not in NAMES:
                hint = did_you_mean(name, NAMES) or f"there are: {', '.join(NAMES)}"
                raise InputError(f"headers are not mended by '{name}'", "mend", hint)
        slope, intercept = rescale
        if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
            raise InputError(f"a slope other than 0 and an intercept are wanted, not {list(rescale)}", "rescale")
        return cls(frozenset(names), float(slope), float(intercept))

    def plain(self) -> list[str]:
        """Its names, that of ``rescale`` with slope and intercept, as :func:`named` reads them."""
        said = {"rescale": f"rescale={self.slope:g},{self.intercept:g}"}
        return [said.get(name, name) for name in NAMES if name in self.names]

    def assumed(self, name: Name) -> str:
        """What is assumed by a name, in words."""
        if name == "rescale":
            lacking = "without RescaleSlope or RescaleIntercept"
            return f"{lacking} were taken as slope {self.slope:g} and intercept {self.intercept:g}"
        if name == "preamble":
            return "without preamble were read as DICOM, uncompressed and little-endian where they do not say it"
        return "said to be unsigned (PixelRepresentation) were read as signed"

    @property
    def notice(self) -> str:
        """What heads the report."""
        named = [name for name in NAMES if name in self.names]
        if not named:
            return ""
        return f"Headers were mended because the recipe says so: images {', images '.join(map(self.assumed, named))}."

    def notes(self, mended: Iterable[set[Name]]) -> list[str]:
        """What was mended in the images of a series, each with how many."""
        counts = Counter(name for names in mended for name in names)
        return [f"{counts[name]} images {self.assumed(name)}" for name in NAMES if counts[name]]


NOTHING = Mend()


def how(name: Name) -> str:
    """How a name is said, in a recipe and to a command."""
    return f"'mend: [{name}]' (--mend {name} of a command)"


def named(texts: Sequence[str]) -> Mend:
    """From names as a command is given them; ``rescale=SLOPE,INTERCEPT`` says what is assumed.

    Raises
    ------
    InputError
        as :meth:`Mend.of`, and for what does not read so.
    """
    names: list[Name] = []
    rescale: Sequence[float] = (1.0, -1024.0)
    for text in texts:
        name, _, numbers = text.partition("=")
        if numbers and name == "rescale":
            try:
                slope, intercept = map(float, numbers.split(","))
            except ValueError as error:
                raise InputError(f"'{text}' is not rescale=SLOPE,INTERCEPT", "--mend", "rescale=1,-1024") from error
            rescale = (slope, intercept)
        names.append(cast("Name", name if name == "rescale" else text))
    return Mend.of(names, rescale)
