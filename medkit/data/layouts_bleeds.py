"""Public sets of head CT with drawn bleeds, as NIfTI files, as manifests: BHSD, INSTANCE 2022, HemSeg-200."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.io import read_volume
from medkit.data.layouts import FOLDS, with_folds
from medkit.data.tree_files import stem
from medkit.errors import InputError

BHSD_CLASSES = {1: "epidural", 2: "intraparenchymal", 3: "intraventricular", 4: "subarachnoid", 5: "subdural"}
"""Values of BHSD's masks, by the ``dataset.json`` of its repository."""
BHSD = (("images", "ground truths"), ("imagesTr", "labelsTr"), ("imagesTs", "labelsTs"))
HEMSEG = (("image", "label"), ("images", "labels"))
BLEED = {1: "bleed"}
RSNA_NAME = re.compile(r"(ID_[0-9a-f]+)_(ID_[0-9a-f]+)")
FROM_RSNA = (
    "its scans come from RSNA Intracranial Hemorrhage Detection and patients have its names (ID_...), so that nobody "
    "is tested on them unnoticed who was seen in training there"
)
Progress = Callable[[int, int], None]


def bhsd(folder: Path, seed: int = 0, progress: Progress | None = None) -> Any:
    """Manifest of BHSD: 192 head CTs with masks of five kinds of bleed (Wu et al., MLMI 2023, arXiv:2308.11298).

    Files lie in ``label_192/images`` and ``label_192/ground truths``, or as the ``dataset.json`` in
    github.com/White65534/BHSD lists them, in ``imagesTr`` and ``labelsTr`` (and ``Ts``). They are named
    ``ID_<patient>_ID_<study>.nii.gz`` by RSNA's identifiers; some patients have two studies. That file also says which
    value of a mask is which kind: :data:`BHSD_CLASSES`. Its 1,980 scans with labels of slices are not read.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, mask, label and the five kinds; folds are drawn by patient.
        ``attrs["told"]`` says what a user should know.

    Raises
    ------
    InputError
        if no scan is here, one has no mask or another name, or a mask holds another value.
    """
    folder = Path(folder)
    places = [(folder / top / images, folder / top / masks) for top in ("", "label_192") for images, masks in BHSD]
    rows = []
    for image, mask in _pairs(places, folder, "label_192/images and label_192/ground truths are wanted"):
        match = RSNA_NAME.fullmatch(stem(image.name))
        if match is None:
            raise InputError("a scan is named ID_<patient>_ID_<study>.nii.gz", str(image))
        rows.append(_row(match[0], match[1], "rsna", image, mask))
    table, _ = _with_kinds(rows, BHSD_CLASSES, seed, progress)
    named = ", ".join(f"{value}: {name}" for value, name in BHSD_CLASSES.items())
    table.attrs["told"] = [f"masks have classes; in the data block: classes: {{{named}}}", FROM_RSNA]
    return table


def instance_2022(folder: Path, seed: int = 0, progress: Progress | None = None) -> Any:
    """Manifest of INSTANCE 2022's training set: 100 head CTs with masks of bleeds (Li et al., arXiv:2301.03281).

    Files lie in ``train_2/data/001.nii.gz`` and ``train_2/label/001.nii.gz`` (or ``train``); a mask is 1 where there is
    blood of whatever kind. The 30 scans for validation are published without masks, and not read.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, mask, label. ``attrs["told"]`` says what a user should know.

    Raises
    ------
    InputError
        if no scan is here, one has no mask, or a mask holds another value.
    """
    folder = Path(folder)
    places = [(folder / top / "data", folder / top / "label") for top in ("train_2", "train", "")]
    pairs = _pairs(places, folder, "train_2/data and train_2/label are wanted")
    names = [(stem(image.name), image, mask) for image, mask in pairs]
    rows = [_row(name, f"instance_{name}", "instance", image, mask) for name, image, mask in names]
    table = _with_kinds(rows, BLEED, seed, progress)[0].drop(columns="bleed")
    table.attrs["told"] = [
        "the set does not say whose a scan is: each counts as a patient of its own",
        "all scans have a bleed: what is trained on them alone has seen no normal head",
    ]
    return table


