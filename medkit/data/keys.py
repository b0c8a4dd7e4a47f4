"""Keys of prepared samples: they change with every file, argument and line of code that affects the voxels."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import inspect
import json
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import numpy as np

from medkit.data.cases import CaseTable
from medkit.data.code import code_of
from medkit.data.files import all_below, is_folder, size_and_date
from medkit.data.identities import is_of_files, require_same_voxels
from medkit.errors import InputError
from medkit.protocols import Case, Source
from medkit.records import made_with

LIBRARIES = ("opencv-python-headless", "pydicom", "nibabel", "python-gdcm", "pylibjpeg-openjpeg", "pyjpegls")
"""Packages that decode and resample voxels: a new version may give other values."""


def key_of(*parts: Any) -> str:
    """A key that changes with any of its parts."""
    text = ", ".join(encode_basestring_ascii(str(part)) for part in parts)  # as json.dumps, five times as fast
    return hashlib.blake2b(f"[{text}]".encode(), digest_size=16).hexdigest()


class KeyTable:
    """The keys of a source's cases, each computed on first use; a million of them take 17 MB.

    Files are checked then, and again when the case is prepared. A case with the key of another one is refused, unless
    it has its voxels too; sources of files are trusted (:func:`medkit.data.identities.is_of_files`).
    """

    def __init__(self, source: Source, preparation: str) -> None:
        self.source, self.preparation = source, preparation
        cases = source.cases()
        self._row: Callable[[str], int]
        if isinstance(cases, CaseTable):
            self._row, size = cases.row_of, cases.size
        else:
            self._row, size = {case.id: row for row, case in enumerate(cases)}.__getitem__, len(cases)
        self._digests, self._known = np.zeros((size, 16), np.uint8), np.zeros(size, bool)
        self.trusted = is_of_files(source)
        self._cases, self._compared = cases, set[tuple[int, int]]()
        self._sorted = 0  # how many keys of a table were known when they were last compared
        self._first: dict[bytes, int] = {}  # the row in which a key came first; sorting tables takes less memory

    def of(self, case: Case) -> bytes:
        """The key of one case."""
        row = self._row(case.id)
        if not self._known[row]:
            self._work_out(row, case)
        return self._digests[row].tobytes()

    def confirm(self, case: Case) -> None:
        """Check the files of a case again, after they were read.

        Raises
        ------
        InputError
            if they have changed: then the key does not stand for what was read.
        """
        if self._look(case) != self.of(case):
            hint = "start again once nothing writes to them any more"
            raise InputError(f"the files of case '{case.id}' have changed since they were first checked", hint=hint)

    def _look(self, case: Case) -> bytes:
        return bytes.fromhex(key_of(self.source.identity(case), self.preparation))

    def _work_out(self, row: int, case: Case) -> None:
        key = self._look(case)
        if not self.trusted and not isinstance(self._cases, CaseTable):
            self._compare(self._first.setdefault(key, row), row)
        self._digests[row] = np.frombuffer(key, np.uint8)
        self._known[row] = True

    def _compare_all(self) -> None:
        """Compare the cases of a table that have the same key as another one."""
        rows = np.flatnonzero(self._known)
        if len(rows) == self._sorted:
            return
        halves = self._digests[rows].view(np.uint64)
        order = np.lexsort(halves.T)
        same = (halves[order][1:] == halves[order][:-1]).all(1)
        for i in np.flatnonzero(same).tolist():
            self._compare(int(rows[order[i]]), int(rows[order[i + 1]]))
        self._sorted = len(rows)

    def _compare(self, one: int, other: int) -> None:
        if one != other and (one, other) not in self._compared:
            cases = self._cases
            pair = [cases.case(row) if isinstance(cases, CaseTable) else cases[row] for row in (one, other)]
            require_same_voxels(self.source, *pair)
            self._compared.add((one, other))

    def all(self, cases: Sequence[Case]) -> np.ndarray:
        """(n,16) uint8, the keys of many cases."""
        rows = cases.rows if isinstance(cases, CaseTable) else np.array([self._row(c.id) for c in cases], np.int64)
        for position in np.flatnonzero(~self._known[rows]).tolist():
            self._work_out(int(rows[position]), cases[position])
        if not self.trusted and isinstance(self._cases, CaseTable):
            self._compare_all()
        return self._digests[rows]


def preparation_of(source: Any, steps: Sequence[Any], version: int) -> str:
    """A key of what all samples of a data set share: the steps, the code of source and steps, and versions."""
    found = made_with(LIBRARIES)
    code = []
    while source is not None:
        cls: Any = type(source)
        code.append(f"{_name(cls)} {code_of(cls)}")
        source = getattr(source, "source", None)  # a source may wrap another one
    return key_of(version, found["medkit"], found["libraries"], *code, *map(described, steps))


def described(step: Any) -> str:
    """A step in full, as JSON: its class with module, ``version`` and source code, and every argument.

    Raises
    ------
    InputError
        for an argument without a comparable content: not plain data, an array, a path, a data class or a step.
    """
    cls: Any = type(step)
    version = getattr(step, "version", 0)
    return json.dumps([_name(cls), str(version), code_of(cls), _arguments(step)])


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _arguments(step: Any) -> dict[str, Any]:
    cls = type(step)
    types = _types(cls)
    found = {}
    for name in _argument_names(step):
        value = getattr(step, name)
        if isinstance(value, int) and not isinstance(value, bool) and _is_float(types.get(name)):
            value = float(value)  # 80 and 80.0 are the same to a float argument
        found[name] = _content(value, f"{cls.__qualname__}.{name}")
    return found


def _argument_names(step: Any) -> list[str]:
    """Fields of a data class that is made from them alone; arguments of a constructor if each is kept under its name,
    with other public attributes; else all attributes.

    Raises
    ------
    InputError
        if there are arguments and no attributes: they are kept in a way that cannot be seen.
    """
    cls, own = type(step), _attributes(step)
    taken = list(inspect.signature(cls).parameters)
    fields = [field.name for field in dataclasses.fields(step)] if dataclasses.is_dataclass(step) else []
    if fields and set(taken) <= set(fields):
        return fields
    # A value of the class (a default) says nothing of this step; a property or the like does.
    if taken and all(name in own or hasattr(inspect.getattr_static(cls, name, None), "__get__") for name in taken):
        return sorted({*taken, *fields, *(name for name in own if not name.startswith("_"))})
    if taken and not own:
        raise _unknown(step, cls.__qualname__)
    return sorted({*fields, *own})


def _attributes(step: Any) -> set[str]:
    """Names of what is kept in an object, also in slots, its own and inherited ones, as far as they are filled."""
    found = set(getattr(step, "__dict__", {}))
    for cls in type(step).__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in [slots] if isinstance(slots, str) else slots:
            private = slot.startswith("__") and not slot.endswith("__")
            name = f"_{cls.__name__.lstrip('_')}{slot}" if private else slot
            if slot not in ("__dict__", "__weakref__") and hasattr(step, name):
                found.add(name)
    return found


def _types(cls: type) -> dict[str, Any]:
    try:
        if dataclasses.is_dataclass(cls):
            return typing.get_type_hints(cls, include_extras=True)
        return typing.get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}


def _is_float(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation is float or (float in get_args(annotation) and int not in get_args(annotation))


def _content(value: Any, where: str) -> Any:
    """A value as JSON that differs for different values; arrays by their bytes, files and those
    in folders by name, size and date."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, enum.Enum):
        return ["enum", _name(type(value)), value.name]
    if isinstance(value, str):
        if is_folder(value):
            return ["folder", value, *_files_in(value)]
        return ["file", value, *size_and_date(Path(value))] if os.sep in value and os.path.isfile(value) else value
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, Path):
        if os.path.isdir(value):
            return ["path", str(value), *_files_in(value)]
        return ["path", str(value), *([[value.name, *size_and_date(value)]] if os.path.exists(value) else [])]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *(_content(item, f"{where}[{i}]") for i, item in enumerate(value))]
    if isinstance(value, set | frozenset):
        return ["set", *sorted(json.dumps(_content(item, where)) for item in value)]
    if isinstance(value, Mapping):
        return ["mapping", *([_content(k, where), _content(item, f"{where}[{k!r}]")] for k, item in value.items())]
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a device, or one with a graph
            raise _unknown(value, where) from error
        if array.dtype.hasobject:
            raise _unknown(value, where)
        digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()
        return ["array", _name(type(value)), array.dtype.str, list(array.shape), digest]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ["step", described(value)]
    if hasattr(value, "apply") and hasattr(value, "restore"):
        return ["step", described(value)]
    raise _unknown(value, where)


def _files_in(folder: str | Path) -> list[Any]:
    return [[place, *size_and_date(file)] for place, file in all_below(folder)]


def _unknown(value: Any, where: str) -> InputError:
    what = f"prepared samples cannot be cached: a value of type '{type(value).__name__}' cannot be part of their key"
    hint = "plain values, arrays, paths and data classes can; or write 'cache: false' in the data block"
    return InputError(what, where, hint)
