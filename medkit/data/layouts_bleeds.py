"""Public sets of head CTs with segmented bleeds, in NIfTI, as manifests: BHSD, INSTANCE 2022, HemSeg-200."""

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
"""Values of BHSD's masks, from the ``dataset.json`` of its repository."""
BHSD = (("images", "ground truths"), ("imagesTr", "labelsTr"), ("imagesTs", "labelsTs"))
HEMSEG = (("image", "label"), ("images", "labels"))
BLEED = {1: "bleed"}
RSNA_NAME = re.compile(r"(ID_[0-9a-f]+)_(ID_[0-9a-f]+)")
FROM_RSNA = (
    "its scans come from RSNA Intracranial Hemorrhage Detection, and patients keep those names (ID_...), so that "
    "testing on a patient who was trained on there is noticed"
)
Progress = Callable[[int, int], None]


def bhsd(folder: Path, seed: int = 0, progress: Progress | None = None) -> Any:
    """Manifest of BHSD: 192 head CTs with masks of five kinds of bleed (Wu et al., MLMI 2023, arXiv:2308.11298).

    Files are in ``label_192/images`` and ``label_192/ground truths``, or as the ``dataset.json`` in
    github.com/White65534/BHSD lists them, in ``imagesTr`` and ``labelsTr`` (and ``Ts``). They are named
    ``ID_<patient>_ID_<study>.nii.gz`` by RSNA's identifiers; some patients have two studies. That file also says which
    mask value is which kind: :data:`BHSD_CLASSES`. The set's 1,980 scans with labelled slices are not read.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, mask, label and the five kinds; folds are drawn by patient.
        ``attrs["told"]`` has messages for the user.

    Raises
    ------
    InputError
        if there is no scan, one has no mask or another name, or a mask holds another value.
    """
    folder = Path(folder)
    places = [(folder / top / images, folder / top / masks) for top in ("", "label_192") for images, masks in BHSD]
    rows = []
    for image, mask in _pairs(places, folder, "it has to hold label_192/images and label_192/ground truths"):
        match = RSNA_NAME.fullmatch(stem(image.name))
        if match is None:
            raise InputError("this is not named ID_<patient>_ID_<study>.nii.gz", str(image), "use the published name")
        rows.append(_row(match[0], match[1], "rsna", image, mask))
    table, _ = _with_kinds(rows, BHSD_CLASSES, seed, progress)
    named = ", ".join(f"{value}: {name}" for value, name in BHSD_CLASSES.items())
    table.attrs["told"] = [f"masks have classes; in the data block: classes: {{{named}}}", FROM_RSNA]
    return table


def instance_2022(folder: Path, seed: int = 0, progress: Progress | None = None) -> Any:
    """Manifest of INSTANCE 2022's training set: 100 head CTs with masks of bleeds (Li et al., arXiv:2301.03281).

    Files are ``train_2/data/001.nii.gz`` and ``train_2/label/001.nii.gz`` (or in ``train``); a mask is 1 where there is
    blood of any kind. The 30 validation scans are published without masks and are not read.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, mask, label. ``attrs["told"]`` has messages for the user.

    Raises
    ------
    InputError
        if there is no scan, one has no mask, or a mask holds another value.
    """
    folder = Path(folder)
    places = [(folder / top / "data", folder / top / "label") for top in ("train_2", "train", "")]
    pairs = _pairs(places, folder, "it has to hold train_2/data and train_2/label")
    names = [(stem(image.name), image, mask) for image, mask in pairs]
    rows = [_row(name, f"instance_{name}", "instance", image, mask) for name, image, mask in names]
    table = _with_kinds(rows, BLEED, seed, progress)[0].drop(columns="bleed")
    table.attrs["told"] = [
        "the set does not say whose a scan is: each counts as a patient of its own",
        "all scans have a bleed: a model trained only on them has not seen a normal head",
    ]
    return table


def hemseg_200(folder: Path, seed: int = 0, progress: Progress | None = None) -> Any:
    """Manifest of HemSeg-200: head CTs from RSNA's set with masks of bleeds (Song et al., arXiv:2405.14559, 222 scans).

    Only its masks are published (github.com/songchangwei/3DCT-SD-IVH-ICH); a script there makes the images from RSNA's
    DICOM files, one ``<scan>.nii.gz`` each. They are in ``image`` and ``label``, here or in ``train``, ``val`` and
    ``test``. That repository's ``annotion_file_info.jsonl`` says whose each scan is, with ``patient`` and ``scan_`` in
    each line; some patients have two. Masks show bleeds in the brain and its ventricles; whether their values separate
    the two is not published, so values other than 0 and 1 are reported.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, mask, label, published_fold; folds are drawn by patient.
        ``attrs["told"]`` has messages for the user.

    Raises
    ------
    InputError
        if there is no scan, or one has no mask, or nothing says whose it is.
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
        wanted = "it has to hold image/<scan>.nii.gz and label/<scan>.nii.gz"
        raise InputError("there is no scan here", str(folder), wanted)
    table, values = _with_kinds(rows, None, seed, progress)
    told = [FROM_RSNA]
    if values - {0, 1}:
        told.append(
            f"masks hold the values {', '.join(map(str, sorted(values)))}; their meaning is not published: name them "
            "with 'classes' in the data block"
        )
    table.attrs["told"] = told
    return table


def _pairs(places: list[tuple[Path, Path]], root: Path | None = None, wanted: str = "") -> Iterator[tuple[Path, Path]]:
    """Scans and their masks of the same name, in all pairs of folders that exist."""
    found = False
    for images, masks in places:
        for image in sorted(images.glob("[!.]*.nii*")) if masks.is_dir() else ():
            mask = masks / image.name
            if not mask.is_file():
                raise InputError(f"there is no mask of this name in '{masks.name}'", str(image), "get the whole set")
            found = True
            yield image, mask
    if not found and root is not None:
        raise InputError("there is no scan here", str(root), wanted)


def _row(case: str, patient: str, center: str, image: Path, mask: Path) -> dict[str, Any]:
    files = {"image": str(image.resolve()), "mask": str(mask.resolve())}
    return {"case": case, "patient": patient, "center": center, "fold": "", **files}


def _with_kinds(
    rows: list[dict[str, Any]], names: Mapping[int, str] | None, seed: int, progress: Progress | None
) -> tuple[Any, set[int]]:
    """The rows as a table, with what their masks show and folds; and all mask values. Without names, any is a bleed."""
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
    """Patients by scan, from the repository's table."""
    tables = sorted(folder.glob("annotion_file_info*.jsonl"))
    if not tables:
        hint = "get it from github.com/songchangwei/3DCT-SD-IVH-ICH: some patients have two scans"
        what = "annotion_file_info.jsonl is missing, so nothing says whose a scan is"
        raise InputError(what, str(folder), hint)
    found = {}
    for path in tables:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                said = json.loads(line)
                found[str(said["scan_"] if "scan_" in said else said["scan"])] = str(said["patient"])
            except (KeyError, TypeError, ValueError) as error:
                raise InputError("this line lacks 'patient' or 'scan_'", f"{path}:{number}") from error
    return found
