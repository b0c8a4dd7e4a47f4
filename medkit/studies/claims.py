"""Who is at work on what: workers of one study, on any machines, never work on the same thing at the same time.

A claim is a lock like that of a run folder, and its file is touched every few seconds. One whose holder has ended on
this machine is taken over at once, one from another machine when it has not been touched for a while.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from medkit.errors import InputError
from medkit.runs.folder import RunFolder
from medkit.runs.lock import NAME, Holder, Lock, acquire, held_by, same_process

BEAT = 10.0  # seconds between two touches
SILENT = 120.0  # seconds without one, after which a holder on another machine counts as ended


class Claims:
    """The claims of one worker; while it is open, those that are held are touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, Lock] = {}
        self._gone: list[Holder] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        self.folder.mkdir(exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    @contextmanager
    def of(self, names: Sequence[str]) -> Iterator[bool]:
        """Hold all of ``names``, or none if another worker has one of them; yields whether they are held."""
        with ExitStack() as stack:
            for name in names:
                lock = self._take(name)
                if lock is None:
                    stack.close()
                    yield False
                    return
                self._held[name] = lock
                stack.callback(self._release, name)
            yield True

    def _take(self, name: str) -> Lock | None:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        for _ in range(2):
            try:
                return acquire(place, "study work")
            except InputError:
                if not self._remove_silent(place):
                    return None
        return None

    def _release(self, name: str) -> None:
        self._held.pop(name).release()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            for lock in list(self._held.values()):
                if held_by(lock.path) == lock.holder:
                    with suppress(OSError):
                        os.utime(lock.path)
                elif lock in self._held.values():
                    # This machine was silent for so long that somebody else has it now.
                    os.kill(os.getpid(), signal.SIGTERM)

    def _remove_silent(self, place: Path) -> bool:
        """Remove a claim that nobody has touched for long, by the disk's clock; returns whether that was done."""
        clock = place / f".{os.getpid()}.clock"
        guard = os.open(place / "guard", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with suppress(OSError):  # a file system without such locks
                fcntl.flock(guard, fcntl.LOCK_EX)
            clock.touch()
            try:
                silent = clock.stat().st_mtime - (place / NAME).stat().st_mtime
            except FileNotFoundError:
                return True
            if silent <= SILENT:
                return False
            if (gone := held_by(place / NAME)) is not None:
                self._gone.append(gone)
            (place / NAME).unlink(missing_ok=True)
            return True
        finally:
            clock.unlink(missing_ok=True)
            os.close(guard)

    def free(self, folder: RunFolder) -> None:
        """Remove the lock of a claimed run, if its holder has fallen silent over it."""
        found = held_by(folder.file(NAME))
        if found is not None and any(same_process(found, gone) for gone in self._gone):
            folder.file(NAME).unlink(missing_ok=True)

    def at_work(self) -> set[str]:
        """What somebody claims, as far as is known without asking another machine."""
        return {path.parent.name for path in self.folder.glob(f"*/{NAME}")}
