"""A plugin for tests: an objective that a program of its own trains, which finds a threshold of brightness."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from medkit.api import Case, ExternalWork, hookimpl

# What runs outside: learns from (image, mask) pairs in a folder, or applies what it has learned.
PROGRAM = """
import json, pathlib, sys
import numpy as np
what, folder = sys.argv[1], pathlib.Path(sys.argv[2])
if what == "train":
    epochs, stop = int(sys.argv[3]), int(sys.argv[4])
    state = folder / "state.json"
    done = json.loads(state.read_text()) if state.exists() else []
    pairs = [np.load(p) for p in sorted(folder.glob("*.npz"))]
    inside = np.concatenate([p["image"][p["mask"] > 0] for p in pairs])
    for epoch in range(len(done) + 1, epochs + 1):
        if epoch == stop and not (folder / "failed").exists():
            (folder / "failed").touch()
            sys.exit("no more memory")
        done.append(epoch)
        state.write_text(json.dumps(done))
        print("epoch", epoch, flush=True)
    (folder / "threshold.json").write_text(json.dumps([float(inside.min()), float(inside.max())]))
else:
    low, high = json.loads((folder.parent / "threshold.json").read_text())
    for path in folder.glob("*.npy"):
        image = np.load(path)
        np.save(path.with_suffix(".mask.npy"), ((image >= low) & (image <= high)).astype(np.float32))
"""


class Brightness(nn.Module):
    """Voxels as bright as bleeding.

    Parameters
    ----------
    stop:
        The epoch in which the program fails when it first comes there; 0: none.
    """

    external, ignores, unit = True, "the program takes cases and splits", "volume"

    def __init__(self, stop: int = 0) -> None:
        super().__init__()
        self.stop = stop

    def turns(self) -> Sequence:
        return ()

    def parts(self) -> Mapping:
        return {}

    def train_cases(
        self, work: ExternalWork, train: Sequence[Case], validate: Sequence[Case], epochs: int, seed: int
    ) -> None:
        for i, case in enumerate(train):
            record = work.load(case)
            np.savez(work.folder / f"{i}.npz", image=record.image.voxels, mask=record.mask.voxels)

        def line(text: str) -> None:
            word, _, number = text.partition(" ")
            if word == "epoch":
                work.epoch(int(number), {"train/loss": 1 / int(number)})

        command = [sys.executable, "-c", PROGRAM, "train", str(work.folder), str(epochs), str(self.stop)]
        work.run(command, "train.log", {}, line)

    def predict_cases(
        self, work: ExternalWork, cases: Sequence[Case], name: str
    ) -> Callable[[Case], Mapping[str, np.ndarray]]:
        folder = work.folder / name
        folder.mkdir(exist_ok=True)
        for i, case in enumerate(cases):
            np.save(folder / f"{i}.npy", work.load(case).image.voxels)
        work.run([sys.executable, "-c", PROGRAM, "predict", str(folder)], "predict.log", {})
        place = {case.id: i for i, case in enumerate(cases)}
        return lambda case: {"mask_probability": np.load(folder / f"{place[case.id]}.mask.npy")}

    def forget(self, work: ExternalWork, name: str) -> None:
        shutil.rmtree(work.folder / name, ignore_errors=True)


@hookimpl
def medkit_register(registry) -> None:
    registry.objective("brightness", "brightness_plugin:Brightness", "voxels as bright as bleeding")
