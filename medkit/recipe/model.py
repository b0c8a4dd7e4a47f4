"""What a recipe says, once it has been checked."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from medkit.errors import InputError, did_you_mean
from medkit.protocols.classes import Classes
from medkit.protocols.labels import Labels
from medkit.recipe.blocks import Block, Reference
from medkit.recipe.report_model import Report, Stress, WantedTable
from medkit.recipe.values import FORMAT, SEPARATOR, Area, Draw, Positive, Seed, Side, Unit
from medkit.recipe.yaml import Mark
from medkit.recipe.yaml_dump import dump
from medkit.records import write_atomically
from medkit.registry.schema import validate
from medkit.registry.static import static_constant

OPTIMIZER_KEYS: dict[str, Any] = {"no_decay": bool, "layer_decay": Annotated[float, Gt(0), Le(1)] | None}
"""What a stage may say beside the arguments of any optimizer, and ..."""
SCHEDULE_KEYS: dict[str, Any] = {"by": Literal["epoch", "step"]}
"""... beside those of any schedule; a component's own argument of such a name takes precedence."""


@dataclass
class Views:
    """Views of each item, in batches as ``views`` (N,count,C,H,W): the prepared image, changed by ``augment``."""

    augment: list[Block]
    count: Annotated[int, Gt(0)] = 2


@dataclass
class Crops:
    """Squares out of each item, in batches as ``crops`` (N,count,C,size,size).

    ``scale`` has the smallest and the largest share of the image's area that a crop shows; ``augment`` changes crops.
    """

    size: Annotated[int, Gt(0)]
    count: Annotated[int, Gt(0)] = 6
    scale: tuple[Area, Area] = (0.05, 0.3)
    augment: list[Block] = field(default_factory=list)


@dataclass
class DataBlock:
    """Where samples come from and what is done to them; ``classes`` are those of masks that have several, ``labels``
    what cases are labelled with."""

    source: Block
    splits: dict[str, dict[str, Any]]
    prepare: list[Block] = field(default_factory=list)
    augment: list[Block] = field(default_factory=list)
    augment_on: Literal["cpu", "device"] = "cpu"
    views: Views | None = None
    crops: Crops | None = None
    fields: list[str] = field(default_factory=list)
    classes: Classes | None = None
    labels: Labels | None = None
    cache: bool = True

    @property
    def random(self) -> list[Block]:
        """All steps that change images at random."""
        more = [block.augment for block in (self.views, self.crops) if block is not None]
        return [*self.augment, *(step for steps in more for step in steps)]


@dataclass(frozen=True)
class KeepBest:
    """Keep the weights of the epoch in which ``metric`` was best on ``split``."""

    metric: str
    split: str = "val"


@dataclass(frozen=True)
class Unfreeze:
    """Unfreeze a part stage by stage.

    ``part`` is frozen for ``after`` epochs; then one more of its stages is unfrozen every ``every`` epochs.
    """

    part: str
    after: Annotated[int, Ge(0)] = 0
    every: Annotated[int, Gt(0)] = 1
    order: Literal["last_first", "first_last"] = "last_first"


@dataclass(frozen=True)
class EarlyStop:
    """End the training once ``metric`` on ``split`` has not improved by ``min_delta`` for ``patience`` epochs."""

    metric: str
    split: str = "val"
    patience: Annotated[int, Gt(0)] = 10
    min_delta: Annotated[float, Ge(0)] = 0.0


RECORDS: dict[str, type] = {"keep_best": KeepBest, "early_stop": EarlyStop, "unfreeze": Unfreeze}
"""Keys of a stage that are mappings themselves; null leaves each out."""


