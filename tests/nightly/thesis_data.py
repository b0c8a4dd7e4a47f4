"""Data and weights that recipes/thesis asks for, at the thesis's sizes: phantoms, and networks that nobody trained."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from medkit_pedxnet.views import Views
from safetensors.torch import save_file

import medkit
from medkit.data.nifti import write_nifti

RANDOM = "random_test_features"
VIEWS = Views().names[68]


def write_all(folder: Path) -> dict[str, str]:
    """Write everything; returns the environment variables that name it."""
    folder.mkdir(parents=True, exist_ok=True)
    inception = folder / "inception.safetensors"
    encoder = medkit.build("encoder", "pedxnet:inception_v3", in_channels=1)
    save_file({k: v.contiguous() for k, v in encoder.state_dict().items()}, inception)
    return {
        "MEDKIT_ICH_MANIFEST": str(_head_ct(folder / "ich")),
        "MEDKIT_LDCT_MANIFEST": str(_pairs(folder / "ldct")),
        "MEDKIT_PEDXNET_MANIFEST": str(_views(folder / "views")),
        "MEDKIT_FRACTURE_MANIFEST": str(_fractures(folder / "fracture")),
        "MEDKIT_RSNA_BONE_AGE": str(_bone_age(folder / "age")),
        "MEDKIT_RESNET50": str(_resnet50(folder)),
        "MEDKIT_VGG19": RANDOM,
        "MEDKIT_FID_INCEPTION": RANDOM,
        **{f"MEDKIT_PEDXNET_{name}": str(inception) for name in ("7C", "30C", "68C")},
    }


def _resnet50(folder: Path) -> Path:
    path = folder / "resnet50.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("resnet50").state_dict(), path)
    return path


def _table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def _head_ct(folder: Path) -> Path:
    """512x512 slices: two training scans of 32, as the thesis's are; two shallow ones a test set."""
    folder.mkdir()
    places = [("val", "internal"), ("test", "internal"), *(("test", f"external{i}") for i in (1, 2, 3))]
    rows = []
    for slices, wanted in ((32, [("train", "internal")]), (4, places)):
        source = medkit.build(
            "source", "phantoms:head_ct", patients=16, size=(512, 512), slices=slices, positive_fraction=0.5
        )
        free: dict[bool, list[tuple[str, str]]] = {True: list(wanted), False: list(wanted)}
        for case in source.cases():
            if not any(free.values()):
                break
            record = source.load(case)
            left = free[bool(record.mask.voxels.any())]
            if not left:
                continue
            fold, center = left.pop()
            name = f"{case.id}_{slices}"
            names = {kind: folder / f"{name}_{kind}.nii.gz" for kind in ("image", "mask")}
            write_nifti(record.image, names["image"])
            write_nifti(record.mask, names["mask"])
            row = {"case": name, "patient": name, "center": center, "fold": fold}
            rows.append({**row, **{kind: str(path) for kind, path in names.items()}})
        assert not any(free.values()), "more patients are needed"
    return _table(folder / "ich.csv", rows)


def _pairs(folder: Path) -> Path:
    folder.mkdir()
    clean = medkit.build("source", "phantoms:head_ct", patients=6, size=(512, 512), slices=6)
    source = medkit.build("source", "mtdgan:low_dose", dose=0.25, source=clean)
    rows = []
    for case, fold in zip(source.cases(), ["train", "train", "val", "val", "test", "test"], strict=True):
        record = source.load(case)
        names = {kind: folder / f"{case.id}_{kind}.nii.gz" for kind in ("image", "target")}
        write_nifti(record.image, names["image"])
        write_nifti(record.target, names["target"])
        row = {"case": case.id, "patient": case.id, "fold": fold}
        rows.append({**row, **{kind: str(path) for kind, path in names.items()}})
    return _table(folder / "ldct.csv", rows)


def _images(folder: Path, count: int, first: int = 0) -> Iterator[Path]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(first)
    for i in range(first, first + count):
        path = folder / f"{i}.png"
        image = cv2.resize(rng.integers(0, 256, (24, 20), dtype=np.uint8), (700, 900))
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        yield path


def _views(folder: Path) -> Path:
    """Three earlier radiographs and one later of each of the 68 views, from as many patients."""
    rows = []
    for i, path in enumerate(_images(folder / "png", 4 * len(VIEWS))):
        date = "2019-01-01" if i % 4 == 3 else "2017-01-01"
        rows.append({"image": str(path), "view": VIEWS[i // 4], "patient": f"p{i}", "date": date})
    return _table(folder / "views.csv", rows)


def _fractures(folder: Path) -> Path:
    folds = ["train"] * 4 + ["val"] * 2 + ["test"] * 4
    rows = [
        {"image": str(path), "patient": f"limb{i}", "fold": folds[i], "fracture": i % 2}
        for i, path in enumerate(_images(folder / "png", len(folds)))
    ]
    return _table(folder / "fracture.csv", rows)


def _bone_age(folder: Path) -> Path:
    for start, name in enumerate(("train", "validation", "test")):
        rows = [
            {"id": path.stem, "boneage": 60 + 10 * i, "male": "True" if i % 2 else "False"}
            for i, path in enumerate(_images(folder / name, 4, 4 * start))
        ]
        _table(folder / f"{name}.csv", rows)
    return folder
