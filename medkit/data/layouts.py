"""Folders of public data sets as manifests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medkit.data.manifest import write_rows
from medkit.data.source import read_table
from medkit.data.splits import assign_folds
from medkit.data.whole import whole_file
from medkit.errors import InputError

SHARES = {"train": 0.65, "val": 0.1, "test": 0.25}
FOLDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Folds by the names that data sets give their folders."""
SUBTYPES = ("Intraventricular", "Intraparenchymal", "Subarachnoid", "Epidural", "Subdural")


def physionet_ct_ich(folder: Path, seed: int = 0) -> Any:
    """Manifest of PhysioNet's CT-ICH 1.3.1: ``ct_scans/*.nii``, ``masks/*.nii`` and the diagnosis csv.

    75 scans of 82 patients, named by the patient's number (``049.nii``); ``hemorrhage_diagnosis_raw_ct.csv`` has one
    row per slice: ``PatientNumber``, ``SliceNumber`` and 0 or 1 for each kind of bleed (Hssayeni et al., Data
    2020;5:14). Masks are 255 where there is blood of any kind. Folds are drawn by patient, stratified by haemorrhage.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, mask, label and the five subtypes.
    """
    import pandas

    folder = Path(folder)
    diagnosis = folder / "hemorrhage_diagnosis_raw_ct.csv"
    scans = sorted((folder / "ct_scans").glob("[!.]*.nii*"))
    if not diagnosis.is_file() or not scans:
        old = (folder / "Patients_CT").is_dir()
        hint = (
            "this is version 1.0 of the data, with windowed 8-bit pictures: get 1.3.1"
            if old
            else "it has to hold ct_scans/ and the csv"
        )
        raise InputError("this is not the CT-ICH folder", str(folder), hint)
    table = read_table(diagnosis)
    for column in ("PatientNumber", *SUBTYPES):
        if column not in table.columns:
            raise InputError(f"no column '{column}'", str(diagnosis), f"it has: {', '.join(table.columns)}")
    rows = []
    for scan in scans:
        number = scan.name.split(".")[0]
        if not number.isdecimal():
            hint = "is it a copy of another file? Only files named by the patient's number belong here"
            raise InputError("the name is not a patient's number", str(scan), hint)
        mask = next((folder / "masks").glob(f"{number}.nii*"), None)
        mine = table[table["PatientNumber"].astype(int) == int(number)]
        if mask is None or mine.empty:
            missing = "mask" if mask is None else "row in the csv"
            raise InputError(f"patient {number} has no {missing}", str(scan))
        if mine[list(SUBTYPES)].isna().any(axis=None):
            hint = "an empty entry does not mean no bleeding: get the original file"
            raise InputError(f"patient {number} has slices without a diagnosis", str(diagnosis), hint)
        kinds = {name.lower(): int((mine[name].astype(float) > 0).any()) for name in SUBTYPES}
        label = int(any(kinds.values()))
        rows.append(
            {
                "case": number,
                "patient": number,
                "center": "ct_ich",
                "fold": "",
                "image": str(scan.resolve()),
                "mask": str(mask.resolve()),
                "label": label,
                **kinds,
            }
        )
    return with_folds(pandas.DataFrame(rows), "label", seed)


def rsna_hemorrhage(folder: Path, lists: Path, seed: int = 0) -> Any:
    """Manifest of the RSNA Intracranial Hemorrhage Detection data: labelled images, grouped into series.

    ``stage_2_train/ID_<image>.dcm`` are the images of all series, and ``stage_2_train.csv`` has six rows for each,
    ``ID`` (``ID_<image>_epidural``, ..., ``ID_<image>_any``) and ``Label``; some rows are repeated (Flanders et al.,
    Radiology: Artificial Intelligence 2020;2:e190211). Each series gets a list of its files in the folder ``lists``,
    which the ``image`` column names; patients are taken from DICOM's PatientID.

    Returns
    -------
    pandas.DataFrame
        case, patient, center, fold, image, label and the five subtypes, one row per series.
    """
    import pandas

    from medkit.data.dicom_header import read_header

    folder = Path(folder)
    labels_file, images = folder / "stage_2_train.csv", folder / "stage_2_train"
    if not labels_file.is_file() or not images.is_dir():
        raise InputError("this is not the RSNA folder", str(folder), "stage_2_train.csv and stage_2_train/ are missing")
    labels: dict[str, dict[str, int]] = {}
    for name, value in read_table(labels_file)[["ID", "Label"]].itertuples(index=False):
        image, _, kind = str(name).rpartition("_")
        labels.setdefault(image, {})[kind] = int(value)
    kinds_there = {kind for known in labels.values() for kind in known}
    series: dict[str, list[tuple[Path, str]]] = {}
    for path in sorted(images.glob("[!.]*.dcm")):
        if path.stem not in labels:
            raise InputError(f"{labels_file.name} has no label for this image", str(path))
        if lacking := kinds_there - set(labels[path.stem]):
            raise InputError(f"{labels_file.name} does not say whether this image is '{min(lacking)}'", str(path))
        header = read_header(path)
        series.setdefault(str(header.get("SeriesInstanceUID")), []).append((path, str(header.get("PatientID"))))
    if not series:
        raise InputError("there is no .dcm file here", str(images))
    rows = []
    for uid, files in sorted(series.items()):
        listing = write_listing([path for path, _ in files], Path(lists) / f"{uid}.txt")
        kinds = {
            kind: int(any(labels[path.stem][kind] for path, _ in files)) for kind in sorted(labels[files[0][0].stem])
        }
        label = kinds.pop("any", int(any(kinds.values())))
        rows.append(
            {
                "case": uid,
                "patient": files[0][1],
                "center": "rsna",
                "fold": "",
                "image": str(listing),
                "label": label,
                **kinds,
            }
        )
    return with_folds(pandas.DataFrame(rows), "label", seed)


def with_folds(table: Any, by: str, seed: int) -> Any:
    """The table with folds drawn by patient, stratified by the column ``by``."""
    table["fold"] = assign_folds(table["patient"].tolist(), table[by].tolist(), SHARES, seed)
    return table


def write_listing(files: Sequence[Path], path: Path) -> Path:
    """Write a series list, one absolute path per line, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{file.resolve()}\n" for file in files), encoding="utf-8")
    return path.resolve()


def check_new_manifest(path: Path) -> None:
    """Raise for a name that a manifest cannot have, or that exists already."""
    if path.suffix not in (".csv", ".parquet"):
        raise InputError("a manifest's name has to end in .csv or .parquet", str(path))
    if path.exists():
        raise InputError("the output exists already", str(path), "name a new one: nothing is overwritten")


def write_manifest(table: Any, path: Path) -> list[str]:
    """Write a manifest, CSV or Parquet by its suffix, and return messages for the user. The file must not exist."""
    path = Path(path)
    check_new_manifest(path)
    with whole_file(path) as temporary:
        write_rows(table, temporary, path.suffix)
    return [f"{path}: {len(table)} cases of {table['patient'].nunique()} patients", *table.attrs.get("told", ())]
