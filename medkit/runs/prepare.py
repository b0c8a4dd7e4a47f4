"""Preparing the cases of a recipe ahead of its run: in parts, here or on a cluster."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.cases import take, union
from medkit.data.dataset import Dataset
from medkit.data.prepare import fill
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.errors import InputError, RunError
from medkit.executors import ONE_THREAD, Executor, Row
from medkit.paths import cache_folder
from medkit.protocols import Case
from medkit.recipe import Recipe
from medkit.records import write_atomically
from medkit.runs.workbench import Workbench

MISSING = "missing.json"  # positions of the cases that parts share, by data block
POLL = 0.5  # seconds between two looks at what has been prepared


@dataclass(frozen=True)
class Block:
    """A data block with the cases that stages of the recipe touch."""

    name: str
    dataset: Dataset
    cases: Sequence[Case]


def all_blocks(recipe: Recipe, look: Callable[[str, Any], None] | None = None) -> list[Block]:
    """The data blocks of a recipe with their cases, after the checks that need no voxels.

    Parameters
    ----------
    look:
        Called with the name and the source of each block, before its cases are read.
    """
    bench = Workbench(recipe, Runtime.start(device="cpu"))
    if look is not None:
        for name in dict.fromkeys(stage.data for stage in recipe.stages):
            look(name, bench.source(name))
    splits: dict[str, list[str]] = {}
    datasets = {}
    for stage in recipe.stages:
        datasets[stage.data] = bench.dataset(stage)
        splits.setdefault(stage.data, []).extend(stage.splits(bench.evaluated_splits(stage)))
    return [
        Block(name, dataset, union([dataset.cases(split) for split in dict.fromkeys(splits[name])]))
        for name, dataset in datasets.items()
    ]


def blocks_of(recipe: Recipe) -> list[Block]:
    """Those of :func:`all_blocks` that keep what is prepared.

    Raises
    ------
    InputError
        if there are none.
    """
    blocks = all_blocks(recipe)
    found = [block for block in blocks if block.dataset.cache is not None]
    if not found:
        what = "its data blocks have 'cache: false', so nothing that is prepared is kept"
        raise InputError(what, f"data.{blocks[-1].name}")
    return found


def prepare_part(recipe: Recipe, part: int, parts: int, folder: Path | None, say: Callable[[str], None]) -> int:
    """Prepare every ``parts``-th case from the ``part``-th on, in this process; returns how many fail.

    Failures are reported as they occur. ``folder`` is that of the preparation of which this is a part: it says which
    cases are dealt out, those that were missing, and receives the failures, one JSON object per line.
    """
    count, missing = 0, {} if folder is None else json.loads((folder / MISSING).read_text(encoding="utf-8"))
    for block in blocks_of(recipe):
        cases = block.cases
        if block.name in missing:
            chosen = np.zeros(len(cases), bool)
            chosen[missing[block.name]] = True
            cases = take(cases, chosen)
        for failure in fill(block.dataset, cases[part::parts]):
            count += 1
            say(f"case '{failure.case}': {failure.error}")
            if folder is not None:
                line = json.dumps({"block": block.name, "case": failure.case, "error": str(failure.error)})
                with _failures(folder, part).open("a", encoding="utf-8") as file:
                    file.write(f"{line}\n")
    return count


def prepare(
    recipe: Recipe, arguments: Sequence[str], parts: int, executor: Executor, progress: Progress, *, wait: bool = True
) -> int:
    """Prepare the cases of ``recipe`` that are not prepared yet, in parts that an executor runs; returns how many.

    Parameters
    ----------
    arguments:
        What a part's command has besides ``--part``: the recipe, overrides, plugins.

    Raises
    ------
    RunError
        naming each case that cannot be prepared, and parts that ended early.
    """
    blocks = blocks_of(recipe)
    missing = {block.name: np.array(block.dataset.missing(block.cases), np.int64) for block in blocks}
    total, wanted = sum(len(block.cases) for block in blocks), sum(map(len, missing.values()))
    progress.say(f"{total - wanted} of {total} cases are prepared, in {cache_folder()}")
    if not wanted:
        return 0
    folder = cache_folder() / "jobs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    folder.mkdir(parents=True)
    dealt_out = json.dumps({name: positions.tolist() for name, positions in missing.items()})
    write_atomically(folder / MISSING, dealt_out.encode())
    rows = list(_rows(arguments, min(parts, wanted), folder))
    progress.say(f"{executor.start(rows, folder)}; logs are in {folder}")
    if not wait:
        return 0
    keys = {block.name: block.dataset.keys.all([block.cases[i] for i in missing[block.name]]) for block in blocks}
    try:
        with progress.task("preparing", total=total) as advance:
            while True:
                at_work = executor.running()
                advance(total - wanted + sum(_count(block, keys[block.name]) for block in blocks))
                if not at_work:
                    break
                time.sleep(POLL)
    except KeyboardInterrupt:
        if told := executor.leave():
            progress.say(told)
        raise
    except BaseException:
        executor.leave()
        raise
    left = {block.name: [block.cases[i].id for i in block.dataset.missing(block.cases)] for block in blocks}
    if any(left.values()):
        raise _failed(left, rows, folder)
    return wanted


def _rows(arguments: Sequence[str], parts: int, folder: Path) -> Iterator[Row]:
    environ = {**ONE_THREAD, "MEDKIT_CACHE": str(cache_folder().absolute())}
    for part in range(parts):
        own = ["--part", f"{part}/{parts}", "--of", str(folder.absolute())]
        yield Row(f"part-{part}", ["prepare", *arguments, *own], environ)


def _failures(folder: Path, part: int) -> Path:
    return folder / f"part-{part}.failures"


def _count(block: Block, keys: np.ndarray) -> int:
    assert block.dataset.cache is not None
    return block.dataset.cache.count(keys)


def _failed(left: dict[str, list[str]], rows: Sequence[Row], folder: Path) -> RunError:
    """Every case that is missing, with the reason that its part gave; and the last words of parts that gave none."""
    said: dict[tuple[str, str], str] = {}
    for part in range(len(rows)):
        path = _failures(folder, part)
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            found = json.loads(line)
            said[found["block"], found["case"]] = found["error"]
    lines, unknown = [], 0
    for block, names in left.items():
        for name in names:
            if (block, name) in said:
                lines.append(f"case '{name}': {said[block, name]}")
            else:
                unknown += 1
    if unknown:
        lines.append(f"{unknown} cases were not reached: parts ended before. {_last_words(rows, folder)}")
    count = sum(map(len, left.values()))
    what = f"{count} {'case is' if count == 1 else 'cases are'} not prepared:"
    return RunError("\n".join([what, *lines]), str(folder), "call it again: what is prepared is left out")


def _last_words(rows: Sequence[Row], folder: Path) -> str:
    for part, row in enumerate(rows):
        log = folder / f"{row.name}.log"
        text = log.read_text(encoding="utf-8", errors="replace").strip() if log.exists() else ""
        if not _failures(folder, part).exists() and text:
            return f"{log.name} ends with: {text.splitlines()[-1]}"
    return f"Their logs are in {os.fspath(folder)}"
