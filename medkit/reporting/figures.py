"""Pictures of a report, as inline images, in colours that work on both light and dark pages."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

TRUTH, PREDICTED = "#34c77b", "#ff9f1c"
LINES = ("#3b7dd8", "#e07b39", "#3aa17e", "#b65fcf", "#c4a000", "#7a8ca3")
DPI, MARGIN = 110, 0.1
"""Dots per inch of bitmaps, and inches around a figure."""
SETTINGS: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.fonttype": "none",
}


def drawn(draw: Callable[[], Figure], form: str) -> str:
    """A figure as an inline image, ``svg`` or ``png``."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        figure = draw()
        figure.set_dpi(DPI)
        # bbox_inches="tight", or a layout engine, would have everything drawn a second time to find the same box.
        figure.set_layout_engine("none")
        box = figure.get_tightbbox().padded(MARGIN)
        figure.savefig(buffer, format=form, bbox_inches=box, facecolor="white")
    plt.close(figure)
    kind = "svg+xml" if form == "svg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def share_axis(ax: Any, shares: Sequence[float], label: str) -> None:
    """Make the x axis logarithmic, with a tick in percent at each of the fractions and nowhere else."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(shares))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xticklabels([f"{100 * share:g} %" for share in shares])
    ax.set_xlabel(label)


def overlays(examples: Sequence[Mapping[str, Any]]) -> str:
    """Slices; below them, where available, with outlines of truth and prediction, and with the encoder's activation.

    The largest lesion comes first.
    """
    examples = sorted(examples, key=lambda e: -(e.get("volume_ml") or 0.0))
    layers = ["image"]
    layers += ["outline"] if any(key in e for e in examples for key in ("mask", "mask_probability")) else []
    layers += ["activation"] if any("activation" in e for e in examples) else []

    def draw() -> Figure:
        size = (2.1 * len(examples), 2.25 * len(layers))
        figure, axes = plt.subplots(len(layers), len(examples), figsize=size, squeeze=False)
        for column, e in enumerate(examples):
            for row, layer in enumerate(layers):
                ax = axes[row][column]
                ax.imshow(e["image"], cmap="gray", vmin=0, vmax=1)
                ax.set_axis_off()
                if layer == "outline":
                    for key, colour in (("mask", TRUTH), ("mask_probability", PREDICTED)):
                        if key in e and (e[key] > 0.5).any():
                            ax.contour(e[key] > 0.5, levels=[0.5], colors=colour, linewidths=1.3)
                elif layer == "activation" and "activation" in e:
                    # Values differ between networks and can only be compared within one slice.
                    ax.imshow(e["activation"], cmap="inferno", alpha=0.55)
            axes[0][column].set_title(f"{severity(e, examples)}\n{e['case']}, slice {e['slice']}", fontsize=8)
        figure.tight_layout(pad=0.4)
        return figure

    return drawn(draw, "png")


def severity(example: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> str:
    """``severe`` and ``mild`` have the largest and the smallest lesion shown, ``normal`` has none."""
    sizes = [e.get("volume_ml") or 0.0 for e in examples]
    size = example.get("volume_ml")
    if size is None:
        return f"label {said}" if (said := _label(example)) else ""
    if not size:
        return "normal"
    kinds = f", {example['classes']}" if example.get("classes") else ""
    word = "severe, " if size == max(sizes) else "mild, " if size == min(s for s in sizes if s) else ""
    return f"{word}{size:.1f} mL{kinds}" if size >= 1 else f"{word}{size:.2g} mL{kinds}"


def _label(example: Mapping[str, Any]) -> str:
    """What the data block declares of a case, or else its source; empty if that is not known."""
    label = float(example.get("label", "nan"))
    return str(example["declared"]) if "declared" in example else "" if label != label else f"{label:g}"


def restorations(examples: Sequence[Mapping[str, Any]]) -> str:
    """Input, output, target and both differences of denoised slices in the training window; a region enlarged below."""
    titles = ("input", "output", "target", "input − target", "output − target")

    def draw() -> Figure:
        figure, axes = plt.subplots(2 * len(examples), 5, figsize=(11, 4.5 * len(examples)), squeeze=False)
        for row, e in enumerate(examples):
            image, output, target = e["image"], e["output"], e["target"]
            shown = (image, output, target, image - target, output - target)
            top, left, side = _region(target)
            for column, (array, title) in enumerate(zip(shown, titles, strict=True)):
                whole, part = axes[2 * row][column], axes[2 * row + 1][column]
                limits = (0, 1) if column < 3 else (-0.25, 0.25)
                colours = "gray" if column < 3 else "RdBu_r"
                whole.imshow(array, cmap=colours, vmin=limits[0], vmax=limits[1])
                frame = Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=PREDICTED, linewidth=1)
                whole.add_patch(frame)
                cut = array[top : top + side, left : left + side]
                part.imshow(cut, cmap=colours, vmin=limits[0], vmax=limits[1])
                whole.set_axis_off()
                part.set_axis_off()
                if row == 0:
                    whole.set_title(title, fontsize=9)
            axes[2 * row][0].set_title(f"{e['case']}, slice {e['slice']}" + ("\ninput" if row == 0 else ""), fontsize=9)
        figure.tight_layout(pad=0.4)
        return figure

    return drawn(draw, "png")


def _region(target: np.ndarray) -> tuple[int, int, int]:
    """Top, left and side of the square with the most edges inside the window, where noise can hide something."""
    side = max(8, min(target.shape) // 4)
    steep = np.hypot(*np.gradient(np.asarray(target, np.float64))) * ((target > 0.02) & (target < 0.98))
    table = np.pad(steep.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    found = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
    top, left = np.unravel_index(int(np.argmax(found)), found.shape)
    return int(top), int(left), side


def spectrum(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radial power spectrum of (H,W): cycles per pixel and mean power; that of white noise is its variance."""
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2 / image.size
    fy, fx = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None]
    edges = np.linspace(0, 0.5, max(5, min(40, min(image.shape) // 2)))
    index = np.digitize(np.hypot(fy, fx).ravel(), edges)
    size = len(edges) + 1
    total, count = np.bincount(index, power.ravel(), size), np.bincount(index, minlength=size)
    inside = slice(1, len(edges))
    return (edges[:-1] + edges[1:]) / 2, total[inside] / np.maximum(count[inside], 1)


def noise_power(examples: Sequence[Mapping[str, Any]]) -> str:
    """Radial power spectra, mean over the shown slices: of input, output and target, and of both errors."""

    def draw() -> Figure:
        figure, axes = plt.subplots(1, 2, figsize=(8.2, 2.7))
        for ax, keys, title in (
            (axes[0], ("image", "output", "target"), "images"),
            (axes[1], ("image", "output"), "error"),
        ):
            for key, colour in zip(keys, LINES, strict=False):
                found = [spectrum(e[key] - e["target"] if title == "error" else e[key]) for e in examples]
                # Slices of one split may differ in size: only equal ones are averaged.
                same = [power for at, power in found if len(at) == len(found[0][0])]
                name = "input" if key == "image" else key
                ax.semilogy(found[0][0], np.mean(same, 0), color=colour, label=name)
            ax.set_title(title, loc="left", fontsize=9)
            ax.set_xlabel("cycles per pixel")
            ax.legend(frameon=False, fontsize=8)
        axes[0].set_ylabel("power")
        figure.tight_layout()
        return figure

    return drawn(draw, "svg")


def boxes(values: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> str:
    """Box plots: split to variant to values."""

    def draw() -> Figure:
        variants = list(dict.fromkeys(v for found in values.values() for v in found))
        figure, ax = plt.subplots(figsize=(1.3 + 0.8 * len(variants) * len(values), 2.8))
        for i, variant in enumerate(variants):
            at = [s * (len(variants) + 1) + i for s in range(len(values))]
            data = [list(found.get(variant, [])) for found in values.values()]
            plotted = ax.boxplot(
                data, positions=at, widths=0.7, patch_artist=True, showfliers=False, medianprops={"color": "black"}
            )
            for box in plotted["boxes"]:
                box.set(facecolor=LINES[i % len(LINES)], alpha=0.6)
            for x, column in zip(at, data, strict=True):
                spread = np.linspace(-0.2, 0.2, len(column)) if len(column) > 1 else [0.0]
                ax.plot(np.add(x, spread)[: len(column)], column, ".", ms=4, color="#333", alpha=0.7)
            ax.plot([], [], "s", color=LINES[i % len(LINES)], label=variant)
        ax.set_xticks([s * (len(variants) + 1) + (len(variants) - 1) / 2 for s in range(len(values))], list(values))
        ax.set_ylabel(title)
        if len(variants) > 1:
            ax.legend(frameon=False, fontsize=8)
        return figure

    return drawn(draw, "svg")
