"""The run folder: one place from which a run is resumed, compared, reported and exported."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medkit.errors import InputError
from medkit.evaluation import files
from medkit.paths import typed
from medkit.recipe import Recipe, load_recipe
from medkit.recipe.values import SEPARATOR
from medkit.records import encoded, made_with, write_atomically
from medkit.runs.kept_plugins import FOLDER as KEPT
from medkit.runs.kept_plugins import keep_plugins, load_kept

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "kornia",
    "albumentations",
    "numpy",
    "pydicom",
)


STARTED = time.time()
TICK = 0.02
"""Seconds by which a file system's clock may be behind: it is set once per tick of the kernel's."""
FOLDERS = ("checkpoints", "weights", "examples")
FIRST = r"environment\.json|state\.json"
LEFT = re.compile(rf"run\.lock|log\.txt|{FIRST}|\.({FIRST}|recipe\.yaml|run\.lock)\.\d+\.tmp")
"""Files that a run has before its ``recipe.yaml``."""
UNFINISHED = re.compile(r"\..+\.\d+\.tmp")
"""Files whose writer was killed."""


class RunFolder:
    """Paths and small files of one run.

    ======================  ==========================================================================
    ``recipe.yaml``         the resolved recipe, full names
    ``environment.json``    versions, plugins, device, seed
    ``plugins/``            files given by ``--plugin``, as they were run
    ``run.lock``            who is working in the folder, while somebody is
    ``state.json``          which stages are done, which failed and why; the key of each
    ``metrics.jsonl``       one line per epoch
    ``results.json``        ``{stage: {split: {metric: {value, low, high, method, n, n_patients, n_empty}}}}``
    ``cases.csv``           one row per stage, split and case
    ``cases/``              rows of evaluations that are not in ``cases.csv`` yet
    ``ledgers/``            ``STAGE.json``: digests of whom a stage and its chain have seen
    ``choices.json``        settings of each probe, and those that they were chosen from
    ``own_data.json``       what stages are worth on their own training data, if asked for
    ``later.json``          what was measured on cases that came after the run: from which manifest
    ``seen.json``           tested patients that were seen in training: by which stage, and why it was allowed
    ``checkpoints/STAGE/``  what a killed run is resumed from
    ``weights/``            ``STAGE.PART.safetensors``
    ``trackers/``           what experiment trackers keep of the run
    ``external/STAGE/``     what another program made and said, where one trains the stage
    ``resources.json``      time and memory of each stage
    ``examples/``           slices shown in the report
    ``slices/``             slices of a few cases of each evaluation, for the report's viewer
    ``subgroups/``          results of groups of cases, by what is known of them
    ``embeddings/``         features of classified images, for the report's maps
    ``tables/``             the recipe's tables as Markdown and CSV
    ``report.html``         one self-contained file
    ``log.txt``             what was printed
    ======================  ==========================================================================
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new folder, for one run: of two that want it at the same moment one is refused.

        One that holds anything but the leftovers of a start that was killed is an :class:`InputError`.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            again = _left_over(path)
            for i, name in enumerate(FOLDERS):
                # Of two runs that find an empty folder, the one that makes the first of these gets it.
                (path / name).mkdir(exist_ok=again or i > 0)
        except FileExistsError as error:
            raise _used(path) from error
        except OSError as error:
            raise InputError(f"the output folder cannot be made: {error.strerror}", str(path)) from error
        return cls(path)

    def refuse_used(self) -> None:
        """Refuse at once what :meth:`create` would refuse when all else has been checked."""
        try:
            if self.path.is_dir():
                _left_over(self.path)
            elif os.path.lexists(self.path):
                raise FileExistsError
        except FileExistsError as error:
            raise _used(self.path) from error

    def start(self, recipe: Recipe, environment: Mapping[str, Any]) -> None:
        """Write the first files. ``recipe.yaml`` is the last: a folder without one was never started."""
        self.write_json("environment.json", {**environment, "plugin_files": keep_plugins(self.path)})
        self.write_json("state.json", {"done": []})
        recipe.write(self.file("recipe.yaml"))

    @classmethod
    def open(cls, path: Path, plugins: bool = True) -> RunFolder:
        """An existing run folder; the plugin files that it was made with are loaded, unless ``plugins`` is False."""
        if not cls(path).begun:
            hint = None
            if not path.exists():
                raise InputError("there is no such run folder", str(path), "'medkit runs' lists those in runs/")
            if path.is_dir() and any(path.iterdir()) and _startable(path):
                hint = f"a run ended here just as it began; start it again: medkit run RECIPE --out {typed(path)}"
            elif path.is_dir() and any(path.glob("*/recipe.yaml")):
                hint = f"'medkit runs {typed(path)}' lists the runs in it"
            raise InputError("this is not a run folder: it holds no recipe.yaml", str(path), hint)
        if plugins and (path / "environment.json").is_file():
            load_kept(path, files.read_json(path / "environment.json"))
        return cls(path)

    @property
    def begun(self) -> bool:
        """Whether a run was begun here that can be continued."""
        return (self.path / "recipe.yaml").is_file()

    def remove_start(self) -> None:
        """Remove what a killed start has left; only for callers who know that nobody else is starting here."""
        if self.path.is_dir() and not self.begun and _startable(self.path):
            shutil.rmtree(self.path)

    def remove_unfinished(self) -> None:
        """Remove what a killed run was just writing; nobody reads it. What other programs wrote is theirs."""
        for path in self.path.rglob(".*.tmp"):
            theirs = path.relative_to(self.path).parts[0] == "external"
            if UNFINISHED.fullmatch(path.name) and path.is_file() and not theirs:
                path.unlink(missing_ok=True)

    def file(self, name: str) -> Path:
        return self.path / name

    def weights(self, stage: str, part: str) -> Path:
        return self.path / "weights" / f"{stage}.{part}.safetensors"

    def all_weights(self, stage: str) -> list[Path]:
        """The weights of every part that is there."""
        return sorted((self.path / "weights").glob(f"{stage}.*.safetensors"))

    def checkpoints(self, stage: str) -> Path:
        return self.path / "checkpoints" / stage

    def write_text(self, name: str, text: str) -> Path:
        """Write ``name`` whole or not at all."""
        target = self.path / name
        write_atomically(target, encoded(text))
        return target

    def write_json(self, name: str, content: Any) -> Path:
        return self.write_text(name, json.dumps(content, indent=1) + "\n")

    def read_json(self, name: str, default: Any = None) -> Any:
        """A JSON file, or ``default`` if there is none; a damaged one is a :class:`RunError`."""
        path = self.path / name
        return files.read_json(path) if path.is_file() else default

    def recipe(self) -> Recipe:
        """The resolved recipe, checked against the installed components."""
        return load_recipe(self.file("recipe.yaml"))

    def bound_to_ranks(self) -> list[str]:
        """Stages that are not done and must continue on as many ranks as they began on: nothing in them is divided."""
        return [stage.name for stage in self.recipe().stages if not (self.done(stage.name) or stage.divided)]

    def resumable(self) -> dict[str, Any]:
        """The environment of the run, if everything that says how to continue it is there.

        Raises
        ------
        RunError
            if ``environment.json`` or ``state.json`` is missing or damaged: precision, ranks and what has been
            trained are not guessed.
        """
        files.read_json(self.file("state.json"))
        found: dict[str, Any] = files.read_json(self.file("environment.json"))
        return found

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(_json(line) + "\n")
            file.flush()
            os.fsync(file.fileno())  # as the checkpoint after it is, which says that this epoch is over

    def drop_metrics_after(self, stage: str, epoch: int) -> None:
        """Drop lines of epochs that a resumed run will train again, so that no epoch is reported twice."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return
        kept = [line for line in files.read_lines(path) if line["stage"] != stage or line["epoch"] < epoch]
        text = "".join(_json(line) + "\n" for line in kept)
        if text != files.read_text(path):
            self.write_text("metrics.jsonl", text)

    def log(self, text: str) -> None:
        # Under an ASCII locale a path with other letters comes as escaped bytes; they are written as they were.
        with open(self.path / "log.txt", "a", encoding="utf-8", errors="surrogateescape", opener=_no_link) as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def of_splits(self, name: str, base: str | None = None) -> Iterator[tuple[str, str, Any]]:
        """Stage, split and what a file ``{stage: {split: ...}}`` holds of them; ``base`` picks a stage with its
        variants."""
        for stage, splits in self.read_json(name, {}).items():
            if base is None or stage.partition(SEPARATOR)[0] == base:
                for split, of in splits.items():
                    yield stage, split, of

    def add_notice(self, text: str) -> bool:
        """Something that readers of the results have to know, shown above them; said once. Whether it is new."""
        found = self.read_json("environment.json", {})
        notices = found.get("notices", [])
        if text in notices:
            return False
        self.write_json("environment.json", {**found, "notices": [*notices, text]})
        return True

    def done(self, stage: str) -> bool:
        return stage in self.read_json("state.json", {}).get("done", [])

    def mark_done(self, stage: str) -> None:
        state = self.read_json("state.json", {})
        state["done"] = [*state.get("done", []), stage]
        self.write_json("state.json", state)

    def key(self, stage: str) -> dict[str, Any]:
        """The record of a stage's key (:mod:`medkit.runs.links`); {} if it has none."""
        found: dict[str, Any] = self.read_json("state.json", {}).get("keys", {}).get(stage, {})
        return found

    def keep_key(self, stage: str, record: Mapping[str, Any]) -> None:
        state = self.read_json("state.json", {})
        keys = {**state.get("keys", {}), stage: dict(record)}
        if keys != state.get("keys"):
            self.write_json("state.json", {**state, "keys": keys})

    def keep_failed(self, failed: Mapping[str, str]) -> None:
        """Remember which stages failed and why; those of an earlier attempt are forgotten."""
        state = self.read_json("state.json", {})
        if state.get("failed", {}) != failed:
            self.write_json("state.json", {**state, "failed": dict(failed)})


