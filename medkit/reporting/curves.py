"""Learning curves: losses in training and validation, and validated numbers, over the epochs of a stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medkit.engine.gradients import COSINE
from medkit.reporting.figures import LINES, drawn

TRAIN, RATE = "train/", "lr"
COLUMNS = 4
"""Panels beside each other: more would be too small to read on a page."""
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """One plot: the numbers of ``metrics.jsonl`` in it, each with the name of its curve."""

    title: str
    curves: Mapping[str, str]


def learning_curves(lines: Sequence[Line]) -> str:
    """The curves of one stage, from its lines of ``metrics.jsonl``; "" where there are none."""
    wanted = panels(lines)

    def draw() -> Figure:
        columns = min(COLUMNS, len(wanted))
        rows = math.ceil(len(wanted) / columns)
        figure = plt.figure(figsize=(2.9 * columns, 2.3 * rows))
        for place, panel in enumerate(wanted, 1):
            _draw(figure.add_subplot(rows, columns, place), panel, lines)
        figure.tight_layout()
        return figure

    return drawn(draw, "svg") if wanted else ""


def panels(lines: Sequence[Line]) -> list[Panel]:
    """Which curves share a panel.

    A loss that is validated too has a panel of its own, with both curves: where they part, the stage overfits. Other
    training losses share one, and so do the cosines between tasks' gradients. Validated numbers have one each: on a
    common scale, a fraction beside a volume would be flat.
    """
    keys = list(dict.fromkeys(k for line in lines for k in line if "/" in k and not k.startswith(f"{RATE}/")))
    between = {key: key.removeprefix(TRAIN + COSINE) for key in keys if key.startswith(TRAIN + COSINE)}
    losses = [key.removeprefix(TRAIN) for key in keys if key.startswith(TRAIN) and key not in between]
    validated = [key for key in keys if not key.startswith(TRAIN)]
    both = {loss: _counterparts(loss, losses, validated) for loss in losses}
    found = []
    if alone := [loss for loss in losses if not both[loss]]:
        found.append(Panel("training loss", {TRAIN + loss: loss for loss in alone}))
    for loss, others in both.items():
        if others:
            found.append(Panel(f"loss {loss}", {key: key.partition("/")[0] for key in (TRAIN + loss, *others)}))
    if between:
        found.append(Panel("cosines of gradients", between))
    of_losses = {key for others in both.values() for key in others}
    found += [Panel(key, {key: key}) for key in validated if key not in of_losses]
    return found


def _counterparts(loss: str, losses: Sequence[str], validated: Sequence[str]) -> list[str]:
    """The validated numbers of a training loss: ``val/dice_loss`` where ``val/dice`` is a metric."""
    longer = f"{loss}_loss"
    renamed = [key for key in validated if key.partition("/")[2] == longer and longer not in losses]
    return renamed or [key for key in validated if key.partition("/")[2] == loss]


def _draw(ax: Any, panel: Panel, lines: Sequence[Line]) -> None:
    for i, (key, label) in enumerate(panel.curves.items()):
        points = [(line["epoch"], line[key]) for line in lines if line.get(key) is not None]
        epochs, numbers = [epoch for epoch, _ in points], [number for _, number in points]
        ax.plot(epochs, numbers, color=LINES[i % len(LINES)], marker=".", ms=4, lw=1.4, label=label)
    ax.set_title(panel.title, loc="left", fontsize=9)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(panel.curves) > 1:
        ax.legend(frameon=False, fontsize=7)
