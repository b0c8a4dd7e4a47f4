"""Figures of decisions and measurements: ROC, precision and recall, calibration, Bland-Altman."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from medkit.reporting.bland_altman import Agreement
from medkit.reporting.decisions import Scores, calibration, precision_recall, roc
from medkit.reporting.figures import LINES, drawn
from medkit.reporting.tables import number

STYLES = ("-", "--", ":")
"""Dashes, which distinguish lines of one colour, or without colour."""


def decision_curves(found: Sequence[Scores]) -> str:
    """ROC, precision-recall and calibration curves of several scores, side by side; a dot is probability 0.5."""

    def draw() -> Figure:
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.6, 3.3))
        for i, scores in enumerate(found):
            colour = LINES[i % len(LINES)]
            look: Any = {"color": colour, "ls": STYLES[i // len(LINES) % len(STYLES)], "lw": 1.5}
            false, true, _ = roc(scores)
            left.plot(false, true, label=scores.name, **look)
            said, yes = scores.probability > 0.5, scores.label > 0
            left.plot(np.mean(said[~yes]), np.mean(said[yes]), "o", color=colour, ms=5)
            middle.plot(*precision_recall(scores), drawstyle="steps-pre", **look)
            if said.any():
                middle.plot(np.mean(said[yes]), np.mean(yes[said]), "o", color=colour, ms=5)
            _calibrated(right, scores, colour)
        left.plot([0, 1], [0, 1], color="#999", lw=0.8)
        right.plot([0, 1], [0, 1], color="#999", lw=0.8)
        for ax, title, across, up in (
            (left, "ROC", "1 − specificity", "sensitivity"),
            (middle, "precision and recall", "recall (sensitivity)", "precision (PPV)"),
            (right, "calibration", "mean probability", "proportion of positives"),
        ):
            ax.set_title(title, loc="left", fontsize=9)
            ax.set(xlabel=across, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        figure.tight_layout()
        columns = min(4, len(found))
        figure.legend(*left.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=columns)
        return figure

    return drawn(draw, "svg")


def _calibrated(ax: plt.Axes, scores: Scores, colour: str) -> None:
    points = calibration(scores)
    if not points:
        return
    across, shares = [mean for mean, _ in points], [share for _, share in points]
    ends = np.array([[s.value - s.low, s.high - s.value] for s in shares]).T.clip(min=0)
    known = np.nan_to_num(ends)
    ax.errorbar(across, [s.value for s in shares], known, color=colour, marker=".", lw=1, elinewidth=0.7)


def bland_altman(found: Agreement) -> str:
    """Differences over means, the bias and the limits of agreement."""

    def draw() -> Figure:
        figure, ax = plt.subplots(figsize=(5.6, 3.2))
        ax.plot(found.mean, found.difference, ".", color=LINES[0], ms=5, alpha=0.7)
        for height, name, style in (
            (found.limits[1], "+1.96 SD", "--"),
            (found.bias, "bias", "-"),
            (found.limits[0], "−1.96 SD", "--"),
        ):
            ax.axhline(height, color="#333", lw=1, ls=style)
            ax.annotate(
                f"{name} {number(height)}", (1.0, height), xycoords=("axes fraction", "data"), fontsize=8,
                xytext=(4, 0), textcoords="offset points", va="center",
            )  # fmt: skip
        unit = f" ({found.unit})" if found.unit else ""
        ax.set(xlabel=f"mean of predicted and true{unit}", ylabel=f"predicted − true{unit}")
        return figure

    return drawn(draw, "svg")
