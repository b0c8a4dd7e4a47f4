"""What the device at hand can do at most: bytes copied and floating-point operations per second, both measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from medkit.bench.case import Work
from medkit.bench.device import tf32
from medkit.bench.timing import LEAST, seconds

ROUNDS = 4
SPAN = 0.3  # seconds after which a slow probe is not repeated
SLOW = 3.0  # seconds of a first call that is the only one: this processor has no instructions for such numbers
BYTES = {"float64": 8, "float32": 4, "tf32": 4, "bfloat16": 2, "float16": 2}


class Roofline:
    """Copy bandwidth and rates of operations of ``device``: the best seen of each so far.

    A rate belongs to a type of number. It is the best of square and oblong matrix products, 2-D and 3-D convolutions,
    and of the measured variants themselves, because no single one of these is the fastest on every processor. It is
    measured again with every case, as whatever else runs on the machine can only lower it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bandwidth = 0.0
        self.rates: dict[str, float] = {}
        self.shown_by: dict[str, str] = {}
        self.copies: dict[int, float] = {}  # by the bytes read and written
        self.slow: set[str] = set()  # types whose probes take so long that they are not repeated

    def measure(self, dtype: str, size: float = 0) -> None:
        """Copy what no cache holds (64 MB on a CPU, 1 GB on a GPU) and ``size`` bytes, and compute in ``dtype``."""
        large = 1 << (31 if self.device.type == "cuda" else 27)
        self.bandwidth = max(self.bandwidth, self._copy(large))
        if 0 < size < large:
            self.copies[int(size)] = max(self.copies.get(int(size), 0.0), self._copy(int(size)))
        if dtype in self.slow:
            return
        conv = torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=dtype == "tf32")
        with torch.no_grad(), conv, tf32(dtype == "tf32"):
            for name, flops, run in self._probes(dtype):
                took = self._best(run)
                self.seen(dtype, flops / took, name)
                if self._is_slow(took):
                    self.slow.add(dtype)

    def seen(self, dtype: str, rate: float, by: str) -> None:
        """Raise the roof to a rate that was reached."""
        if rate > self.rates.get(dtype, 0.0):
            self.rates[dtype], self.shown_by[dtype] = rate, by

    def share(self, work: Work, took: float, dtype: str | None = None) -> float | None:
        """Least time by the roofline over the time it ``took``, computed in ``dtype``.

        None if no work was stated, or no roof could be measured.

        At most 1: what moves its bytes faster than a copy of as many has them in a nearer cache.
        """
        kind = dtype or work.dtype
        if not (work.flops or work.bytes) or not self.bandwidth or kind not in self.rates:
            return None
        moved = work.bytes * BYTES[kind] / BYTES[work.dtype]
        bandwidth = max(self.bandwidth, self.copies.get(int(work.bytes), 0.0))
        return min(1.0, max(moved / bandwidth, work.flops / self.rates[kind]) / took)

    def measured(self) -> dict[str, float]:
        """For the results file."""
        found = {f"{dtype} operations/s ({self.shown_by[dtype]})": rate for dtype, rate in self.rates.items()}
        return {"copied bytes/s": self.bandwidth, **found} if self.bandwidth else found

    def _is_slow(self, took: float) -> bool:
        return took > SLOW and self.device.type == "cpu"

    def _copy(self, size: int) -> float:
        """Bytes per second, reading and writing ``size`` bytes in all."""
        source = torch.ones(max(1, size // 8), device=self.device)
        target = torch.empty_like(source)
        return 2 * source.nbytes / self._best(lambda: target.copy_(source))

    def _best(self, run: Callable[[], Any]) -> float:
        begun = time.perf_counter()
        run()  # finds its algorithm and its memory
        if self._is_slow(first := time.perf_counter() - begun):
            return first
        calls = max(1, min(1000, round(LEAST / max(seconds(run, self.device), 1e-7))))
        best = seconds(run, self.device, calls)
        for _ in range(ROUNDS - 1):
            if time.perf_counter() - begun > SPAN:
                break
            best = min(best, seconds(run, self.device, calls))
        return best

    def _probes(self, dtype: str) -> Iterator[tuple[str, float, Callable[[], Any]]]:
        """Name, operations and function of each; sizes that use a CPU's caches well, or fill a GPU."""
        large = self.device.type == "cuda"
        made = torch.Generator(self.device).manual_seed(0)
        kind = torch.float32 if dtype == "tf32" else getattr(torch, dtype)

        def some(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=made, device=self.device).to(kind)

        for m, n, k in ((8192, 8192, 8192), (32768, 1024, 1024)) if large else ((1024, 1024, 1024), (512, 512, 512)):
            yield "matrix product", 2 * m * n * k, _product(some(m, k), some(k, n))
        batch, channels, side = (64, 256, 64) if large else (8, 256, 16)
        for layout in (torch.contiguous_format, torch.channels_last):
            x = some(batch, channels, side, side).contiguous(memory_format=layout)
            w = some(channels, channels, 3, 3).contiguous(memory_format=layout)
            yield "2-D convolution", 18 * batch * channels**2 * side**2, _convolution(torch.conv2d, x, w)
        batch, channels, depth, side = (4, 64, 32, 64) if large else (1, 64, 16, 32)
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            x = some(batch, channels, depth, side, side).contiguous(memory_format=layout)
            w = some(channels, channels, 3, 3, 3).contiguous(memory_format=layout)
            yield "3-D convolution", 54 * batch * channels**2 * depth * side**2, _convolution(torch.conv3d, x, w)


def _product(a: torch.Tensor, b: torch.Tensor) -> Callable[[], Any]:
    return lambda: a @ b


def _convolution(function: Callable[..., Any], x: torch.Tensor, w: torch.Tensor) -> Callable[[], Any]:
    return lambda: function(x, w, padding=1)
