"""Class-balanced samples of manifests with millions of rows: columns stay in Arrow, no Python object is made a row."""

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
    """Classes at several levels, from coarse to fine; the finest one is what a manifest's column holds.

    Attributes
    ----------
    levels:
        Level to its class names, whose order is that of the class numbers.
    of_finest:
        Level to the (finest classes,) class numbers that the finest ones have there.
    """

    levels: Mapping[str, Sequence[str]]
    of_finest: Mapping[str, np.ndarray]

    @property
    def finest(self) -> Sequence[str]:
        return self.levels[list(self.levels)[-1]]

    def classes(self, level: str) -> dict[int, str]:
        """Number and name of the classes of a level that some finest class belongs to."""
        return {int(number): self.levels[level][number] for number in np.unique(self.of_finest[level])}


@dataclass(frozen=True)
class ByDate:
    """Rows before a day (YYYY-MM-DD) are for training, the others are later.

    Attributes
    ----------
    straddling:
        What to do about patients on both sides: ``leave_out`` takes none of their earlier rows.
    """

    column: str
    day: str
    straddling: Straddling = "error"

    @classmethod
    def of(cls, column: str | None, day: str | None, straddling: Straddling, where: str) -> ByDate | None:
        """A split by what may be left out; one of the two alone is an :class:`InputError`."""
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
        Row numbers on or after the split date, with their natural balance.
    total:
        Rows wanted for each level.
    """

    table: Any
    codes: np.ndarray
    train: dict[str, np.ndarray]
    later: np.ndarray
    total: int


def balanced(codes: np.ndarray, classes: Mapping[int, str], total: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted positions of ``total`` rows, ``total // classes`` of each class drawn without replacement.

    What is left over goes, one each, to the first classes by name.

    Parameters
    ----------
    codes:
        (rows,) class numbers; -1 is no class and never drawn.
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
            what = f"class '{name}' has {len(members)} rows and {wanted} are wanted"
            raise InputError(what, hint="a smaller total, or none: the default is the most that all levels can give")
        chosen.append(rng.choice(members, wanted, replace=False, shuffle=False))
    return np.sort(np.concatenate(chosen))


def common_total(codes: np.ndarray, hierarchy: Hierarchy) -> int:
    """The largest total that every level can give: the least of classes times rows of the rarest class."""
    most = []
    for level, names in hierarchy.levels.items():
        counts = np.bincount(hierarchy.of_finest[level][codes[codes >= 0]], minlength=len(names))
        classes = hierarchy.classes(level)
        empty = [name for number, name in classes.items() if not counts[number]]
        if empty:
            raise InputError(
                f"{len(empty)} of the {len(classes)} classes of level {level} have no rows: {', '.join(empty[:SHOWN])}",
                hint="nothing can be balanced with an empty class",
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
    """Balanced training samples of equal size for every level, drawn for each level on its own.

    Parameters
    ----------
    path:
        A Parquet or CSV file.
    column:
        Column with the finest class; rows with an empty cell are left out.
    patient:
        Column with the patient.
    total:
        Rows of each sample; default: the most that every level can give.
    by_date:
        What is for training, and what is ``later``; default: all rows are for training.

    Raises
    ------
    InputError
        for unknown classes, missing columns or values, classes with too few rows, patients on both sides.
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
    """A Parquet or CSV file as a ``pyarrow.Table``, the columns ``dictionaries`` dictionary-encoded."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    if not path.is_file():
        raise InputError("there is no such manifest", str(path))
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
    """A column as (rows,) codes, -1 where it is empty, and the texts they stand for."""
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        column = column.cast(pyarrow.string()).dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pyarrow.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pyarrow.array([], column.type)
    codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes, [str(text) for text in whole.dictionary.to_pylist()]


def class_codes(column: Any, names: Sequence[str], where: str) -> np.ndarray:
    """(rows,) class numbers of a column of names, -1 where it is empty.

    Raises
    ------
    InputError
        for a name that is no class, with the nearest one.
    """
    codes, texts = encoded(column)
    numbers = {name: number for number, name in enumerate(names)}
    used = np.zeros(len(texts) + 1, bool)
    used[codes] = True
    unknown = [text for text, there in zip(texts, used, strict=False) if there and text and text not in numbers]
    if unknown:
        others = f" (and {len(unknown) - 1} other names)" if unknown[1:] else ""
        hint = did_you_mean(unknown[0], names) or "rows with an empty cell are left out"
        raise InputError(f"'{unknown[0]}' is no class{others}", where, hint)
    table = np.array([*(numbers.get(text, -1) for text in texts), -1], np.int16)  # the last one for empty cells
    return table[codes]


def _on_or_after(column: Any, day: str, where: str) -> np.ndarray:
    import pyarrow
    import pyarrow.compute as compute

    try:
        first = pyarrow.scalar(day).cast(pyarrow.date32())
        days = _days(column)
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(f"this is no date ({str(error).splitlines()[0]})", where, "write YYYY-MM-DD") from error
    if days.null_count:
        raise InputError(f"{days.null_count} rows have no date", where)
    return compute.greater_equal(days, first).to_numpy()


def _days(column: Any) -> Any:
    """Dates of a column: days, times (the day on the clock of their own time zone), or texts or numbers YYYYMMDD."""
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
    """Which earlier rows may be used for training, so that no patient is on both sides."""
    codes, patients = encoded(column)
    # One patient is one, with or without spaces around the name.
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
