"""Seconds of several functions, measured in turn so that a busy machine favours none of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from medkit.bench.device import current
from medkit.bench.remote import Remote, page_faults

LEAST = 2e-3  # seconds in one measurement: quicker functions are called several times
FEWEST = 3  # rounds


def seconds(function: Callable[[], Any], device: torch.device, calls: int = 1) -> float:
    """Seconds per call over ``calls`` calls: by CUDA events on a GPU, else by the monotonic clock."""
    if isinstance(function, Remote):
        return function.seconds(calls)
    if device.type == "cuda":
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        with current(device):  # else the events would belong to the first GPU
            torch.cuda.synchronize(device)
            begun.record()
            for _ in range(calls):
                function()
            ended.record()
            torch.cuda.synchronize(device)
        return begun.elapsed_time(ended) / 1e3 / calls
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Seconds of ``one`` over those of ``other``, round by round: what slows a round down slows both."""
    return [a / b for a, b in zip(one, other, strict=True)]


class Interleaved:
    """Rounds in which every function is timed once, in an order that changes from round to round.

    A round is ``before()``, ``reference()``, ``after()``, so that another timer (pytest-benchmark's) can watch the
    reference in its place among the others.

    Parameters
    ----------
    functions:
        Functions by name, already called once.
    reference:
        The name of one of them.
    """

    def __init__(self, functions: Mapping[str, Callable[[], Any]], reference: str, device: torch.device) -> None:
        self.functions, self.name, self.device = dict(functions), reference, device
        self.times: dict[str, list[float]] = {name: [] for name in functions}
        self.faults: dict[str, list[float]] = {name: [] for name in functions}  # pages mapped in a call, on a CPU
        first = {name: seconds(function, device) for name, function in functions.items()}  # also warms up
        self.calls = {name: max(1, min(1000, round(LEAST / max(took, 1e-7)))) for name, took in first.items()}
        self.round_seconds = sum(took * self.calls[name] for name, took in first.items())
        self._round = 0

    def rounds(self, wanted: int, budget: float) -> int:
        """Rounds that fit ``budget`` seconds: at most ``wanted``, at least three."""
        return max(min(FEWEST, wanted), min(wanted, int(budget / max(self.round_seconds, 1e-9))))

    def order(self) -> list[str]:
        """Who follows whom in this round: the names rotated by one each round, every other time backwards."""
        names = list(self.functions)
        shift = self._round // 2 % len(names)
        names = names[shift:] + names[:shift]
        return names[::-1] if self._round % 2 else names

    def before(self) -> None:
        order = self.order()
        for name in order[: order.index(self.name)]:
            self._time(name)

    def reference(self) -> None:
        self._time(self.name)

    def after(self) -> None:
        order = self.order()
        for name in order[order.index(self.name) + 1 :]:
            self._time(name)
        self._round += 1

    def _time(self, name: str) -> None:
        function, calls = self.functions[name], self.calls[name]
        before = page_faults()
        self.times[name].append(seconds(function, self.device, calls))
        mapped = function.faults if isinstance(function, Remote) else (page_faults() - before) / calls
        self.faults[name].append(mapped)
