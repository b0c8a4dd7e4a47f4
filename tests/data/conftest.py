"""A small source held in memory, for tests of the pipeline."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medkit.data.volume import Volume
from medkit.protocols import Case, Record


class MemorySource:
    """Cases with HU made from their number; every second one has a bleed in slices 1 and 2. Counts its loads."""

    def __init__(self, n: int, shape: tuple[int, int, int], paired: bool, masked: bool) -> None:
        self.shape, self.paired, self.masked, self.loads = shape, paired, masked, 0
        self.all = [
            Case(f"c{i}", f"p{i}", center="AB"[i % 2], fold="train", fields={"age": 40.0 + i}) for i in range(n)
        ]

    def cases(self) -> list[Case]:
        return self.all

    def identity(self, case: Case) -> str:
        return f"{case.id} {self.shape} {self.paired} {self.masked}"

    def load(self, case: Case) -> Record:
        self.loads += 1
        number = int(case.id[1:])
        rng = np.random.default_rng(number)
        depth = self.shape[0] + number % 3
        image = rng.integers(-100, 150, (depth, *self.shape[1:])).astype(np.int16)
        mask = np.zeros(image.shape, np.uint8)
        if number % 2:
            mask[1, 4:12, 4:12] = 1
            mask[2, 4:12, 4:8] = 1
        target = Volume(image - 5, units="HU") if self.paired else None
        return Record(Volume(image, units="HU"), Volume(mask) if self.masked else None, target)


@pytest.fixture
def source() -> Callable[..., MemorySource]:
    """Makes a source: ``source(n=6, shape=(4, 24, 24), paired=False, masked=True)``."""

    def make(
        n: int = 6, shape: tuple[int, int, int] = (4, 24, 24), paired: bool = False, masked: bool = True
    ) -> MemorySource:
        return MemorySource(n, shape, paired, masked)

    return make
