"""Shared memory in which processes hand over batches, used again and again.

Fresh shared memory costs a page fault for every 4 KiB, in a virtual machine up to a third of the time that it takes to
make the batch. Each process that makes batches therefore has a ring of slots and writes its batches into one after the
other. Whoever takes a batch copies it out before asking for the one that will be written there.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from medkit.protocols import Batch

ALIGNED = 64  # bytes
HEAD = ALIGNED  # bytes before a batch's tensors, for its number


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in its slot."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def stop(self) -> int:
        return self.start + prod(self.shape) * self.dtype.itemsize

    def of(self, memory: Tensor) -> Tensor:
        return memory[self.start : self.stop].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class Placed:
    """A batch whose tensors lie in a slot: the ``number``-th of its process.

    ``memory`` is sent along only where it is new. Values of ``batch`` are places, or what is sent as it is.
    """

    process: int
    slot: int
    number: int
    memory: Tensor | None
    batch: dict[str, Any]


class Slots:
    """The slots of one process, and the number of batches that it has written."""

    def __init__(self, process: int, count: int) -> None:
        self.process, self.number = process, 0
        self._memory: list[Tensor | None] = [None] * count

    def write(self, batch: Batch) -> Placed:
        """Write a batch over the one of ``count`` calls ago; tensors that are not contiguous are sent as they are."""
        self.number += 1
        slot = self.number % len(self._memory)
        placed: dict[str, Any] = {}
        start = HEAD
        for name, value in batch.items():
            if isinstance(value, Tensor) and value.is_contiguous() and value.numel():
                placed[name] = Place(start, tuple(value.shape), value.dtype)
                start = -(-placed[name].stop // ALIGNED) * ALIGNED
            else:
                placed[name] = value
        memory, new = self._of_size(slot, start)
        _number_in(memory).fill_(self.number)
        for name, place in placed.items():
            if isinstance(place, Place):
                place.of(memory).copy_(batch[name])
        return Placed(self.process, slot, self.number, memory if new else None, placed)

    def _of_size(self, slot: int, size: int) -> tuple[Tensor, bool]:
        memory = self._memory[slot]
        if memory is not None and len(memory) >= size:
            return memory, False
        self._memory[slot] = memory = torch.empty(size, dtype=torch.uint8).share_memory_()
        return memory, True


class Reader:
    """Copies batches out of the slots of all processes."""

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned
        self._memory: dict[tuple[int, int], Tensor] = {}

    def read(self, placed: Placed) -> Batch:
        """A copy of the batch, on pages of its own (for a GPU, if ``pinned``, on locked ones).

        Raises
        ------
        RuntimeError
            if its process has already written another batch there.
        """
        key = placed.process, placed.slot
        if placed.memory is not None:
            self._memory[key] = placed.memory
        memory = self._memory[key]
        batch = {name: self._copied(value, memory) for name, value in placed.batch.items()}
        if int(_number_in(memory)) != placed.number:
            raise RuntimeError("a batch was overwritten before it was read")
        return batch

    def forget(self) -> None:
        """Let go of the slots of processes that have ended."""
        self._memory.clear()

    def _copied(self, value: Any, memory: Tensor) -> Any:
        if not isinstance(value, Place):
            return value.pin_memory() if self.pinned and isinstance(value, Tensor) else value
        return torch.empty(value.shape, dtype=value.dtype, pin_memory=self.pinned).copy_(value.of(memory))


def _number_in(memory: Tensor) -> Tensor:
    return memory[:8].view(torch.int64)
