"""Tensors of which each rank works on a share: averaged on the rank that keeps them, and spread to all afterwards.

To average K gradients on all ranks and combine them on each sends every one twice, to where it is added up and back,
and computes the same everywhere. Where only the combination is wanted (PCGrad), each needs to reach one rank, and only
the combination has to come back: (K + 1) / 2K of the bytes, and 1 / ranks of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch.distributed as dist
from torch import Tensor

from medkit.engine.messages import Arrived, Message, Packed, told


class Shares(Protocol):
    """Who works on which of a list of tensors; the same on all ranks.

    ``mine`` are those of this rank, without a gap.
    """

    mine: slice

    def average_async(self, tensors: Sequence[Tensor]) -> Message:
        """Start averaging a list of tensors over all ranks; only those of ``mine`` arrive."""
        ...

    def joined(self, columns: Tensor, counts: Sequence[int]) -> Tensor:
        """(N, sum of ``counts``) on every rank: so many columns of each tensor, of which this one has its share's."""
        ...

    def spread(self, tensors: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
        """The tensors of all shares, given those of this one; ``like`` has all their shapes and dtypes."""
        ...


class AllMine:
    """One process works on everything."""

    mine = slice(None)

    def average_async(self, tensors: Sequence[Tensor]) -> Message:
        return Arrived(list(tensors))

    def joined(self, columns: Tensor, counts: Sequence[int]) -> Tensor:
        return columns

    def spread(self, tensors: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)


class Split:
    """Shares of about the same number of elements, in the order of the tensors.

    Parameters
    ----------
    tensors:
        What will be averaged, or anything of the same sizes.
    rank, world_size:
        This rank, and how many there are.
    group:
        The ranks' connection; None: that of tensors on the GPU.
    """

    def __init__(self, tensors: Sequence[Tensor], rank: int, world_size: int, group: Any) -> None:
        self.rank, self.world_size, self.group = rank, world_size, group
        self.owners = _owners([tensor.numel() for tensor in tensors], world_size)
        first = next((i for i, owner in enumerate(self.owners) if owner >= rank), len(self.owners))
        self.mine = slice(first, first + self.owners.count(rank))
        self.exchange: _Exchange | None = None

    def average_async(self, tensors: Sequence[Tensor]) -> Message:
        if not tensors:
            return Arrived([])
        if self.exchange is None:
            self.exchange = _Exchange(self, Packed(tensors))
        return self.exchange.send(tensors)

    def joined(self, columns: Tensor, counts: Sequence[int]) -> Tensor:
        before = sum(counts[: self.mine.start])
        whole = columns.new_zeros(len(columns), sum(counts))
        whole[:, before : before + columns.shape[1]] = columns
        with told("in a sum"):
            dist.all_reduce(whole, group=self.group)  # to every column but one rank's, zeros are added
        return whole

    def spread(self, tensors: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
        if not like:
            return []
        packed = Packed(like) if self.exchange is None else self.exchange.packed  # all that it sent has come
        every = packed.places()
        for place, tensor in zip(every[self.mine], tensors, strict=True):
            place.copy_(tensor)
        with told("in a broadcast"):
            works = [
                dist.broadcast(packed.flat[start:stop], owner, group=self.group, async_op=True)
                for owner, start, stop in self.pieces(packed)
            ]
            _wait(works)
        return every

    def pieces(self, packed: Packed) -> list[tuple[int, int, int]]:
        """Rank, first and last element of each share that is not empty."""
        found = []
        for owner in sorted(set(self.owners)):
            first = self.owners.index(owner)
            found.append((owner, packed.starts[first], packed.starts[first + self.owners.count(owner)]))
        return found


class _Exchange:
    """Lists of tensors sent to the ranks that keep them, one after the other through the same memory.

    Every rank sends each other one the share that it keeps, and adds up what has come. On gloo ``dist.reduce`` would
    send half as much again: it reduces in a ring, and then collects.
    """

    def __init__(self, shares: Split, packed: Packed) -> None:
        self.shares, self.packed = shares, packed
        self.sent = {owner: packed.flat[start:stop] for owner, start, stop in shares.pieces(packed)}
        self.length = len(self.sent.pop(shares.rank, ()))
        others = [rank for rank in range(shares.world_size) if rank != shares.rank and self.length]
        self.came = {rank: packed.flat.new_empty(self.length) for rank in others}
        self.last: _Coming | None = None

    def send(self, tensors: Sequence[Tensor]) -> Message:
        if self.last is not None:
            self.last.wait()  # it had a whole backward pass of time
        own = self.packed.flat.new_empty(self.length)
        places, mine = self.packed.places(), self.shares.mine
        places[mine] = self.packed.places(mine, own)
        for place, tensor in zip(places, tensors, strict=True):
            place.copy_(tensor)
        self.last = _Coming(self, own)
        return self.last


class _Coming:
    """The share of one list that this rank keeps, in ``own``, and what the others are sending for it."""

    def __init__(self, exchange: _Exchange, own: Tensor) -> None:
        self.exchange, self.own = exchange, own
        group = exchange.shares.group
        operations = [dist.P2POp(dist.isend, tensor, rank, group) for rank, tensor in exchange.sent.items()]
        operations += [dist.P2POp(dist.irecv, tensor, rank, group) for rank, tensor in exchange.came.items()]
        with told("in an average"):
            self.works = dist.batch_isend_irecv(operations) if operations else []

    def wait(self) -> list[Tensor]:
        if self.works:
            with told("in an average"):
                _wait(self.works)
            for tensor in self.exchange.came.values():
                self.own += tensor
            self.own /= self.exchange.shares.world_size
            self.works = []
        return self.exchange.packed.places(self.exchange.shares.mine, self.own)


def _wait(works: Sequence[dist.Work | None]) -> None:
    for work in works:
        if work is not None:  # torch has none for a rank outside of a group; all of ours are in it
            work.wait()


def _owners(sizes: Sequence[int], world_size: int) -> list[int]:
    """The rank of each tensor, never falling: where the middle of it lies, if all elements are dealt out evenly."""
    total, before, found = max(sum(sizes), 1), 0, []
    for size in sizes:
        found.append(min(world_size - 1, (2 * before + size) * world_size // (2 * total)))
        before += size
    return found
