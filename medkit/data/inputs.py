"""Images to which a finished run is applied, many at once: those of a manifest, a study, or any folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medkit.data.dicom_series import is_picture, scan, visible
from medkit.data.files import LIST, place, system
from medkit.data.manifest import numbers, read_manifest, texts
from medkit.data.mend import NOTHING, Mend
from medkit.data.tree import Tree
from medkit.data.tree_files import is_mask, stem
from medkit.data.tree_series import FLAT, Series, look
from medkit.data.whereabouts import below, whereabouts
from medkit.errors import InputError

MANIFESTS = (".csv", ".parquet")
BROKEN = ("damaged", "unreadable", "gaps")
"""Why a series is left out although it was meant to be an image."""


@dataclass(frozen=True)
class Input:
    """One image.

    Attributes
    ----------
    case:
        Its unique name.
    image:
        File, folder, ``FOLDER#SERIES_UID`` or list of files.
    files:
        The files of a series in several folders, instead of ``image``.
    fields:
        Values that a head needs in addition to the image.
    problem:
        Why it cannot be read, if that is known already.
    channels:
        Further images of the case.
    """

    case: str
    image: str
    files: tuple[str, ...] = ()
    fields: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""
    channels: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[str, ...]:
        """All images of the case."""
        return (self.image, *self.channels)


@dataclass(frozen=True)
class Wanted:
    """What a run needs of images.

    Attributes
    ----------
    fields:
        Columns of a manifest that heads need.
    images:
        Columns of a manifest with the images of a case.
    allow_gaps, mend:
        As for :func:`medkit.data.io.read_volume`.
    """

    fields: Sequence[str] = ()
    images: Sequence[str] = ("image",)
    allow_gaps: bool = False
    mend: Mend = NOTHING


@dataclass
class Inputs:
    """Images, and how many of a folder's files and series are not images, by kind."""

    images: list[Input] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


PLAIN = Wanted()


def is_one(path: str | Path) -> bool:
    """Whether a name means one image: a file, a list, or a folder whose images are one series."""
    folder, uid = place(path)
    if uid or not folder.is_dir():
        return folder.suffix.lower() not in MANIFESTS
    try:
        series = [headers for headers in scan(visible(folder), str(folder)).values() if not is_picture(headers)]
    except InputError as error:
        return error.where != str(folder)  # an error in one of its files, not that it has no image itself
    return len(series) == 1


def find_inputs(path: Path, wanted: Wanted = PLAIN) -> Inputs:
    """The images of a manifest or below a folder.

    In a folder these are DICOM series that are volumes, radiographs, and NIfTI and PNG files, but not files named like
    masks, pictures, scouts and reports. A series that cannot be read is included, with its problem.

    Raises
    ------
    InputError
        if there is nothing, the manifest is wrong, or a folder is given although only a manifest can say which images
        belong together, or which files are DICOM.
    """
    if path.is_dir():
        _check_folder(path, wanted)
    found = _of_folder(path, wanted.allow_gaps) if path.is_dir() else _of_manifest(path, wanted)
    if not found.images:
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.left_out.most_common()) or "it is empty"
        raise InputError(f"there is no image here ({kinds})", str(path))
    return found


def _check_folder(path: Path, wanted: Wanted) -> None:
    if len(wanted.images) > 1:
        what = f"cases of this run have {len(wanted.images)} images each, and a folder does not say which are one case"
        raise InputError(what, str(path), f"give a manifest with the columns {', '.join(wanted.images)}")
    if "preamble" in wanted.mend.names:
        what = "in a folder, DICOM files are recognised only by their preamble"
        raise InputError(what, str(path), "list files without one in a manifest")


def _of_manifest(path: Path, wanted: Wanted) -> Inputs:
    table, where = read_manifest(path), str(path)
    columns = {role: texts(table, role, where) for role in wanted.images}
    if lacking := [role for role, column in columns.items() if column is None]:
        hint = f"columns: {', '.join(table.column_names)}"
        raise InputError(f"the manifest has no column '{lacking[0]}'", where, hint)
    named = texts(table, "case", where)
    cases = columns[wanted.images[0]] if named is None else named
    for role, column in (*columns.items(), ("case", cases)):
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise InputError(f"no value in '{role}'", f"{path}:{row + 2}")
    again = [name for name, count in Counter(cases.to_pylist()).items() if count > 1]
    if again:
        raise InputError(f"case '{again[0]}' is listed twice", where, "give each its own name in a column 'case'")
    paths = [below(str(path.parent), column) for column in columns.values()]
    there = [whereabouts(column)[0] for column in paths]
    known = {name: _numbers(table, name, path) for name in wanted.fields if name in table.column_names}
    made = []
    for row, (case, *images) in enumerate(zip(cases.to_pylist(), *(p.to_pylist() for p in paths), strict=True)):
        own = {name: float(values[row]) for name, values in known.items()}
        missing = [image for image, found in zip(images, there, strict=True) if not found[row]]
        problem = f"{path}:{row + 2}: there is no '{missing[0]}'" if missing else ""
        first, *others = map(system, images)
        made.append(Input(case, first, (), own, problem, tuple(others)))
    return Inputs(made)


def _numbers(table: Any, name: str, path: Path) -> Any:
    values, wrong = numbers(table, name, str(path))
    if wrong:
        row, text = wrong[0]
        raise InputError(f"{name}: '{text}' is not a finite number", f"{path}:{row + 2}")
    return values


def _of_folder(root: Path, allow_gaps: bool) -> Inputs:
    found = Inputs()

    def stranger(kind: str, path: Path, reason: str) -> None:
        found.left_out[kind] += 1

    with Tree(root, stranger) as tree:
        tree.read()
        for study, series in tree.found.studies.items():
            looked = [look(study, uid, list(tree.series(parts)), 1, allow_gaps) for uid, parts in series.items()]
            for one in looked:
                if one.kind and one.kind not in BROKEN:
                    found.left_out[one.kind] += 1
                else:
                    found.images += _of_series(one, root)
        for name in tree.found.files:
            if is_mask(Path(name), root):
                found.left_out["mask"] += 1
            else:
                found.images.append(Input(_relative(Path(name), root), name))
    found.images = list(_distinct(found.images))
    return found


def _of_series(series: Series, root: Path) -> Iterator[Input]:
    if series.modality in FLAT and not series.kind:
        for header in series.headers:
            yield Input(_relative(header.path, root), str(header.path))
        return
    case = _relative(series.place, root) or root.resolve().name
    files = tuple(str(file) for file in series.files)
    if series.folder is not None:
        yield Input(case, str(series.folder), (), {}, series.reason)
        return
    number = series.first.text("SeriesNumber")
    case = f"{case}-{number}" if number else f"{case}-{series.uid}"
    one_folder = len({Path(file).parent for file in files}) == 1 and series.uid
    image = f"{series.place}#{series.uid}" if one_folder else ""
    yield Input(case, image, () if one_folder else files, {}, series.reason)


def _relative(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    return "" if name == "." else stem(name)


def _distinct(images: Sequence[Input]) -> Iterator[Input]:
    """Images with distinct names: a repeated name gets a number."""
    seen: Counter[str] = Counter()
    for image in images:
        seen[image.case] += 1
        number = seen[image.case]
        name = image.case if number == 1 else f"{image.case}~{number}"
        yield replace(image, case=name)


def write_list(image: Input, path: Path) -> None:
    """Write a list (.txt) of the files of a series in several folders."""
    assert path.suffix == LIST
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{Path(file).absolute()}\n" for file in image.files), encoding="utf-8", errors="surrogateescape"
    )
