"""Pictures of a study: the effect of more labels, differences between seeds, sizes of effects, and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medkit.reporting.figures import LINES, drawn, share_axis

GREY = "#8a8f98"
MARKERS = "osD^vPX*<>"
DASHES = ("-", "--", ":", "-.")
"""Markers and dashes, which distinguish methods beyond the number of colours."""


@dataclass(frozen=True)
class Effect:
    """A difference with its interval, one line of a forest plot; lines of one ``group`` stand together.

    ``shown``: whether it is shown to be a difference, after correction for all compared together.
    """

    label: str
    estimate: float
    low: float
    high: float
    group: str = ""
    shown: bool = False


def label_curves(values: Mapping[str, Mapping[float, Sequence[float]]], metric: str) -> str:
    """A metric over the fraction of labels: method to fraction to its values over seeds.

    Lines join the means, bands reach from the lowest to the highest seed, dots are seeds. "" without two fractions.
    """
    fractions = sorted({fraction for found in values.values() for fraction in found})
    if len(fractions) < 2:
        return ""

    def draw() -> Figure:
        figure, ax = plt.subplots(figsize=(5.6, 3.4))
        for i, (method, found) in enumerate(values.items()):
            at = [fraction for fraction in fractions if len(found.get(fraction, ()))]
            means = [float(np.mean(found[fraction])) for fraction in at]
            style = _style(i)
            if not at:
                continue
            lows, highs = [min(found[f]) for f in at], [max(found[f]) for f in at]
            ax.fill_between(at, lows, highs, color=style["color"], alpha=0.13, lw=0)
            ax.plot(at, means, lw=1.5, ms=4, ls=DASHES[i // len(LINES) % len(DASHES)], label=method, **style)
            for fraction in at:
                ax.plot([fraction] * len(found[fraction]), found[fraction], ".", ms=3, color=style["color"], alpha=0.6)
        share_axis(ax, fractions, "labelled patients")
        ax.set_ylabel(metric)
        _legend(ax, len(values))
        return figure

    return drawn(draw, "svg")


def forest(effects: Sequence[Effect], title: str) -> str:
    """Differences as dots with their intervals, beside the line of no difference; "" if none is defined.

    Dots are filled where a difference is shown after correction; intervals are those of each one alone.
    """
    known = [effect for effect in effects if math.isfinite(effect.estimate)]
    if not known:
        return ""
    groups = list(dict.fromkeys(effect.group for effect in known))
    lines: list[tuple[str, Effect | None]] = []
    for group in groups:
        lines += [(group, None)] if group else []
        lines += [(effect.label, effect) for effect in known if effect.group == group]

    def draw() -> Figure:
        figure, ax = plt.subplots(figsize=(5.6, 0.6 + 0.24 * len(lines)))
        ax.axvline(0, color=GREY, lw=1)
        for y, (_, effect) in enumerate(lines):
            if effect is None:
                continue
            if math.isfinite(effect.low):
                ax.plot([effect.low, effect.high], [y, y], color=LINES[0], lw=1.6, solid_capstyle="butt")
            ax.plot(effect.estimate, y, "o", ms=5, color=LINES[0], mfc=LINES[0] if effect.shown else "white")
        ax.set_yticks(range(len(lines)), [name for name, _ in lines])
        for tick, (_, effect) in zip(ax.get_yticklabels(), lines, strict=True):
            tick.set_fontweight("bold" if effect is None else "normal")
        ax.set_ylim(len(lines) - 0.4, -0.6)
        ax.grid(False, axis="y")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.set_xlabel(title)
        return figure

    return drawn(draw, "svg")


def seed_dots(values: Mapping[str, Mapping[str, Sequence[float]]], metric: str) -> str:
    """How much trainings differ: group (a fraction, a test set) to method to values over seeds; a bar is their mean."""
    methods = list(dict.fromkeys(method for found in values.values() for method in found))
    if not methods:
        return ""

    def draw() -> Figure:
        step = len(methods) + 1
        figure, ax = plt.subplots(figsize=(1.4 + 0.28 * step * len(values), 3.0))
        for i, method in enumerate(methods):
            style = _style(i)
            for g, found in enumerate(values.values()):
                dots = np.asarray(found.get(method, ()), float)
                if not len(dots):
                    continue
                x = g * step + i
                # Dots at the same height would hide each other.
                shifts = np.linspace(-0.18, 0.18, len(dots)) if len(dots) > 1 else np.zeros(1)
                ax.plot(x + shifts, dots, ls="", ms=4, alpha=0.8, color=style["color"], marker=style["marker"])
                ax.plot([x - 0.35, x + 0.35], [dots.mean()] * 2, color=style["color"], lw=1.8)
            ax.plot([], [], ls="", ms=4, color=style["color"], marker=style["marker"], label=method)
        ax.set_xticks([g * step + (len(methods) - 1) / 2 for g in range(len(values))], list(values))
        ax.grid(False, axis="x")
        ax.set_ylabel(metric)
        _legend(ax, len(methods))
        return figure

    return drawn(draw, "svg")


def cost_bars(seconds: Mapping[str, tuple[float, float]]) -> str:
    """Time of each method: as it was, and beside it in grey as it would be if no stage were shared."""
    if not seconds:
        return ""
    longest = max(max(pair) for pair in seconds.values())
    unit, length = ("h", 3600.0) if longest >= 2 * 3600 else ("min", 60.0) if longest >= 120 else ("s", 1.0)

    def draw() -> Figure:
        figure, ax = plt.subplots(figsize=(5.6, 0.8 + 0.34 * len(seconds)))
        at = np.arange(len(seconds))
        done, alone = (np.array([pair[k] for pair in seconds.values()]) / length for k in (0, 1))
        ax.barh(at + 0.2, alone, 0.34, color=GREY, alpha=0.5, label="if nothing were shared")
        ax.barh(at - 0.2, done, 0.34, color=LINES[0], label="measured")
        ax.set_yticks(at, list(seconds))
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        ax.set_xlabel(f"training and evaluation ({unit})")
        ax.legend(*[part[::-1] for part in ax.get_legend_handles_labels()], frameon=False, fontsize=8)
        return figure

    return drawn(draw, "svg")


def _style(i: int) -> dict[str, Any]:
    return {"color": LINES[i % len(LINES)], "marker": MARKERS[i // len(LINES) % len(MARKERS)]}


def _legend(ax: Any, entries: int) -> None:
    if entries > 1:
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
