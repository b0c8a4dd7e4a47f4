"""Batches made before the step that needs them: by a thread, or by processes.

A batch is a pure function of (epoch, step), so who makes it, and in which order, does not change a bit of it.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from medkit.data.processes import default_jobs, settle
from medkit.data.slots import Reader, Slots
from medkit.errors import InputError, MedkitError, RunError
from medkit.protocols import Batch

AHEAD = 2  # batches that each process prepares while the network works
MOST = 8  # processes that "auto" starts at most
Workers = int | Literal["auto"]
Key = tuple[int, int]
"""Epoch and step."""


def count_workers(workers: Workers, on_gpu: bool, ranks: int = 1) -> int:
    """How many processes make the batches of each rank; 0 means a thread.

    ``auto`` leaves a CPU to the network that trains on it, and for a GPU uses the available cores, less one per rank.
    """
    if workers == "auto":
        return max(0, min(MOST, default_jobs() // ranks - 1)) if on_gpu else 0
    return workers


def by_thread(make: Callable[[Key], Batch], epoch: int, steps: range) -> Iterator[Batch]:
    """Batches of an epoch, made in advance by one thread, which ends when the iterator is closed."""
    stop = threading.Event()
    ready: queue.Queue[Any] = queue.Queue(AHEAD)

    def hand_over(item: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for step in steps:
                if not hand_over(make((epoch, step))):
                    return
            hand_over(None)
        except BaseException as error:  # the consumer raises it
            hand_over(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        worker.join()


class WorkerBatches:
    """Batches made by processes, which keep running while epochs follow one another.

    Parameters
    ----------
    make:
        Makes the batch for a key; it is copied into every process.
    steps:
        Steps of every epoch.
    start:
        How processes are started. Only ``fork`` finds plugins that are not installed. It is safe with a GPU that this
        process already uses, because making batches does not touch it.
    """

    def __init__(
        self,
        make: Callable[[Key], Batch],
        steps: int,
        count: int,
        *,
        start: Literal["fork", "forkserver", "spawn"] = "fork",
        told: Callable[[Key], str] = str,
    ) -> None:
        self.steps, self.told = steps, told
        self._keys = _Keys(steps)
        self._loader: DataLoader[Any] = DataLoader(
            _Made(make),
            batch_size=None,  # an item is a batch
            sampler=self._keys,
            num_workers=count,
            prefetch_factor=AHEAD,
            worker_init_fn=partial(_settle, os.getpid() if start == "fork" else None),
            multiprocessing_context=start,
            generator=torch.Generator(),  # or each start would draw from the global one, which networks use
        )
        self._reader = Reader(pinned=torch.cuda.is_available())
        self._running: Iterator[Any] | None = None
        self._next: Key | None = None

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """Batches of an epoch from the ``start``-th on; those of the next epoch are begun meanwhile."""
        if self._next != (epoch, start):
            self.close()
            self._keys.first = epoch, start
        if self._running is None:
            self._running = self._begin()
        finished = False
        try:
            for step in range(start, self.steps):
                yield self._take((epoch, step))
            finished = True
        finally:
            self._next = (epoch + 1, 0) if finished else None
            if not finished:
                self.close()

    def _begin(self) -> Iterator[Any]:
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGCHLD)
        running = iter(self._loader)
        if in_main and before is not None:
            # torch's handler raises anywhere in the training; that a worker ended is noticed with the next batch
            # anyway.
            signal.signal(signal.SIGCHLD, before)
        return running

    def _take(self, key: Key) -> Batch:
        assert self._running is not None
        try:
            found = next(self._running)
        except (RuntimeError, OSError, EOFError) as error:  # the latter where it ends while a batch is fetched
            text = (str(error) or type(error).__name__).splitlines()[0]
            hint = "was there too little memory, or shared memory (/dev/shm)? Fewer workers need less; 0 means a thread"
            raise RunError(f"a process that makes batches has ended ({text})", self.told(key), hint) from error
        if isinstance(found, _Broken):
            raise found.error()
        return self._reader.read(found)

    def close(self) -> None:
        """End the processes."""
        running, self._running, self._next = self._running, None, None
        if running is not None:
            running._shutdown_workers()  # type: ignore[attr-defined]
        self._reader.forget()


class _Keys:
    """Epoch and step of every batch from the first one on, endlessly."""

    def __init__(self, steps: int) -> None:
        self.steps, self.first = steps, (0, 0)

    def __iter__(self) -> Iterator[Key]:
        epoch, step = self.first
        for later in itertools.count(epoch):
            for number in range(step if later == epoch else 0, self.steps):
                yield later, number


class _Made(Dataset[Any]):
    def __init__(self, make: Callable[[Key], Batch]) -> None:
        self.make = make
        self._slots: Slots | None = None

    def __getitem__(self, key: Key) -> Any:
        try:
            if self._slots is None:
                about = get_worker_info()
                assert about is not None
                # While a batch is being read, its process may write the AHEAD ones that it has been asked for.
                self._slots = Slots(about.id, AHEAD + 1)
            return self._slots.write(self.make(key))
        except Exception as error:
            return _Broken.of(error)


@dataclass(frozen=True)
class _Broken:
    """An exception in a form that can be sent to another process."""

    wrong_input: bool
    what: str
    where: str | None
    hint: str | None

    @classmethod
    def of(cls, error: Exception) -> _Broken:
        if isinstance(error, MedkitError):
            return cls(isinstance(error, InputError), error.what, error.where, error.hint)
        return cls(False, "".join(traceback.format_exception(error)).strip(), None, None)

    def error(self) -> MedkitError:
        return (InputError if self.wrong_input else RunError)(self.what, self.where, self.hint)


def _settle(parent: int | None, number: int) -> None:
    settle(parent)
