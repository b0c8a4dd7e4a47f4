"""Methods that get the same seconds in a stage, not the same steps: each as many epochs as fit into them.

Training that stops by the clock is never the same twice. So the pace of each method is measured once, before anything
is queued; the epochs that it gets are written in the recipes of its trials, and in ``study.json`` for later calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from medkit.errors import InputError
from medkit.recipe.pieces import names_there
from medkit.recipe.yaml import Node
from medkit.runs.pace import pace_of
from medkit.runs.workbench import Workbench
from medkit.studies.study import Compare, Study

ROUNDS = 3
"""How often each pace is measured, all methods in turn; the median counts."""
KEPT = "seconds"


@dataclass(frozen=True)
class Paced:
    """A method's stage: the ``seconds`` it was given, what an epoch of its first trial takes, and its epochs."""

    method: str
    stage: str
    seconds: float
    epoch: float
    epochs: int

    @property
    def key(self) -> tuple[str, str, float]:
        return self.method, self.stage, self.seconds


def kept_paces(about: Mapping[str, Any], study: Study) -> list[Paced]:
    """What ``study.json`` holds for the stages and seconds that the study asks for now."""
    asked = study.compare.seconds if study.compare else {}
    found = [Paced(**plain) for plain in about.get(KEPT, [])]
    return [one for one in found if asked.get(one.stage) == one.seconds]


def measured_paces(study: Study, benches: Mapping[str, Workbench], known: Sequence[Paced]) -> list[Paced]:
    """The paces of all methods in the stages that get seconds; those that are ``known`` are not measured again.

    Raises
    ------
    InputError
        if no method has such a stage, one is not trained in steps, or an epoch takes longer than that.
    """
    compare = study.compare
    if compare is None or not compare.seconds:
        return []
    stages = {stage.name for bench in benches.values() for stage in bench.recipe.stages}
    for name in compare.seconds:
        if name not in stages:
            raise InputError(
                f"compare.seconds: no stage is named '{name}'", str(compare.mark), names_there(name, stages)
            )
    there = {(one.method, one.stage) for one in known}
    wanted = [
        (method, name)
        for method, bench in benches.items()
        for name in compare.seconds
        if (method, name) not in there and name in {stage.name for stage in bench.recipe.stages}
    ]
    epochs: dict[tuple[str, str], list[float]] = {place: [] for place in wanted}
    for _ in range(ROUNDS):
        for method, name in wanted:
            epochs[method, name].append(_epoch(benches[method], name, compare))
    return [*known, *(_paced(method, name, compare, median(found)) for (method, name), found in epochs.items())]


def _epoch(bench: Workbench, name: str, compare: Compare) -> float:
    """Seconds that an epoch's steps take."""
    stage = bench.recipe.stage(name)
    pace = None if stage.fitted else pace_of(bench, stage)
    if pace is None:
        what = f"compare.seconds: stage '{name}' is not trained in medkit's own steps"
        raise InputError(what, str(compare.mark), "its time cannot be allotted; leave it out of 'seconds'")
    return bench.sampler(stage).steps * pace.step


def _paced(method: str, name: str, compare: Compare, epoch: float) -> Paced:
    seconds = compare.seconds[name]
    if epoch > seconds:
        what = f"compare.seconds: an epoch of '{name}' takes method '{method}' {epoch:.3g} s, longer than {seconds:g} s"
        raise InputError(what, str(compare.mark), "give more seconds, or fewer cases per epoch")
    return Paced(method, name, seconds, round(epoch, 6), int(seconds / epoch))


def as_changes(paces: Sequence[Paced], compare: Compare | None) -> dict[str, dict[str, Node]]:
    """The epochs as changes of each method's recipes."""
    found: dict[str, dict[str, Node]] = {}
    for one in paces if compare else ():
        assert compare is not None
        found.setdefault(one.method, {})[f"stages.{one.stage}.epochs"] = Node(one.epochs, compare.mark)
    return found
