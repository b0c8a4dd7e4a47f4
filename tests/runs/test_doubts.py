"""What medkit is not sure of stands beside the numbers: in the log, above the report, in a prediction."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import medkit
from medkit.recipe import recipe_from
from medkit.runs.predict import predict

DOUBT = "may not be CT in HU"


@pytest.fixture
def brains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of four brains without skull and air, as NIfTI, which does not say its units."""
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    lines = ["image,patient,fold,label"]
    for i, fold in enumerate(("train", "train", "test", "test")):
        image = nibabel.Nifti1Image(rng.normal(30, 5, (32, 32, 3)).astype(np.int16), np.diag([0.5, 0.5, 5, 1]))
        nibabel.save(image, tmp_path / f"{i}.nii")
        lines.append(f"{i}.nii,p{i},{fold},{i % 2}")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "m.csv"


def run(manifest: Path, out: Path, **source: str) -> Path:
    data = {
        "source": {"use": "manifest", "path": str(manifest), "label": "label", **source},
        "splits": {"train": {"fold": "train"}, "internal": {"fold": "test"}},
        "prepare": [{"use": "window", "low": 0, "high": 80}],
    }
    encoder = {"use": "timm", "model": "test_resnet", "in_channels": 1}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"cls": {"use": "smartnet:slice_class"}}}
    stage = {"name": "s", "batch": 2, "objective": objective, "metrics": ["auc"]}
    recipe = {"medkit": 1, "name": "t", "data": {"d": data}, "stages": [stage]}
    return medkit.run(recipe_from(recipe), out, quiet=True).folder


def test_brains_without_air_are_told_above_the_report_and_in_predictions(brains: Path, tmp_path: Path) -> None:
    for name in ("first", "from_the_cache"):
        folder = run(brains, tmp_path / name)
        assert f"4 cases {DOUBT} (for the first, its values range from" in (folder / "log.txt").read_text(
            encoding="utf-8"
        )
        assert DOUBT in (folder / "report.html").read_text(encoding="utf-8")
    with pytest.warns(UserWarning, match=rf"3\.nii: this {DOUBT}"):
        predict(folder, tmp_path / "3.nii", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "prediction.json").read_text(encoding="utf-8"))
    assert DOUBT in written["input_notes"][0]


def test_brains_that_are_said_to_be_in_hu_are_not_doubted(brains: Path, tmp_path: Path) -> None:
    assert DOUBT not in (run(brains, tmp_path / "run", units="HU") / "log.txt").read_text(encoding="utf-8")
