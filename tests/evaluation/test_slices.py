"""Slices that are kept of a case for the report's viewer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from medkit.data.sample import Sample
from medkit.errors import RunError
from medkit.evaluation import slices
from medkit.evaluation.measure import CaseRows
from medkit.evaluation.prediction import CasePrediction
from medkit.evaluation.slices import Stack, read_stacks, stack_of, worst_of, write_stacks
from medkit.parts.metrics_segmentation import DiceScore
from medkit.protocols import Case
from medkit.protocols.classes import Classes


def predicted(image: np.ndarray, mask: np.ndarray | None = None) -> CasePrediction:
    depth, shape = len(image), (int(image.shape[1]), int(image.shape[2]))
    geometry = (shape, np.ones(depth), np.eye(4), np.zeros((depth, 3)))
    sample = Sample(Case("c", "p"), image.astype(np.float32), mask, None, None, *geometry)
    arrays = {"probability": np.linspace(0, 1, depth)}
    return CasePrediction(sample, arrays if mask is None else arrays | {"mask_probability": mask[:, None] * 0.8})


def unpacked(stack: Stack, layer: str) -> np.ndarray:
    """The slices of a layer as a browser cuts them out of its picture, 0 to 255."""
    picture = cv2.imdecode(np.frombuffer(stack.pictures[layer], np.uint8), cv2.IMREAD_GRAYSCALE)
    cut = []
    for i in range(len(stack.numbers)):
        row, column = divmod(i, stack.columns)
        top, left = row * stack.height, column * stack.width
        cut.append(picture[top : top + stack.height, left : left + stack.width])
    return np.stack(cut)


def test_a_kept_slice_is_the_image_to_eight_bits_and_its_masks_beside_it(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((7, 20, 30))
    mask = np.zeros(image.shape, np.uint8)
    mask[4, 5:9, 5:9] = 1
    write_stacks(tmp_path / "slices" / "s.test.npz", [stack_of(predicted(image, mask))])
    (kept,) = read_stacks(tmp_path / "slices" / "s.test.npz")
    assert (kept.case, kept.depth, list(kept.numbers), kept.start) == ("c", 7, list(range(7)), 4)
    assert np.abs(unpacked(kept, "image") / 255 - image).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(unpacked(kept, "mask"), 255 * mask)
    assert np.array_equal(unpacked(kept, "mask_probability"), 204 * mask)
    assert kept.probability == pytest.approx(np.linspace(0, 1, 7), abs=1e-4)


def test_the_outline_of_classes_is_that_of_the_predicted_mask() -> None:
    image = np.zeros((1, 8, 8))
    guess = predicted(image)
    guess = replace(guess, sample=replace(guess.sample, classes=Classes(("a", "b"))))
    guess.arrays["mask_probability"] = np.full((1, 2, 8, 8), 0.3, np.float32)  # of any: 0.6, but none has 0.4
    assert unpacked(stack_of(guess), "mask_probability").max() <= 127


def test_of_many_slices_evenly_spaced_ones_are_kept_and_the_telling_one() -> None:
    image, mask = np.zeros((100, 8, 8)), np.zeros((100, 8, 8), np.uint8)
    mask[41] = 1
    kept = stack_of(predicted(image, mask))
    assert len(kept.numbers) == 32
    assert kept.numbers[kept.start] == 41
    assert max(np.diff(kept.numbers)) <= 5


def test_a_case_of_noise_is_cut_to_the_bytes_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "BYTES", 20_000)
    kept = stack_of(predicted(np.random.default_rng(0).random((20, 64, 64))))
    assert sum(map(len, kept.pictures.values())) <= 20_000
    assert 1 < len(kept.numbers) < 20


def test_a_large_slice_is_made_smaller_and_keeps_its_proportions() -> None:
    kept = stack_of(predicted(np.zeros((1, 400, 300))))
    assert (kept.height, kept.width) == (192, 144)


def test_images_without_a_window_are_shown_from_their_darkest_to_their_brightest() -> None:
    image = np.random.default_rng(0).normal(size=(4, 32, 32))
    kept = stack_of(predicted(image))
    assert (kept.low, kept.high) == pytest.approx(np.percentile(image, (0.5, 99.5)), abs=1e-6)


def test_a_damaged_file_of_slices_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.test.npz", **{"0.about": np.array("{}")})
    with pytest.raises(RunError, match=r"damaged"):
        read_stacks(tmp_path / "s.test.npz")


def test_the_worst_cases_are_those_with_the_worst_slices() -> None:
    dice = [[0.9, 0.8], [0.9, 0.1], [0.5], [0.4, 0.2], []]
    rows = [CaseRows(i, 1, 0, [{"dice": one} for one in found]) for i, found in enumerate(dice)]
    assert worst_of(rows, [DiceScore()]) == [1, 3]
    guesses = [CaseRows(i, 1, 0, [{"label": 1.0, "probability": p}]) for i, p in enumerate((0.9, 0.2, 0.0))]
    assert worst_of(guesses, [DiceScore()]) == [2, 1]
