"""What a stage cost: wall time and peak memory, for tables that compare methods."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from medkit.engine import memory
from medkit.runs.folder import RunFolder

FILE = "resources.json"


class Meter(Protocol):
    """Measures the peak memory, in MB (2^20 bytes), since it was restarted; None where that is not known.

    ``kind`` says whose: that of this process with its libraries (``process``), of the GPU's allocator (``cuda``), or of
    programs that were started (``children``).
    """

    @property
    def kind(self) -> str: ...

    @property
    def peak(self) -> float | None: ...

    def restart(self) -> None: ...


class ProcessMeter:
    """This process; its peak can only be reset on Linux."""

    kind = "process"
    known = False

    def restart(self) -> None:
        self.known = memory.start_over()

    @property
    def peak(self) -> float | None:
        return memory.peak() / 2**20 if self.known else None


class CudaMeter:
    """The allocator of a GPU."""

    kind = "cuda"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def restart(self) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)

    @property
    def peak(self) -> float | None:
        return torch.cuda.max_memory_allocated(self.device) / 2**20


def meter_of(device: torch.device) -> Meter:
    """What measures work on ``device``."""
    return CudaMeter(device) if device.type == "cuda" else ProcessMeter()


class Cost:
    """Keeps ``resources.json``: ``{stage: {train_seconds, evaluate_seconds, peak_mb, memory}}``.

    Seconds add up over interruptions. ``peak_mb`` is the largest memory of any part of the stage, ``memory`` the
    meter's kind.
    """

    def __init__(self, folder: RunFolder, keeps: bool = True) -> None:
        self.folder, self.keeps = folder, keeps

    @contextmanager
    def of(self, stage: str, key: str, meter: Meter) -> Iterator[None]:
        """Count the time inside as ``key`` of ``stage``, even if it ends in an error."""
        begun = time.monotonic()
        meter.restart()
        try:
            yield
        finally:
            if self.keeps:
                self._add(stage, key, time.monotonic() - begun, meter)

    def _add(self, stage: str, key: str, seconds: float, meter: Meter) -> None:
        found = self.folder.read_json(FILE, {})
        mine: dict[str, Any] = found.setdefault(stage, {})
        mine[key] = round(mine.get(key, 0.0) + seconds, 3)
        peak = meter.peak
        if peak is not None and (mine.get("peak_mb") is None or peak > mine["peak_mb"]):
            mine |= {"peak_mb": round(peak, 1), "memory": meter.kind}
        self.folder.write_json(FILE, found)


def read_costs(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """``resources.json``; nothing for runs made before it was kept."""
    found: dict[str, dict[str, Any]] = folder.read_json(FILE, {})
    return found
