"""What a stage's training ends before is said by the run, and beside its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import medkit


def notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **stage: Any) -> list[str]:
    """What is shown above the results of a stage of two epochs, of one step each."""
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    made = {
        "medkit": 1,
        "name": "late",
        "data": {
            "d": {
                "source": {"use": "phantoms:head_ct", "patients": 8, "size": [32, 32], "slices": 4},
                "splits": {"train": {"fold": "train"}, "test": {"fold": "test"}},
                "prepare": [{"use": "window", "low": 0, "high": 80}],
            }
        },
        "stages": [
            {
                "name": "s",
                "batch": 2,
                "accumulate": 2,
                "epochs": 2,
                "objective": {
                    "use": "multitask",
                    "encoder": {"use": "timm", "model": "test_resnet", "in_channels": 1},
                    "heads": {"cls": "smartnet:slice_class"},
                },
                **stage,
            }
        ],
    }
    medkit.run(made, out=tmp_path / "out")
    found: list[str] = json.loads((tmp_path / "out" / "environment.json").read_text()).get("notices", [])
    return [text for text in found if text.startswith("s: ")]


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ({"schedule": {"use": "cosine", "warmup": 500, "by": "step"}}, "s: the warm-up of 500 steps outlasts the 2 of"),
        ({"schedule": {"use": "cosine", "warmup": 3}}, "s: the warm-up of 3 epochs outlasts the 2 of the stage."),
        ({"unfreeze": {"part": "encoder", "after": 50}}, "s: 'encoder' stays frozen: 'unfreeze' opens it after 50"),
    ],
    ids=["steps", "epochs", "unfreeze"],
)
def test_what_comes_after_the_end_of_training_is_told(
    stage: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (only,) = notices(tmp_path, monkeypatch, **stage)
    assert only.startswith(told)


def test_a_warm_up_that_ends_in_the_training_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not notices(tmp_path, monkeypatch, schedule={"use": "cosine", "warmup": 2, "by": "step"})
