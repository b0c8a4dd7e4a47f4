"""What tests of several areas share."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
import torch
from medkit_benchmarks import mixed_tree
from torch.optim.optimizer import register_optimizer_step_post_hook

from medkit.data.folds import split
from medkit.data.nifti import write_nifti
from medkit.data.tree_labels import Labels
from medkit.data.tree_table import Choices
from medkit.data.tree_write import write as write_tree
from medkit.data.volume import Volume
from medkit.engine.checkpoint import read_tensors
from medkit.engine.events import EpochEnded, Events
from medkit.engine.optimizers import Optimization
from medkit.engine.runtime import Runtime
from medkit.engine.settings import TrainingSettings
from medkit.engine.state import TrainingState
from medkit.engine.trainer import Trainer, Validate
from medkit.recipe import Recipe, load_recipe, recipe_from
from medkit.registry import plugins
from medkit.runs.handle import Run
from medkit.runs.run import RunSettings, resume, run


def edit_dicom(path: Path, **tags: object) -> None:
    """Change tags of a DICOM file; None removes one."""
    data = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(path)


class Stopped(BaseException):
    """The power went."""


@contextmanager
def plugin_file(path: Path, cache: Path) -> Iterator[None]:
    """A plugin of one file that is loaded inside, with a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(cache))
        plugins.load_file(path)
        yield
    plugins._loaded.cache_clear()
    del sys.modules[path.stem]


@contextmanager
def stopped_after(steps: int) -> Iterator[None]:
    """Whatever is trained inside is stopped in its ``steps``-th optimizer step; it has to come so far."""
    taken = 0

    def count(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == steps:
            raise Stopped

    handle = register_optimizer_step_post_hook(count)
    try:
        with pytest.raises(Stopped):
            yield
    finally:
        handle.remove()


class Told:
    """Keeps the epochs that it is told of."""

    def __init__(self) -> None:
        self.epochs: list[EpochEnded] = []

    def epoch_ended(self, event: EpochEnded) -> None:
        self.epochs.append(event)


def fit(
    objective: Any,
    loader: Any,
    folder: Path,
    *,
    runtime: Runtime | None = None,
    validate: Validate | None = None,
    listeners: Sequence[Any] = (),
    **settings: Any,
) -> TrainingState:
    """Train an objective by the engine, without a recipe."""
    optimizers, schedules = settings.pop("optimizers"), settings.pop("schedules")
    settings.setdefault("optimizations", {t: Optimization(optimizers[t], schedules[t]) for t in optimizers})
    chosen = TrainingSettings(**{"stage": "small", "seed": 0, **settings})
    runtime = runtime or Runtime(torch.device("cpu"))
    return Trainer(objective, loader, chosen, runtime, folder, Events(own=listeners), validate).fit()


def small_recipe(name: str, report: dict[str, Any] | None = None, **stage: Any) -> Recipe:
    """One stage that classifies slices of six phantoms of 32 x 32 x 4, with ``auc``; keys of the stage as keywords."""
    source = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4}
    return recipe_on(source, name, report, **stage)


def recipe_on(source: dict[str, Any], name: str = "t", report: dict[str, Any] | None = None, **stage: Any) -> Recipe:
    """That of :func:`small_recipe` on another source, whose cases have the folds train, val and test."""
    splits = {split: {"fold": split} for split in ("train", "val", "test")}
    encoder = {"use": "timm", "model": "test_resnet"}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"cls": {"use": "smartnet:slice_class"}}}
    data = {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}
    made = {"name": "s", "batch": 4, "objective": objective, "metrics": ["auc"], **stage}
    return recipe_from({"medkit": 1, "name": name, "data": {"d": data}, "stages": [made], "report": report or {}})


def train(
    recipe: Recipe | str | Path, out: Path, *, set: Sequence[str] = (), skip: Sequence[str] = (), **options: Any
) -> Run:
    """``medkit.run`` without a report, which takes most of a small run, for tests that do not look at it."""
    return run(recipe, out, set=set, skip=skip, settings=RunSettings(**options))


def go_on(out: Path, **options: Any) -> Run:
    """``medkit.resume`` without a report."""
    return resume(out, RunSettings(**options))


def large_enough(recipe: Recipe, path: Path) -> Path:
    """Write a small recipe with images of 64 x 64: batch norm takes a batch of one of them, as a rank may see."""
    recipe.write(path)
    return load_recipe(path, set=["data.d.source.size=[64, 64]"]).write(path)


