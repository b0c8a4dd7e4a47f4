"""Verdicts hold as often as they say: a short simulation here, the kept results of the long one, all of it nightly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medkit_benchmarks.verdicts import SPLITS, Cell, areas, cells, measured

from medkit.evaluation.pseudo_values import pseudo_values
from medkit.parts.metrics_classification import AUC

KEPT = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "verdicts.json"
STUDIES = 2000


@pytest.mark.parametrize(
    "cell",
    [
        Cell(3, 10, "rest only"),
        Cell(3, 30, "patients and rest"),
        Cell(3, 30, "equal"),
        Cell(5, 10, "seeds"),
        Cell(5, 30, "equal", "unpaired"),
    ],
    ids=str,
)
def test_intervals_hold_the_true_difference_and_new_trainings_come_out_where_they_say(cell: Cell) -> None:
    found = measured(cell, STUDIES)
    assert 0.93 <= found["held"] <= 0.97
    assert 0.93 <= found["within_95"] <= 0.97
    assert 0.77 <= found["within_80"] <= 0.83
    assert 0.76 <= found["shown"] <= 0.84


def test_a_test_over_patients_with_one_seed_finds_differences_that_are_none() -> None:
    found = measured(Cell(5, 30, "equal"), STUDIES)
    assert found["wrong_one_seed"] > 0.5
    assert found["wrong_mean_of_seeds"] > 0.3


def test_methods_win_as_often_as_the_probability_says() -> None:
    wide = np.array(measured(Cell(5, 30, "equal"), 10_000)["said"])[0]
    count, said, won = wide.T
    assert np.abs(won / count - said / count).max() < 0.06


def test_the_kept_results_hold_for_paired_seeds_of_every_design_and_split() -> None:
    kept = json.loads(KEPT.read_text())
    assert len(kept) == len(list(cells()))
    normal = [cell for cell in kept if cell["kind"] == "normal"]
    assert {cell["split"] for cell in normal} == set(SPLITS)
    for cell in normal:
        assert cell["studies"] >= 400
        assert 0.93 <= cell["held"] <= 0.97, cell


def test_simulated_pseudo_values_are_those_of_the_metric() -> None:
    """The same scores, drawn again by the same generator, as rows of the metric itself."""
    cell = Cell(1, 10, "equal", "auc")
    found = areas(cell, 1, 1, np.random.default_rng(0))[0, 0]
    rng = np.random.default_rng(0)
    parted = 1.5 + 0.5 * np.sqrt(1 / 3) * rng.normal(size=(1, 1))
    scores = np.sqrt(0.5) * rng.normal(size=10) + np.sqrt(0.5) * rng.normal(size=(1, 10))
    rows: dict[str, Any] = {
        "label": np.repeat([1.0, 0.0], 5),
        "probability": (scores[0] + parted[0] * np.repeat([1, 0], 5)),
    }
    assert list(pseudo_values(AUC(), rows, list("abcdefghij")).values()) == pytest.approx(found.tolist())
