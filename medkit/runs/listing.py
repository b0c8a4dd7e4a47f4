"""The runs below a folder: what each is, how far it has got, and what is going on with it. Reads small files only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medkit.errors import MedkitError
from medkit.evaluation import files

DEEPEST = 3  # folders below the one that is searched: studies keep trials two further down
FINISHED, FAILED, RUNNING, UNFINISHED, DAMAGED = "finished", "failed", "running", "unfinished", "damaged"


@dataclass(frozen=True)
class Listed:
    """A run as it is listed; ``status`` is ``running`` if its lock is held by a process that lives, or may."""

    folder: Path
    recipe: str
    status: str
    stages: int
    done: int
    started: str
    device: str
    result: str = ""
    """The first number of the last measured stage, with its split."""

    def json(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder)}


def listed(root: Path) -> list[Listed]:
    """The runs in and below ``root``, most recent first."""
    found = [_listed(path) for path in _folders(root, DEEPEST)]
    return sorted(found, key=lambda run: run.started, reverse=True)


def _folders(path: Path, depth: int) -> Iterator[Path]:
    """Folders that hold a run; what is inside one belongs to it."""
    if (path / "environment.json").is_file() and (path / "recipe.yaml").is_file():
        yield path
    elif depth:
        try:
            inside = sorted(item.path for item in os.scandir(path) if item.is_dir(follow_symlinks=False))
        except OSError:
            return
        for item in inside:
            if not os.path.basename(item).startswith("."):
                yield from _folders(Path(item), depth - 1)


def _listed(path: Path) -> Listed:
    try:
        environment = files.read_json(path / "environment.json")
        recipe = files.read_recipe(path)
        state = files.read_json(path / "state.json") if (path / "state.json").is_file() else {}
        results = files.read_json(path / "results.json") if (path / "results.json").is_file() else {}
    except MedkitError:
        return Listed(path, "?", DAMAGED, 0, 0, "", "")
    stages = [stage["name"] for stage in recipe["stages"]]
    done = [stage for stage in stages if stage in state.get("done", [])]
    status = _status(path, len(done) == len(stages), bool(state.get("failed")))
    about = (environment.get("started", ""), environment.get("device", ""))
    return Listed(path, recipe["name"], status, len(stages), len(done), *about, _result(results, done))


def _status(path: Path, whole: bool, failed: bool) -> str:
    if (path / "run.lock").exists() and _lives(path / "run.lock"):
        return RUNNING
    return FINISHED if whole else FAILED if failed else UNFINISHED


def _lives(lock: Path) -> bool:
    """Whether the holder of a lock lives; for one on another machine, that is not known."""
    from medkit.runs.lock import Holder, held_by, may_live  # it needs torch, and most folders have no lock

    found = held_by(lock)
    return found is not None and bool(may_live(found, Holder.this("runs"), lock))


def _result(results: Mapping[str, Any], done: list[str]) -> str:
    for stage in reversed(done):
        for split, values in results.get(stage, {}).items():
            for metric, value in values.items():
                shown = "undefined" if value.get("value") is None else f"{value['value']:.4g}"
                return f"{stage} {split}: {metric} {shown}"
    return ""
