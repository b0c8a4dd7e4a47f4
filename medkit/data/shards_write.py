"""Writing shards (:mod:`medkit.data.shards`): a shard of its own for every writer."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medkit.data.shards import COLUMNS, KEY, aligned, checksum_of
from medkit.errors import RunError
from medkit.records import reason, write_atomically

SAMPLES = 8192  # most records of a shard
BYTES = 2 << 30  # a shard that has reached this size gets no further record
FLUSH_BYTES = 64 << 20
FLUSH_SECONDS = 5.0  # what a killed writer may lose, if its samples are small


class ShardWriter:
    """Appends samples to a shard of its own below ``folder``; a context manager, which makes all of them readable.

    Samples become readable (and safe from a power cut) with each :meth:`flush`, which happens by itself every
    ``FLUSH_BYTES`` or ``FLUSH_SECONDS`` and at the end. A full shard is followed by another.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: Any = None
        self._new()

    def _new(self) -> None:
        self._name = f"{_host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._rows: list[tuple[bytes, int, int, int, int, str]] = []
        self._end = self._flushed_end = self._flushed_rows = 0
        self._flushed_at = time.monotonic()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, key: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Append one sample.

        Raises
        ------
        RunError
            if it cannot be written; what was flushed before stays.
        """
        plain = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
        kinds = {name: [list(a.shape), a.dtype.str, checksum_of(a)] for name, a in plain.items()}
        header = json.dumps({"arrays": kinds, "meta": meta}).encode()
        try:
            if self._file is None:
                self._open()
            start = self._write(header)
            for array in plain.values():
                self._write(array.reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise self._failed(error) from error
        row = (bytes.fromhex(key), start, len(header), self._end - start, zlib.crc32(header), json.dumps(meta))
        self._rows.append(row)
        waiting = self._end - self._flushed_end
        if waiting >= FLUSH_BYTES or time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()
        if len(self._rows) >= SAMPLES or self._end >= BYTES:
            self.close()

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _sweep(self.folder)
        path = self.folder / f"{self._name}.shard"
        while self._file is None:
            self._file = path.open("wb")
            with suppress(OSError):  # some file systems have no locks
                fcntl.flock(self._file, fcntl.LOCK_EX)
            if not _is_at(path, self._file):  # swept before it was locked
                self._file.close()
                self._file = None

    def _write(self, content: bytes | memoryview) -> int:
        """Write at the next aligned position, and give that."""
        start = aligned(self._end)
        self._file.write(bytes(start - self._end))
        self._file.write(content)
        self._end = start + len(content)
        return start

    def flush(self) -> None:
        """Make what was added so far readable and safe: the shard to the disk, then the index under its name."""
        if self._file is not None and len(self._rows) > self._flushed_rows:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._failed(error) from error
            write_atomically(self.folder / f"{self._name}.parquet", _index(self._rows))
            self._flushed_rows, self._flushed_end = len(self._rows), self._end
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Flush; a sample that is added later goes into another shard."""
        try:
            self.flush()
        finally:
            self._leave()

    def _leave(self) -> None:
        file, name, empty = self._file, self._name, not self._flushed_rows
        self._file = None
        self._new()
        if file is not None:
            with suppress(OSError):  # a full disk has been told already
                file.close()
            if empty:
                with suppress(OSError):
                    (self.folder / f"{name}.shard").unlink()

    def _failed(self, error: OSError) -> RunError:
        self._leave()
        return unwritable(error, self.folder)


def unwritable(error: OSError, folder: Path) -> RunError:
    """What to tell of a prepared sample that cannot be kept."""
    what = f"a prepared sample cannot be written: {reason(error)}"
    return RunError(what, str(folder), "free some space, or name another place in MEDKIT_CACHE")


def _index(rows: Sequence[tuple[bytes, int, int, int, int, str]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = [pyarrow.binary(KEY), pyarrow.int64(), pyarrow.int32(), pyarrow.int64(), pyarrow.uint32(), pyarrow.string()]
    columns = [pyarrow.array(values, kind) for values, kind in zip(zip(*rows, strict=True), types, strict=True)]
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.table(columns, names=[*COLUMNS, "meta"])
    parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _host() -> str:
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname())[:40] or "host"


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether an open file still bears a name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _sweep(folder: Path) -> None:
    """Remove shards without an index whose writer, on this machine, is gone: nobody will ever read them."""
    for path in folder.glob(f"{_host()}-*.shard"):
        with suppress(OSError):
            if path.with_suffix(".parquet").exists():
                continue
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer holds it as long as it lives
                if not path.with_suffix(".parquet").exists():
                    path.unlink()
