"""What the device at hand can do at most: bytes copied and floating-point operations a second, both measured."""

from __future__ import annotations

import torch

from medkit.bench.case import Work
from medkit.bench.timing import seconds

ROUNDS = 4


class Roofline:
    """Copy bandwidth and matrix rates of ``device``: the best of all measurements so far.

    It is measured again with every case, for whatever else runs on the machine can only lower it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bandwidth = 0.0
        self.rates: dict[str, float] = {}

    def measure(self, dtype: str) -> None:
        """Copy what no cache holds (64 MB on a CPU, 1 GB on a GPU), and multiply square matrices in ``dtype``."""
        large = self.device.type == "cuda"
        source = torch.ones(1 << (28 if large else 24), device=self.device)
        target = torch.empty_like(source)
        took = min(seconds(lambda: target.copy_(source), self.device) for _ in range(ROUNDS))
        self.bandwidth = max(self.bandwidth, 2 * source.nbytes / took)
        n = 8192 if large else 1024
        a = torch.ones(n, n, device=self.device, dtype=getattr(torch, dtype))
        took = min(seconds(lambda: a @ a, self.device) for _ in range(ROUNDS))
        self.rates[dtype] = max(self.rates.get(dtype, 0.0), 2 * n**3 / took)

    def share(self, work: Work, took: float) -> float | None:
        """Least time by the roofline over the time it ``took``; None where no work was stated."""
        if not (work.flops or work.bytes):
            return None
        return max(work.bytes / self.bandwidth, work.flops / self.rates[work.dtype]) / took

    def measured(self) -> dict[str, float]:
        """For the results file."""
        found = {f"{dtype} operations/s": rate for dtype, rate in self.rates.items()}
        return {"copied bytes/s": self.bandwidth, **found} if self.bandwidth else found
