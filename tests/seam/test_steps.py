"""Steps under ``prepare`` and ``augment`` that cannot do what they would have to do there."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

from medkit.errors import Problems
from medkit.recipe import recipe_from
from medkit.recipe.reader import read_recipe
from medkit.recipe.yaml import from_python
from medkit.registry import Registrar
from medkit.registry.plugins import registry

DATA: dict[str, Any] = {
    "medkit": 1,
    "name": "t",
    "data": {
        "d": {
            "source": {"use": "phantoms:head_ct", "patients": 6},
            "splits": {"train": {"fold": "train"}, "val": {"fold": "val"}},
        }
    },
    "stages": [
        {
            "name": "s",
            "objective": {"use": "restoration", "generator": "baselines:red_cnn", "losses": {"mse": "mse"}},
        }
    ],
}
STRANGE = '''
from dataclasses import dataclass
import numpy as np
RAISED = []

@dataclass(frozen=True)
class CPUOnly:
    """On the CPU only."""

    def cpu(self):
        return object()

    def device(self):
        """There is none."""
        raise NotImplementedError("no kernel for it")

class Inherited(CPUOnly):
    """As its parent."""

class Sometimes:
    """Has a form for the device for some arguments."""

    def __init__(self, size: int = 3):
        self.size = size

    def cpu(self):
        return object()

    def device(self):
        if self.size > 3:
            raise NotImplementedError("three pixels at most")
        return object()

class DeviceOnly:
    """On the device only."""

    def device(self):
        return object()
'''


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``told(augment=[..])``: what a recipe with these keys of its data block is told, "" if it is well formed."""
    (tmp_path / "strange_steps.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "strange_steps", raising=False)
    components = copy.deepcopy(registry())
    for name in ("CPUOnly", "Inherited", "Sometimes", "DeviceOnly"):
        Registrar(components, "strange").transform(name.lower(), f"strange_steps:{name}", "a step")

    def read(**keys: Any) -> str:
        data = copy.deepcopy(DATA)
        data["data"]["d"].update(keys)
        try:
            read_recipe(from_python(data), components)
        except Problems as error:
            return "\n".join(map(str, error.problems))
        return ""

    return read


@pytest.mark.parametrize("name", ["cpuonly", "inherited"])
def test_an_augmentation_without_a_form_for_the_device_is_named_with_its_reason(told: Any, name: str) -> None:
    step = f"strange:{name}"
    assert told(augment=[step]) == ""
    found = told(augment=["horizontal_flip", step], augment_on="device")
    assert f"data.d.augment: '{step}' has no form for the training device (no kernel for it)" in found
    assert "write 'augment_on: cpu'" in found
    assert "horizontal_flip" not in found


def test_an_augmentation_without_a_form_for_the_cpu_is_named(told: Any) -> None:
    assert told(augment=["strange:deviceonly"], augment_on="device") == ""
    assert "'strange:deviceonly' has no form for the CPU; write 'augment_on: device'" in told(
        augment=["strange:deviceonly"]
    )


def test_a_form_that_depends_on_the_arguments_is_asked(told: Any) -> None:
    assert told(augment=["strange:sometimes"], augment_on="device") == ""
    found = told(augment=[{"use": "strange:sometimes", "size": 5}], augment_on="device")
    assert "'strange:sometimes' has no form for the training device (three pixels at most)" in found


def test_sources_that_settle_it_are_not_imported(told: Any) -> None:
    told(augment=["strange:cpuonly"], augment_on="device")
    assert "strange_steps" not in sys.modules


def test_steps_under_the_wrong_key_are_told_the_right_one(told: Any) -> None:
    assert "write it under 'augment'" in told(prepare=["gamma"])
    assert "write it under 'prepare'" in told(augment=["min_max"])


def test_every_augmentation_of_core_has_both_forms() -> None:
    names = [e.full_name for e in registry().of_kind("transform") if e.target.startswith("medkit.data.augment:")]
    assert len(names) > 8
    for where in ("cpu", "device"):
        data = copy.deepcopy(DATA)
        data["data"]["d"].update(augment=names, augment_on=where)
        recipe_from(data)
