"""Prepared samples on disk: one folder a sample, read through memory maps, complete or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import uuid
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit.errors import RunError


def key_of(*parts: Any) -> str:
    """A key that changes with any of its parts."""
    return hashlib.blake2b(json.dumps([str(part) for part in parts]).encode(), digest_size=16).hexdigest()


def described(step: Any) -> str:
    """A step in full: its class with module and ``version``, and every argument."""
    names = [f.name for f in fields(step)] if is_dataclass(step) else sorted(vars(step))
    arguments = {name: getattr(step, name) for name in names}
    return f"{type(step).__module__}.{type(step).__qualname__} {getattr(step, 'version', 0)} {arguments}"


class Cache:
    """Arrays and a small JSON by key below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def read(self, key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Memory-mapped arrays and the JSON, or None. A damaged entry is removed, said once and None."""
        path = self._path(key)
        if not path.is_dir():
            return None
        try:
            meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
            arrays = {}
            for name, (shape, dtype) in meta["arrays"].items():
                array = np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                if list(array.shape) != shape or str(array.dtype) != dtype:
                    raise ValueError(f"{name} is {array.dtype}{array.shape}")
                arrays[name] = array
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            print(f"medkit: cache entry {path} is damaged ({error}) and is made again", file=sys.stderr)
            shutil.rmtree(path, ignore_errors=True)
            return None
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
            shapes = {name: [list(array.shape), str(array.dtype)] for name, array in arrays.items()}
            (temporary / "meta.json").write_text(json.dumps({"arrays": shapes, "meta": meta}), encoding="utf-8")
            os.rename(temporary, path)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if path.is_dir():
                return
            raise RunError(
                f"a prepared sample cannot be written: {error.strerror}",
                str(self.folder),
                "free some space, or name another place in MEDKIT_CACHE",
            ) from error
