"""Class-balanced samples of manifests with millions of rows: columns stay in Arrow, without Python objects per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medkit.errors import InputError, did_you_mean

Straddling = Literal["error", "leave_out"]
SHOWN = 8  # patients that an error names


@dataclass(frozen=True)
class Hierarchy:
    """Classes at several levels, from coarse to fine; a manifest's column holds the finest.

    Attributes
    ----------
    levels:
        Level to its class names, in order of the class numbers.
    of_finest:
        Level to the class numbers there of the finest classes, (finest classes,).
    """

    levels: Mapping[str, Sequence[str]]
    of_finest: Mapping[str, np.ndarray]

    @property
    def finest(self) -> Sequence[str]:
        return self.levels[list(self.levels)[-1]]

    def classes(self, level: str) -> dict[int, str]:
        """Number and name of the classes of a level to which some finest class belongs."""
        return {int(number): self.levels[level][number] for number in np.unique(self.of_finest[level])}


@dataclass(frozen=True)
class ByDate:
    """Rows before a day (YYYY-MM-DD) are for training, all others are later.

    Attributes
    ----------
    straddling:
        What to do with patients on both sides: ``leave_out`` leaves out their earlier rows, ``error`` refuses them.
    """

    column: str
    day: str
    straddling: Straddling = "error"

    @classmethod
    def of(cls, column: str | None, day: str | None, straddling: Straddling, where: str) -> ByDate | None:
        """A split by date, or None without ``column`` and ``day``; only one of the two is an :class:`InputError`."""
        if (column is None) != (day is None):
            raise InputError("a split by date needs both its column and its day", where)
        return None if column is None or day is None else cls(column, day, straddling)


@dataclass
class Sampled:
    """What :func:`sample_manifest` chose.

    Attributes
    ----------
    table:
        The manifest, a ``pyarrow.Table``.
    codes:
        (rows,) number of the finest class; -1 for rows without one.
    train:
        Level to the sorted row numbers of its balanced training sample.
    later:
        Row numbers on or after the split date, in their natural class balance.
    total:
        Number of rows for each level.
    """

    table: Any
    codes: np.ndarray
    train: dict[str, np.ndarray]
    later: np.ndarray
    total: int


def balanced(codes: np.ndarray, classes: Mapping[int, str], total: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted positions of ``total`` rows, ``total // classes`` of each class drawn without replacement.

    The remainder goes, one each, to the first classes by name.

    Parameters
    ----------
    codes:
        (rows,) class numbers; -1 is not a class and never drawn.
    classes:
        Number and name of each class.

    Raises
    ------
    InputError
        if a class has too few rows.
    """
    each, left = divmod(total, len(classes))
    more = set(sorted(classes, key=lambda number: classes[number])[:left])
    chosen = []
    for number, name in classes.items():
        members = np.flatnonzero(codes == number)
        wanted = each + (number in more)
        if len(members) < wanted:
            what = f"class '{name}' has {len(members)} rows, but {wanted} are needed"
            raise InputError(what, hint="give a smaller total, or none: the default is the most that all levels allow")
        chosen.append(rng.choice(members, wanted, replace=False, shuffle=False))
    return np.sort(np.concatenate(chosen))


def common_total(codes: np.ndarray, hierarchy: Hierarchy) -> int:
    """The largest total that every level allows: the least of classes times rows of the rarest class."""
    most = []
    for level, names in hierarchy.levels.items():
        counts = np.bincount(hierarchy.of_finest[level][codes[codes >= 0]], minlength=len(names))
        classes = hierarchy.classes(level)
        empty = [name for number, name in classes.items() if not counts[number]]
        if empty:
            raise InputError(
                f"{len(empty)} of the {len(classes)} classes of level {level} have no rows: {', '.join(empty[:SHOWN])}",
                hint="samples cannot be balanced with an empty class: leave it out of the hierarchy",
            )
        most.append(len(classes) * int(counts[list(classes)].min()))
    return min(most)


def sample_manifest(
    path: str | Path,
    hierarchy: Hierarchy,
    *,
    column: str,
    patient: str,
    seed: int = 0,
    total: int | None = None,
    by_date: ByDate | None = None,
) -> Sampled:
    """Balanced training samples of equal size for every level, drawn separately for each level.

    Parameters
    ----------
    path:
        A Parquet or CSV file.
    column:
        Column with the finest class; rows with an empty cell are left out.
    patient:
        Column with the patient.
    total:
        Rows of each sample; default: the most that every level allows.
    by_date:
        Which rows are for training, and which are ``later``; default: all rows are for training.

    Raises
    ------
    InputError
        for unknown classes, missing columns or values, classes with too few rows, or patients on both sides.
    """
    where = str(path)
    table = read_columns(Path(path), [column, patient])
    for name in (column, patient, *([by_date.column] if by_date else [])):
        if name not in table.column_names:
            hint = did_you_mean(name, table.column_names) or f"columns: {', '.join(table.column_names)}"
            raise InputError(f"the manifest has no column '{name}'", where, hint)
    codes = class_codes(table[column], hierarchy.finest, f"{where}: {column}")
    earlier = codes >= 0
    later = np.zeros(len(codes), bool)
    if by_date is not None:
        after = _on_or_after(table[by_date.column], by_date.day, f"{where}: {by_date.column}")
        later, earlier = earlier & after, earlier & ~after
        earlier = _apart(table[patient], earlier, later, by_date.straddling, f"{where}: {patient}")
    training = np.where(earlier, codes, -1)
    try:
        total = common_total(training, hierarchy) if total is None else total
        train = {}
        for i, level in enumerate(hierarchy.levels):
            there = np.where(earlier, hierarchy.of_finest[level][training], -1).astype(np.int16)
            train[level] = balanced(there, hierarchy.classes(level), total, np.random.default_rng([seed, i]))
    except InputError as error:
        raise InputError(error.what, where, error.hint) from error
    return Sampled(table, codes, train, np.flatnonzero(later), total)


