"""What a study says, once its file has been read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medkit.recipe.yaml import Mark, Node
from medkit.studies.factorial import Plan

SEED = "seed"


@dataclass(frozen=True)
class Axis:
    """Something that varies besides the methods: its values by label, and the keys of the recipe that take them.

    ``key`` is as for ``--set``, or several separated by commas, which take the same value.
    """

    key: str
    name: str
    values: Mapping[str, Node]
    mark: Mark

    @property
    def keys(self) -> list[str]:
        return [key.strip() for key in self.key.split(",")]


@dataclass(frozen=True)
class Method:
    """What is compared: keys of the recipe with their values, and stages that are left out.

    If ``only`` names stages, those stay that they take parts from, and no others.
    """

    name: str
    changes: Mapping[str, Node]
    skip: tuple[str, ...]
    mark: Mark
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compare:
    """Which number decides, and against which method.

    ``unequal`` has the reason for each thing that methods differ in (:data:`medkit.studies.fairness.GIVEN`);
    ``seconds`` the stages in which all methods train for about the same time, however many steps that makes.
    """

    metric: str
    stage: str
    split: str
    reference: str | None = None
    unequal: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    also: tuple[Compare, ...] = ()
    """Other numbers that are reported in the same way."""
    mark: Mark = field(default=Mark("study"), compare=False)


@dataclass(frozen=True)
class Claim:
    """What somebody claims that the comparison will show, written down before it is run.

    ``better`` are the methods that are said to beat the reference, ``worse`` those that it is said to beat;
    ``steadier`` have trainings that are said to differ less than its own, and ``loses_less`` lose less of the compared
    number on the way from the split ``than_on`` to that of the comparison. ``source`` says who says so, with which
    numbers; ``limits`` what this study cannot say about it.
    """

    says: str
    better: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()
    steadier: tuple[str, ...] = ()
    loses_less: tuple[str, ...] = ()
    than_on: str = ""
    source: str = ""
    limits: str = ""


@dataclass(frozen=True)
class Range:
    """A key that is searched: numbers from ``low`` to ``high``, or one of ``choices``."""

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Node, ...] = ()
    mark: Mark = field(default=Mark("study"), compare=False)


@dataclass(frozen=True)
class Search:
    """Hyper-parameters chosen for each method, by ``trials`` attempts judged by validation alone.

    ``at`` is the point of the study where the search is held: axis to label.
    """

    trials: int
    ranges: tuple[Range, ...]
    metric: str
    at: Mapping[str, str]
    seed: int = 0
    mark: Mark = field(default=Mark("study"), compare=False)


@dataclass(frozen=True)
class Study:
    """A recipe, what varies in it, and what is compared."""

    name: str
    recipe: Path
    recipe_name: str
    folder: Path | None
    """Where relative paths in the recipe start; None: the current folder."""
    axes: tuple[Axis, ...]
    methods: tuple[Method, ...]
    compare: Compare | None = None
    search: Search | None = None
    claim: Claim | None = None
    plan: Plan | None = None
    """If methods are the runs of a plan that crosses factors."""
    text: str = ""
    """The study's file."""

    def axis(self, name: str) -> Axis | None:
        return next((axis for axis in self.axes if axis.name == name), None)
