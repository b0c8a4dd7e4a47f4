"""The key of a stage: a digest of all that determines its weights, so that nothing need be trained twice.

Two stages with the same key have equal weights, as far as one machine computes like another.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medkit
from medkit.data.code import code_of
from medkit.data.files import all_below, is_folder
from medkit.data.keys import key_of
from medkit.recipe import Block, Stage
from medkit.recipe.walk import blocks
from medkit.records import made_with
from medkit.registry import Entry, plugins
from medkit.runs.file_digest import digest as file_digest
from medkit.runs.folder import LIBRARIES

if TYPE_CHECKING:
    from medkit.runs.workbench import Workbench

FORMAT = 1
"""Raised when equal keys would no longer mean equal weights."""
COMPUTES = (*LIBRARIES, "scikit-learn", "opencv-python-headless", "nibabel", "scipy", "scikit-image")
"""Libraries of which another version may give other numbers."""
SHOWS = ("bench", "cli", "executors", "reporting", "studies", "template", "testing")
"""Parts of medkit that affect neither weights nor results."""


@dataclass(frozen=True)
class StageKey:
    """``training`` stands for a stage's weights and the lines of its epochs; ``results`` for what was measured too."""

    training: str
    results: str


class Keys:
    """Keys of the stages of a workbench."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._cases: dict[tuple[str, str, float | None], str] = {}

    def of(self, stage: Stage) -> StageKey | None:
        """The key of a stage, or None if it takes a part of a stage that has none."""
        bench, folder = self.bench, self.bench.folder
        assert folder is not None
        parents = {name: folder.key(name) for name in sorted(stage.takes_from())}
        if any(not known.get("training") for known in parents.values()):
            return None
        tested = bench.evaluated_splits(stage)
        allowed = {split: bench.recipe.report.allowed(split) for split in stage.splits(tested)}
        taken = {name: [known["training"], known["weights"]] for name, known in parents.items()}
        training = digest({**self.made_of(stage), "cases": self.cases_of(stage), "parents": taken})
        measured = {split: self._digest(stage, split) for split in tested}
        report = bench.recipe.report
        told = [training, list(measured.items()), report.maps, allowed, report.own_data]
        return StageKey(training, digest([*told, *self._stress(stage)]))

    def made_of(self, stage: Stage) -> dict[str, Any]:
        """What determines a stage's weights, apart from its cases and the stages that it takes parts from."""
        bench = self.bench
        resolved = bench.recipe.resolved()
        own = next(plain for plain in resolved["stages"] if plain["name"] == stage.name)
        return {
            "format": FORMAT,
            "medkit": [medkit.__version__, own_code()],
            "libraries": made_with(COMPUTES)["libraries"],
            "runtime": [bench.runtime.device.type, bench.runtime.precision, bench.runtime.world_size],
            "seed": bench.recipe.seed,
            "stage": by_content({name: value for name, value in own.items() if name not in ("evaluate", "train")}),
            "data": data_by_content(resolved["data"][stage.data]),
            "components": dict(sorted(components(_used(stage, bench.recipe.data[stage.data])))),
        }

    def cases_of(self, stage: Stage) -> list[str]:
        """A digest of the cases of each split that a stage trains and validates on."""
        return [self._digest(stage, split, split == stage.train) for split in stage.splits([])]

    def _stress(self, stage: Stage) -> list[Any]:
        """What the curves over the dose come from; nothing of a stage without any."""
        from medkit.runs.stress import identity_of  # which trains and predicts, as keys do not

        return identity_of(self.bench, stage)

    def _digest(self, stage: Stage, split: str, training: bool = False) -> str:
        """All cases of a split, or of the fraction of it that is trained on, in order: what is known about each, and
        what its voxels come from."""
        key = (stage.data, split, stage.fraction if training else None)
        if key not in self._cases:
            dataset = self.bench.dataset(stage)
            found = hashlib.blake2b(digest_size=16)
            for case in self.bench.cases.train(stage) if training else dataset.cases(split):
                fields = sorted((name, repr(value)) for name, value in case.fields.items())
                voxels = key_of(dataset.source.identity(case)) if dataset.cache is None else dataset.keys.of(case).hex()
                said = [case.id, case.patient, case.center, case.fold, repr(case.label), fields, voxels]
                found.update(json.dumps(said, default=repr).encode() + b"\n")
            self._cases[key] = found.hexdigest()
        return self._cases[key]


def digest(content: Any) -> str:
    """A digest of plain data."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True, default=repr).encode(), digest_size=16).hexdigest()


def by_content(value: Any) -> Any:
    """Plain data of a recipe with the content of each file, and of all files in each folder, in place of its path."""
    return _by_content(value, folders=True)


def data_by_content(block: Mapping[str, Any]) -> dict[str, Any]:
    """A data block so, without its splits. Folders of its source are named only: images may be in them, and each case
    has a digest of its own."""
    return {key: _by_content(item, folders=key != "source") for key, item in block.items() if key != "splits"}


def _by_content(value: Any, folders: bool) -> Any:
    if isinstance(value, Mapping):
        return {key: _by_content(item, folders) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_by_content(item, folders) for item in value]
    # A resolved recipe names files by absolute paths; a word that happens to be a file in the current folder is a word.
    if isinstance(value, str) and os.path.isabs(value) and os.path.isfile(value):
        return {"file": file_digest(Path(value))}
    if folders and isinstance(value, str) and is_folder(value):
        return {"folder": {place: file_digest(file) for place, file in all_below(value)}}
    return value


@functools.cache
def own_code() -> str:
    """A digest of medkit's own code: during development, a version does not say what was run."""
    root = Path(str(medkit.__file__)).parent
    found = hashlib.blake2b(digest_size=16)
    for file in sorted(root.rglob("*.py")):
        place = file.relative_to(root)
        if place.parts[0] not in SHOWS:
            found.update(f"\0{place.as_posix()}\0".encode() + file.read_bytes())
    return found.hexdigest()


def _used(stage: Stage, data: Any) -> list[Any]:
    own = [stage.objective, stage.optim, stage.schedule, stage.clip, *stage.metrics]
    return [*own, data.source, *data.prepare, *data.random]


def components(used: Iterable[Any]) -> Iterator[tuple[str, list[str]]]:
    """Each component among these and inside them, with its plugin's version and a digest of its source."""
    versions = {info.name: info.version for info in plugins.plugins()}
    for block in (inner for one in used for inner in blocks(one)):
        entry: Entry = block.entry
        made = entry.load()
        while isinstance(made, functools.partial):
            made = made.func
        yield f"{block.kind} {block.name}", [versions.get(entry.plugin, ""), code_of(made)]


def is_external(block: Block) -> bool:
    """Whether a separate program trains what the block makes."""
    return bool(getattr(block.entry.load(), "external", False))