def read_columns(path: Path, dictionaries: Sequence[str]) -> Any:
    """A Parquet or CSV file as a ``pyarrow.Table``, with the columns ``dictionaries`` dictionary-encoded."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    if not path.is_file():
        raise InputError("there is no such manifest", str(path), "check the path")
    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path, read_dictionary=list(dictionaries))
        kind = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        options = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(dictionaries, kind), strings_can_be_null=True, null_values=[""]
        )
        return pyarrow.csv.read_csv(path, convert_options=options)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"the manifest cannot be read ({error})", str(path), "CSV or Parquet with a header") from error


def encoded(column: Any) -> tuple[np.ndarray, list[str]]:
    """A column as (rows,) codes, -1 for an empty cell, and the text that each stands for."""
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        column = column.cast(pyarrow.string()).dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pyarrow.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pyarrow.array([], column.type)
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes, [str(text) for text in whole.dictionary.to_pylist()]


def class_codes(column: Any, names: Sequence[str], where: str) -> np.ndarray:
    """(rows,) class numbers for a column of names, -1 for an empty cell.

    Raises
    ------
    InputError
        for a name that is not a class, with the nearest one.
    """
    codes, texts = encoded(column)
    numbers = {name: number for number, name in enumerate(names)}
    used = np.zeros(len(texts) + 1, bool)
    used[codes] = True
    unknown = [text for text, there in zip(texts, used, strict=False) if there and text and text not in numbers]
    if unknown:
        others = f" (and {len(unknown) - 1} other names)" if unknown[1:] else ""
        hint = did_you_mean(unknown[0], names) or "rows with an empty cell are left out"
        raise InputError(f"'{unknown[0]}' is not a class{others}", where, hint)
    table = np.array([*(numbers.get(text, -1) for text in texts), -1], np.int16)  # the last is for empty cells
    return table[codes]


def _on_or_after(column: Any, day: str, where: str) -> np.ndarray:
    import pyarrow
    import pyarrow.compute as compute

    try:
        first = pyarrow.scalar(day).cast(pyarrow.date32())
        days = _days(column)
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(f"this is not a date ({str(error).splitlines()[0]})", where, "write YYYY-MM-DD") from error
    if days.null_count:
        raise InputError(f"{days.null_count} rows have no date", where, "every row needs its date")
    return compute.greater_equal(days, first).to_numpy()


def _days(column: Any) -> Any:
    """Dates of a column: days, times (the local day in their own time zone), or text or numbers YYYYMMDD."""
    import pyarrow
    import pyarrow.compute as compute

    types = pyarrow.types
    if types.is_dictionary(column.type):
        column = column.cast(pyarrow.string())
    if types.is_timestamp(column.type) and column.type.tz is not None:
        column = compute.local_timestamp(column)
    packed = types.is_integer(column.type)
    if packed or (types.is_string(column.type) or types.is_large_string(column.type)):
        column = compute.utf8_trim_whitespace(column.cast(pyarrow.string()))
        if packed or compute.all(compute.match_substring_regex(column, r"^[0-9]{8}$")).as_py():
            column = compute.strptime(column, format="%Y%m%d", unit="s")
    return column.cast(pyarrow.date32(), safe=False)


def _apart(column: Any, earlier: np.ndarray, later: np.ndarray, straddling: Straddling, where: str) -> np.ndarray:
    """(rows,) booleans: which earlier rows may be used for training without having a patient on both sides."""
    codes, patients = encoded(column)
    # Names that differ only by surrounding spaces are one patient.
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name.strip() for name in patients))}
    codes = np.array([*(numbers[name.strip()] for name in patients), -1])[codes]
    patients = list(numbers)
    without = int(((codes < 0) & (earlier | later)).sum())
    if without:
        raise InputError(f"{without} rows have no patient", where, "every row needs its patient")
    seen = np.zeros((2, len(patients)), bool)
    seen[0, codes[earlier]] = seen[1, codes[later]] = True
    both = seen[0] & seen[1]
    if not both.any():
        return earlier
    if straddling == "leave_out":
        return earlier & ~both[codes]
    names = [patients[i] for i in np.flatnonzero(both)[:SHOWN]]
    more = ", ..." if both.sum() > SHOWN else ""
    raise InputError(
        f"{int(both.sum())} patients are on both sides of the split date: {', '.join(names)}{more}",
        where,
        "move the date, or leave their earlier images out (straddling: leave_out)",
    )
