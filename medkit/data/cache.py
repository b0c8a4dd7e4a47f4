"""Prepared samples on disk: one folder a sample, read through memory maps, complete or not there at all.

An entry has a checksum of each array and of its JSON. They are looked at when a process reads the entry for the first
time: that takes one pass over the file, and nothing afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import uuid
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.keys import described, key_of
from medkit.errors import RunError
from medkit.records import reason

__all__ = ["Cache", "described", "key_of"]

_HEADERS = threading.Lock()
"""numpy reads headers by ``ast.literal_eval``; with Python 3.11.7 two threads once had a SystemError."""


class Cache:
    """Arrays and a small JSON by key below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._checked: set[str] = set()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def read(self, key: str, *, check: bool = True) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Memory-mapped arrays and the JSON, or None. A damaged entry is removed, said once and None.

        ``check=False`` leaves the voxels unread, for whoever only wants to know that an entry is there.
        """
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
                if check and key not in self._checked and _checksum(array) != checksum:
                    raise ValueError(f"the checksum of {name} differs")
                arrays[name] = array
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            print(f"medkit: cache entry {path} is damaged ({error}) and is made again", file=sys.stderr)
            shutil.rmtree(path, ignore_errors=True)
            return None
        if check:
            self._checked.add(key)
        return arrays, meta["meta"]

    def write(self, key: str, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Write an entry under a temporary name and rename it; another writer's finished entry is left alone."""
        path = self._path(key)
        temporary = path.with_name(f".{key}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
        try:
            temporary.mkdir(parents=True)
            for name, array in arrays.items():
                with (temporary / f"{name}.npy").open("wb") as file:
                    np.save(file, array, allow_pickle=False)
                    file.flush()
                    os.fsync(file.fileno())  # or a power cut may leave the name without the numbers
            kinds = {n: [list(array.shape), str(array.dtype), _checksum(array)] for n, array in arrays.items()}
            whole = {"arrays": kinds, "meta": meta, "checksum": _json_checksum(kinds, meta)}
            (temporary / "meta.json").write_text(json.dumps(whole), encoding="utf-8")
            os.rename(temporary, path)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if path.is_dir():
                return
            raise RunError(
                f"a prepared sample cannot be written: {reason(error)}",
                str(self.folder),
                "free some space, or name another place in MEDKIT_CACHE",
            ) from error


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of an array's bytes, about 2 GB/s: it finds what disks and careless scripts do, not what is meant."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _json_checksum(arrays: dict[str, Any], meta: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps([arrays, meta], sort_keys=True).encode())
