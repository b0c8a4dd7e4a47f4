"""Seeds with exactly the same values: what is counted as several trainings may be one, and then too sure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def copies(values: Mapping[str, np.ndarray], paired: bool) -> list[str]:
    """A note for each method of which not all seeds differ, from its values (seeds, patients); one for all methods if
    their paired seeds are the same ones."""
    counts = {method: _different(rows) for method, rows in values.items()}
    if paired:
        rows = np.hstack([*values.values()])
        joint = _different(rows)
        if joint < len(rows) and set(counts.values()) == {joint}:
            return [f"{_told(joint, len(rows), '')}."]
    each = [(method, counts[method], len(rows)) for method, rows in values.items()]
    return [f"{_told(count, seeds, f' of {method!r}')}." for method, count, seeds in each if count < seeds]


def _different(rows: np.ndarray) -> int:
    return len(np.unique(rows, axis=0))


def _told(different: int, seeds: int, of: str) -> str:
    if different == 1:
        return f"All {seeds} seeds{of} have the same values: they may be one training"
    return f"Only {different} of {seeds} seeds{of} differ in their values: others may be one training"
