"""What a stage cost: wall time and peak memory, for tables that compare methods."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from medkit.engine import memory
from medkit.runs.external import Work
from medkit.runs.folder import RunFolder

FILE = "resources.json"


class Cost:
    """Keeps ``resources.json``: ``{stage: {train_seconds, evaluate_seconds, peak_mb, memory}}``.

    Seconds add up over interruptions. ``peak_mb`` is the largest memory of any part of the stage: of this process with
    its libraries (``memory: process``), of the GPU's allocator (``cuda``), or of a program that it started
    (``children``). None where the system does not tell (a process's peak can be forgotten on Linux only).
    """

    def __init__(self, folder: RunFolder, device: torch.device, keeps: bool = True) -> None:
        self.folder, self.device, self.keeps = folder, device, keeps

    @contextmanager
    def of(self, stage: str, key: str, work: Work | None = None) -> Iterator[None]:
        """Count the time inside as ``key`` of ``stage``, also if it ends in an error; ``work``'s programs' memory."""
        begun = time.monotonic()
        known = self._start_over()
        try:
            yield
        finally:
            if self.keeps:
                kind = "children" if work else "cuda" if self.device.type == "cuda" else "process"
                self._add(stage, key, time.monotonic() - begun, kind, self._peak(work) if known or work else None)

    def _start_over(self) -> bool:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            return True
        return memory.start_over()

    def _add(self, stage: str, key: str, seconds: float, kind: str, peak: float | None) -> None:
        found = self.folder.read_json(FILE, {})
        mine: dict[str, Any] = found.setdefault(stage, {})
        mine[key] = round(mine.get(key, 0.0) + seconds, 3)
        if peak is not None and (mine.get("peak_mb") is None or peak > mine["peak_mb"]):
            mine |= {"peak_mb": round(peak, 1), "memory": kind}
        self.folder.write_json(FILE, found)

    def _peak(self, work: Work | None) -> float | None:
        """MB (2^20 bytes)."""
        if work is not None:
            return work.footprint.peak  # what its programs take of a GPU is not known here
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return memory.peak() / 2**20


def read_costs(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """``resources.json``; nothing for runs from before it was kept."""
    found: dict[str, dict[str, Any]] = folder.read_json(FILE, {})
    return found
