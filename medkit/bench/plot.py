"""Time against size, one panel per group of cases."""

from __future__ import annotations

import textwrap
from pathlib import Path

from medkit.bench.results import CaseResult, Results
from medkit.errors import RunError


def curves(results: Results) -> dict[str, list[CaseResult]]:
    """Groups with at least two sizes, each sorted by size."""
    groups: dict[str, list[CaseResult]] = {}
    for case in results.cases:
        if case.group:
            groups.setdefault(f"{case.suite}: {case.group}", []).append(case)
    return {
        name: sorted(cases, key=lambda case: case.size)
        for name, cases in groups.items()
        if len({case.size for case in cases}) > 1
    }


def _unit(name: str) -> str:
    """What the size of a group counts: the end of a name such as "inference, over pixels"."""
    return name.rpartition("over ")[2] if "over " in name else "size"


def plot(results: Results, path: Path) -> bool:
    """Write a PNG of median milliseconds against size with quartiles; False if no group has two sizes."""
    groups = curves(results)
    if not groups:
        return False
    from matplotlib.figure import Figure

    across = min(3, len(groups))
    down = -(-len(groups) // across)
    figure = Figure(figsize=(5.2 * across, 4.2 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for spare in axes[len(groups) :]:
        spare.set_axis_off()
    for axis, (name, cases) in zip(axes, groups.items(), strict=False):
        for variant in dict.fromkeys(v.name for case in cases for v in case.variants):
            found = [(c.size, v.seconds) for c in cases if (v := c.variant(variant)) is not None and v.seconds]
            if found:
                sizes = [size for size, _ in found]
                low, middle, high = ([1e3 * took[i] for _, took in found] for i in range(3))
                (line,) = axis.plot(sizes, middle, marker="o", markersize=3, label=variant)
                axis.fill_between(sizes, low, high, color=line.get_color(), alpha=0.2)
        axis.set(xscale="log", yscale="log", xlabel=_unit(name), ylabel="ms")
        axis.set_title(textwrap.fill(name, 44), fontsize="medium")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=80)
    except OSError as error:
        raise RunError(f"cannot be written: {error.strerror}", str(path)) from error
    return True
