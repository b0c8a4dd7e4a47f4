"""nnU-Net as the objective of a stage."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt
from torch import Tensor, nn

from medkit.api import Case, ExternalWork, InputError, Turn
from medkit_baselines.nnunet.dataset import (
    ENDING,
    check_modality,
    read_mask,
    write_case,
    write_json,
    write_raw,
    write_splits,
)
from medkit_baselines.nnunet.program import TRAINER, TrainingLog, check_version, command, environment

Length = Annotated[float, Gt(0)]
NUMBER, NAME = "1", "Dataset001_medkit"
PLANNERS = {
    "default": ("ExperimentPlanner", "nnUNetPlans"),
    "resenc_m": ("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans"),
    "resenc_l": ("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans"),
    "resenc_xl": ("nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans"),
}


class NNUNet(nn.Module):
    """nnU-Net v2 (Isensee et al., Nature Methods 2021), through the ``nnunetv2`` package itself.

    The stage's training and validation cases become a raw data set of nnU-Net in HU, with the stage's own splits.
    nnU-Net plans, preprocesses, trains for the stage's ``epochs`` and predicts, each as a separate command with a log
    in ``external/STAGE/`` of the run folder. Masks are measured on the source grid like those of other methods. An
    interrupted training continues from nnU-Net's last checkpoint. nnU-Net draws its patches without a seed, so two runs
    differ. Its checkpoints are pickles, which only nnU-Net reads.

    Parameters
    ----------
    configuration:
        ``2d`` or ``3d_fullres``.
    iterations:
        Steps per epoch (published: 250, and 1000 epochs); the validation loss takes a fifth as many.
    planner:
        ``default`` as published in 2021, or one of the residual encoder presets that nnU-Net has recommended since.
    batch_size:
        Cases in a batch; null: as nnU-Net plans.
    spacing:
        Distances of voxels, slice to slice, row to row and column to column in mm, to which nnU-Net brings all images;
        null: as it plans.
    mirror:
        Average predictions over mirrored images, as published.
    modality:
        The modality given to nnU-Net: with ``CT`` it normalises by the intensities of all training masks.
    workers:
        Processes for preparing and augmenting; null: one less than there are cores, at most 12.
    """

    external: ClassVar[bool] = True
    ignores: ClassVar[str] = (
        "nnU-Net prepares and augments images itself and has its own optimizer and schedule; from the stage it takes "
        "cases, splits and the number of epochs"
    )
    unit = "volume"

    def __init__(
        self,
        configuration: Literal["2d", "3d_fullres"] = "3d_fullres",
        iterations: Annotated[int, Gt(0)] = 250,
        planner: Literal["default", "resenc_m", "resenc_l", "resenc_xl"] = "default",
        batch_size: Annotated[int, Gt(0)] | None = None,
        spacing: tuple[Length, Length, Length] | None = None,
        mirror: bool = True,
        modality: str = "CT",
        workers: Annotated[int, Gt(0)] | None = None,
    ) -> None:
        super().__init__()
        self.configuration, self.iterations, self.batch_size = configuration, iterations, batch_size
        self.planner, self.plans = PLANNERS[planner]
        self.spacing, self.mirror, self.modality = spacing, mirror, modality
        self.workers = workers or max(1, min(12, (os.cpu_count() or 2) - 1))
        command("nnUNetv2_train")
        check_version()

    # -- what every objective has -----------------------------------------------------------------------------------

    def turns(self) -> Sequence[Turn]:
        return ()

    def parts(self) -> Mapping[str, Any]:
        return {}

    def shared_parameters(self, turn: str) -> Sequence[Any]:
        return ()

    def losses(self, turn: str, batch: dict[str, Any]) -> dict[str, Tensor]:
        raise InputError("nnU-Net trains by a program of its own, not batch by batch")

    def predict(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        raise InputError("nnU-Net predicts by a program of its own, not batch by batch")

    # -- what an external one has -----------------------------------------------------------------------------------

    def train_cases(
        self, work: ExternalWork, train: Sequence[Case], validate: Sequence[Case], epochs: int, seed: int
    ) -> None:
        environ = self._environ(work, epochs)
        settings = {"epochs": epochs, "fold": "0" if validate else "all"}
        write_json(work.folder / "settings.json", settings)
        raw, preprocessed = work.folder / "raw" / NAME, work.folder / "preprocessed" / NAME
        for name in ("raw", "preprocessed", "results"):
            (work.folder / name).mkdir(exist_ok=True)
        cases = [*train, *validate]
        names = write_raw(raw, cases, work.load, modality=self.modality, advance=work.advance, say=work.say)
        planned = work.folder / "planned.json"
        if not planned.exists():
            work.say(f"nnU-Net plans and preprocesses {len(cases)} cases; its output is in {work.folder / 'plan.log'}")
            self._plan(work, environ)
            plan = self._plan_of(preprocessed)
            work.say(f"nnU-Net's plan: patches {plan['patch_size']}, batches of {plan['batch_size']}")
            write_json(planned, plan)
        write_splits(preprocessed, [names[c.id] for c in train], [names[c.id] for c in validate])
        if (self._model(work.folder, settings) / "checkpoint_final.pth").exists():
            work.say("nnU-Net has finished its training before")
            return
        log = TrainingLog(work.epoch, lambda epoch: work.advance(epoch - 1, epochs, "nnU-Net"))
        work.run(
            [
                *(command("nnUNetv2_train"), NUMBER, self.configuration, settings["fold"]),
                *("-tr", TRAINER, "-p", self.plans, "-device", _device(work), "--c"),
            ],
            "train.log",
            environ,
            log,
        )

    def predict_cases(
        self, work: ExternalWork, cases: Sequence[Case], name: str
    ) -> Callable[[Case], Mapping[str, np.ndarray]]:
        settings_file = work.folder / "settings.json"
        if not settings_file.exists():
            raise InputError("nnU-Net has not been trained here", str(work.folder))
        settings = json.loads(settings_file.read_text(encoding="utf-8"))
        images, masks = (work.folder / "predicted" / name / kind for kind in ("images", "masks"))
        shutil.rmtree(images.parent, ignore_errors=True)
        images.mkdir(parents=True)
        numbers = {case.id: f"case_{i:05d}" for i, case in enumerate(cases)}
        grids = {}
        for done, case in enumerate(cases, 1):
            image = work.load(case).image
            check_modality(image, self.modality, case)
            write_case(image, image.voxels, images / f"{numbers[case.id]}_0000{ENDING}")
            # The grid without voxels, so that no image has to be read again for its mask.
            grids[case.id] = image.like(np.broadcast_to(np.uint8(0), image.voxels.shape))
            work.advance(done, len(cases), "writing images for nnU-Net")
        device = _device(work)
        work.run(
            [
                *(command("nnUNetv2_predict"), "-i", str(images), "-o", str(masks), "-d", NUMBER),
                *("-c", self.configuration, "-f", settings["fold"], "-tr", TRAINER, "-p", self.plans),
                *("-device", device, "-npp", "1", "-nps", "1"),
                *(["--not_on_device"] if device == "cpu" else []),
                *([] if self.mirror else ["--disable_tta"]),
            ],
            f"predict-{name}.log",
            self._environ(work, settings["epochs"]),
            _counting(work, len(cases)),
        )
        shutil.rmtree(images)

        def mask_of(case: Case) -> Mapping[str, np.ndarray]:
            mask = read_mask(masks / f"{numbers[case.id]}{ENDING}", grids[case.id])
            return {"mask_probability": mask.astype(np.float32)}

        return mask_of

    def forget(self, work: ExternalWork, name: str) -> None:
        shutil.rmtree(work.folder / "predicted" / name, ignore_errors=True)
        (work.folder / f"predict-{name}.log").unlink(missing_ok=True)

    # -- pieces -----------------------------------------------------------------------------------------------------

    def _environ(self, work: ExternalWork, epochs: int) -> dict[str, str]:
        return environment(work.folder, _device(work), epochs, self.iterations, self.workers)

    def _plan(self, work: ExternalWork, environ: Mapping[str, str]) -> None:
        count = str(self.workers)
        work.run(
            [
                *(command("nnUNetv2_plan_and_preprocess"), "-d", NUMBER, "--verify_dataset_integrity", "--clean"),
                *("-pl", self.planner, "-c", self.configuration, "-npfp", count, "-np", count),
                *(["-overwrite_target_spacing", *map(str, self.spacing)] if self.spacing is not None else []),
            ],
            "plan.log",
            environ,
        )
        if self.batch_size is not None:
            path = work.folder / "preprocessed" / NAME / f"{self.plans}.json"
            plans = json.loads(path.read_text(encoding="utf-8"))
            plans["configurations"][self.configuration]["batch_size"] = self.batch_size
            write_json(path, plans)

    def _plan_of(self, preprocessed: Path) -> dict[str, Any]:
        plans = json.loads((preprocessed / f"{self.plans}.json").read_text(encoding="utf-8"))
        if self.configuration not in plans["configurations"]:
            there = ", ".join(plans["configurations"])
            raise InputError(f"nnU-Net plans no '{self.configuration}' for these data", hint=f"it plans: {there}")
        plan = plans["configurations"][self.configuration]
        return {"patch_size": plan["patch_size"], "batch_size": plan["batch_size"], "spacing": plan["spacing"]}

    def _model(self, folder: Path, settings: Mapping[str, Any]) -> Path:
        trained = f"{TRAINER}__{self.plans}__{self.configuration}"
        return folder / "results" / NAME / trained / f"fold_{settings['fold']}"


def _device(work: ExternalWork) -> str:
    """``cpu`` or ``cuda``, since nnU-Net takes no device number."""
    return work.device.partition(":")[0]


def _counting(work: ExternalWork, total: int) -> Callable[[str], None]:
    """Counts the cases that a prediction reports as done."""
    done = 0

    def line(text: str) -> None:
        nonlocal done
        if text.startswith("done with "):
            done += 1
            work.advance(done, total, "nnU-Net predicts")

    return line
