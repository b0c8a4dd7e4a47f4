"""Where a run computes: device, precision, ranks, and the one rule of randomness."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from medkit.errors import InputError


@dataclass(frozen=True)
class Runtime:
    """Device, precision and place among the ranks of one process."""

    device: torch.device
    precision: str = "fp32"
    rank: int = 0
    ranks: int = 1

    @classmethod
    def start(cls, device: str | None = None, precision: str = "fp32") -> Runtime:
        """Choose the device and, under torch's launcher, join the other ranks (gloo on CPU, NCCL on GPUs)."""
        if precision not in ("fp32", "bf16"):
            raise InputError(f"precision '{precision}' is not known", hint="fp32 or bf16")
        name = device or ("cuda" if torch.cuda.is_available() else "cpu")
        _check_device(name)
        ranks = int(os.environ.get("WORLD_SIZE", "1"))
        rank = int(os.environ.get("RANK", "0"))
        if name == "cuda":
            local = int(os.environ.get("LOCAL_RANK", "0"))
            if local >= torch.cuda.device_count():
                raise InputError(f"rank {rank} has no GPU: there are {torch.cuda.device_count()}")
            torch.cuda.set_device(local)
            name = f"cuda:{local}"
        if ranks > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if name.startswith("cuda") else "gloo")
        return cls(torch.device(name), precision, rank, ranks)

    @property
    def main(self) -> bool:
        """True on the one rank that writes."""
        return self.rank == 0

    @property
    def description(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{name} ({self.precision})" + (f", {self.ranks} ranks" if self.ranks > 1 else "")

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def barrier(self) -> None:
        if self.ranks > 1:
            dist.barrier()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over all ranks, in one message."""
        if self.ranks == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.ranks
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the tensors of rank 0."""
        if self.ranks > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Give every rank the buffers (batch-norm statistics, spectral-norm vectors) of rank 0."""
        self.broadcast(buffer for buffer in module.buffers())

    def any_true(self, values: Sequence[bool]) -> list[bool]:
        """For each value, whether it is true on any rank."""
        if self.ranks == 1 or not values:
            return list(values)
        flags = torch.tensor([int(value) for value in values], dtype=torch.int32, device=self.device)
        dist.all_reduce(flags)
        return [count > 0 for count in flags.tolist()]

    def all_true(self, value: bool) -> bool:
        """True if ``value`` is true on every rank."""
        if self.ranks == 1:
            return value
        flag = torch.tensor([0 if value else 1], device=self.device)
        dist.all_reduce(flag)
        return int(flag) == 0


def _check_device(name: str) -> None:
    if not (match := re.fullmatch(r"cpu|cuda(?::([0-9]{1,4}))?", name)):
        raise InputError(f"device '{name}' is not known", hint="cpu, cuda, or cuda:0 for the first of several GPUs")
    if name == "cpu":
        return
    if not torch.cuda.is_available():
        raise InputError("no CUDA device was found", hint="use --device cpu")
    if match.group(1) is not None and int(match.group(1)) >= torch.cuda.device_count():
        raise InputError(f"there is no {name}: {torch.cuda.device_count()} GPUs are here, counted from 0")


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seed torch, numpy and Python for one step. Every step is seeded, so a resumed run needs no generator's state.

    Ranks differ: they drop different units and augment differently.
    """
    text = f"{seed}/{epoch}/{step}/{rank}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")
    random.seed(number)
    np.random.seed(number % 2**32)  # nothing here draws from it, but a plugin may
    # Without a GPU, torch.manual_seed queues a call with its stack for each absent device, at every step.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(number)


def shared_generator(seed: int, epoch: int, step: int, repetition: int = 0) -> torch.Generator:
    """A generator that is the same on all ranks, another one for each repetition of a turn on one batch."""
    text = f"shared/{seed}/{epoch}/{step}{f'/{repetition}' if repetition else ''}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")
    return torch.Generator().manual_seed(number)


def launch(devices: int, arguments: Sequence[str]) -> None:
    """Start ``devices`` ranks of ``python -m medkit ARGUMENTS`` through torch's elastic launcher and wait for them."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="medkit",
    )
    elastic_launch(config, sys.executable)("-m", "medkit", *arguments)