def gpu_script(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """``.ci/gpu`` with this Python."""
    return subprocess.run(
        [Path(__file__).resolve().parents[1] / ".ci" / "gpu", *map(str, arguments)],
        env=os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def grouped(path: Path) -> None:
    """Give a DICOM file what a whole study has: patient, study, and frame of reference."""
    edit_dicom(
        path,
        **dict.fromkeys(("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"), ""),
        **{"PatientName": "Test^A", "PatientID": "P1", "StudyID": "1", "StudyDate": "20200101", "StudyTime": "101010"},
        **{"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5", "PositionReferenceIndicator": ""},
        **{"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "SeriesNumber": 2, "PatientPosition": "HFS"},
        **{"AcquisitionNumber": 1, "ContentDate": "20200101", "ContentTime": "101010", "KVP": "120"},
    )


def enhanced(folder: Path, path: Path) -> None:
    """Write the slices of a folder, by name, as the frames of one enhanced CT file."""
    slices = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    made = pydicom.dcmread(sorted(folder.iterdir())[0])
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedCTImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    made.NumberOfFrames, made.PixelData = len(slices), b"".join(data.PixelData for data in slices)
    shared = _item(PlaneOrientationSequence=_item(ImageOrientationPatient=made.ImageOrientationPatient))
    scale = {name: made.get(name) for name in ("RescaleSlope", "RescaleIntercept")}
    shared.PixelValueTransformationSequence = [_item(**scale, RescaleType="HU")]
    each = [
        _item(
            PlanePositionSequence=_item(ImagePositionPatient=data.ImagePositionPatient),
            PixelMeasuresSequence=_item(PixelSpacing=data.PixelSpacing, SliceThickness=data.SliceThickness),
        )
        for data in slices
    ]
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", *scale):
        delattr(made, name)
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], each
    made.save_as(path, enforce_file_format=True)


def _item(**tags: Any) -> pydicom.Dataset:
    made = pydicom.Dataset()
    for name, value in tags.items():
        setattr(made, name, [value] if isinstance(value, pydicom.Dataset) else value)
    return made


KIND_OF = {
    "scout": "scout",
    "report": "report",
    "sharp": "another chosen",
    "coronal": "not axial",
    "capture": "secondary capture",
    "copy": "copy",
    "gap": "gaps",
}
"""What a part of a mixed tree is left out for."""


def check_mixed_tree(folder: Path, studies: int) -> None:
    """Each study of a tree of mixed contents gives its right series, every other file is in a line with its reason."""
    made = mixed_tree.write(folder / "tree", studies, slices=4)
    written = write_tree(folder / "tree", folder / "cases.csv", Choices(slices=4))
    assert [row["series"] for row in written.rows] == list(made.right)
    for row in written.rows:
        image = Path(row["image"])
        files = image.read_text().split() if image.suffix == ".txt" else map(str, image.glob("[!.]*"))
        assert {Path(name).parent for name in files} == {made.right[row["series"]].resolve()}
    assert {kind: written.left_out[KIND_OF[kind]] for kind in made.left_out} == made.left_out
    with written.left_out_path.open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["kind"] != "hidden"]
    assert all(line["reason"] and line["place"] for line in lines)
    accounted = sum(int(line["images"]) for line in lines) + sum(row["slices"] for row in written.rows)
    assert accounted == written.files == made.files


def write_heads(root: Path) -> Path:
    """Twelve heads of noise with masks, labels and a clean twin of each, every second one with a bright square; the
    manifest of them, split."""
    affine = np.array([[0, 0, 0.5, 0], [0, 0.5, 0, 0], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    for i in range(12):
        clean = np.full((3, 64, 64), -1000, np.int16)
        clean[:, 8:56, 8:56] = 30
        mask = np.zeros(clean.shape, np.uint8)
        mask[1, 20:34, 20:34] = i % 2
        clean[mask > 0] = 70
        noisy = clean + rng.integers(-8, 9, clean.shape).astype(np.int16)
        for name, voxels in (("images", noisy), ("masks", mask), ("clean", clean)):
            write_nifti(Volume(voxels, affine), root / name / f"p{i:02d}.nii.gz")
    labels = root / "labels.csv"
    rows = "".join(f"p{i:02d},{i % 2},clean/p{i:02d}.nii.gz\n" for i in range(12))
    labels.write_text(f"id,label,target\n{rows}")
    write_tree(root / "images", root / "cases.csv", Choices(masks=root / "masks"), labels=Labels(labels))
    split(root / "cases.csv", stratify="label", shares=(0.5, 0.25, 0.25))
    return root / "cases.csv"


def write_noise(folder: Path, patients: list[str], folds: list[str], first: int = 0) -> dict[str, Any]:
    """One scan of noise for each patient, every second one with a bleed; the source of their manifest, ``m.csv``.

    The scans of two folders are the same from the same ``first`` on.
    """
    folder.mkdir()
    lines = ["image,patient,fold,bleed"]
    for i, (patient, fold) in enumerate(zip(patients, folds, strict=True), first):
        voxels = np.random.default_rng(i).normal(30, 9, (32, 32, 4)).astype(np.int16)
        voxels[:4] = -1000
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1, 1, 5, 1])), folder / f"{i}.nii")
        lines.append(f"{i}.nii,{patient},{fold},{i % 2}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return {"use": "manifest", "path": str(folder / "m.csv"), "label": "bleed"}


def write_hands(root: Path) -> Path:
    """Twelve pictures of a bar that grows with age, as PNG; the manifest of them, split."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    for i in range(12):
        image = rng.integers(0, 60, (80, 64)).astype(np.uint8)
        image[: 20 + 4 * i, 20:44] += 120
        cv2.imwrite(str(root / "images" / f"{i:03d}.png"), image)
    labels = root / "labels.csv"
    rows = "".join(f"{i:03d},{20 + 10 * i},{i % 3},{i % 2},{i % 2}\n" for i in range(12))
    labels.write_text(f"id,months,view,broken,sex\n{rows}")
    write_tree(root / "images", root / "cases.csv", Choices(), labels=Labels(labels))
    split(root / "cases.csv", stratify="view", shares=(0.5, 0.25, 0.25))
    return root / "cases.csv"


def told(folder: Path) -> tuple[list[dict[str, Any]], Any]:
    """The epochs and the results of a run, without the seconds they took."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds")
    return lines, json.loads((folder / "results.json").read_text())


