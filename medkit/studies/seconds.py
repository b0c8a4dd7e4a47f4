"""Methods that get the same seconds in a stage, not the same steps: each as many epochs as fit into them.

Training that stops by the clock is never the same twice. So the pace of each method is measured once, before anything
is queued; the epochs that it gets are written in the recipes of its trials, and in ``study.json`` for later calls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from medkit.errors import InputError
from medkit.recipe.pieces import names_there
from medkit.recipe.yaml import Node
from medkit.runs.pace import STEPS, step_of
from medkit.runs.workbench import Workbench
from medkit.studies.study import Compare, Study
from medkit.studies.tables import Table

ROUNDS = 3
"""How often each pace is measured, all methods in turn; the median counts."""
SPAN, MOST = 1.0, 500
"""Seconds of steps in each of these rounds, and how many steps at most."""
APART = 1.2
"""How many times as long as another method one may train without a warning."""
ENOUGH = 5
"""Epochs with which whole epochs alone do not bring methods so far apart."""
KEPT = "seconds"

Place = tuple[str, str]
"""A method and its stage."""


@dataclass(frozen=True)
class Paced:
    """A method's stage: the ``seconds`` it was given, what an epoch of its first trial takes, and its epochs."""

    method: str
    stage: str
    seconds: float
    epoch: float
    epochs: int

    @property
    def expected(self) -> float:
        """Seconds that its epochs should take."""
        return self.epochs * self.epoch


def kept_paces(about: Mapping[str, Any], study: Study) -> list[Paced]:
    """What ``study.json`` holds for the stages and seconds that the study asks for now."""
    asked = study.compare.seconds if study.compare and about.get("name") == study.name else {}
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
    wanted = {
        (method, name): bench
        for method, bench in benches.items()
        for name in compare.seconds
        if (method, name) not in there and name in {stage.name for stage in bench.recipe.stages}
    }
    epochs = _epochs(wanted, compare)
    _check_epochs(epochs, compare)
    return [*known, *(_paced(method, name, compare.seconds[name], found) for (method, name), found in epochs.items())]


def _epochs(wanted: Mapping[Place, Workbench], compare: Compare) -> dict[Place, float]:
    """Seconds that an epoch's steps take in each place; measured in turn, for other work comes and goes."""
    count = {place: _count(_step(bench, place[1], compare, STEPS)) for place, bench in wanted.items()}
    rounds = [
        {place: _step(bench, place[1], compare, count[place]) for place, bench in wanted.items()} for _ in range(ROUNDS)
    ]
    return {
        place: bench.sampler(bench.recipe.stage(place[1])).steps * median(one[place] for one in rounds)
        for place, bench in wanted.items()
    }


def _step(bench: Workbench, name: str, compare: Compare, steps: int) -> float:
    """Seconds that each of so many steps takes."""
    seconds = step_of(bench, bench.recipe.stage(name), steps)
    if seconds is None:
        what = f"compare.seconds: stage '{name}' is not trained in medkit's own steps"
        raise InputError(what, str(compare.mark), "its time cannot be allotted; leave it out of 'seconds'")
    return seconds


def _count(step: float) -> int:
    """How many steps of about so many seconds are timed in a round."""
    return max(STEPS, min(MOST, math.ceil(SPAN / step)))


def _check_epochs(epochs: Mapping[Place, float], compare: Compare) -> None:
    """Refuse seconds in which some method does not get through one epoch, naming the slowest."""
    for name, seconds in compare.seconds.items():
        mine = {method: epoch for (method, stage), epoch in epochs.items() if stage == name}
        slowest = max(mine, key=lambda method: mine[method], default=None)
        if slowest is not None and mine[slowest] > seconds:
            epoch = f"{mine[slowest]:.3g} s, longer than {seconds:g} s"
            what = f"compare.seconds: an epoch of '{name}' takes method '{slowest}' {epoch}"
            hint = f"write seconds: {{{name}: {_up(ENOUGH * mine[slowest])}}} for {ENOUGH} epochs of it"
            raise InputError(what, str(compare.mark), f"{hint}, or give it fewer cases per epoch")


def _up(seconds: float) -> str:
    """At least so many seconds, in two digits."""
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return f"{math.ceil(seconds / unit) * unit:.12g}"


def _paced(method: str, name: str, seconds: float, epoch: float) -> Paced:
    return Paced(method, name, seconds, round(epoch, 6), int(seconds / epoch))


def as_changes(paces: Sequence[Paced], compare: Compare | None) -> dict[str, dict[str, Node]]:
    """The epochs as changes of each method's recipes."""
    found: dict[str, dict[str, Node]] = {}
    for one in paces if compare else ():
        assert compare is not None
        found.setdefault(one.method, {})[f"stages.{one.stage}.epochs"] = Node(one.epochs, compare.mark)
    return found


def paces_table(paces: Sequence[Paced]) -> Table:
    """What was measured of each method, and the epochs that follow from it."""
    columns = ["stage", "method", "seconds", "an epoch takes", "epochs", "they take"]
    rows = [
        (one.stage, one.method, f"{one.seconds:g}", f"{one.epoch:.3g} s", one.epochs, f"{one.expected:.3g} s")
        for one in sorted(paces, key=lambda one: one.stage)
    ]
    return Table("the same seconds", columns, rows)


def planned_apart(paces: Sequence[Paced]) -> list[str]:
    """Stages in which whole epochs do not fit methods into about the same time."""
    found = []
    for name in dict.fromkeys(one.stage for one in paces):
        told = apart({one.method: one.expected for one in paces if one.stage == name})
        if told:
            found.append(f"In stage '{name}' whole epochs take {told}: give it more seconds, or fewer cases per epoch.")
    return found


def apart(seconds: Mapping[str, float]) -> str:
    """The methods with the most and the fewest seconds in words, if these differ too much to be called the same."""
    if not seconds:
        return ""
    most, least = max(seconds, key=lambda one: seconds[one]), min(seconds, key=lambda one: seconds[one])
    if seconds[most] <= APART * seconds[least]:
        return ""
    more = f"{APART - 1:.0%}".replace("%", " %")
    return f"'{most}' {seconds[most]:.3g} s and '{least}' {seconds[least]:.3g} s, more than {more} apart"