@dataclass
class Stage:
    """One training: an objective on a data block.

    ``clip`` bounds a step's gradient (a number: its norm); ``accumulate`` batches make one optimizer step; ``shard``
    names parts whose weights, gradients and moments are divided among the ranks; ``workers`` processes read batches.
    ``fraction`` is written in a recipe under ``train``, beside the split: that share of its patients is trained on.
    """

    name: str
    objective: Block
    data: str = ""
    unit: Unit = "slice"
    batch: Annotated[int, Gt(0)] = 1
    epochs: Annotated[int, Gt(0)] = 1
    train: str = "train"
    fraction: Area | None = None
    validate: str | None = "val"
    optim: Block | dict[str, Block] = None  # type: ignore[assignment]
    schedule: Block | dict[str, Block] = None  # type: ignore[assignment]
    metrics: list[Block] = field(default_factory=list)
    clip: Positive | Block | None = None
    accumulate: Annotated[int, Gt(0)] = 1
    keep_best: KeepBest | None = None
    early_stop: EarlyStop | None = None
    unfreeze: Unfreeze | None = None
    evaluate: list[str] = field(default_factory=list)
    balance: bool = False
    patches: Annotated[int, Gt(0)] = 8
    patch_size: Side | tuple[Side, Side, Side] = 64
    slices: Annotated[int, Gt(0)] = 1
    draw: Draw | None = None  # a run decides it before it writes its recipe
    checkpointing: bool = False
    compile: bool = False
    shard: dict[str, bool] = field(default_factory=dict)
    workers: Literal["auto"] | Annotated[int, Ge(0)] = 0

    @property
    def base(self) -> str:
        """The name without its variant: ``segment`` of ``segment@scratch``."""
        return self.name.partition(SEPARATOR)[0]

    @property
    def patch_sides(self) -> tuple[int, int, int]:
        """Depth, height and width of patches of volumes; a single number means a cube."""
        size = self.patch_size
        return (size, size, size) if isinstance(size, int) else size

    def optimizers(self, turns: Sequence[str]) -> dict[str, Block]:
        """The optimizer block of each turn."""
        return _per_turn(self.optim, turns, f"stages.{self.name}.optim")

    def schedules(self, turns: Sequence[str]) -> dict[str, Block]:
        """The schedule block of each turn."""
        return _per_turn(self.schedule, turns, f"stages.{self.name}.schedule")

    def splits(self, tested: Sequence[str]) -> list[str]:
        """Every split that the stage touches if it is tested on ``tested``, each once."""
        return list(dict.fromkeys([self.train, *([self.validate] if self.validate else []), *tested]))

    @property
    def trained_split(self) -> str | dict[str, Any]:
        """What the recipe says under ``train``."""
        return self.train if self.fraction is None else {"split": self.train, "fraction": self.fraction}

    @property
    def divided(self) -> tuple[str, ...]:
        """The parts that are divided among ranks."""
        return tuple(name for name, wanted in self.shard.items() if wanted)

    @property
    def fitted(self) -> bool:
        """Whether the objective is fitted to features at once, as a probe is, and not trained step by step."""
        return isinstance(self.objective, Block) and bool(static_constant(self.objective.entry, "fitted"))

    def takes_from(self) -> set[str]:
        """Names of the earlier stages that parts are taken from."""
        return {reference.stage for reference in _references(self.objective)}


def evaluated_splits(
    stage: Stage, stages: Sequence[Stage], data: Mapping[str, DataBlock], reported: Sequence[str]
) -> list[str]:
    """The splits that a finished stage is evaluated on: its own list, else the report's, else all of its data block
    that no stage trains or validates on."""
    if stage.evaluate:
        return list(stage.evaluate)
    known = list(data[stage.data].splits) if stage.data in data else []
    if reported:
        return [name for name in reported if name in known]
    used = {name for other in stages if other.data == stage.data for name in (other.train, other.validate)}
    return [name for name in known if name not in used]


def _references(value: Any) -> Iterator[Reference]:
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, Block):
        yield from _references(value.arguments)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _references(item)


def _per_turn(blocks: Block | dict[str, Block], turns: Sequence[str], path: str) -> dict[str, Block]:
    if isinstance(blocks, Block):
        return dict.fromkeys(turns, blocks)
    if set(blocks) != set(turns):
        what = f"{path} names the turns {sorted(blocks)}, but the objective has {sorted(turns)}"
        raise InputError(what, next((str(block.mark) for block in blocks.values() if block.mark is not None), None))
    return blocks


