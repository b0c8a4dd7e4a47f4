"""A study of seconds: two pretexts and none, of which two stages take the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medkit.evaluation.results import Evaluation, MetricValue, write_results
from medkit.studies.folder import Outcome, StudyFolder
from medkit.studies.reader import load_study
from medkit.studies.trials import Expansion, Trial


def recipe() -> dict[str, Any]:
    """A pretext and a stage that takes its encoder, on phantoms."""
    source = {"use": "phantoms:head_ct", "patients": 7, "size": [32, 32], "slices": 4}
    encoder = {"use": "timm", "model": "test_resnet"}
    heads = {"cls": {"use": "smartnet:slice_class"}}
    pretext = {
        "name": "pretext",
        "batch": 2,
        "draw": "uniform",
        "objective": {"use": "multitask", "encoder": encoder, "heads": heads},
        "optim": {"use": "adam", "lr": 0.001},
        "metrics": ["auc"],
    }
    taken = {"use": "multitask", "encoder": {"from": "pretext.encoder"}, "heads": heads}
    splits = {"train": {"fold": "train"}, "val": {"fold": "val"}, "test": {"fold": "test"}}
    data = {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}
    stages = [pretext, pretext | {"name": "finer", "objective": taken}]
    return {"medkit": 1, "name": "small", "data": {"d": data}, "stages": stages, "report": {"splits": ["test"]}}


def study() -> dict[str, Any]:
    """Two seeds and two learning rates of the second stage: four trials share each pretext."""
    scratch = {"use": "timm", "model": "test_resnet"}
    return {
        "medkit": 1,
        "name": "small_study",
        "recipe": "small.yaml",
        "vary": {"seed": [1, 2], "stages.finer.optim.lr": {"slow": 0.001, "fast": 0.01}},
        "methods": {
            "scratch": {"skip": ["pretext"], "stages.finer.objective.encoder": scratch},
            "cls": None,
            "rec": {
                "stages.pretext.objective.heads": {"rec": {"use": "smartnet:pixel_shuffle"}},
                "stages.pretext.metrics": [],
            },
        },
        "compare": {"metric": "auc", "stage": "finer", "split": "test", "reference": "scratch"},
    }


Write = Callable[..., Path]


@pytest.fixture(scope="session")
def write_study() -> Write:
    """``write_study(folder, study, recipe)`` writes both files and returns the study's path."""

    def write(folder: Path, said: dict[str, Any] | None = None, made: dict[str, Any] | None = None) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "small.yaml").write_text(yaml.safe_dump(made or recipe(), sort_keys=False))
        path = folder / "study.yaml"
        path.write_text(yaml.safe_dump(said or study(), sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def planned(write_study: Write) -> Callable[..., StudyFolder]:
    """``planned(folder, study, recipe)`` is a study's folder with its plan, of which nothing has run."""

    def plan(folder: Path, said: dict[str, Any] | None = None, made: dict[str, Any] | None = None) -> StudyFolder:
        read = load_study(write_study(folder, said, made))
        found = StudyFolder(folder / "out")
        found.path.mkdir()
        found.write_plan(read, Expansion(read).trials(), {})
        return found

    return plan


def measure(folder: StudyFolder, trial: Trial, gain: float, splits: Sequence[str] = ("test",), seen: int = 0) -> None:
    """Leave what a finished trial leaves: a value of every patient, the higher the larger the ``gain``; ``seen`` of the
    patients were seen in training."""
    run, stage, metric = folder.run_folder(trial), "finer", "auc"
    rng = np.random.default_rng([*trial.name.encode()])
    run.path.mkdir(parents=True)
    for split in splits:
        labels = [float(i % 2) for i in range(16)]
        cases = [
            {"stage": stage, "split": split, "case": f"c{i}", "patient": f"p{i}", "center": ""}
            | {"label": label, "probability": float(1 / (1 + np.exp(-rng.normal(gain * (2 * label - 1)))))}
            for i, label in enumerate(labels)
        ]
        value = MetricValue(0.8, 0.7, 0.9, 16, 0, n_patients=16, patients=16, seen=seen)
        write_results(run.path, Evaluation(stage, split, {metric: value}, cases, []))
        if seen:
            how = {"patients": 16, "seen": seen, "how": ["trained by stage 'finer'"], "reason": "a test"}
            run.write_json("seen.json", {stage: dict.fromkeys(splits, how)})
    folder.keep_outcome(trial, Outcome("finished", seconds=1.0))
