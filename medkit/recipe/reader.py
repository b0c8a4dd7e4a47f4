"""From a YAML tree to a checked recipe; every problem is collected and reported with its place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from medkit import names
from medkit.errors import InputError, Problems, did_you_mean
from medkit.protocols.metric import column_told, is_column
from medkit.recipe import walk
from medkit.recipe.blocks import Block, Reference
from medkit.recipe.channels import channels_of, settle_channels
from medkit.recipe.classes import check_classes, read_classes
from medkit.recipe.dimensions import check_dimensions
from medkit.recipe.given import check_given
from medkit.recipe.labels import check_labels, read_labels
from medkit.recipe.model import OPTIMIZER_KEYS, RECORDS, SCHEDULE_KEYS, Crops, DataBlock, Recipe, Stage, Views, hints
from medkit.recipe.no_effect import check_unit_keys, check_windows
from medkit.recipe.pieces import Pieces, names_there
from medkit.recipe.report import read_report
from medkit.recipe.report_model import Report
from medkit.recipe.steps import check_augment, check_prepare
from medkit.recipe.training import check_training
from medkit.recipe.values import FORMAT, SEPARATOR, Positive
from medkit.recipe.views import check_read, read_views
from medkit.recipe.yaml import Mark, Node, assign
from medkit.registry import Entry, Registry
from medkit.registry.plugins import registry
from medkit.registry.schema import Schema
from medkit.registry.static import static_constant, static_schema

VARIED = {
    "name": (
        "a variant is called by its key, and under another name it would be compared with nothing",
        "leave it out",
    ),
    "repeat": ("a variant has no variants of its own", "write each combination as a variant beside the others"),
}
"""Keys of a stage that its variants cannot have: why, and what next."""


def read_recipe(
    root: Node,
    components: Registry | None = None,
    schema: Callable[[Entry], Schema] = static_schema,
    folder: Path | None = None,
) -> Recipe:
    """Check a YAML tree; relative paths in it start at ``folder``, the current one by default.

    Raises
    ------
    Problems
        every mistake found, each with file, line, column and key path.
    """
    reader = _Reader(components or registry(), schema, folder)
    recipe = reader.recipe(root)
    if reader.problems:
        raise Problems(reader.problems)
    assert recipe is not None
    return recipe


class _Reader(Pieces):
    def __init__(self, components: Registry, schema: Callable[[Entry], Schema], folder: Path | None) -> None:
        super().__init__(components, schema, folder)
        self.places: dict[tuple[str, str], Mark] = {}
        self.channels: dict[str, int] = {}
        """Of the images of each data block."""

    def recipe(self, root: Node) -> Recipe | None:
        known = ("medkit", "name", "seed", "data", "stages", "report")
        top = self.mapping(root, "", known, ("medkit", "name", "data", "stages"))
        if "medkit" in top and (top["medkit"].value != FORMAT or isinstance(top["medkit"].value, bool)):
            node = top["medkit"]
            self.problem(node.mark, "medkit", f"format {node.value!r} is not known here", f"this medkit reads {FORMAT}")
        if self.problems and not isinstance(root.value, dict):
            return None
        name = self.value(top["name"], "name", str) if "name" in top else ""
        if name is not None and "name" in top and (fault := names.recipe_fault(name)):
            self.problem(top["name"].mark, "name", fault)
        seed = self.value(top["seed"], "seed", hints(Recipe)["seed"]) if "seed" in top else 42
        data = {}
        for key, child in self.mapping(top["data"], "data", None).items() if "data" in top else ():
            self.name(key, child.place, f"data.{key}")
            data[key] = self.data_block(child, f"data.{key}")
            try:
                self.channels[key] = channels_of(data[key])
            except InputError as error:
                self.problems.append(error)
        if "data" in top and not data:
            self.problem(top["data"].place, "data", "no data block is given")
        stages = self.stages(top["stages"], data) if "stages" in top else []
        report = read_report(self, top["report"], data, stages) if "report" in top else Report()
        if self.problems:
            return None
        return Recipe(name, data, stages, seed, report, self.places)

    def data_block(self, node: Node, path: str) -> DataBlock:
        known = [f.name for f in fields(DataBlock)]
        entries = self.mapping(node, path, known, ("source", "splits"))
        source = self.block(entries["source"], "source", f"{path}.source") if "source" in entries else None
        splits: dict[str, dict[str, Any]] = {}
        if "splits" in entries and entries["splits"].value == {}:
            self.problem(entries["splits"].place, f"{path}.splits", "no split is given")
        for name, child in (
            self.mapping(entries["splits"], f"{path}.splits", None).items() if "splits" in entries else ()
        ):
            where = f"{path}.splits.{name}"
            self.name(name, child.place, where)
            picks = self.mapping(child, where, None)
            for column, value in picks.items():
                if value.value == []:
                    self.problem(value.place, f"{where}.{column}", "an empty list selects no case")
            splits[name] = {
                column: self.value(value, f"{where}.{column}", str | int | float | bool | list[str | int | float])
                for column, value in picks.items()
            }
        block = DataBlock(source, splits)  # type: ignore[arg-type]
        for key in ("prepare", "augment"):
            if key in entries:
                setattr(block, key, self.blocks(entries[key], "transform", f"{path}.{key}"))
        types = hints(DataBlock)
        for key in ("augment_on", "fields", "cache"):
            if key in entries:
                setattr(block, key, self.value(entries[key], f"{path}.{key}", types[key]))
        if "classes" in entries:
            block.classes = read_classes(self, entries["classes"], f"{path}.classes")
        if "labels" in entries:
            block.labels = read_labels(self, entries["labels"], f"{path}.labels")
        if "views" in entries:
            block.views = read_views(self, entries["views"], Views, f"{path}.views")
        if "crops" in entries:
            block.crops = read_views(self, entries["crops"], Crops, f"{path}.crops")
        self.steps(block, path)
        return block

    def steps(self, block: DataBlock, path: str) -> None:
        """What is listed under ``prepare`` and ``augment`` can do what is asked of it there."""
        places = [("prepare", block.prepare), ("augment", block.augment)]
        places += [(f"{key}.augment", made.augment) for key in ("views", "crops") if (made := getattr(block, key))]
        for key, steps in places:
            for step in steps:
                if not isinstance(step, Block):
                    continue  # already reported
                try:
                    check_prepare(step) if key == "prepare" else check_augment(step, block.augment_on or "cpu")
                except InputError as error:
                    self.problem(step.mark, f"{path}.{key}", error.what, error.hint)

        check_windows(self, block.prepare, f"{path}.prepare")

    def stages(self, node: Node, data: dict[str, DataBlock]) -> list[Stage]:
        nodes = self.items(node, "stages")
        if not nodes:
            self.problem(node.place, "stages", "no stage is given")
        found: list[Stage] = []
        for i, child in enumerate(nodes):
            for variant in self.variants(child, i):
                stage = self.stage(variant, f"stages[{i}]", data, found)
                if stage is not None:
                    found.append(stage)
        return found

    def variants(self, node: Node, index: int) -> list[Node]:
        """The stage itself, then one node for each entry of ``repeat``, with its changes applied."""
        if not isinstance(node.value, dict) or "repeat" not in node.value:
            return [node]
        entries = dict(node.value)
        repeat = entries.pop("repeat")
        plain = Node(entries, node.mark, node.key)
        name = entries["name"].value if "name" in entries else None
        if not isinstance(name, str):
            return [plain]  # reported when the stage is read
        path = f"stages.{name}.repeat"
        result = [plain]
        for label, changes in self.mapping(repeat, path, None).items():
            variant = copy.deepcopy(plain)
            variant.value["name"] = Node(f"{name}{SEPARATOR}{label}", changes.place)
            for key, value in self.mapping(changes, f"{path}.{label}", None).items():
                if fault := VARIED.get(key.partition(".")[0]):
                    self.problem(value.place, f"{path}.{label}.{key}", *fault)
                    continue
                try:
                    assign(variant, key, value, value.place)
                except InputError as error:
                    self.problem(value.place, f"{path}.{label}.{key}", error.what, error.hint)
            result.append(variant)
        return result

    def stage(self, node: Node, path: str, data: dict[str, DataBlock], before: list[Stage]) -> Stage | None:
        known = [f.name for f in fields(Stage) if f.name != "fraction"]
        if isinstance(node.value, dict) and "name" in node.value and isinstance(node.value["name"].value, str):
            path = f"stages.{node.value['name'].value}"
        entries = self.mapping(node, path, [*known, "repeat"], ("name", "objective"))
        if "name" not in entries or "objective" not in entries:
            return None
        name = self.value(entries["name"], f"{path}.name", str)
        if name is None:
            return None
        base, variant, label = name.partition(SEPARATOR)
        for part in (base, label) if variant else (base,):
            self.name(part, entries["name"].mark, f"{path}.name")
        if any(stage.name == name for stage in before):
            self.problem(entries["name"].mark, f"{path}.name", f"two stages are named '{name}'")
        self.places |= {(name, key): child.place for key, child in entries.items()}
        objective = self.block(entries["objective"], "objective", f"{path}.objective")
        stage = Stage(name, objective)  # type: ignore[arg-type]
        types = hints(Stage)
        special = {"name", "objective", "train", "optim", "schedule", "clip", "metrics", "repeat", *RECORDS}
        for key, child in entries.items():
            if key not in special:
                found = self.value(child, f"{path}.{key}", types[key])
                setattr(stage, key, found)
        if "train" in entries:
            self.trained_split(stage, entries["train"], f"{path}.train")
        check_unit_keys(self, stage, entries, path)
        if stage.checkpointing and stage.compile:
            what, hint = "checkpointing and compile exclude each other", "compiled code decides what to recompute"
            self.problem(entries["compile"].mark, f"{path}.compile", what, hint)
        optim, schedule = entries.get("optim"), entries.get("schedule")
        stage.optim = self.per_turn(optim, "optimizer", "adam", f"{path}.optim", OPTIMIZER_KEYS)
        stage.schedule = self.per_turn(schedule, "schedule", "constant", f"{path}.schedule", SCHEDULE_KEYS)
        if (clip := entries.get("clip")) is not None:
            named = isinstance(clip.value, str | dict)
            where = f"{path}.clip"
            found = self.block(clip, "clip", where) if named else self.value(clip, where, Positive | None)
            if isinstance(found, Reference):
                self.problem(clip.place, where, "a bound on gradients is not a part of an earlier stage")
            else:
                stage.clip = found
        if "metrics" in entries:
            stage.metrics = self.blocks(entries["metrics"], "metric", f"{path}.metrics")
            for i, metric in enumerate(stage.metrics):
                if isinstance(metric, Block) and metric.plain() in [
                    other.plain() for other in stage.metrics[:i] if isinstance(other, Block)
                ]:
                    self.problem(metric.mark, f"{path}.metrics[{i}]", f"'{metric.name}' is named twice")
                name = static_constant(metric.entry, "name") if isinstance(metric, Block) else None
                if isinstance(name, str) and is_column(name):  # what the constructor sets is checked when it is built
                    what, hint = column_told(name)
                    self.problem(metric.mark, f"{path}.metrics[{i}]", f"metric '{metric.name}': {what}", hint)
        for key, cls in RECORDS.items():
            if key in entries and entries[key].value is not None:
                setattr(stage, key, self.record(entries[key], cls, f"{path}.{key}"))
        self.stage_references(stage, entries, path, data, before)
        self.stage_fits(stage, entries, path)
        check_dimensions(self, stage, entries, {s.name: s for s in before})
        if stage.data in data:
            check_classes(self, stage, data[stage.data])
            check_labels(self, stage, data[stage.data])
        if stage.data in self.channels:
            settle_channels(self, stage, self.channels[stage.data], {s.name: s for s in before})
        check_training(self, stage, entries, path, data[stage.data].splits if stage.data in data else ())
        check_given(self, stage, {s.name: s for s in before})
        if stage.data in data:
            check_read(self, stage, data[stage.data])
        return stage

    def trained_split(self, stage: Stage, node: Node, path: str) -> None:
        """``train``: the name of a split, or the split and the fraction of its patients."""
        if not isinstance(node.value, dict):
            stage.train = self.value(node, path, str)
            return
        types = hints(Stage)
        entries = self.mapping(node, path, ("split", "fraction"))
        if "split" in entries:
            stage.train = self.value(entries["split"], f"{path}.split", str)
        if "fraction" in entries:
            stage.fraction = self.value(entries["fraction"], f"{path}.fraction", types["fraction"])

    def stage_fits(self, stage: Stage, entries: dict[str, Node], path: str) -> None:
        """What the objective takes: its unit."""
        if not isinstance(stage.objective, Block):
            return
        own = static_constant(stage.objective.entry, "unit")
        units = static_constant(stage.objective.entry, "units") or ((own,) if own else ())
        if units and stage.unit is not None and stage.unit not in units:
            place = entries["unit"].mark if "unit" in entries else entries["name"].mark
            what = f"'{stage.objective.name}' does not train on unit '{stage.unit}'"
            self.problem(place, f"{path}.unit", what, " or ".join(f"write 'unit: {unit}'" for unit in units))

    def stage_references(
        self, stage: Stage, entries: dict[str, Node], path: str, data: dict[str, DataBlock], before: list[Stage]
    ) -> None:
        """Names that must exist: the data block, splits, parts of earlier stages."""
        place = entries["name"].mark
        if not stage.data:
            if len(data) == 1:
                stage.data = next(iter(data))
            elif data:
                self.problem(place, path, "'data' is missing", f"which of {', '.join(data)}?")
        elif stage.data not in data:
            self.problem(
                entries["data"].mark, f"{path}.data", f"no data block '{stage.data}'", did_you_mean(stage.data, data)
            )
        splits = data[stage.data].splits if stage.data in data else None
        if splits:  # that a block has none is reported there
            wanted = [("train", stage.train), *(("evaluate", split) for split in stage.evaluate or [])]
            if "validate" not in entries and stage.validate not in splits:
                stage.validate = None
            if stage.validate is not None:
                wanted.append(("validate", stage.validate))
            for key, split in wanted:
                if isinstance(split, str) and split not in splits:  # what is not a name has already been reported
                    mark = entries[key].mark if key in entries else place
                    self.problem(mark, f"{path}.{key}", f"no split is named '{split}'", names_there(split, splits))
        earlier = {s.name: s for s in before}
        for reference, kind in walk.references(stage.objective):
            if reference.stage not in earlier:
                hint = names_there(reference.stage, earlier) if earlier else "this is the first stage"
                self.problem(reference.mark, reference.path, f"no earlier stage is named '{reference.stage}'", hint)
                continue
            part = walk.part(earlier[reference.stage].objective, reference.part)
            while isinstance(part, Reference):
                part = walk.part(earlier[part.stage].objective, part.part)
            if part is None:
                parts = [name for name, _ in walk.parts(earlier[reference.stage].objective)]
                self.problem(
                    reference.mark,
                    reference.path,
                    f"stage '{reference.stage}' has no part '{reference.part}'",
                    names_there(reference.part, parts),
                )
            elif part.kind != kind:
                self.problem(reference.mark, reference.path, f"'{reference.part}' is a {part.kind}, not a {kind}")
