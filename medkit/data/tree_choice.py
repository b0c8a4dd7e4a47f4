"""Which series of a study becomes its case, by rules that can be explained in a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from medkit.data.tree_series import Series


@dataclass(frozen=True)
class Rule:
    """One comparison of two series: the one with the smaller ``value`` is chosen.

    Attributes
    ----------
    why:
        The reason in words, given the chosen series and the other.
    """

    value: Callable[[Series], Any]
    why: Callable[[Series, Series], str]


def rules(thickness: float | None = None, sharp: bool = False) -> list[Rule]:
    """Originals before derived images, soft (or sharp) kernels before others, then the nearest to ``thickness`` (mm),
    then the most slices; finally the lowest number."""
    found = [
        Rule(lambda one: one.derived, lambda one, other: "it is an original, this one derived"),
        Rule(lambda one: one.sharp != sharp, lambda one, other: f"its kernel is {_kernels(one, other)}"),
    ]
    if thickness is not None:
        found.append(
            Rule(
                lambda one: abs((one.thickness or one.distance or float("inf")) - thickness),
                lambda one, other: f"it is {_mm(one)} thick, this one {_mm(other)}",
            )
        )
    return [
        *found,
        Rule(
            lambda one: -len(one.headers),
            lambda one, other: f"it has {len(one.headers)} slices, this one {len(other.headers)}",
        ),
        Rule(lambda one: (_number(one), one.uid), lambda one, other: "it is equivalent and comes first"),
    ]


def choose(series: Sequence[Series], by: Sequence[Rule]) -> tuple[Series, str]:
    """The series chosen from several, and why, in a line; all others are left out, each with the reason.

    Parameters
    ----------
    series:
        Those that can be cases; at least one.
    """
    taken = min(series, key=lambda one: tuple(rule.value(one) for rule in by))
    reasons = []
    for other in series:
        if other is taken:
            continue
        rule = next(rule for rule in by if rule.value(taken) != rule.value(other))
        why = rule.why(taken, other)
        reasons.append(why.replace("this one", "another"))
        other.leave_out("another chosen", f"{named(taken)} was chosen: {why}")
    if not reasons:
        return taken, f"the only axial {taken.modality or 'image'} series of its study"
    return taken, f"of {len(series)}: {reasons[0] if len(set(reasons)) == 1 else 'by kind, kernel and slices'}"


def named(series: Series) -> str:
    """A series by its number and description, as viewers show them."""
    number = series.first.text("SeriesNumber")
    text = f"series {number}" if number else "a series"
    return f"{text} '{series.description}'" if series.description else text


def _kernels(one: Series, other: Series) -> str:
    said = ["sharp" if series.sharp else "soft" for series in (one, other)]
    kernels = [series.kernel or series.description or "not named" for series in (one, other)]
    return f"{said[0]} ({kernels[0]}), this one's {said[1]} ({kernels[1]})"


def _mm(series: Series) -> str:
    size = series.thickness or series.distance
    return f"{size:g} mm" if size else "of unknown size"


def _number(series: Series) -> tuple[int, str]:
    text = series.first.text("SeriesNumber")
    return (int(text), "") if text.isdecimal() else (2**31, text)
