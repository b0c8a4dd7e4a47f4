"""Every recipe at the thesis's sizes builds, trains a batch of one and predicts, within 24 GB, on a CPU."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from medkit.recipe import bundled, load_recipe

RECIPES = sorted(name for name, _ in bundled() if name.startswith("thesis/"))
GB = 22.0


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("thesis_data", Path(__file__).with_name("thesis_data.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_all(tmp_path_factory.mktemp("thesis"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_thesis_recipe_runs_dry(
    name: str,
    data: dict[str, str],
    command: Callable[..., CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    for key, value in data.items():
        monkeypatch.setenv(key, value)
    stages = [stage.name for stage in load_recipe(name).stages]
    options = [word for stage in stages if "@" not in stage for word in ("--set", f"stages.{stage}.batch=1")]
    unmade = ["nnunet"] if shutil.which("nnUNetv2_train") is None else []
    if "hub:" in dict(bundled())[name].read_text().partition("stages:")[2]:
        unmade.append("@imagenet")  # its weights would be downloaded
    options += [word for stage in stages if any(part in stage for part in unmade) for word in ("--skip", stage)]
    done = command("run", name, "--dry", *options)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    peaks = [float(number) for number in re.findall(r"(\d+\.\d\d)\s*$", done.stdout, re.MULTILINE)]
    assert 0 < max(peaks) < GB