def assert_same_run(found: Path, wanted: Path) -> None:
    """Two runs have the same epochs, results and weights, to the last bit."""
    assert told(found) == told(wanted)
    names = sorted(path.name for path in (wanted / "weights").iterdir())
    assert sorted(path.name for path in (found / "weights").iterdir() if path.name[0] != ".") == names
    for name in names:
        mine, theirs = (read_tensors(run / "weights" / name)[0] for run in (found, wanted))
        assert mine.keys() == theirs.keys()
        different = [key for key in mine if not torch.equal(mine[key], theirs[key])]
        assert not different, f"{name}: {different[:3]}"


def write_pictures(root: Path) -> Path:
    """34 pictures of a bar, a dot, both or nothing, whose table has labels of each kind."""
    rng, kinds = np.random.default_rng(0), ["bar", "dot", "none"]
    with (root / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient", "fold", "kind", "has_bar", "has_dot", "found", "grade", "age"])
        for i in range(34):
            kind = kinds[i % 3]
            image = rng.integers(0, 60, (32, 32)).astype(np.uint8)
            if kind == "bar":
                image[4:28, 6:10] = 200
            if kind == "dot" or i % 6 == 0:
                image[20:26, 20:26] = 200 + (i % 7)
            cv2.imwrite(str(root / f"{i}.png"), image)
            dot = int(kind == "dot" or i % 6 == 0)
            found = ";".join(name for name, there in (("bar", kind == "bar"), ("dot", dot)) if there) or "none"
            unknown = i in (3, 32)  # nobody looked for dots
            fold = "train" if i < 18 else "val" if i < 24 else "test"
            grade = ["mild", "moderate", "severe"][i % 3]
            writer.writerow([f"{i}.png", f"p{i // 2}", fold, kind, int(kind == "bar"), "" if unknown else dot,
                             found, grade, 20 + 3 * (i % 9)])  # fmt: skip
    return root / "cases.csv"


def without_keys(run: Path) -> None:
    """Leave a run as an earlier version did, which did not note what its weights are."""
    path = run / "state.json"
    state = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({name: value for name, value in state.items() if name != "keys"}), "utf-8")


def torchrun(script: Path, *arguments: str, folder: Path) -> None:
    """Start a script on two ranks as users do, in fresh processes; ``folder`` is its last argument."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, folder], capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
