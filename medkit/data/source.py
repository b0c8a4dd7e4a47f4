"""Cases listed in a manifest: a CSV or Parquet file, one row per scan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medkit.data.cases import CaseTable
from medkit.data.files import shown, stamp, system
from medkit.data.manifest import numbers, read_manifest, texts
from medkit.data.masks import read_mask, read_overlapping
from medkit.data.mend import Mend
from medkit.data.source_columns import OPTIONAL, check_optional, require
from medkit.data.volume import Units, Volume
from medkit.data.whereabouts import below, distinct, whereabouts
from medkit.errors import InputError, Problems
from medkit.protocols import Case, Record
from medkit.protocols.classes import Classes

SHOWN = 10  # problems reported at once


@dataclass
class ManifestSource:
    """Cases of a CSV or Parquet manifest; the arguments name its columns.

    Parameters
    ----------
    path:
        The manifest.
    image:
        Column with the image: DICOM folder, ``FOLDER#SERIES_UID``, series list (.txt) or NIfTI file. Several columns
        (``[t1, flair]``) give images of several channels, all on one grid.
    mask:
        Column with the mask, on the image's grid; or a DICOM Segmentation of it, whose segments are labelled like the
        ``classes`` of the data block, if it has any. Absent column: no masks. Several columns (``[bleed, oedema]``)
        hold one mask of 0 and 1 for each of as many overlapping classes.
    target:
        Column with the paired image of a denoising task, on the image's grid. Absent column: none.
    patient:
        Column with the patient; required, because splits must not share patients.
    center:
        Column with the centre.
    fold:
        Column with the fold.
    label:
        Column with a label (a number; an empty cell for none). Without this column, the label follows from the mask.
    case:
        Column with a unique name for each row; default: the image's path.
    root:
        Folder to which relative paths are relative; default: the manifest's own.
    allow_gaps:
        Take DICOM series with missing, interleaved or misplaced slices as they are; the report says so.
    mend:
        Repairs of DICOM files whose headers lack or contradict what reading needs; the report says so. ``rescale``: CT
        without RescaleSlope or RescaleIntercept gets those of ``rescale``; ``preamble``: files without DICOM's preamble
        are read as DICOM; ``signed``: CT pixels declared unsigned that cannot be are read as signed.
    rescale:
        Slope and intercept that the repair of this name uses.
    units:
        ``HU`` if images and targets are in HU although files or voxels do not show it, such as crops without air;
        ``stored`` if they are not although they look like it. Default: what files and voxels show.
    colour:
        Read PNG images in colour: red, green and blue as three channels.
    check_pairs:
        Check image and target for shifts, wrong slices and offsets (``medkit.data.pairs``). Turn it off for targets
        that are meant to look different.
    no_mask:
        What rows without a mask are if there is a column of masks: ``normal`` scans, whose mask is empty, or
        ``unlabelled``, with no mask at all. Default: normal where the label is 0, unlabelled where there is none;
        required if there is no column of labels.
    space:
        Whose patients these are, such as the hospital's name. Equal patient names in two manifests are one patient (who
        may not be both trained and tested on), unless their spaces differ.
    """

    path: Path
    image: str | tuple[str, ...] = "image"
    mask: str | tuple[str, ...] = "mask"
    target: str = "target"
    patient: str = "patient"
    center: str | None = "center"
    fold: str | None = "fold"
    label: str | None = None
    case: str | None = None
    root: Path | None = None
    check_pairs: bool = True
    space: str | None = None
    allow_gaps: bool = False
    units: Units | None = None
    no_mask: Literal["normal", "unlabelled"] | None = None
    colour: bool = False
    mend: tuple[Literal["rescale", "preamble", "signed"], ...] = ()
    rescale: tuple[float, float] = (1.0, -1024.0)

    def __post_init__(self) -> None:
        if self.no_mask not in (None, "normal", "unlabelled"):
            raise InputError(f"rows without a mask are normal or unlabelled, not '{self.no_mask}'", "no_mask")
        self.images = (self.image,) if isinstance(self.image, str) else tuple(self.image)
        if not self.images or len(set(self.images)) < len(self.images):
            raise InputError(f"images come from one column or from several different ones, not {self.image}", "image")
        self.masks = (self.mask,) if isinstance(self.mask, str) else tuple(self.mask)
        if not self.masks or len({*self.masks, *self.images}) < len(self.masks) + len(self.images):
            raise InputError(f"masks come from one column or from several different ones, not {self.mask}", "mask")
        self.classes: Classes | None = None
        self._mend = Mend.of(self.mend, self.rescale)
        self._table: CaseTable | None = None
        self._files: dict[str, Any] = {}
        self._masked = np.zeros(0, bool)  # rows that have a mask, including the empty one of a normal scan
        self._without: set[int] = set()  # rows of the file that are left out
        self._kept = np.zeros(0, np.int64)  # the row of the file that each row of the table is

    @property
    def channels(self) -> int:
        """How many channels a case has: one per image, or three in colour."""
        return len(self.images) * (3 if self.colour else 1)

    @property
    def notice(self) -> str:
        """For the top of the report: what the recipe says about the files that they do not show themselves."""
        gaps = "Series with gaps or misplaced slices were read as they are (allow_gaps)." if self.allow_gaps else ""
        units = f"Voxels were read as {self.units} values because the recipe says so." if self.units else ""
        return " ".join(text for text in (gaps, self._mend.notice, units) if text)

    def cases(self) -> Sequence[Case]:
        if self._table is None:
            self._table = self._read()
        return self._table

    @property
    def left_out(self) -> frozenset[int]:
        """Rows of the file that are left out, from 0."""
        return frozenset(self._without)

    def leave_out_missing(self) -> list[tuple[str, InputError]]:
        """Leave out, from now on, rows with a missing image, mask or target; return their cases and what is missing.

        Raises
        ------
        InputError
            if no row is left.
        """
        table, where = read_manifest(Path(self.path)), str(self.path)
        found: dict[int, str] = {}
        for role in (*self.images, *self.masks, self.target):
            cells = texts(table, role, where)
            if cells is not None:
                paths = below(self._root(), cells)
                for row in _rows(~whereabouts(paths)[0]):
                    found.setdefault(row, f"{role}: there is no '{shown(str(paths[row]))}'")
        if found and len(found) == len(table):
            raise InputError("every row has a missing file", where, f"row 2, {found[0]}")
        names = texts(table, self.case or self.images[0], where)
        self._without, self._table = set(found), None
        return [
            (str(names[row] if names is not None else row + 2), InputError(what, f"{self.path}:{row + 2}"))
            for row, what in sorted(found.items())
        ]

    def _read(self) -> CaseTable:
        import pyarrow
        import pyarrow.compute as compute

        where = str(self.path)
        table = read_manifest(Path(self.path))
        self._kept = np.delete(np.arange(len(table)), sorted(self._without))
        if self._without:
            table = table.take(self._kept)
        require((*self.images, self.patient, self.label, self.case), table, where)
        defaults = {key: type(self).__dataclass_fields__[key].default for key in OPTIONAL}
        check_optional({key: getattr(self, key) for key in OPTIONAL}, defaults, table, where, self._root())
        if not len(table):
            raise InputError("the manifest has no rows", where, "write one row per scan")
        problems: list[tuple[int, InputError]] = []

        def problem(rows: Iterable[int], what: Callable[[int], str], hint: str | None = None) -> None:
            for row in islice(rows, SHOWN):
                problems.append((row, InputError(what(row), self._where(row), hint)))

        patients = texts(table, self.patient, where)
        images = texts(table, self.images[0], where)
        problem(_rows(patients.is_null()), lambda _: f"no value in '{self.patient}'", "every row needs its patient")
        for name in self.images:
            problem(_rows(texts(table, name, where).is_null()), lambda _, n=name: f"no value in '{n}'")  # type: ignore[misc]
        names = images if self.case is None else texts(table, self.case, where)
        problem(_rows(names.is_null()), lambda _: f"no value in '{self.case}'") if self.case else None
        places = None
        if len(self.masks) > 1:
            self._check_masks(table, problem)
        for role in (*self.images, *self.masks, self.target):
            cells = texts(table, role, where)
            if cells is None:
                continue
            self._files[role] = paths = below(self._root(), cells)
            there, found = whereabouts(paths)
            if role == self.images[0]:
                places = images if found is None else found
            del found
            pyarrow.default_memory_pool().release_unused()
            problem(_rows(~there), lambda row, p=paths, r=role: f"{r}: there is no '{shown(str(p[row]))}'")  # type: ignore[misc]
        # One file in two spellings is one image; only rows that have names of their own may show the same one.
        first = _again(places if self.case is None else names)
        named = "remove one; cases that show one image on purpose need names: 'case: COLUMN' of the source"
        problem(first, lambda row: _twice(names, row, first[row], self._where), None if self.case else named)
        labels = self._labels(table, problem)
        self._masked = self._with_mask(labels, problem)
        if self.label is None and self.no_mask == "normal" and self.masks[0] in self._files:
            labels[self._files[self.masks[0]].is_null().to_numpy(zero_copy_only=False)] = 0.0
        if problems:
            raise Problems([error for _, error in sorted(problems, key=lambda found: found[0])[:SHOWN]])
        columns = {"id": names, "patient": patients.dictionary_encode(), "label": labels}
        if places is not names and not distinct(places):
            columns["image"] = places
        for key, column in (("center", self.center), ("fold", self.fold)):
            cells = texts(table, column, where) if column else None
            if cells is not None:
                columns[key] = compute.dictionary_encode(cells)
        used = {*self.images, *self.masks, self.target, self.patient, self.center, self.fold, self.label, self.case}
        made = CaseTable(columns, {name: table[name] for name in table.column_names if name not in used})
        pyarrow.default_memory_pool().release_unused()
        return made

    def _check_masks(self, table: Any, problem: Callable[..., None]) -> None:
        """Check that all columns of masks exist, and that each row has all masks or none."""
        where = str(self.path)
        require(self.masks, table, where)
        empty = np.stack([_there(texts(table, name, where).is_null()) for name in self.masks])
        hint = "give an empty mask for a class that the case does not have, or leave all its masks empty"
        for name, missing in zip(self.masks, empty, strict=True):
            problem(_rows(missing & ~empty.all(0)), lambda _, n=name: f"no value in '{n}'", hint)  # type: ignore[misc]

    def _root(self) -> str:
        return str(Path(self.root) if self.root is not None else Path(self.path).parent)

    def _where(self, row: int) -> str:
        return f"{self.path}:{self._kept[row] + 2}"  # the header is the first row of a table

    def _labels(self, table: Any, problem: Callable[..., None]) -> np.ndarray:
        if self.label is not None:
            labels, wrong = numbers(table, self.label, str(self.path))
            values = dict(wrong)
            hint = f"classes are named by 'labels: {{one_of: [NAME, NAME], column: {self.label}}}' of the data block"
            problem(values, lambda row: f"{self.label}: '{shown(values[row])}' is not a finite number", hint)
            return labels
        return np.full(len(table), np.nan)

    def _with_mask(self, labels: np.ndarray, problem: Callable[..., None]) -> np.ndarray:
        """Which rows have a mask; a missing mask means a normal scan only if something says so."""
        if self.masks[0] not in self._files:
            return np.zeros(len(labels), bool)
        empty = self._files[self.masks[0]].is_null().to_numpy(zero_copy_only=False)
        if self.no_mask == "normal":
            return np.ones(len(labels), bool)
        if self.no_mask is None:
            said = f"no mask: {empty.sum()} of {len(empty)} rows have none, and nothing says whether they are normal"
            hint = "'no_mask: normal' or 'no_mask: unlabelled' in the source, or 'label: COLUMN' where 0 is normal"
            if self.label is None:
                problem(islice(_rows(empty), 1), lambda _: said, hint)
            else:
                told = "'no_mask: unlabelled' in the source if none was drawn"
                problem(_rows(empty & (labels > 0)), lambda row: f"labelled {labels[row]:g}, but has no mask", told)
        return ~empty | (labels == 0)

    def have_masks(self, cases: Sequence[Case]) -> np.ndarray:
        """(n,) booleans: which cases have a mask, including the empty one of a normal scan."""
        if isinstance(cases, CaseTable) and cases.shares(self.cases()):
            return self._masked[cases.rows]
        return self._masked[[self.row(case) for case in cases]]

    def _row(self, case: Case) -> dict[str, Any]:
        """The paths of a case's image, mask and target, for the columns that the manifest has."""
        row = self.row(case)
        found = {role: paths[row].as_py() for role, paths in self._files.items()}
        return {role: None if path is None else system(path) for role, path in found.items()}

    def line(self, case: Case) -> int:
        """The row of a case in the manifest's file, from 0."""
        return int(self._kept[self.row(case)])

    def where(self, case: Case) -> str:
        """File and row of a case, as errors name it."""
        return self._where(self.row(case))

    def row(self, case: Case) -> int:
        """The row of a case, from 0, among those that are not left out."""
        self.cases()
        assert self._table is not None
        return self._table.row_of(case.id)

    def load(self, case: Case) -> Record:
        try:
            return self._load(case)
        except Problems:
            raise
        except InputError as error:
            where = self._where(self.row(case))
            raise InputError(error.what, f"{where}: {error.where}" if error.where else where, error.hint) from error

    def _load(self, case: Case) -> Record:
        from medkit.data.pairs import check_pair

        row = self._row(case)
        image, *others = (volume for name in self.images for volume in self._read_images(row[name]))
        record = Record(image, channels=others)
        if self.masks[0] in row:
            if row[self.masks[0]] is not None:
                record.mask = self._read_masks(row, image)
            elif self._masked[self.row(case)]:
                record.mask = image.like(np.zeros(image.voxels.shape, np.uint8))
        if row.get(self.target) is not None:
            record.target = self._volume(row[self.target])
            difference = image.same_grid(record.target)
            if difference:
                what = f"target and image lie on different grids ({difference})"
                raise InputError(what, row[self.target], "resample the target to the image's grid")
            if self.check_pairs:
                check_pair(image, record.target, row[self.target])
        return record

    def _read_images(self, path: str) -> list[Any]:
        """The image in a file or folder, or its colour channels."""
        from medkit.data.png import read_colours

        if self.colour:
            return [*read_colours(Path(path))]
        return [self._volume(path)]

    def _volume(self, path: str) -> Volume:
        from medkit.data.io import read_volume

        return read_volume(path, allow_gaps=self.allow_gaps, units=self.units, mend=self._mend)

    def _read_masks(self, row: dict[str, Any], image: Volume) -> Volume:
        """The mask; for several columns, the sum of 1, 2, 4 ... wherever each is set."""
        named, read = str(row[self.images[0]]), self._drawn
        if len(self.masks) == 1:
            return read_mask(row[self.masks[0]], image, named, self.classes, read)
        count = 0 if self.classes is None or not self.classes.overlapping else len(self.classes)
        if count != len(self.masks):
            what = f"{len(self.masks)} columns of masks need as many overlapping classes; the data block has {count}"
            raise InputError(what, "mask", f"'classes: [{', '.join(self.masks)}]' in the data block")
        return read_overlapping([row[name] for name in self.masks], image, named, read)

    def _drawn(self, path: str) -> Volume:
        """A mask's file; what the recipe says about units does not apply to it."""
        from medkit.data.io import read_volume

        return read_volume(path, allow_gaps=self.allow_gaps, mend=self._mend)

    def identity(self, case: Case) -> str:
        said = [f"{name}: {value}" for name in ("allow_gaps", "units") if (value := getattr(self, name))]
        if self.mend:
            said.append(f"mend: {self._mend.notice}")
        if self.colour:
            said.append("colour: True")
        if not self.check_pairs:  # a source that checks must not use samples cached unchecked
            said.append("check_pairs: False")
        if self.masks[0] in self._files and not self._masked[self.row(case)]:
            said.append("unlabelled")  # once its row says that it is normal, it has a mask
        files = (f"{role} {'none' if path is None else stamp(path)}" for role, path in self._row(case).items())
        return "\n".join([*files, *said])


