"""Writing shards (:mod:`medkit.data.shards`): every writer has its own."""

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
from medkit.records import reason, room, write_atomically

SAMPLES = 8192  # most records in a shard
BYTES = 2 << 30  # no more records are added to a shard of this size
FLUSH_BYTES = 64 << 20
FLUSH_SECONDS = 5.0  # of work that a killed writer may lose, if its samples are small


class ShardWriter:
    """Appends samples to its own shard below ``folder``; a context manager, after which all are readable.

    Samples become readable (and safe from a power failure) with each :meth:`flush`, which is automatic every
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
            if it cannot be written; samples flushed before are kept.
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
            if not _is_at(path, self._file):  # another writer swept it before it was locked
                self._file.close()
                self._file = None

    def _write(self, content: bytes | memoryview) -> int:
        """Write at the next aligned position, and return it."""
        start = aligned(self._end)
        self._file.write(bytes(start - self._end))
        self._file.write(content)
        self._end = start + len(content)
        return start

    def flush(self) -> None:
        """Make the samples so far readable and safe: flush the shard to disk, then write the index."""
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
        """Flush, and end the shard; samples added later go into another one."""
        try:
            self.flush()
        finally:
            self._leave()

    def _leave(self) -> None:
        file, name, empty = self._file, self._name, not self._flushed_rows
        self._file = None
        self._new()
        if file is not None:
            with suppress(OSError):  # a full disk was reported already
                file.close()
            if empty:
                with suppress(OSError):
                    (self.folder / f"{name}.shard").unlink()

    def _failed(self, error: OSError) -> RunError:
        self._leave()
        return unwritable(error, self.folder)


def unwritable(error: OSError, folder: Path) -> RunError:
    """The error for a prepared sample that cannot be written."""
    what = f"a prepared sample cannot be written: {reason(error)}"
    return RunError(what, str(folder), " or ".join(filter(None, (room(error), "name another folder in MEDKIT_CACHE"))))


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
    """Whether an open file is still the one at ``path``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _sweep(folder: Path) -> None:
    """Remove shards without an index whose writer, on this machine, has ended: nobody will ever read them."""
    for path in folder.glob(f"{_host()}-*.shard"):
        with suppress(OSError):
            if path.with_suffix(".parquet").exists():
                continue
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
                if not path.with_suffix(".parquet").exists():
                    path.unlink()
