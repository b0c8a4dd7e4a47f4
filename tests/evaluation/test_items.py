"""What metrics are handed, by a real evaluation: every key that the protocol names, in its shape and its unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small_recipe
from torch import Tensor, nn

import medkit
from medkit.data.dataset import Dataset
from medkit.data.transforms import Resize
from medkit.data.volume import Volume
from medkit.engine.runtime import Runtime
from medkit.errors import InputError, RunError
from medkit.evaluation.evaluate import Request, evaluate
from medkit.parts.metrics_classification import Specificity
from medkit.parts.metrics_segmentation import FalsePositiveVolume
from medkit.protocols import Case, Metric, Record
from medkit.protocols.classes import Classes
from medkit.recipe import Recipe
from medkit.runs.dry import dry_run

HEIGHTS = np.array([0.0, 2.0, 6.0])
AFFINE = np.array([[0, 0, 0.5, -7], [0, 0.8, 0, 5], [2, 0, 0, 100], [0, 0, 0, 1.0]])


class Cases:
    """One case of three slices of 20 x 16 voxels of 0.8 x 0.5 mm, 2 and 4 mm apart; its first voxels are positive."""

    def __init__(self, known: bool = True) -> None:
        self.known = known

    def cases(self) -> Sequence[Case]:
        return [Case("c", "p", center="A", fold="test", fields={"age": 7.0, "spacing": "thick"})]

    def load(self, case: Case) -> Record:
        voxels = np.random.default_rng(0).random((3, 20, 16), np.float32)
        mask = np.zeros((3, 20, 16), np.uint8)
        mask[1, :2, :2] = 1
        positions = AFFINE[:3, 3] + np.stack([0 * HEIGHTS, 0 * HEIGHTS, HEIGHTS], 1)
        grid: dict[str, Any] = {"affine": AFFINE, "positions": positions, "spacing_known": self.known}
        return Record(*(Volume(array, **grid) for array in (voxels, mask, voxels)))

    def identity(self, case: Case) -> str:
        return case.id


class Says(nn.Module):
    """Predicts everything, or what it is given in its place."""

    def __init__(self, **instead: Tensor) -> None:
        super().__init__()
        self.instead = instead

    def parts(self) -> dict[str, nn.Module]:
        return {}

    def predict(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        image = batch["image"]
        each = torch.linspace(0.1, 0.7, len(image))
        said = {
            "mask_probability": torch.full_like(image, 0.9),
            "output": image,
            "reconstruction": image,
            "probability": each,
            "value": each,
            "class_probability": torch.stack([each, 1 - each], 1),
        }
        return said | self.instead


class Keeps:
    """A metric that keeps what it is handed."""

    name, unit, higher_is_better, empty = "keeps", "", True, "none"

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def per_case(self, case: Any) -> dict[str, Any]:
        self.items.append(dict(case))
        return {"x": 0.0}

    def compute(self, rows: Any) -> float:
        return 0.0

    def score(self, row: Any) -> float:
        return 0.0


def evaluated(
    metrics: list[Any], unit: str, known: bool = True, classes: Classes | None = None, **instead: Tensor
) -> Any:
    dataset = Dataset(Cases(known), {"test": {"fold": "test"}}, [Resize((10, 10))], classes=classes)
    request = Request(dataset, dataset.cases("test"), metrics, "s", "test", unit)
    return evaluate(Says(**instead), request, Runtime(torch.device("cpu")))


def items(unit: str, known: bool = True) -> list[dict[str, Any]]:
    keeps = Keeps()
    evaluated([keeps], unit, known)
    return keeps.items


def promised() -> dict[str, tuple[str, str]]:
    """Keys of the table in the protocol, with shape and type as written there."""
    rows = re.findall(r"^    ((?:``[a-z_ ]+``)) +(\([^)]*\)|str|float) *(\w+)?  ", Metric.__doc__ or "", re.M)
    return {key: (shape, dtype) for names, shape, dtype in rows for key in names.strip("`").split()}


@pytest.mark.parametrize(("unit", "depth"), [("volume", 3), ("slice", 1)])
def test_metrics_are_handed_what_the_protocol_says_and_nothing_else(unit: str, depth: int) -> None:
    sizes = {"D": depth, "H": 10, "W": 10, "h": 20, "w": 16, "K": 2, "3": 3, "4": 4}
    unasked = ("class_masks", "class_masks_said", "label_probability")  # of masks with classes, of declared labels
    wanted = {key: about for key, about in promised().items() if key not in unasked}
    assert len(wanted) == 17
    for item in items(unit):
        assert set(item) == {*wanted, "age", "reconstruction"}
        for key, (shape, dtype) in wanted.items():
            if shape in ("str", "float"):
                assert isinstance(item[key], {"str": str, "float": float}[shape]), key
                continue
            expected = tuple(sizes[side] for side in shape.strip("()").split(",") if side)
            assert (item[key].shape, str(item[key].dtype)) == (expected, dtype), key


def test_sizes_and_places_are_those_of_the_source_in_mm() -> None:
    (item,) = items("volume")
    np.testing.assert_allclose(item["spacing"], [2, 0.8, 0.5])
    np.testing.assert_allclose(item["slice_volumes"], np.array([2, 3, 4]) * 0.4)
    assert item["voxel_volume"] == pytest.approx(1.2)
    np.testing.assert_allclose(item["positions"][:, 2], [100, 102, 106])
    np.testing.assert_allclose(item["affine"], AFFINE)


def test_a_slice_has_its_own_place_and_thickness() -> None:
    last = items("slice")[2]
    np.testing.assert_allclose(last["positions"], [[-7, 5, 106]])
    np.testing.assert_allclose(last["affine"] @ [0, 1, 2, 1], [-6, 5.8, 106, 1])
    assert last["slice_volumes"].tolist() == [pytest.approx(1.6)]
    assert last["voxel_volume"] == pytest.approx(1.6)
    assert last["id"] == "c#2"


def test_a_field_of_the_manifest_cannot_take_the_place_of_what_the_evaluator_hands() -> None:
    (item,) = items("volume")
    assert item["spacing"].shape == (3,)
    assert item["age"] == 7.0


def test_a_volume_s_value_is_the_mean_of_its_slices_and_its_probability_the_largest() -> None:
    (item,) = items("volume")
    assert item["value"] == pytest.approx(0.4)
    assert item["probability"] == pytest.approx(0.7)


def test_without_a_known_size_of_voxels_a_volume_is_undefined_not_a_number_of_pixels() -> None:
    (item,) = items("volume", known=False)
    assert all(np.isnan(item[name]).all() for name in ("spacing", "slice_volumes", "positions", "affine"))
    found = evaluated([FalsePositiveVolume(on="all")], "volume", known=False).values["fpv_all"]
    assert np.isnan(found.value)
    assert found.n == 1
    assert "size of voxels is not known" in found.method


def of_two_classes(first: float, second: float) -> Tensor:
    """Probabilities of two classes that exclude each other, the same in all pixels."""
    return torch.tensor([first, second]).view(1, 2, 1, 1).expand(3, 2, 10, 10)


def test_false_positives_of_classes_are_those_of_the_predicted_mask() -> None:
    # Neither class is likelier than none (0.4), though one of them is (0.6).
    said = of_two_classes(0.3, 0.3)
    found = evaluated([FalsePositiveVolume(on="all")], "volume", classes=Classes(("a", "b")), mask_probability=said)
    assert found.values["fpv_all"].value == 0


@pytest.mark.parametrize("unit", ["volume", "slice"])
def test_what_metrics_see_of_any_class_is_above_one_half_where_one_is_predicted(unit: str) -> None:
    keeps, said = Keeps(), torch.rand(3, 1, 10, 10).repeat(1, 2, 1, 1) * torch.tensor([0.3, 0.7]).view(1, 2, 1, 1)
    evaluated([keeps], unit, classes=Classes(("a", "b")), mask_probability=said)
    for item in keeps.items:
        predicted = item["class_masks_said"].any(0)
        assert 0 < predicted.sum() < predicted.size
        np.testing.assert_array_equal(item["mask_probability"] > 0.5, predicted)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        (
            "probability",
            torch.tensor([0.5, float("nan"), 0.5]),
            "1 of 3 values of probability of case 'c' are not finite",
        ),
        ("mask_probability", torch.full((3, 1, 10, 10), float("inf")), "300 of 300 values of mask_probability"),
        ("value", torch.tensor([float("nan")] * 3), "value of case 'c'"),
        ("probability", torch.tensor([2.0, -1.0, 0.5]), "is not a probability: it goes from -1 to 2"),
        ("probability", torch.full((3, 4), 0.5), r"shape \(3, 4\)"),
        ("class_probability", torch.full((3,), 0.5), r"shape \(3,\)"),
        ("output", torch.zeros(3, 1, 8, 8), r"shape \(3, 1, 8, 8\)"),
    ],
)
def test_predictions_that_no_metric_can_count_end_the_evaluation_with_the_case(
    name: str, value: Tensor, what: str
) -> None:
    with pytest.raises(RunError, match=what) as error:
        evaluated([Specificity()], "slice", **{name: value})
    assert "stage s, test" in str(error.value)


# -- before anything is trained --------------------------------------------------------------------------------


def recipe(metric: Any) -> Recipe:
    return small_recipe("needs", metrics=["auc", metric])


def test_a_metric_that_needs_what_the_stage_does_not_give_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    for attempt in (
        lambda: medkit.run(recipe("psnr"), out=tmp_path / "run", quiet=True),
        lambda: dry_run(recipe("psnr")),
    ):
        with pytest.raises(InputError, match="metric 'psnr' needs 'output', which stage 's' does not give"):
            attempt()
    assert not (tmp_path / "run").exists()
