"""What a recipe says of its report, once it has been checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from medkit.recipe.values import SEPARATOR, Area, Positive, Seed


@dataclass(frozen=True)
class WantedTable:
    """A paper's table for the report: one row per variant of a stage, one group of columns per test set.

    ``rows``, ``metrics`` and ``splits`` map names to what is printed, in order; empty: all, under their own names.
    ``rows`` has the labels of variants, the stage's own name, and ``input`` and ``target`` for what no network made.
    ``average`` adds the mean over the splits, ``cost`` training time and peak memory.
    """

    title: str
    stage: str
    rows: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    average: bool = False
    cost: bool = False

    @property
    def slug(self) -> str:
        """The title as a file name, at most 60 characters."""
        return "_".join(re.findall(r"[a-z0-9]+", self.title.lower()))[:60].rstrip("_") or "table"


@dataclass(frozen=True)
class Stress:
    """A curve of the report: how stages, and their variants, fare on a test split whose scans have lower doses.

    ``dose`` has shares of the scans' own, including 1, with which the others are compared; noise is inserted into the
    source's voxels (:mod:`medkit.data.dose`) with ``photons``, ``kernel``, ``modulation`` and ``seed``. ``denoise`` is
    an earlier stage, or the folder of a run, by which every scan is denoised before a stage gets it.
    """

    stages: list[str]
    split: str
    dose: list[Area]
    denoise: str | None = None
    photons: Positive | None = None
    kernel: Literal["soft", "sharp"] = "soft"
    modulation: Annotated[float, Ge(0), Le(1)] = 0.0
    seed: Seed = 0

    def points(self, curve: str) -> dict[str, float]:
        """What results call the split at each dose of this ``curve``: ``noise@0.25``."""
        return {f"{curve}{SEPARATOR}{dose:g}": dose for dose in self.dose}


@dataclass
class Report:
    """What the report shows.

    ``allow_seen`` lets stages be tested on patients that were seen in training: the reason, for all splits or for each
    one named. The reason is printed above the results. Each trained stage is also measured on at most ``own_data`` of
    the cases that it was trained on, to show whether it has learned anything; those numbers are not results. ``stress``
    has curves over the dose, by name.
    """

    splits: list[str] = field(default_factory=list)
    compare: dict[str, Any] = field(default_factory=dict)
    maps: dict[str, int] = field(default_factory=dict)
    tables: list[WantedTable] = field(default_factory=list)
    allow_seen: str | dict[str, str] | None = None
    own_data: int | None = None
    stress: dict[str, Stress] = field(default_factory=dict)

    @property
    def test(self) -> str:
        """The test by which stages are compared, and lower doses with the scans' own."""
        return str(self.compare.get("test", "paired_t"))

    def allowed(self, split: str) -> str | None:
        """Why ``split`` may hold patients that were seen in training; None if it may not."""
        return self.allow_seen.get(split) if isinstance(self.allow_seen, dict) else self.allow_seen
