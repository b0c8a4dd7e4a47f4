"""Whether an exported graph gives the run's own numbers: on real slices, from what its preparation starts with."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from medkit.data.collate import with_channels
from medkit.data.dataset import input_case
from medkit.data.sample import image_voxels, prepare_record
from medkit.data.transforms import prepare, restore
from medkit.errors import InputError, RunError
from medkit.protocols import Case, Record
from medkit.recipe import Stage
from medkit.runs.export_formats import Runner
from medkit.runs.export_graph import RESTORED, Divided, predicted
from medkit.runs.reading import Reading
from medkit.runs.workbench import Workbench

CASES = 4
"""Over how many cases the slices are spread."""


@dataclass(frozen=True)
class Checked:
    """Slices of a case, and what the run predicts for them.

    Attributes
    ----------
    inputs:
        Of the graph: images (S,C,H,W) as its part of the preparation receives them, and fields (S,).
    expected:
        The run's predictions, by name.
    spacing:
        mm in the source, from slice to slice, down a column and along a row; nan if not known.
    """

    inputs: Sequence[np.ndarray]
    expected: Mapping[str, np.ndarray]
    spacing: tuple[float, ...]


@dataclass
class Agreement:
    """How far the numbers of a graph are from the run's.

    Attributes
    ----------
    differences:
        The largest absolute difference of each prediction.
    largest:
        The largest absolute value of each, in the run.
    spacings:
        Of the cases.
    """

    slices: int = 0
    cases: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    spacings: list[tuple[float, ...]] = field(default_factory=list)

    def check(self, tolerance: float) -> None:
        """Refuse differences above ``tolerance``; for values above 1, above that share of the largest."""
        for name, difference in self.differences.items():
            if not difference <= tolerance * max(1.0, self.largest[name]):
                what = f"'{name}' of the exported network differs from the run's by up to {difference:.2g}"
                raise RunError(f"{what}, and {tolerance:g} is allowed; nothing was written")

    def json(self) -> dict[str, Any]:
        return {
            "slices": self.slices,
            "cases": self.cases,
            "max_abs_difference": {name: float(f"{value:.3g}") for name, value in self.differences.items()},
            "largest_value": {name: float(f"{value:.6g}") for name, value in self.largest.items()},
        }


class Cases:
    """Where the slices of a check come from: cases of the run, or given images.

    Attributes
    ----------
    split:
        Of the run's cases; None for images.
    """

    def __init__(self, bench: Workbench, stage: Stage, images: Sequence[str], reading: Reading) -> None:
        self.bench, self.stage, self.images, self.reading = bench, stage, images, reading
        tested = bench.evaluated_splits(stage)
        self.split = None if images else next(iter([*tested, *filter(None, [stage.validate]), stage.train]))

    @property
    def each(self) -> int:
        """Over how many cases slices are spread, if these have enough of them."""
        if self.split is None:
            return len(self.images)
        return min(CASES, len(self.bench.dataset(self.stage).cases(self.split)))

    def __iter__(self) -> Iterator[tuple[Case, Record]]:
        if self.split is None:
            for image in self.images:
                yield input_case(self.reading.fields), self.reading.record(image)
            return
        try:
            dataset = self.bench.dataset(self.stage)
            cases = dataset.cases(self.split)
            first = spread(len(cases), CASES)
            for number in [*first, *(number for number in range(len(cases)) if number not in first)]:
                yield cases[number], dataset.source.load(cases[number])
        except InputError as error:
            hint = "the check needs cases of the run, or images: --input IMAGE"
            raise InputError(error.what, error.where, hint) from error


def spread(count: int, wanted: int) -> list[int]:
    """Up to ``wanted`` of 0 to count - 1, evenly spaced: the middles of as many equal parts."""
    parts = min(count, wanted)
    return [int((number + 0.5) * count / parts) for number in range(parts)]


def checked(cases: Cases, objective: Any, divided: Divided, slices: int) -> Iterator[Checked]:
    """At least ``slices`` slices, or all there are, with the run's predictions; for networks on volumes whole ones, for
    those that take tiles the middle of each."""
    block = cases.bench.recipe.data[cases.stage.data]
    steps, needs = [*divided.before, *divided.inside], tuple(getattr(objective, "needs", ()))
    tile = getattr(objective, "tile", None)
    if tile is not None:
        objective = copy.copy(objective)
        objective.tile = None
    missing = slices
    for case, record in cases:
        sample = prepare_record(record, case, steps, block.classes)
        picks = np.arange(len(sample.image))
        if objective.unit != "volume":
            picks = np.array(spread(len(picks), min(missing, -(-slices // cases.each))))
        given = prepare(divided.before, {"image": image_voxels(record)})[0]["image"]
        _, shapes = prepare(divided.inside, {"image": given})
        fields = {name: torch.full((len(picks),), float(case.fields[name])) for name in needs}
        image = with_channels(_middle(np.asarray(sample.image)[picks], tile))
        slices_in = with_channels(_middle(given[picks], tile)).numpy()
        with torch.inference_mode():
            found = {name: value.float().numpy() for name, value in predicted(objective, image, fields).items()}
        for name in RESTORED:
            if name in found:
                planes = [np.ascontiguousarray(plane) for plane in found[name].swapaxes(0, 1)]
                found[name] = np.stack([restore(divided.inside, plane, shapes) for plane in planes], 1)
        spacing = sample.spacing if np.isfinite(sample.slice_volumes).all() else (float("nan"),) * 3
        yield Checked([slices_in, *(value.numpy() for value in fields.values())], found, spacing)
        missing -= len(picks)
        if missing <= 0:
            return


def _middle(array: np.ndarray, tile: int | None) -> np.ndarray:
    """The tile in the middle of (...,H,W), or all of it."""
    if tile is not None:
        top, left = (max(0, side - tile) // 2 for side in array.shape[-2:])
        array = array[..., top : top + tile, left : left + tile]
    return np.ascontiguousarray(array)


def compare(run: Runner, names: Sequence[str], material: Iterable[Checked], by_volume: bool) -> Agreement:
    """Run the graph on slices; for networks on slices in batches of one, then of three."""
    agreement = Agreement()
    for one in material:
        count = len(one.inputs[0])
        ends = [0, count] if by_volume else sorted({0, 1, *range(4, count, 3), count})
        parts = [run([given[a:b] for given in one.inputs]) for a, b in pairwise(ends)]
        for name, found in zip(names, (np.concatenate(each) for each in zip(*parts, strict=True)), strict=True):
            expected = one.expected[name]
            difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
            # Not max(), which drops NaN.
            agreement.differences[name] = float(np.maximum(difference, agreement.differences.get(name, 0.0)))
            agreement.largest[name] = float(np.maximum(np.abs(expected).max(), agreement.largest.get(name, 0.0)))
        agreement.slices += count
        agreement.cases += 1
        agreement.spacings.append(one.spacing)
    return agreement
