"""Phantoms are what they have been: a handful of numbers of each kind of case, which another order of sums leaves alone.

``python tests/plugins/test_phantoms_golden.py`` writes them anew, after a change of voxels that is meant (and told by a
new ``VERSION``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medkit

FILE = Path(__file__).resolve().parents[1] / "golden" / "phantoms.json"
SOURCES: dict[str, dict[str, Any]] = {
    "head_ct": {
        "patients": 24,
        "size": (48, 56),
        "slices": 8,
        "positive_fraction": 0.8,
        "centers": ("A", "B", "C", "D"),
    },
    "radiographs views": {"patients": 10, "size": 72, "task": "views"},
    "radiographs bone_age": {"patients": 5, "size": 72, "task": "bone_age"},
    "radiographs fracture": {"patients": 6, "size": 72, "task": "fracture"},
}


def numbers(source: str) -> dict[str, list[float]]:
    """Mean, spread, quantiles and means of the quarters of each image, and the size and middle of its mask."""
    made, found = medkit.build("source", f"phantoms:{source.split()[0]}", **SOURCES[source]), {}
    for case in made.cases():
        record = made.load(case)
        image = record.image.voxels.astype(np.float64)
        middle = tuple(side // 2 for side in image.shape[-2:])
        halves = [slice(None, middle[0]), slice(middle[0], None)], [slice(None, middle[1]), slice(middle[1], None)]
        quarters = [image[..., down, along].mean() for down in halves[0] for along in halves[1]]
        values = [image.mean(), image.std(), *np.quantile(image, (0.05, 0.5, 0.95)), *quarters]
        if record.mask is not None:
            places = np.argwhere(record.mask.voxels)
            values += [len(places), *(places.mean(0) if len(places) else (0, 0, 0))]
        found[f"{case.id} {case.fields.get('subtype', '')}".strip()] = [round(float(value), 6) for value in values]
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_phantoms_are_what_they_have_been(source: str) -> None:
    known = json.loads(FILE.read_text())[source]
    found = numbers(source)
    assert found.keys() == known.keys()
    for name, values in found.items():
        assert values == pytest.approx(known[name], rel=1e-4, abs=1e-3), name


if __name__ == "__main__":
    FILE.write_text(json.dumps({source: numbers(source) for source in SOURCES}, indent=1) + "\n", encoding="utf-8")
