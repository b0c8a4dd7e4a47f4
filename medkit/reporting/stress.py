"""How a stage performs at lower doses: a figure and a table of its curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from medkit.evaluation.results import MetricValue
from medkit.recipe.report_model import Stress
from medkit.reporting.figures import LINES, drawn, share_axis
from medkit.reporting.run_results import RunResults
from medkit.reporting.tables import number, p_value

MARKERS = "osD^vPX*"
Values = Mapping[float, Mapping[str, MetricValue]]


@dataclass(frozen=True)
class Point:
    """A metric at one dose; ``difference`` and ``p`` to the scans' own dose are texts, empty there."""

    line: str
    metric: str
    dose: str
    value: str
    interval: str
    counts: str
    difference: str
    p: str


@dataclass(frozen=True)
class Stressed:
    """The curves of a stage and its variants: a picture, and every number of it."""

    image: str
    points: Sequence[Point]
    note: str


def stressed(run: RunResults, stages: Sequence[str]) -> Stressed | None:
    """The curves of some stages for the report; None where none was measured."""
    lines = dict(_lines(run, stages))
    if not lines:
        return None
    points = [point for title, values in lines.items() for point in _points(title, values)]
    used = [run.curves[name] for name in run.curves if any(run.at_doses(stage, name) for stage in stages)]
    return Stressed(curves(lines), points, _note(used))


def _lines(run: RunResults, stages: Sequence[str]) -> Iterator[tuple[str, Values]]:
    for stage in stages:
        for name in run.curves:
            if values := run.at_doses(stage, name):
                yield (f"{stage}, {name}" if len(stages) > 1 else name), values


def _points(title: str, values: Values) -> Iterator[Point]:
    for metric in dict.fromkeys(name for found in values.values() for name in found):
        for dose in sorted(values, reverse=True):
            if (value := values[dose].get(metric)) is None:
                continue
            interval = "–" if math.isnan(value.low) else f"{number(value.low)} to {number(value.high)}"
            told = (
                ("", "")
                if dose == 1
                else (_signed(value.extras.get("difference")), _p(value.extras.get("p_holm", math.nan)))
            )
            unit = f"{metric} ({value.unit})" if value.unit else metric
            arrow = "↑" if value.higher_is_better else "↓"
            yield Point(
                title, f"{unit} {arrow}", f"{100 * dose:g} %", number(value.value), interval, value.counts, *told
            )


def _signed(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:+.3f}"


def _p(value: float | None) -> str:
    return "–" if value is None else p_value(value)


def _note(used: Sequence[Stress]) -> str:
    denoised = [Path(curve.denoise).name for curve in used if curve.denoise]
    by = f"Denoised by {' or '.join(dict.fromkeys(denoised))} where a curve says so. " if denoised else ""
    return (
        "Lower doses are simulated: the additional noise of such a scan is inserted into the test scans by a physical "
        f"model, slice by slice, and nothing else changes. {by}Intervals are 95 % by patients; each dose is tested "
        "against the scans' own on the same patients, p after Holm's correction for all tests of a stage."
    )


def curves(lines: Mapping[str, Values]) -> str:
    """Every metric over the dose, a line per curve, with intervals by patients."""
    metrics = list(dict.fromkeys(name for values in lines.values() for found in values.values() for name in found))
    doses = sorted({dose for values in lines.values() for dose in values})

    def draw() -> Figure:
        columns = min(3, len(metrics))
        rows = math.ceil(len(metrics) / columns)
        figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.9 * rows), squeeze=False)
        for i, ax in enumerate(axes.flat):
            if i >= len(metrics):
                ax.set_axis_off()
                continue
            for k, (title, values) in enumerate(lines.items()):
                at = [dose for dose in sorted(values) if metrics[i] in values[dose]]
                found = [values[dose][metrics[i]] for dose in at]
                below = [0.0 if math.isnan(one.low) else max(0.0, one.value - one.low) for one in found]
                above = [0.0 if math.isnan(one.high) else max(0.0, one.high - one.value) for one in found]
                beside = [dose * (1 + 0.03 * k) for dose in at]  # intervals of several lines stand side by side
                ax.errorbar(
                    beside,
                    [one.value for one in found],
                    yerr=[below, above],
                    color=LINES[k % len(LINES)],
                    marker=MARKERS[k % len(MARKERS)],
                    ms=4,
                    lw=1.4,
                    capsize=2,
                    label=title,
                )
            share_axis(ax, doses, "dose")
            ax.set_title(metrics[i], loc="left", fontsize=9)
        if len(lines) > 1:
            axes.flat[0].legend(frameon=False, fontsize=8)
        figure.tight_layout()
        return figure

    return drawn(draw, "svg")
