"""Batches made ahead of the step that needs them: by a thread, or by processes of their own.

A batch is a pure function of (epoch, step), so it makes no difference to its bits who makes it, nor in which order.
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
from torch.utils.data import DataLoader, Dataset

from medkit.data.processes import default_jobs, settle
from medkit.errors import InputError, MedkitError, RunError
from medkit.protocols import Batch

AHEAD = 2  # batches prepared while the network works; by each process
MOST = 8  # processes that "auto" starts
Workers = int | Literal["auto"]
Key = tuple[int, int]
"""Epoch and step."""


def count_workers(workers: Workers, on_gpu: bool, ranks: int = 1) -> int:
    """How many processes make the batches of each rank; 0 is a thread.

    ``auto`` leaves a CPU to the network that trains on it, and gives a GPU the cores that are there, but one a rank.
    """
    if workers == "auto":
        return max(0, min(MOST, default_jobs() // ranks - 1)) if on_gpu else 0
    return workers


def by_thread(make: Callable[[Key], Batch], epoch: int, steps: range) -> Iterator[Batch]:
    """Batches of an epoch, made ahead by one thread, which ends when the iterator is closed."""
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
    """Batches made by processes, which live as long as epochs follow one another.

    Parameters
    ----------
    make:
        Makes the batch of a key; it is copied into every process.
    steps:
        Steps of every epoch.
    start:
        How processes are started. Plugins that lie under work are found by ``fork`` only; it does not touch the GPU
        that this process may have begun to use, and neither do batches.
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
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # or each start would draw from the one that networks draw from
        )
        self._running: Iterator[Any] | None = None
        self._next: Key | None = None

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """Batches of an epoch from the ``start``-th on; those of the next one are begun meanwhile."""
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
            # torch's handler raises wherever the training is at that moment; asked for a batch, it finds out as well.
            signal.signal(signal.SIGCHLD, before)
        return running

    def _take(self, key: Key) -> Batch:
        assert self._running is not None
        try:
            found = next(self._running)
        except RuntimeError as error:
            text = str(error).splitlines()[0]
            hint = "was there too little memory, or shared memory (/dev/shm)? Fewer workers need less; 0 is a thread"
            raise RunError(f"a process that makes batches has ended ({text})", self.told(key), hint) from error
        if isinstance(found, _Broken):
            raise found.error()
        return found  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the processes."""
        running, self._running, self._next = self._running, None, None
        if running is not None:
            running._shutdown_workers()  # type: ignore[attr-defined]


class _Keys:
    """Epoch and step of every batch from the first one on, without an end."""

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

    def __getitem__(self, key: Key) -> Any:
        try:
            return self.make(key)
        except Exception as error:
            return _Broken.of(error)


@dataclass(frozen=True)
class _Broken:
    """An exception as it travels from one process to another."""

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
