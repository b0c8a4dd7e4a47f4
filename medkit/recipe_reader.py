"""From a YAML tree to a checked recipe; every problem is collected and told with its place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from typing import Any

from medkit.blocks import Block, Reference
from medkit.errors import InputError, Problems, did_you_mean
from medkit.plugin import registry
from medkit.recipe_model import FORMAT, DataBlock, KeepBest, Recipe, Report, Stage, Unfreeze, hints
from medkit.registry import Entry, Registry
from medkit.schema import Argument, Schema, validate
from medkit.static import static_schema
from medkit.yaml_marks import Mark, Node, assign

SEPARATOR = "@"
TESTS = ("paired_t", "wilcoxon", "delong", "bootstrap")


def read_recipe(
    root: Node, components: Registry | None = None, schema: Callable[[Entry], Schema] = static_schema
) -> Recipe:
    """Check a YAML tree.

    Raises
    ------
    Problems
        every mistake found, each with file, line, column and key path.
    """
    reader = _Reader(components or registry(), schema)
    recipe = reader.recipe(root)
    if reader.problems:
        raise Problems(reader.problems)
    assert recipe is not None
    return recipe


class _Reader:
    def __init__(self, components: Registry, schema: Callable[[Entry], Schema]) -> None:
        self.components, self.schema = components, schema
        self.problems: list[InputError] = []

    def problem(self, mark: Mark, path: str, what: str, hint: str | None = None) -> None:
        self.problems.append(InputError(f"{path}: {what}" if path else what, str(mark), hint))

    # -- plain pieces ------------------------------------------------------------------------------------------

    def mapping(
        self, node: Node, path: str, known: Iterable[str] | None, required: Iterable[str] = ()
    ) -> dict[str, Node]:
        """The entries of a mapping; unknown and missing keys are problems."""
        if not isinstance(node.value, dict):
            self.problem(node.place, path, f"a mapping is wanted here, not {_kind(node)}")
            return {}
        if known is not None:
            known = list(known)
            for key, child in node.value.items():
                if key not in known:
                    hint = did_you_mean(key, known) or f"known keys: {', '.join(known)}"
                    self.problem(child.place, _join(path, key), "unknown key", hint)
        for key in required:
            if key not in node.value:
                self.problem(node.mark, path, f"'{key}' is missing")
        return {k: v for k, v in node.value.items() if known is None or k in known}

    def value(self, node: Node, path: str, annotation: Any) -> Any:
        try:
            return validate(annotation, node.plain())
        except InputError as error:
            self.problem(node.place, path, error.what, error.hint)
            return None

    def items(self, node: Node, path: str) -> list[Node]:
        if node.value is None:
            return []
        if not isinstance(node.value, list):
            self.problem(node.place, path, f"a list is wanted here, not {_kind(node)}")
            return []
        return node.value

    # -- components --------------------------------------------------------------------------------------------

    def block(self, node: Node, kind: str, path: str, argument: Argument | None = None) -> Block | Reference | None:
        """A component of ``kind``; keys of its slot are split from its own arguments."""
        if isinstance(node.value, str):
            node = Node({"use": Node(node.value, node.mark, node.key)}, node.mark, node.key)
        if not isinstance(node.value, dict):
            self.problem(node.place, path, f"a {kind} is wanted here ({{use: NAME, ...}}), not {_kind(node)}")
            return None
        entries = dict(node.value)
        slot_keys = dict(argument.slot.keys) if argument is not None and argument.slot is not None else {}
        keys: dict[str, Any] = {}
        for key, default in slot_keys.items():
            if key in entries:
                keys[key] = self.value(entries.pop(key), _join(path, key), _type_of(default))
        if "from" in entries:
            return self._reference(node, entries, keys, path)
        if "use" not in entries:
            hint = f"'medkit list {kind}' shows those there are"
            self.problem(node.place, path, f"'use' is missing: which {kind}?", hint)
            return None
        use = entries.pop("use")
        try:
            entry = self.components.resolve(kind, str(use.value))
            schema = self.schema(entry)
        except InputError as error:
            self.problem(use.mark, path, error.what, error.hint)
            return None
        arguments: dict[str, Any] = {}
        writable = schema.writable
        for key, child in entries.items():
            where = _join(path, key)
            if key not in writable:
                known = [*writable, *slot_keys]
                if key in schema.arguments:
                    hint = f"'{entry.full_name}' is given it by what stands beside it"
                else:
                    hint = did_you_mean(key, known) or (f"it takes: {', '.join(known)}" if known else "it takes none")
                self.problem(child.place, where, f"'{entry.full_name}' takes no argument of that name", hint)
            elif writable[key].slot is not None:
                arguments[key] = self._slot(child, writable[key], where)
            else:
                arguments[key] = self.value(child, where, writable[key].annotation)
                if isinstance(arguments[key], tuple):
                    arguments[key] = list(arguments[key])
        for key, wanted in writable.items():
            if wanted.required and key not in entries:
                self.problem(node.mark, path, f"'{entry.full_name}' needs '{key}' ({wanted.type_name()})")
        return Block(entry, arguments, keys, node.mark, path)

    def _reference(self, node: Node, entries: dict[str, Node], keys: dict[str, Any], path: str) -> Reference | None:
        text = entries.pop("from")
        for key, child in entries.items():
            self.problem(child.place, _join(path, key), "a part taken by 'from' has no arguments of its own")
        stage, dot, part = str(text.value).partition(".")
        if not dot or not part:
            self.problem(text.mark, path, f"'{text.value}' is not STAGE.PART", "for example pretext.encoder")
            return None
        return Reference(stage, part, keys, text.mark, path)

    def _slot(self, node: Node, argument: Argument, path: str) -> Any:
        assert argument.slot is not None
        kind = argument.slot.kind
        if node.value is None:
            if not argument.optional:
                self.problem(node.place, path, f"a {kind} is wanted here, not nothing")
            return None
        if argument.shape == "one":
            return self.block(node, kind, path, argument)
        if argument.shape == "list":
            return [self.block(c, kind, f"{path}[{i}]", argument) for i, c in enumerate(self.items(node, path))]
        if not isinstance(node.value, dict) or "use" in node.value:
            self.problem(node.place, path, f"a mapping of name to {kind} is wanted here")
            return {}
        return {key: self.block(child, kind, _join(path, key), argument) for key, child in node.value.items()}

    def blocks(self, node: Node, kind: str, path: str) -> list[Any]:
        return [self.block(child, kind, f"{path}[{i}]") for i, child in enumerate(self.items(node, path))]

    # -- the recipe --------------------------------------------------------------------------------------------

    def recipe(self, root: Node) -> Recipe | None:
        known = ("medkit", "name", "seed", "data", "stages", "report")
        top = self.mapping(root, "", known, ("medkit", "name", "data", "stages"))
        if "medkit" in top and top["medkit"].value != FORMAT:
            node = top["medkit"]
            self.problem(node.mark, "medkit", f"format {node.value!r} is not known here", f"this medkit reads {FORMAT}")
        if self.problems and not isinstance(root.value, dict):
            return None
        name = self.value(top["name"], "name", str) if "name" in top else ""
        seed = self.value(top["seed"], "seed", int) if "seed" in top else 42
        data = {}
        for key, child in self.mapping(top["data"], "data", None).items() if "data" in top else ():
            data[key] = self.data_block(child, f"data.{key}")
        if "data" in top and not data:
            self.problem(top["data"].place, "data", "no data block is given")
        stages = self.stages(top["stages"], data) if "stages" in top else []
        report = self.report(top["report"], data) if "report" in top else Report()
        if self.problems:
            return None
        return Recipe(name, data, stages, seed, report)

    def data_block(self, node: Node, path: str) -> DataBlock:
        known = [f.name for f in fields(DataBlock)]
        entries = self.mapping(node, path, known, ("source", "splits"))
        source = self.block(entries["source"], "source", f"{path}.source") if "source" in entries else None
        splits: dict[str, dict[str, Any]] = {}
        for name, child in (
            self.mapping(entries["splits"], f"{path}.splits", None).items() if "splits" in entries else ()
        ):
            where = f"{path}.splits.{name}"
            picks = self.mapping(child, where, None)
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
        return block

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
        name = str(entries["name"].value) if "name" in entries else f"[{index}]"
        path = f"stages.{name}.repeat"
        result = [plain]
        for label, changes in self.mapping(repeat, path, None).items():
            variant = copy.deepcopy(plain)
            if "name" in variant.value:
                variant.value["name"].value = f"{name}{SEPARATOR}{label}"
            for key, value in self.mapping(changes, f"{path}.{label}", None).items():
                try:
                    assign(variant, key, value, value.place)
                except InputError as error:
                    self.problem(value.place, f"{path}.{label}.{key}", error.what, error.hint)
            result.append(variant)
        return result

    def stage(self, node: Node, path: str, data: dict[str, DataBlock], before: list[Stage]) -> Stage | None:
        known = [f.name for f in fields(Stage)]
        if isinstance(node.value, dict) and "name" in node.value:
            path = f"stages.{node.value['name'].value}"
        entries = self.mapping(node, path, [*known, "repeat"], ("name", "objective"))
        if "name" not in entries or "objective" not in entries:
            return None
        name = self.value(entries["name"], f"{path}.name", str)
        if name is None:
            return None
        if any(c in name for c in "./\\ ") or not name:
            self.problem(entries["name"].mark, f"{path}.name", f"'{name}' holds a dot, slash or space")
        if any(stage.name == name for stage in before):
            self.problem(entries["name"].mark, f"{path}.name", f"two stages are named '{name}'")
        objective = self.block(entries["objective"], "objective", f"{path}.objective")
        stage = Stage(name, objective)  # type: ignore[arg-type]
        types = hints(Stage)
        special = {"name", "objective", "optim", "schedule", "metrics", "keep_best", "unfreeze", "repeat"}
        for key, child in entries.items():
            if key not in special:
                found = self.value(child, f"{path}.{key}", types[key])
                setattr(stage, key, found)
        if stage.checkpointing and stage.compile:
            what, hint = "checkpointing and compile exclude each other", "compiled code decides what to compute again"
            self.problem(entries["compile"].mark, f"{path}.compile", what, hint)
        stage.optim = self.per_turn(entries.get("optim"), "optimizer", "adam", f"{path}.optim")
        stage.schedule = self.per_turn(entries.get("schedule"), "schedule", "constant", f"{path}.schedule")
        if "metrics" in entries:
            stage.metrics = self.blocks(entries["metrics"], "metric", f"{path}.metrics")
        for key, cls in (("keep_best", KeepBest), ("unfreeze", Unfreeze)):
            if key in entries and entries[key].value is not None:
                setattr(stage, key, self.record(entries[key], cls, f"{path}.{key}"))
        self.stage_references(stage, entries, path, data, before)
        return stage

    def per_turn(self, node: Node | None, kind: str, default: str, path: str) -> Any:
        """One block for every turn, or a mapping of turn to block."""
        if node is None:
            return Block(self.components.resolve(kind, f"medkit:{default}"), path=path)
        if isinstance(node.value, dict) and "use" not in node.value and node.value:
            return {turn: self.block(child, kind, _join(path, turn)) for turn, child in node.value.items()}
        return self.block(node, kind, path)

    def record(self, node: Node, cls: type, path: str) -> Any:
        types = hints(cls)
        required = [f.name for f in fields(cls) if f.default is NO_DEFAULT]
        entries = self.mapping(node, path, list(types), required)
        values = {key: self.value(child, f"{path}.{key}", types[key]) for key, child in entries.items()}
        return cls(**values) if all(key in values for key in required) else None

    def stage_references(
        self, stage: Stage, entries: dict[str, Node], path: str, data: dict[str, DataBlock], before: list[Stage]
    ) -> None:
        """Names that must exist: the data block, splits, the metric kept, parts of earlier stages."""
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
        if splits is not None:
            wanted = [("train", stage.train), *(("evaluate", split) for split in stage.evaluate or [])]
            if "validate" not in entries and stage.validate not in splits:
                stage.validate = None
            if stage.validate is not None:
                wanted.append(("validate", stage.validate))
            if stage.keep_best is not None:
                wanted.append(("keep_best", stage.keep_best.split))
            for key, split in wanted:
                if split not in splits:
                    mark = entries[key].mark if key in entries else place
                    self.problem(mark, f"{path}.{key}", f"no split is named '{split}'", _names(split, splits))
        if stage.keep_best is not None:
            names = [m.entry.name for m in stage.metrics if isinstance(m, Block)]
            if stage.keep_best.metric not in names:
                hint = f"the stage's metrics: {', '.join(names)}" if names else "the stage has no metrics"
                self.problem(
                    entries["keep_best"].mark,
                    f"{path}.keep_best",
                    f"no metric is named '{stage.keep_best.metric}'",
                    hint,
                )
            if stage.validate != stage.keep_best.split:
                self.problem(
                    entries["keep_best"].mark,
                    f"{path}.keep_best",
                    f"split '{stage.keep_best.split}' is not the one validated on ('{stage.validate}')",
                )
        earlier = {s.name: s for s in before}
        for reference, kind in _references(stage.objective):
            if reference.stage not in earlier:
                hint = _names(reference.stage, earlier) if earlier else "this is the first stage"
                self.problem(reference.mark, reference.path, f"no earlier stage is named '{reference.stage}'", hint)
                continue
            part = _part(earlier[reference.stage].objective, reference.part)
            while isinstance(part, Reference):
                part = _part(earlier[part.stage].objective, part.part)
            if part is None:
                parts = [name for name, _ in _parts(earlier[reference.stage].objective)]
                self.problem(
                    reference.mark,
                    reference.path,
                    f"stage '{reference.stage}' has no part '{reference.part}'",
                    _names(reference.part, parts),
                )
            elif part.kind != kind:
                self.problem(reference.mark, reference.path, f"'{reference.part}' is a {part.kind}, not a {kind}")

    def report(self, node: Node, data: dict[str, DataBlock]) -> Report:
        entries = self.mapping(node, "report", ("splits", "compare", "maps"))
        report = Report()
        known = [name for block in data.values() for name in block.splits]
        if "splits" in entries:
            report.splits = self.value(entries["splits"], "report.splits", list[str]) or []
            for split in report.splits:
                if split not in known:
                    self.problem(
                        entries["splits"].mark, "report.splits", f"no split is named '{split}'", _names(split, known)
                    )
        if "compare" in entries:
            compare = self.mapping(entries["compare"], "report.compare", ("test", "metric"))
            if "test" in compare:
                report.compare["test"] = compare["test"].value
                if compare["test"].value not in TESTS:
                    self.problem(
                        compare["test"].mark,
                        "report.compare.test",
                        f"no test is named '{compare['test'].value}'",
                        _names(str(compare["test"].value), TESTS),
                    )
            if "metric" in compare:
                report.compare["metric"] = self.value(compare["metric"], "report.compare.metric", list[str]) or []
        if "maps" in entries:
            maps = self.mapping(entries["maps"], "report.maps", ("cases",))
            report.maps = {key: self.value(child, f"report.maps.{key}", int) for key, child in maps.items()}
        return report


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _kind(node: Node) -> str:
    if node.value is None:
        return "nothing"
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    return repr(node.value)


def _names(word: str, known: Iterable[str]) -> str:
    known = list(known)
    return did_you_mean(word, known) or f"there are: {', '.join(known)}"


def _type_of(default: Any) -> Any:
    if isinstance(default, list | tuple):
        return list[str]
    return type(default) if not isinstance(default, float) else float


def _children(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from ((str(i), item) for i, item in enumerate(value))


def _parts(block: Any) -> Iterable[tuple[str, Any]]:
    """Named components inside an objective: ``encoder``, ``heads.seg`` and so on."""
    if not isinstance(block, Block):
        return
    for name, value in block.arguments.items():
        if isinstance(value, Block | Reference):
            yield name, value
        for key, child in _children(value):
            if isinstance(child, Block | Reference):
                yield f"{name}.{key}", child


def _part(block: Any, path: str) -> Any:
    return dict(_parts(block)).get(path)


def _references(block: Any) -> Iterable[tuple[Reference, str]]:
    """References inside an objective, with the kind of the slot that each fills."""
    if not isinstance(block, Block):
        return
    schema = static_schema(block.entry)
    for name, value in block.arguments.items():
        argument = schema.arguments.get(name)
        if argument is None or argument.slot is None:
            continue
        for child in [value, *(item for _, item in _children(value))]:
            if isinstance(child, Reference):
                yield child, argument.slot.kind
            elif isinstance(child, Block):
                yield from _references(child)
