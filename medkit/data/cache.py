"""Prepared samples on disk, complete or not at all: shards of thousands, and folders of single ones.

Preparation (``medkit prepare``, or the start of a run) writes shards. A sample that is needed before, such as the one
on which a recipe is tried, is a folder of its own. Either way every array and JSON has a checksum, which a process
verifies when it first reads the sample: one pass over its bytes, and none afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.keys import described, key_of
from medkit.data.shards import Found, Shards, checksum_of
from medkit.data.shards_write import ShardWriter, unwritable

__all__ = ["Cache", "described", "key_of"]

_HEADERS = threading.RLock()
"""NumPy parses headers with ``ast.literal_eval``, which once raised SystemError in two threads of Python 3.11.7."""
# A process forked while another thread reads a header must not wait for its lock for ever.
os.register_at_fork(before=_HEADERS.acquire, after_in_parent=_HEADERS.release, after_in_child=_HEADERS.release)


class Cache:
    """Arrays and a small JSON for each key, below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = Shards(folder / "shards")
        self._checked: set[str] = set()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def read(self, key: str, *, check: bool = True) -> Found | None:
        """Memory-mapped arrays and the JSON, or None. A damaged entry is removed, reported once, and gives None.

        ``check=False`` does not read the voxels, for callers that only need to know that an entry exists.
        """
        found = self.shards.read(key, check=check)
        return found if found is not None else self.read_folder(key, check)

    def read_folder(self, key: str, check: bool = True) -> Found | None:
        """:meth:`read` for a sample in a folder of its own."""
        path = self._path(key)
        if not path.is_dir():
            return None
        try:
            meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
            if meta["checksum"] != _json_checksum(meta["arrays"], meta["meta"]):
                raise ValueError("the checksum of meta.json differs")
            arrays = {}
            for name, (shape, dtype, checksum) in meta["arrays"].items():
                with _HEADERS:
                    array = np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                if list(array.shape) != shape or str(array.dtype) != dtype:
                    raise ValueError(f"{name} is {array.dtype}{array.shape}")
                if check and key not in self._checked and checksum_of(array) != checksum:
                    raise ValueError(f"the checksum of {name} differs")
                arrays[name] = array
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            print(f"medkit: cache entry {path} is damaged ({error}): it is made again", file=sys.stderr)
            shutil.rmtree(path, ignore_errors=True)
            return None
        if check:
            self._checked.add(key)
        return arrays, meta["meta"]

    def metas(self, keys: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        """Position and JSON of each of ``keys``, (n,16) uint8, that exists, in any order; no voxels are read."""
        missing = np.ones(len(keys), bool)
        for position, meta in self.shards.metas(keys):
            missing[position] = False
            yield position, meta
        for position in np.flatnonzero(missing).tolist():
            key = keys[position].tobytes().hex()
            if self._path(key).is_dir() and (found := self.read_folder(key, check=False)) is not None:
                yield position, found[1]

    def count(self, keys: np.ndarray) -> int:
        """How many of ``keys``, (n,16) uint8, exist by now; nothing of them is read."""
        there = self.shards.contains(keys)
        return int(there.sum()) + sum(self._path(keys[i].tobytes().hex()).is_dir() for i in np.flatnonzero(~there))

    def writer(self) -> ShardWriter:
        """A writer for many samples, with its own shards."""
        return ShardWriter(self.shards.folder)

    def write(self, key: str, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Write a single sample: a folder that is renamed when complete, unless another writer has finished it."""
        path = self._path(key)
        temporary = path.with_name(f".{key}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
        try:
            temporary.mkdir(parents=True)
            for name, array in arrays.items():
                with (temporary / f"{name}.npy").open("wb") as file:
                    np.save(file, array, allow_pickle=False)
                    file.flush()
                    os.fsync(file.fileno())  # or a power failure may leave the name without the data
            kinds = {n: [list(array.shape), str(array.dtype), checksum_of(array)] for n, array in arrays.items()}
            whole = {"arrays": kinds, "meta": meta, "checksum": _json_checksum(kinds, meta)}
            (temporary / "meta.json").write_text(json.dumps(whole), encoding="utf-8")
            os.rename(temporary, path)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if path.is_dir():
                return
            raise unwritable(error, self.folder) from error


def _json_checksum(arrays: dict[str, Any], meta: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps([arrays, meta], sort_keys=True).encode())
