"""Reading the small files of a run folder: damage is reported in one line that names the file, whatever it holds."""

from __future__ import annotations

import csv
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from medkit.errors import InputError, RunError
from medkit.recipe.yaml import read

Made = TypeVar("Made")
HINT = "restore the file from a copy, or start a new run"


class _State(TypedDict, total=False):
    done: list[str]
    failed: dict[str, str]


class _Environment(TypedDict, total=False):
    medkit: str
    libraries: dict[str, str]
    plugins: dict[str, str]
    device: str
    precision: str
    ranks: int
    seed: int
    started: str
    notices: list[str]


class _Cost(TypedDict, total=False):
    train_seconds: float
    evaluate_seconds: float
    peak_mb: float | None
    memory: str | None


class _Line(TypedDict):
    stage: str
    epoch: int


class _Stage(TypedDict):
    name: str
    data: str
    unit: str
    objective: dict[str, Any]


class _Recipe(TypedDict):
    name: str
    stages: list[_Stage]
    report: dict[str, Any] | None


SHAPES: Mapping[str, Any] = {
    "state.json": _State,
    "environment.json": _Environment,
    "resources.json": dict[str, _Cost],
    "results.json": dict[str, dict[str, dict[str, dict[str, float | bool | str | None]]]],
    "seen.json": dict[str, dict[str, dict[str, Any]]],
    "later.json": dict[str, dict[str, dict[str, Any]]],
    "metrics.jsonl": _Line,
    "recipe.yaml": _Recipe,
}
"""What each file has to hold at least."""


def damaged(path: Path, why: object) -> RunError:
    return RunError(f"the file is damaged: {' '.join(str(why).split())}", str(path), HINT)


def fitting(path: Path, content: Any) -> Any:
    """``content`` itself, if it has the shape that a file of that name has.

    Raises
    ------
    RunError
        naming the file and the place in it.
    """
    try:
        TypeAdapter(SHAPES.get(path.name, dict[str, Any])).validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise damaged(path, f"{place + ': ' if place else ''}{first['msg'].lower()}") from error
    return content


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError("the file is missing", str(path), HINT) from error
    except UnicodeDecodeError as error:
        raise damaged(path, error) from error
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror}", str(path)) from error


def read_json(path: Path) -> Any:
    """A JSON file of a run folder, with the shape that its name requires."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not valid JSON ({error})") from error
    return fitting(path, content)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """``metrics.jsonl``; half a last line, which a killed run may leave, does not count. [] if there is no file."""
    if not path.is_file():
        return []
    found = []
    texts = [text for text in read_text(path).split("\n") if text.strip()]
    for i, text in enumerate(texts, 1):
        try:
            found.append(json.loads(text))
        except (ValueError, RecursionError) as error:
            if i < len(texts):
                raise damaged(path, f"line {i} is not valid JSON ({error})") from error
    for i, line in enumerate(found, 1):
        fitting(path, line)
        for key, value in line.items():
            if "/" in key and not (value is None or isinstance(value, int | float)):
                raise damaged(path, f"line {i}: {key} is not a number")
    return found


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """A CSV file with at least ``columns``, all values as text; [] if there is no file."""
    return list(rows_of(path, columns)) if path.is_file() else []


def rows_of(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with at least ``columns``, one after another, all values as text."""
    with _table(path) as file:
        # Not splitlines(): a name may contain what it takes for the end of a line, such as U+2028.
        reader = csv.DictReader(file)
        for i, row in enumerate(reader, 2):
            if i == 2 and (lacking := [name for name in columns if name not in row]):
                raise damaged(path, f"it has no column '{lacking[0]}'")
            if None in row or None in row.values():
                raise damaged(path, f"row {i} does not have as many cells as there are columns")
            yield row


def read_head(path: Path) -> list[str]:
    """The names of a CSV file's columns."""
    with _table(path) as file:
        return next(csv.reader(file), [])


@contextmanager
def _table(path: Path) -> Iterator[TextIO]:
    """A CSV file to read; what is wrong with its text is reported with its name."""
    try:
        with path.open("rb") as raw:
            if raw.seek(0, os.SEEK_END) and raw.seek(-1, os.SEEK_END) >= 0 and raw.read(1) != b"\n":
                raise damaged(path, "its last line has no end")
        with path.open(encoding="utf-8", newline="") as file:
            yield file
    except FileNotFoundError as error:
        raise RunError("the file is missing", str(path), HINT) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise damaged(path, error) from error
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror}", str(path)) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """An ``.npz`` file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is not an .npz file")
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise RunError("the file is missing", str(path), HINT) from error
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(path, str(error) or type(error).__name__) from error


def guarded(path: Path, make: Callable[[], Made]) -> Made:
    """What ``make`` makes of a file's content; content that it cannot take is reported with the file's name."""
    try:
        return make()
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def read_recipe(folder: Path) -> dict[str, Any]:
    """The resolved recipe of a run as plain data, whether or not the plugins that it names are installed."""
    path = folder / "recipe.yaml"
    try:
        content = read(path).plain()
    except InputError as error:
        raise RunError(error.what, error.where, error.hint) from error
    plain: dict[str, Any] = fitting(path, content)
    return plain