def hemseg_200(folder: Path, seed: int = 0, progress: Progress | None = None) -> Any:
    """Manifest of HemSeg-200: head CTs of RSNA's set with masks of bleeds (Song et al., arXiv:2405.14559, 222 scans).

    Its masks are published alone (github.com/songchangwei/3DCT-SD-IVH-ICH), and the images are made from RSNA's DICOM
    files by its script, one ``<scan>.nii.gz`` each. They lie in ``image`` and ``label``, here or in ``train``, ``val``
    and ``test``. ``annotion_file_info.jsonl`` of that repository says whose a scan is, a line each with ``patient`` and
    ``scan_``; some patients have two. Masks show bleeds in the brain and its ventricles; whether values tell these two
    apart is not published, and told where there are others than 0 and 1.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, mask, label, published_fold; folds are drawn by patient.
        ``attrs["told"]`` says what a user should know.

    Raises
    ------
    InputError
        if no scan is here, or one has no mask, or nothing says whose it is.
    """
    folder = Path(folder)
    patients = _patients_of_scans(folder)
    rows = []
    for part in ("", "train", "val", "test"):
        for image, mask in _pairs([(folder / part / a, folder / part / b) for a, b in HEMSEG]):
            name = stem(image.name).removeprefix("ID_")
            if name not in patients:
                raise InputError("annotion_file_info.jsonl does not say whose this scan is", str(image))
            row = _row(name, patients[name], "rsna", image, mask)
            rows.append(row | {"published_fold": FOLDS.get(part, "")})
    if not rows:
        raise InputError("no scan is here", str(folder), "image/<scan>.nii.gz and label/<scan>.nii.gz are wanted")
    table, values = _with_kinds(rows, None, seed, progress)
    told = [FROM_RSNA]
    if values - {0, 1}:
        told.append(
            f"masks hold the values {', '.join(map(str, sorted(values)))}; what they mean is not published: name them "
            "by 'classes' in the data block"
        )
    table.attrs["told"] = told
    return table


def _pairs(places: list[tuple[Path, Path]], root: Path | None = None, wanted: str = "") -> Iterator[tuple[Path, Path]]:
    """Scans and their masks, of one name, in the first folders that are there and all beside them."""
    found = False
    for images, masks in places:
        for image in sorted(images.glob("[!.]*.nii*")) if masks.is_dir() else ():
            mask = masks / image.name
            if not mask.is_file():
                raise InputError(f"no mask of this name is in '{masks.name}'", str(image))
            found = True
            yield image, mask
    if not found and root is not None:
        raise InputError("no scan is here", str(root), wanted)


def _row(case: str, patient: str, center: str, image: Path, mask: Path) -> dict[str, Any]:
    files = {"image": str(image.resolve()), "mask": str(mask.resolve())}
    return {"case": case, "patient": patient, "center": center, "fold": "", **files}


def _with_kinds(
    rows: list[dict[str, Any]], names: Mapping[int, str] | None, seed: int, progress: Progress | None
) -> tuple[Any, set[int]]:
    """The rows as a table with what their masks show and folds, and the values of all; without names any is a bleed."""
    import pandas

    every: set[int] = set()
    for number, row in enumerate(rows, 1):
        values = {int(value) for value in np.unique(read_volume(row["mask"], units="stored").voxels)}
        if names is not None and (others := values - {0, *names}):
            raise InputError(f"a mask holds 0 and {', '.join(map(str, names))}, this one {min(others)}", row["mask"])
        row["label"] = int(bool(values - {0}))
        row |= {name: int(value in values) for value, name in (names or {}).items()}
        every |= values
        if progress is not None:
            progress(number, len(rows))
    return with_folds(pandas.DataFrame(rows), "label", seed), every


def _patients_of_scans(folder: Path) -> dict[str, str]:
    """Patients by scan, as the repository's table has them."""
    tables = sorted(folder.glob("annotion_file_info*.jsonl"))
    if not tables:
        hint = "get it from github.com/songchangwei/3DCT-SD-IVH-ICH: some patients have two scans"
        raise InputError("annotion_file_info.jsonl is not here, so nothing says whose a scan is", str(folder), hint)
    found = {}
    for path in tables:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                said = json.loads(line)
                found[str(said["scan_"] if "scan_" in said else said["scan"])] = str(said["patient"])
            except (KeyError, TypeError, ValueError) as error:
                raise InputError("a line has 'patient' and 'scan_'", f"{path}:{number}") from error
    return found
