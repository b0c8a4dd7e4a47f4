"""Shards: thousands of prepared samples in one append-only file, with a Parquet index beside it.

``NAME.shard`` holds records one after the other: a header (JSON: name, shape, type and CRC-32 of every array, and the
sample's own JSON), then the arrays' bytes, each at a multiple of ``ALIGNED``. ``NAME.parquet`` holds for each record
its key, offset, length, header length and the header's CRC-32, and the sample's JSON again, so that it can be read for
a million samples without touching their voxels.

A record exists once the index names it. The index is renamed into place after the shard has been flushed to disk, so a
writer that is killed leaves only bytes that nobody reads. Every writer has its own shard; nothing that an index names
is ever overwritten.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medkit.errors import InputError
from medkit.records import reason

KEY = 16  # bytes of a key
ALIGNED = 64
COLUMNS = ("key", "offset", "header", "size", "checksum")

Found = tuple[dict[str, np.ndarray], dict[str, Any]]


def checksum_of(array: np.ndarray) -> int:
    """CRC-32 of an array's bytes, about 2 GB/s: it detects accidents, not tampering."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def aligned(position: int) -> int:
    return -(-position // ALIGNED) * ALIGNED


@dataclass(frozen=True)
class _Rows:
    """The records of all indexes, sorted by key; a key that was written twice is listed twice."""

    first: np.ndarray  # (n,) uint64: the first half of each key
    second: np.ndarray
    shard: np.ndarray  # (n,) number in ``names``
    offset: np.ndarray
    header: np.ndarray
    size: np.ndarray
    checksum: np.ndarray
    line: np.ndarray  # (n,) row in the shard's own index
    names: list[str]
    checked: bytearray = field(repr=False)  # 1 for records whose checksums this process has verified

    def find(self, key: bytes) -> int:
        """The row of a key, or -1."""
        first, second = int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
        row = int(self.first.searchsorted(np.uint64(first)))
        while row < len(self.first) and self.first[row] == first:  # as keys are digests, hardly ever more than once
            if self.second[row] == second:
                return row
            row += 1
        return -1

    def find_all(self, keys: np.ndarray) -> np.ndarray:
        """(n,) rows of keys, (n,16) uint8, -1 for missing ones."""
        if not len(self.first):
            return np.full(len(keys), -1)
        halves = _halves(keys)
        found = self.first.searchsorted(halves[:, 0])
        found[found == len(self.first)] = 0
        near = self.first[found] == halves[:, 0]
        same = near & (self.second[found] == halves[:, 1])
        for position in np.flatnonzero(near & ~same).tolist():
            found[position] = self.find(keys[position].tobytes())
            same[position] = found[position] >= 0
        return np.where(same, found, -1)


def _halves(keys: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(keys, np.uint8).reshape(-1, KEY).view(">u8").astype(np.uint64)


class Shards:
    """The samples of all shards below ``folder``, including those of writers that are still at work.

    Each shard is opened once, on first use, as a read-only memory map; finding a sample is a search in memory without
    access to the file system. :meth:`refresh` adds what was written since.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[str, mmap.mmap] = {}
        self._indexes: dict[str, tuple[tuple[int, int], dict[str, np.ndarray]]] = {}
        self._seen_at: int | None = None  # the folder's time of change when it was last read
        self._rows: _Rows | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self._current().first)

    def _current(self) -> _Rows:
        return self._rows if self._rows is not None else self.refresh()

    def find(self, key: str) -> int:
        """The row of a key, or -1; looks for what other processes have written since before it gives up."""
        wanted = bytes.fromhex(key)
        if len(wanted) != KEY:
            return -1
        row = self._current().find(wanted)
        return row if row >= 0 or not self._changed() else self.refresh().find(wanted)

    def read(self, key: str, *, check: bool = True) -> Found | None:
        """Read-only arrays on the shard's memory map and the sample's JSON, or None.

        A damaged sample is reported once and marked as such for all later readers; then another copy is read, if any.
        """
        row = self.find(key)
        while row >= 0:
            rows = self._current()
            try:
                return self._read(rows, row, check)
            except (OSError, ValueError, KeyError, TypeError) as error:
                name = rows.names[rows.shard[row]]
                print(
                    f"medkit: cache entry {key} in {name}.shard is damaged ({error}): it is made again", file=sys.stderr
                )
                self._mark(name, key)
                row = self._current().find(bytes.fromhex(key))
        return None

    def _read(self, rows: _Rows, row: int, check: bool) -> Found:
        start, size = int(rows.offset[row]), int(rows.size[row])
        memory = self._map(rows.names[rows.shard[row]], start + size)
        content = memory[start : start + int(rows.header[row])]
        fresh = check and not rows.checked[row]
        if zlib.crc32(content) != rows.checksum[row]:
            raise ValueError("the checksum of its header differs")
        header = json.loads(content.decode())
        arrays = {}
        position = start + len(content)
        for name, (shape, kind, checksum) in header["arrays"].items():
            position += -position % ALIGNED
            array: np.ndarray = np.ndarray(shape, kind, memory, position)
            if fresh and zlib.crc32(memoryview(memory)[position : position + array.nbytes]) != checksum:
                raise ValueError(f"the checksum of {name} differs")
            position += array.nbytes
            arrays[name] = array
        if fresh:
            rows.checked[row] = 1
        return arrays, header["meta"]

    def _map(self, name: str, end: int) -> mmap.mmap:
        """The memory map of a shard, renewed if the shard has grown beyond it."""
        memory = self._maps.get(name)
        if memory is None or len(memory) < end:
            with (self.folder / f"{name}.shard").open("rb") as file:
                memory = self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(memory) < end:
            raise ValueError(f"the shard ends at byte {len(memory)}, but this sample at {end}")
        return memory

    def contains(self, keys: np.ndarray) -> np.ndarray:
        """(n,) booleans: which of ``keys``, (n,16) uint8, exist by now."""
        if self._changed():
            self.refresh()
        return self._current().find_all(keys) >= 0

    def metas(self, keys: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        """Position and JSON of each of ``keys``, (n,16) uint8, that exists, shard by shard; no voxels are read."""
        from pyarrow import parquet

        if self._changed():
            self.refresh()
        rows = self._current()
        found = rows.find_all(keys)
        order = np.flatnonzero(found >= 0)
        order = order[np.argsort(rows.shard[found[order]], kind="stable")]
        shards = rows.shard[found[order]]
        for part in np.split(order, np.flatnonzero(np.diff(shards)) + 1) if len(order) else []:
            path = self.folder / f"{rows.names[rows.shard[found[part[0]]]]}.parquet"
            texts = parquet.read_table(path, columns=["meta"], page_checksum_verification=True)["meta"].to_pylist()
            for position, line in zip(part.tolist(), rows.line[found[part]].tolist(), strict=True):
                yield position, json.loads(texts[line])

    def _mark(self, name: str, key: str) -> None:
        """Record in a separate file, for all readers, that a sample of a shard is damaged."""
        with suppress(OSError), (self.folder / f"{name}.damaged").open("a", encoding="ascii") as file:
            file.write(f"{key}\n")
        self._indexes.pop(name, None)
        self.refresh()
        rows = self._current()
        row = rows.find(bytes.fromhex(key))
        if row >= 0 and rows.names[rows.shard[row]] == name:  # not marked, because the folder is read-only
            self._indexes[name] = (self._indexes[name][0], _without(self._indexes[name][1], {key}))
            self._merge()

    def _changed(self) -> bool:
        """Whether files were added or removed since :meth:`refresh`."""
        try:
            return self.folder.stat().st_mtime_ns != self._seen_at
        except OSError:
            return False

    def refresh(self) -> _Rows:
        """Read the indexes that are new or have grown since the last time."""
        indexes = {}
        try:
            self._seen_at = self.folder.stat().st_mtime_ns
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".parquet") and entry.name[0] != ".":
                        found = entry.stat()
                        indexes[entry.name.removesuffix(".parquet")] = (found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            pass
        except OSError as error:
            what = f"the folder of prepared samples cannot be read: {reason(error)}"
            raise InputError(what, str(self.folder), "name another folder in MEDKIT_CACHE") from error
        known = {name: stamp for name, (stamp, _) in self._indexes.items()}
        if self._rows is not None and known == indexes:
            return self._rows  # keeps track of verified checksums
        for name in sorted(indexes):
            if known.get(name) != indexes[name]:
                self._indexes[name] = (indexes[name], self._load(name))
        self._indexes = {name: self._indexes[name] for name in sorted(indexes)}
        return self._merge()

    def _load(self, name: str) -> dict[str, np.ndarray]:
        import pyarrow
        from pyarrow import parquet

        path = self.folder / f"{name}.parquet"
        try:
            table = parquet.read_table(path, columns=list(COLUMNS), page_checksum_verification=True, use_threads=False)
            keys = np.frombuffer(b"".join(table["key"].to_pylist()), np.uint8).reshape(-1, KEY)
            columns = {"key": keys, **{column: table[column].to_numpy() for column in COLUMNS[1:]}}
        except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
            text = str(error).splitlines()[0]
            print(f"medkit: the index {path} is damaged ({text}); its samples will be made again", file=sys.stderr)
            columns = {"key": np.empty((0, KEY), np.uint8), **{column: np.empty(0, np.int64) for column in COLUMNS[1:]}}
        columns["line"] = np.arange(len(columns["key"]))
        damaged = self.folder / f"{name}.damaged"
        return _without(columns, set(damaged.read_text("ascii").split())) if damaged.exists() else columns

    def _merge(self) -> _Rows:
        names = list(self._indexes)
        parts = [columns for _, columns in self._indexes.values()]
        counts = [len(columns["key"]) for columns in parts]

        def together(column: str, kind: Any) -> np.ndarray:
            return np.concatenate([columns[column] for columns in parts]).astype(kind) if parts else np.empty(0, kind)

        keys = np.concatenate([columns["key"] for columns in parts]) if parts else np.empty((0, KEY), np.uint8)
        halves = _halves(keys)
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        first, second = (np.ascontiguousarray(halves[order, i]) for i in range(2))
        shard = np.repeat(np.arange(len(names), dtype=np.int32), counts)[order]
        kinds = {"offset": np.int64, "header": np.int32, "size": np.int64, "checksum": np.uint32, "line": np.int32}
        columns = {column: together(column, kind)[order] for column, kind in kinds.items()}
        self._rows = _Rows(first, second, shard, names=names, checked=bytearray(len(first)), **columns)
        return self._rows


def _without(columns: dict[str, np.ndarray], damaged: set[str]) -> dict[str, np.ndarray]:
    kept = np.array([bytes(key).hex() not in damaged for key in columns["key"]], bool)
    return {name: values[kept] for name, values in columns.items()}
