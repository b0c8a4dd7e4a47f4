"""Where a run computes: device, precision, ranks, and the one rule of randomness."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from medkit.engine.ranks import Place, place
from medkit.engine.strategy import Replicated, Single, Strategy
from medkit.errors import InputError


@dataclass(frozen=True)
class Runtime:
    """Device, precision and place among the ranks of one process."""

    device: torch.device
    precision: str = "fp32"
    strategy: Strategy = field(default_factory=Single)

    @classmethod
    def start(cls, device: str | None = None, precision: str = "fp32") -> Runtime:
        """Choose the device and join the other ranks, if the environment names some (gloo on CPU, NCCL on GPUs)."""
        _check_precision(precision)
        name = device or ("cuda" if torch.cuda.is_available() else "cpu")
        _check_device(name)
        here = place()
        if name == "cuda":
            local = _local_gpu(here)
            torch.cuda.set_device(local)
            name = f"cuda:{local}"
        where = torch.device(name)
        return cls(where, precision, Replicated(where) if here.world_size > 1 else Single())

    def with_precision(self, precision: str) -> Runtime:
        """The same device and ranks in another precision."""
        _check_precision(precision)
        return replace(self, precision=precision)

    @property
    def rank(self) -> int:
        return self.strategy.rank

    @property
    def world_size(self) -> int:
        return self.strategy.world_size

    @property
    def is_main(self) -> bool:
        """True on the one rank that writes."""
        return self.strategy.is_main

    @property
    def description(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{name} ({self.precision})" + (f", {self.world_size} ranks" if self.world_size > 1 else "")

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def _check_precision(precision: str) -> None:
    if precision not in ("fp32", "bf16"):
        raise InputError(f"precision '{precision}' is not known", hint="fp32 or bf16")


def _local_gpu(here: Place) -> int:
    """The GPU of a rank: the one with its number on the machine, or the only one that the scheduler lets it see."""
    count = torch.cuda.device_count()
    if here.local_rank < count:
        return here.local_rank
    if here.by == "srun" and count == 1:
        return 0
    raise InputError(
        f"rank {here.rank} has no GPU: there are {count}", hint="start one rank a GPU, or use --device cpu"
    )


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
    """Seed torch, numpy and Python for one step. Every step is seeded, so a resumed run needs no generator state.

    Ranks differ: they drop different units and augment differently.
    """
    seed_all(f"{seed}/{epoch}/{step}/{rank}")


def seed_all(text: str) -> None:
    """Seed torch, numpy and Python with a text."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little")
    random.seed(number)
    np.random.seed(number % 2**32)  # nothing here draws from it, but a plugin may
    # Without a GPU, torch.manual_seed queues a call with its stack for each absent device, at every step.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(number)


def shared_generator(seed: int, epoch: int, step: int, repetition: int = 0) -> torch.Generator:
    """A generator that is the same on all ranks, and different for each repetition of a turn on one batch."""
    text = f"shared/{seed}/{epoch}/{step}{f'/{repetition}' if repetition else ''}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")
    return torch.Generator().manual_seed(number)
