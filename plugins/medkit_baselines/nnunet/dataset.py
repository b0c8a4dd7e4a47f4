"""Write cases as a raw data set of nnU-Net, and read its masks and data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medkit.api import Case, InputError, Record
from medkit.data.nifti import read_nifti, write_nifti
from medkit.data.resample import irregular
from medkit.data.units import require_hu
from medkit.data.volume import Volume
from medkit.records import write_atomically

ENDING = ".nii.gz"
CASES = "cases.json"
LABELS = {"background": 0, "lesion": 1}


def write_raw(
    folder: Path,
    cases: Sequence[Case],
    load: Callable[[Case], Record],
    *,
    modality: str = "CT",
    advance: Callable[..., None] = lambda done, total=None, note="": None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, str]:
    """Write ``imagesTr``, ``labelsTr``, ``dataset.json`` and ``cases.json`` (our names of the cases) into ``folder``.

    Images keep their HU. Cases are numbered, since their names may contain what file names must not. Continuing after
    an interruption writes only what is missing; ``dataset.json`` comes last.

    Returns
    -------
    dict
        A case's own id to its name in the data set.

    Raises
    ------
    InputError
        if a case has no mask, or two cases have one id.
    """
    names = {case.id: f"case_{i:05d}" for i, case in enumerate(cases)}
    if len(names) != len(cases):
        raise InputError("two cases have the same id")
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for left in (folder / name).glob(".*"):  # half a file of an interrupted attempt
            left.unlink()
    uneven = []
    for done, case in enumerate(cases, 1):
        image = folder / "imagesTr" / f"{names[case.id]}_0000{ENDING}"
        mask = folder / "labelsTr" / f"{names[case.id]}{ENDING}"
        if not mask.exists():
            record = load(case)
            if record.mask is None:
                raise InputError(f"case '{case.id}' has no mask, and nnU-Net learns from masks only")
            check_modality(record.image, modality, case)
            if irregular(record.image) is not None:
                uneven.append(case.id)
            write_case(record.image, record.image.voxels, image)
            write_case(record.image, record.mask.voxels.astype(np.uint8), mask)
        advance(done, len(cases), "writing nnU-Net's data set")
    if uneven:
        shown = ", ".join(uneven[:3]) + (" ..." if len(uneven) > 3 else "")
        say(f"{len(uneven)} scans have slices at varying distances or a tilt ({shown}): nnU-Net treats them as even")
    content = {
        "channel_names": {"0": modality},
        "labels": LABELS,
        "numTraining": len(cases),
        "file_ending": ENDING,
    }
    known = {names[c.id]: {"case": c.id, "patient": c.patient, "center": c.center, "fold": c.fold} for c in cases}
    write_json(folder / CASES, known)
    write_json(folder / "dataset.json", content)
    return names


def check_modality(image: Volume, modality: str, case: Case) -> None:
    """Refuse images that are called CT and are not in HU, since nnU-Net clips and scales CT by HU."""
    if modality == "CT":
        hint = "give nnU-Net another `modality`, or say that they are: `units: HU` of the source, or --units HU"
        require_hu(image, "nnU-Net's preparation of CT", f"case '{case.id}'", hint)


def write_case(grid: Volume, voxels: np.ndarray, path: Path) -> None:
    """Write voxels of a case as NIfTI, whole or not at all.

    A grid that NIfTI readers refuse or cannot express (sheared by a tilt, slices at varying distances) is written with
    its spacing alone: nnU-Net uses nothing else of it, and masks come back voxel by voxel.
    """
    affine = grid.affine
    if irregular(grid) is not None:
        affine = np.eye(4)[[2, 1, 0, 3]] * [*grid.spacing, 1.0]  # slices along z, rows along y, columns along x
    path.unlink(missing_ok=True)
    write_nifti(Volume(np.ascontiguousarray(voxels), affine), path)


def read_mask(path: Path, grid: Volume) -> np.ndarray:
    """The mask that nnU-Net made for a case, (D,H,W) uint8 on the case's own grid.

    Raises
    ------
    InputError
        if the file lies on another grid than was written, or holds other labels.
    """
    found = read_nifti(path)
    if found.voxels.shape != grid.voxels.shape:
        raise InputError(f"the mask is {found.voxels.shape}, its image {grid.voxels.shape}", str(path))
    if irregular(grid) is None:
        difference = found.same_grid(Volume(grid.voxels, grid.affine))
        if difference is not None:
            raise InputError(f"mask and image lie on different grids ({difference})", str(path))
    values = np.unique(found.voxels)
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"the mask holds {values[:6].tolist()}, not only 0 and 1", str(path))
    return found.voxels.astype(np.uint8)


def write_splits(preprocessed: Path, train: Sequence[str], validate: Sequence[str]) -> None:
    """nnU-Net's ``splits_final.json`` with one fold: ours, by patient."""
    write_json(preprocessed / "splits_final.json", [{"train": list(train), "val": list(validate)}])


def manifest(folder: Path, seed: int = 0) -> Any:
    """A raw data set of nnU-Net as a manifest for medkit.

    A data set that medkit wrote has patients, centres and folds (``cases.json``). In any other, each case is its own
    patient: where several cases may belong to one person, correct the column before training. Cases of ``imagesTr`` are
    drawn into folds, those of ``imagesTs`` with a mask in ``labelsTs`` are tests.

    Parameters
    ----------
    folder:
        The folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``.
    seed:
        For drawing folds.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, mask.
    """
    import pandas

    from medkit.data.layouts import SHARES
    from medkit.data.splits import assign_folds

    described = folder / "dataset.json"
    if not described.is_file():
        raise InputError("this is no raw data set of nnU-Net: it holds no dataset.json", str(folder))
    try:
        content = json.loads(described.read_text(encoding="utf-8"))
        ending, labels, channels = content["file_ending"], content["labels"], content["channel_names"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"this is not a dataset.json of nnU-Net v2 ({error})", str(described)) from error
    if len(channels) > 1:
        raise InputError(f"the data set has {len(channels)} channels, a medkit case has one", str(described))
    others = {name: value for name, value in labels.items() if value != 0}
    if list(others.values()) != [1]:
        hint = "write masks of 0 and 1 first: medkit segments one label"
        raise InputError(f"the data set's labels are {others}", str(described), hint)
    own = json.loads((folder / CASES).read_text(encoding="utf-8")) if (folder / CASES).is_file() else {}
    rows = []
    for images, masks, fold in (("imagesTr", "labelsTr", ""), ("imagesTs", "labelsTs", "test")):
        for image in sorted((folder / images).glob(f"[!.]*_0000{ending}")):
            name = image.name.removesuffix(f"_0000{ending}")
            mask = folder / masks / f"{name}{ending}"
            if not mask.is_file():
                if fold == "test":
                    continue
                raise InputError("an image of the training set has no mask", str(image), f"{mask} is missing")
            unknown = {"case": name, "patient": name, "center": folder.name, "fold": fold}
            row = unknown if fold else own.get(name, unknown)
            rows.append({**row, "image": str(image.resolve()), "mask": str(mask.resolve())})
    if not rows:
        raise InputError(f"no *_0000{ending} is in imagesTr", str(folder))
    drawn = [row for row in rows if not row["fold"]]
    with_tests = any(row["fold"] == "test" for row in rows)
    shares = {"train": 0.8, "val": 0.2} if with_tests else SHARES
    folds = assign_folds([row["patient"] for row in drawn], [0] * len(drawn), shares, seed)
    for row, chosen in zip(drawn, folds, strict=True):
        row["fold"] = chosen
    return pandas.DataFrame(rows)


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