def _used(path: Path) -> InputError:
    if not path.is_dir():
        what = "this is a broken link" if path.is_symlink() else "this is a file, not a folder"
        return InputError(f"the output folder cannot be made: {what}", str(path), "choose another --out")
    hint = f"continue it with 'medkit resume {typed(path)}', or choose another --out"
    return InputError("the output folder exists and is not empty", str(path), hint)


def _left_over(path: Path) -> bool:
    """True for what a killed start has left, False for an empty folder.

    Raises
    ------
    FileExistsError
        if the folder holds something else, or another run is just starting in it.
    """
    if not any(path.iterdir()):
        return False
    if not _startable(path) or path.stat().st_mtime > STARTED - TICK:
        raise FileExistsError
    return True


def _startable(path: Path) -> bool:
    """Whether a folder holds nothing, or only what a run killed before it wrote ``recipe.yaml`` leaves."""
    for item in path.iterdir():
        if item.is_dir() and not item.is_symlink() and item.name != KEPT:
            if item.name not in FOLDERS or any(item.iterdir()):
                return False
        elif item.name != KEPT and not LEFT.fullmatch(item.name):
            return False
    return True


def _no_link(name: str, flags: int) -> int:
    """Opens a file that is not a link: a line meant for a log does not go somewhere else."""
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _json(line: Mapping[str, Any]) -> str:
    """A line of numbers; what is undefined is null, as NaN is not valid JSON."""
    return json.dumps({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()})


def environment(device: str, precision: str, ranks: int, seed: int) -> dict[str, Any]:
    """What a reader needs to repeat a run: versions, plugins, device. No host or user names."""
    from medkit.registry.plugins import plugins

    return {
        **made_with(LIBRARIES),
        "plugins": {info.name: info.version for info in plugins() if info.ok},
        "device": device,
        "precision": precision,
        "ranks": ranks,
        "seed": seed,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(Path(word).name if i == 0 else word for i, word in enumerate(sys.argv)),
    }
