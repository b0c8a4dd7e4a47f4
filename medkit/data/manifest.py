"""Manifests as Arrow tables: CSV with every cell as text, Parquet with its types; names are text, never numbers."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from medkit.data.cases import distinct_values
from medkit.errors import InputError
from medkit.protocols.labels import DECIMAL_COMMA, as_number

BLOCK = 1 << 23  # bytes parsed at a time: no row may be longer
INDEX = re.compile(r"__index_level_\d+__")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_manifest(path: Path, what: str = "manifest") -> Any:
    """A CSV or Parquet file as a ``pyarrow.Table``; columns without a name are left out. Errors call it ``what``.

    Raises
    ------
    InputError
        naming the file and, for a CSV, the line.
    """
    with _guarded(path, what):
        table = _parquet(path) if path.suffix == ".parquet" else _csv(path, what)
    return table.select([i for i, name in enumerate(table.column_names) if _is_named(name)])


def column_names(path: Path, what: str = "manifest") -> list[str]:
    """The columns that :func:`read_manifest` finds, for which no row is read. Errors call the file ``what``.

    Raises
    ------
    InputError
        naming the file.
    """
    with _guarded(path, what):
        if path.suffix == ".parquet":
            import pyarrow.parquet

            found = pyarrow.parquet.read_schema(path).names
        else:
            found = _header(path, what)
        _check_names(found, path)
    return [name for name in found if _is_named(name)]


@contextmanager
def _guarded(path: Path, what: str) -> Iterator[None]:
    """Whatever a missing or damaged file makes a parser raise is told as the file's fault."""
    if not path.is_file():
        raise InputError(f"there is no such {what}", str(path), "check the path")
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "it has to be CSV or Parquet with a header"
        raise InputError(f"the {what} cannot be read ({first})", str(path), hint) from error


def _is_named(name: str) -> bool:
    return bool(name.strip()) and not INDEX.fullmatch(name)


def write_rows(table: Any, to: Path | BinaryIO, suffix: str) -> None:
    """Write a pandas or Arrow table as CSV, or as Parquet if ``suffix`` is ``.parquet``, without a pandas index."""
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        made = table if isinstance(table, pyarrow.Table) else pyarrow.Table.from_pandas(table, preserve_index=False)
        pyarrow.parquet.write_table(made, to)
    else:
        frame = table if hasattr(table, "to_csv") else table.to_pandas()
        frame.to_csv(to, index=False)


def _parquet(path: Path) -> Any:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        _check_names(file.schema_arrow.names, path)
        return file.read()


def _csv(path: Path, what: str) -> Any:
    import pyarrow
    import pyarrow.csv

    names = _header(path, what)
    _check_names(names, path)
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pyarrow.large_string()), strings_can_be_null=True, null_values=[""]
    )
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    try:
        return pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(block_size=BLOCK), parsing, options)
    except pyarrow.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise _encoding(path, what) from error
        raise _ragged(path, len(names)) or error from error


def _header(path: Path, what: str) -> list[str]:
    """The names of a CSV's columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next((row for row in csv.reader(file) if row), None)
    except UnicodeDecodeError as error:
        raise _encoding(path, what) from error
    if names is not None and any("\0" in name for name in names):  # UTF-16 without its byte-order mark
        raise _encoding(path, what)
    if names is not None and names[0].startswith("sep="):
        wrong = f"the {what} begins with '{names[0]}', not with the names of its columns"
        raise InputError(wrong, f"{path}:1", "remove this line, which only Excel reads")
    if names is None:
        raise InputError(f"the {what} is empty", str(path), "it has to be CSV or Parquet with a header")
    if len(names) == 1:
        for sign, word in SEPARATORS.items():
            if sign in names[0]:
                hint = "save it as CSV with commas; in Excel: 'CSV UTF-8', or change the list separator"
                raise InputError(f"the columns are separated by {word}, not by commas", str(path), hint)
    return names


def _check_names(names: list[str], path: Path) -> None:
    twice = sorted({name for name in names if name.strip() and names.count(name) > 1})
    if twice:
        raise InputError(f"two columns are named '{twice[0]}'", str(path), "rename or remove one of them")


def _encoding(path: Path, what: str) -> InputError:
    hint = "save it as 'CSV UTF-8'; in Python: encoding='utf-8'"
    return InputError(f"the {what} is not UTF-8 text", str(path), hint)


def _ragged(path: Path, width: int) -> InputError | None:
    """An error for the first line with another number of fields than the header."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        for row in reader:
            if row and len(row) != width:
                what = f"this line has {len(row)} fields, the header {width} columns"
                hint = "put text with commas in quotes, and no comma at the end of a line"
                return InputError(what, f"{path}:{reader.line_num}", hint)
    return None


def texts(table: Any, name: str, where: str) -> Any:
    """A column of names, as stripped text, null for an empty cell; None if there is no such column.

    Integers become text as they are. Floats are refused: pandas turns a column of integers with gaps into floats, and
    whether 7.0 means 7 or 7.0 cannot be known.
    """
    import pyarrow
    import pyarrow.compute as compute

    if name not in table.column_names:
        return None
    column = table[name]
    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pyarrow.types.is_floating(column.type):
        column = compute.if_else(compute.is_nan(column), None, column)
        if column.null_count < len(column):
            first = compute.drop_null(column)[0].as_py()
            hint = "save the column as text or whole numbers; in pandas: .astype('Int64')"
            raise InputError(f"'{name}' is a column of names, but holds decimal numbers such as {first!r}", where, hint)
    try:
        column = compute.utf8_trim_whitespace(column.cast(pyarrow.large_string()))
    except pyarrow.ArrowException as error:
        raise InputError(
            f"'{name}' holds {column.type} values, which cannot be names", where, "save it as text"
        ) from error
    empty = compute.equal(column, "")
    if compute.any(empty).as_py():
        column = compute.if_else(empty, None, column)
    return column.combine_chunks()


def numbers(table: Any, name: str, where: str) -> tuple[Any, list[tuple[int, str]]]:
    """A column of labels as (rows,) float64, nan for an empty cell; and row and text of each cell that is not a
    finite number."""
    import numpy as np
    import pyarrow

    column = table[name].combine_chunks()
    if pyarrow.types.is_floating(column.type) or pyarrow.types.is_integer(column.type):
        found = column.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        return found, [(int(row), str(found[row])) for row in np.flatnonzero(np.isinf(found))]
    column = distinct_values(column, name, where, "number")
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    words = column.dictionary.to_pylist()
    values = np.array([*map(as_number, words), np.nan])  # the last is for empty cells
    wrong = np.array([*(word is not None and str(word).strip() != "" for word in words), False]) & ~np.isfinite(values)
    return values[codes], [(int(row), str(words[codes[row]])) for row in np.flatnonzero(wrong[codes])]


def refuse_decimal_commas(words: Iterable[str], name: str, where: str) -> None:
    """Refuse a column of numbers such as '0,5', which would be taken for names."""
    found = list(words)
    commas = [word for word in found if DECIMAL_COMMA.fullmatch(word)]
    if commas and all(DECIMAL_COMMA.fullmatch(word) or not math.isnan(as_number(word)) for word in found):
        hint = f"write '{commas[0].replace(',', '.')}'"
        raise InputError(f"'{name}' has decimal commas, such as '{commas[0]}'", where, hint)