@dataclass
class Recipe:
    """A checked recipe; ``stages`` holds the variants of ``repeat`` as stages of their own (``segment@scratch``).

    ``places`` says where each key of each stage was read.
    """

    name: str
    data: dict[str, DataBlock]
    stages: list[Stage]
    seed: Seed = 42
    report: Report = field(default_factory=Report)
    places: Mapping[tuple[str, str], Mark] = field(default_factory=dict, compare=False, repr=False)

    def stage(self, name: str) -> Stage:
        for stage in self.stages:
            if stage.name == name:
                return stage
        hint = did_you_mean(name, [s.name for s in self.stages]) or f"stages: {', '.join(s.name for s in self.stages)}"
        raise InputError(f"the recipe has no stage '{name}'", hint=hint)

    def chain(self, names: Iterable[str]) -> list[Stage]:
        """Stages and those that they take parts from, directly or not, the last of them first."""
        wanted, found = set(names), []
        for stage in reversed(self.stages):  # parts are taken from earlier stages only
            if stage.name in wanted:
                wanted |= stage.takes_from()
                found.append(stage)
        return found

    def evaluated_splits(self, stage: Stage) -> list[str]:
        """The splits that a finished stage is evaluated on."""
        return evaluated_splits(stage, self.stages, self.data, self.report.splits)

    def stressed(self, stage: Stage) -> dict[str, Stress]:
        """The curves that a finished stage is measured for, by name."""
        own = {stage.name, stage.base}
        return {name: curve for name, curve in self.report.stress.items() if own.intersection(curve.stages)}

    def points(self, stage: Stage) -> list[str]:
        """What results call the splits of these curves at each of their doses."""
        return [point for name, curve in self.stressed(stage).items() for point in curve.points(name)]

    def with_seed(self, seed: int) -> Recipe:
        """The recipe with another seed; one below 0 or above 2^32 - 1 is an :class:`InputError`."""
        return replace(self, seed=validate(Seed, seed))

    def without(self, names: Sequence[str]) -> Recipe:
        """The recipe without some stages, and without their rows in tables.

        Raises
        ------
        InputError
            if there is no such stage, a remaining one takes a part of it, or none remains.
        """
        gone = {self.stage(name).name for name in names}
        kept = [stage for stage in self.stages if stage.name not in gone]
        for stage in kept:
            if lost := sorted(stage.takes_from() & gone):
                hint = f"leave '{stage.name}' out too"
                raise InputError(f"'{stage.name}' takes a part of '{lost[0]}', which is left out", hint=hint)
        if not kept:
            raise InputError("no stage of the recipe is left")
        bases = {stage.name.split(SEPARATOR)[0] for stage in kept}
        stress = {}
        for name, curve in self.report.stress.items():
            if left := [stage for stage in curve.stages if stage not in gone]:
                if curve.denoise in gone:
                    what = f"curve '{name}' is denoised by '{curve.denoise}', which is left out"
                    raise InputError(what, hint=f"leave {' and '.join(left)} out too, or change the curve's 'denoise'")
                stress[name] = replace(curve, stages=left)
        labels = {name.partition(SEPARATOR)[2] or name: name for name in gone}
        tables = []
        for table in self.report.tables:
            mine = {label for label, name in labels.items() if name.split(SEPARATOR)[0] == table.stage}
            rows = {label: text for label, text in table.rows.items() if label not in mine}
            if table.stage in bases and (rows or not table.rows):
                tables.append(replace(table, rows=rows))
        compare = dict(self.report.compare)
        if "metric" in compare:
            # Metrics that only the stages left out have: there is nothing left to compare them on.
            compare["metric"] = [name for name in compare["metric"] if _measured(name, kept)]
            compare = compare if compare["metric"] else {}
        return replace(self, stages=kept, report=replace(self.report, tables=tables, compare=compare, stress=stress))

    def resolved(self) -> dict[str, Any]:
        """Plain data that loads back as an equal recipe: full names, variants written out, nothing left to default
        at the level of data blocks and stages."""
        return {
            "medkit": FORMAT,
            "name": self.name,
            "seed": self.seed,
            "data": {name: _plain(block) for name, block in self.data.items()},
            "stages": [_plain(stage) for stage in self.stages],
            "report": _plain(self.report),
        }

    def write(self, path: str | Path) -> Path:
        """Write the resolved recipe as YAML, whole or not at all."""
        path = Path(path)
        write_atomically(path, dump(self.resolved()).encode())
        return path


def _measured(name: str, stages: Sequence[Stage]) -> bool:
    """Whether a stage has the metric, or one that gives this number in addition to its own (``top1_mean``)."""
    known = [metric.entry.name for stage in stages for metric in stage.metrics]
    return any(name == metric or name.startswith(f"{metric}_") for metric in known)


def _plain(value: Any) -> Any:
    if isinstance(value, Block | Reference | Classes | Labels):
        return value.plain()
    if isinstance(value, Stage):
        plain = {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name != "fraction"}
        return plain if value.fraction is None else {**plain, "train": value.trained_split}
    if isinstance(value, DataBlock):
        unsaid = [name for name in ("classes", "labels") if getattr(value, name) is None]
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in unsaid}
    if isinstance(value, Views | Crops | Report | KeepBest | EarlyStop | Unfreeze | WantedTable | Stress):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def hints(cls: type) -> dict[str, Any]:
    """Annotations of a recipe dataclass."""
    return typing.get_type_hints(cls, include_extras=True)
