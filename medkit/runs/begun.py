"""What a stage was started with: if it continues with something else, its weights come from both, and a notice says so.

A resumed run takes what it finds: the recipe in its folder, the files that the recipe names, the code and the libraries
that are installed now. Whatever of these differed when a stage started is reported in the log and above the results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from medkit.errors import MedkitError, some
from medkit.recipe import Stage
from medkit.runs.folder import RunFolder
from medkit.runs.stage_key import digest

if TYPE_CHECKING:
    from medkit.runs.workbench import Workbench

KEPT = "begun"
CONTENT = ("the ", "seed", "ranks")
THREADS = "threads"
CHOSEN = ("device", "precision", "ranks", THREADS)
SHOWN = 6


def keep(bench: Workbench, stage: Stage) -> None:
    """Note what a stage is started with, once."""
    folder = bench.folder
    assert folder is not None
    state = folder.read_json("state.json", {})
    if stage.name not in state.get(KEPT, {}):
        state[KEPT] = {**state.get(KEPT, {}), stage.name: _basis(bench, stage)}
        folder.write_json("state.json", state)


def versions(folder: RunFolder) -> Iterator[tuple[str, str]]:
    """With what the stages of a run were started: versions of medkit and of libraries, the kind of device, and on a CPU
    the number of threads (:data:`THREADS`)."""
    for then in folder.read_json("state.json", {}).get(KEPT, {}).values():
        yield from ((name, version) for name, version in then.items() if not name.startswith(CONTENT))


def changes(bench: Workbench) -> Iterator[str]:
    """What has changed since the stages of a resumed run were started, one sentence per stage."""
    folder = bench.folder
    assert folder is not None
    state = folder.read_json("state.json", {})
    if all(folder.done(stage.name) for stage in bench.recipe.stages):
        return
    for stage in bench.recipe.stages:
        then = state.get(KEPT, {}).get(stage.name)
        if then is None:
            continue
        done = folder.done(stage.name)
        with suppress(*[MedkitError] if done else []):  # what it was trained on may be gone by now
            if other := _different(then, _basis(bench, stage)):
                what = "was trained" if done else "was started"
                effect = "other stages are trained with what is there now" if done else "its weights come from both"
                yield f"{stage.name} {what} before these changed: {some(other, SHOWN)}; {effect}."


def changed_since(bench: Workbench, stage: Stage, split: str) -> str:
    """What has changed since a stage was started that is now measured again; empty if nothing has.

    Its cases are not looked at, as they may be gone, nor is the device, which whoever measures chooses.
    """
    assert bench.folder is not None
    then = bench.folder.read_json("state.json", {}).get(KEPT, {}).get(stage.name, {})
    now = {name: known for name, known in _made(bench, stage).items() if then and name not in CHOSEN}
    other = _different({name: then.get(name) for name in now}, now)
    said = f"{stage.name} was measured on '{split}', but these have changed since it was trained: {some(other, SHOWN)}."
    return said if other else ""


def _basis(bench: Workbench, stage: Stage) -> dict[str, str]:
    """All that determines a stage's weights, under names that a reader understands: a version, or a digest."""
    cases = zip(stage.splits([]), bench.keys.cases_of(stage), strict=True)
    return _made(bench, stage) | {f"the cases of '{split}' or their files": known for split, known in cases}


def _made(bench: Workbench, stage: Stage) -> dict[str, str]:
    """The same without its cases."""
    made = bench.keys.made_of(stage)
    version, code = made["medkit"]
    device, precision, ranks = made["runtime"]
    used = {f"the code of {name}": digest(code) for name, code in made["components"].items()}
    return {
        "medkit": f"{version} ({code[:8]})",
        **{name: str(number) for name, number in made["libraries"].items()},
        "device": str(device),
        "precision": str(precision),
        "ranks": str(ranks),
        # On a CPU sums are split among them, and rounded accordingly.
        **({THREADS: str(torch.get_num_threads())} if bench.runtime.device.type == "cpu" else {}),
        "seed": str(made["seed"]),
        "the stage in recipe.yaml or a file that it names": digest(made["stage"]),
        "the data block in recipe.yaml or a file that it names": digest(made["data"]),
        **used,
    }


def _different(then: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """Names of what differs; of versions, both."""
    return [_told(name, then.get(name), now.get(name)) for name in {**then, **now} if then.get(name) != now.get(name)]


def _told(name: str, then: Any, now: str | None) -> str:
    return name if name.startswith("the ") else f"{name} ({then or 'none'}, now {now or 'none'})"
