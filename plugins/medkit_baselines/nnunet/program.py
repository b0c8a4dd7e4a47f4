"""The commands of the nnunetv2 package: where they are, how they are called, what they print."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from medkit.api import InputError

REQUIREMENT = "nnunetv2>=2.8,<3"
PIP = f'pip install "{REQUIREMENT}"'
TRAINER, TRAINER_FOLDER = "MedkitTrainer", Path(__file__).parent / "trainer"


def command(name: str) -> str:
    """Path of one of nnU-Net's commands: in this Python's environment, else on PATH.

    Raises
    ------
    InputError
        with the command that installs it.
    """
    beside = Path(sys.executable).parent
    found = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise InputError(f"nnU-Net is not installed: there is no {name}", hint=f"install it with: {PIP}")
    return found


def check_version() -> None:
    """Refuse an nnU-Net too old for a trainer from outside; one in another environment is not checked."""
    from packaging.requirements import Requirement

    try:
        version = metadata.version("nnunetv2")
    except metadata.PackageNotFoundError:
        return
    if not Requirement(REQUIREMENT).specifier.contains(version, prereleases=True):
        raise InputError(f"nnunetv2 {version} is installed", hint=f"install another with: {PIP}")


def environment(folder: Path, device: str, epochs: int, iterations: int, workers: int) -> dict[str, str]:
    """Environment variables for nnU-Net, which keep all its files inside ``folder``."""
    return {
        "nnUNet_raw": str(folder / "raw"),
        "nnUNet_preprocessed": str(folder / "preprocessed"),
        "nnUNet_results": str(folder / "results"),
        "nnUNet_extTrainer": str(TRAINER_FOLDER),
        "nnUNet_n_proc_DA": str(workers),
        "nnUNet_def_n_proc": str(workers),
        # nnU-Net does not compile on a CPU; on a GPU it would, and fail where there is no compiler.
        **({"nnUNet_compile": "f"} if device == "cpu" else {}),
        "MEDKIT_NNUNET_EPOCHS": str(epochs),
        "MEDKIT_NNUNET_ITERATIONS": str(iterations),
        "MEDKIT_NNUNET_VAL_ITERATIONS": str(max(1, iterations // 5)),
        "PYTHONUNBUFFERED": "1",
    }


class TrainingLog:
    """Reads the lines of a training: reports each epoch's losses when it is over, and the progress."""

    _EPOCH = re.compile(r": Epoch (\d+)\s*$")
    _NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e-?\d+)?|nan)")

    def __init__(self, epoch: Callable[[int, Mapping[str, float]], None], begun: Callable[[int], None]) -> None:
        self.tell, self.begun = epoch, begun
        self.epoch = 0
        self.values: dict[str, float] = {}

    def __call__(self, line: str) -> None:
        started = self._EPOCH.search(line)
        if started:
            self.epoch, self.values = int(started[1]) + 1, {}
            self.begun(self.epoch)
            return
        for text, name in (
            ("train_loss", "train/loss"),
            ("val_loss", "val/loss"),
            ("Pseudo dice", "val/pseudo_dice"),
            ("Epoch time:", "seconds"),
        ):
            _, found, rest = line.partition(f": {text}")
            # numpy's own numbers print as np.float32(0.5).
            number = self._NUMBER.search(rest.replace("float32", "").replace("float64", "")) if found else None
            if number:
                self.values[name] = float(number[1])
                if name == "seconds":
                    self.tell(self.epoch, self.values)