def read_table(path: Path) -> Any:
    """A CSV or Parquet file as a pandas table; numbers used as names stay as they were written."""
    return read_manifest(path).to_pandas()


def _there(mask: Any) -> np.ndarray:
    """An Arrow array of booleans, chunked or not, as a numpy one."""
    return np.asarray(mask.to_numpy(zero_copy_only=False), bool)


def _rows(mask: Any) -> Iterator[int]:
    if not isinstance(mask, np.ndarray):
        mask = mask.to_numpy(zero_copy_only=False)
    return iter(np.flatnonzero(mask).tolist())


def _again(names: Any) -> dict[int, int]:
    """Positions of names that occurred before, with that of their first occurrence."""
    if distinct(names):
        return {}
    codes = names.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    _, places, which = np.unique(codes, return_index=True, return_inverse=True)
    first = places[which]
    rows = np.flatnonzero((first != np.arange(len(codes))) & (codes >= 0))
    return dict(zip(rows.tolist(), first[rows].tolist(), strict=True))


def _twice(names: Any, row: int, first: int, where: Callable[[int], str]) -> str:
    """That a case was listed before, in which row if it was spelled otherwise there."""
    name, before = shown(str(names[row])), shown(str(names[first]))
    told = "" if name == before else f": '{before}' in {where(first)} is the same image"
    return f"case '{name}' is listed twice{told}"
