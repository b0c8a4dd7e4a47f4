"""What travels between ranks: tensors on their way, and what is said of a rank that is gone."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from medkit.errors import RunError

ALIGNED = 64  # bytes; inner products of tensors that start elsewhere may round differently


class LostRank(RunError):
    """Another rank has ended or hangs: nothing more can be trained, whatever stage is next."""

    secondary = True


class Message(Protocol):
    """Tensors on their way to all ranks."""

    def wait(self) -> list[Tensor]:
        """The averaged tensors; those that were given stay as they are."""
        ...


class Arrived:
    """A message that nobody had to wait for."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.tensors = tensors

    def wait(self) -> list[Tensor]:
        return self.tensors


class Packed:
    """Memory in one piece for a list of tensors, each at an aligned place.

    Parameters
    ----------
    like:
        Tensors of the shapes; the memory's type is one that holds all of theirs.
    """

    def __init__(self, like: Sequence[Tensor]) -> None:
        kind = reduce(torch.promote_types, (tensor.dtype for tensor in like))
        step = ALIGNED // kind.itemsize
        self.shapes = [tensor.shape for tensor in like]
        self.starts = [0]
        for tensor in like:
            self.starts.append(self.starts[-1] + -(-tensor.numel() // step) * step)
        self.flat = torch.empty(self.starts[-1], dtype=kind, device=like[0].device)

    def fill(self, tensors: Sequence[Tensor]) -> None:
        """Copy tensors to their places."""
        for tensor, place in zip(tensors, self.places(), strict=True):
            place.copy_(tensor)
        for start, tensor, after in zip(self.starts, tensors, self.starts[1:], strict=False):
            self.flat[start + tensor.numel() : after].zero_()  # what is in between is summed too

    def places(self, part: slice = slice(None), flat: Tensor | None = None) -> list[Tensor]:
        """The tensors in this memory, or a part of them in another, ``flat``, laid out in the same way."""
        starts, shapes = self.starts[:-1][part], self.shapes[part]
        before, memory = (0, self.flat) if flat is None else (starts[0] if starts else 0, flat)
        return [
            memory[start - before : start - before + shape.numel()].view(shape)
            for start, shape in zip(starts, shapes, strict=True)
        ]


class Sent:
    """Tensors that all ranks add to."""

    def __init__(self, tensors: Sequence[Tensor], world_size: int, group: Any) -> None:
        self.world_size, self.packed = world_size, Packed(tensors)
        self.packed.fill(tensors)
        with told("in an average"):
            self.work = dist.all_reduce(self.packed.flat, group=group, async_op=True)

    def wait(self) -> list[Tensor]:
        with told("in an average"):
            self.work.wait()
        self.packed.flat /= self.world_size
        return self.packed.places()


@contextlib.contextmanager
def told(when: str) -> Iterator[None]:
    """What torch says about a rank that is gone, as an error of the run."""
    try:
        yield
    except RuntimeError as error:
        reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0])
        raise LostRank(
            f"ranks lost each other {when} ({reason})",
            hint="the message of the one that ended first is above; 'medkit resume' continues",
        ) from error
