"""From a study's file to a study; every problem is reported with its file, line and column.

Whether keys and values fit the recipe is found when trials are made of them (:mod:`medkit.studies.trials`).
"""

from __future__ import annotations

import importlib.resources
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt

from medkit import names
from medkit.errors import InputError, Problems, did_you_mean
from medkit.recipe import load
from medkit.recipe import yaml as yaml_marks
from medkit.recipe.pieces import Pieces, kind_of, names_there
from medkit.recipe.values import FORMAT, Seed
from medkit.recipe.yaml import Node
from medkit.registry.plugins import registry
from medkit.registry.static import static_schema
from medkit.studies.clashes import entries_apart
from medkit.studies.factorial import MOST, NONE, Plan, plan_of
from medkit.studies.rows import rows_of
from medkit.studies.study import SEED, Axis, Claim, Compare, Method, Range, Search, Study

TOP = ("medkit", "name", "recipe", "claim", "vary", "methods", "rows", "cross", "compare", "search")
SAID = ("better", "worse", "steadier", "loses_less")
UNEQUAL = ("data", "draws", "steps", "metric")
SKIP = "skip"


def load_study(study: str | Path) -> Study:
    """Read a study given by its path or by the name of a bundled one.

    Raises
    ------
    InputError
        with every problem found in the file, each with its line and column.
    """
    path = Path(study)
    if not path.is_file():
        path = _bundled(str(study))
    root = yaml_marks.read(path, str(study) if Path(study).is_file() else str(path))
    reader = _Reader(registry(), static_schema, path.resolve().parent)
    found = reader.study(root, path.read_text(encoding="utf-8"))
    if reader.problems:
        raise Problems(reader.problems)
    assert found is not None
    return found


def bundled() -> Iterator[tuple[str, Path]]:
    """Names and paths of the studies that come with medkit."""
    root = Path(str(importlib.resources.files("medkit_recipes"))) / load.STUDIES
    for path in sorted(root.rglob("*.yaml")):
        yield path.relative_to(root).with_suffix("").as_posix(), path


def _bundled(name: str) -> Path:
    known = dict(bundled())
    short = name.removesuffix(".yaml").removeprefix("recipes/").removeprefix("studies/")
    if short not in known:
        hint = did_you_mean(short, known) or f"bundled studies: {', '.join(known)}"
        raise InputError("there is no such file, and no bundled study of that name", name, hint)
    return known[short]


class _Reader(Pieces):
    def study(self, root: Node, text: str) -> Study | None:
        top = self.mapping(root, "", TOP, ("medkit", "name", "recipe"))
        if "medkit" in top and (top["medkit"].value != FORMAT or isinstance(top["medkit"].value, bool)):
            what = f"format {top['medkit'].value!r} is not known here"
            self.problem(top["medkit"].mark, "medkit", what, f"this medkit reads {FORMAT}")
        name = self.value(top["name"], "name", str) if "name" in top else None
        if name is not None and (fault := names.recipe_fault(name)):
            self.problem(top["name"].mark, "name", fault)
        axes = self.axes(top["vary"]) if "vary" in top else ()
        found = self.recipe(top["recipe"]) if "recipe" in top else None
        plan, methods = None, self.methods(top["methods"]) if "methods" in top else ()
        for key, kind in (("rows", "rows"), ("cross", "runs")):
            others = [other for other in ("methods", "rows") if other in top and other != key]
            if key in top and others:
                self.problem(top[key].place, key, f"its {kind} are the methods; leave '{others[0]}' out")
        if "cross" in top:
            plan, methods = self.cross(top["cross"])
        elif "rows" in top:
            methods = self.rows(top["rows"], found)
        compare = self.compare(top["compare"], methods) if "compare" in top else None
        search = self.search(top["search"], axes, compare) if "search" in top else None
        claim = self.claim(top["claim"], methods, compare) if "claim" in top else None
        if self.problems or name is None or found is None:
            return None
        if not methods:
            methods = (Method(name, {}, (), top["recipe"].mark),)
        path, shown, folder = found
        return Study(name, path, shown, folder, axes, methods, compare, search, claim, plan, text)

    def recipe(self, node: Node) -> tuple[Path, str, Path | None] | None:
        """The file of the recipe: next to the study's, or a bundled one."""
        text = self.value(node, "recipe", str)
        if text is None:
            return None
        assert self.folder is not None
        beside = self.folder / text
        try:
            path, _ = load.find(beside if beside.is_file() else text)
        except InputError as error:
            self.problem(node.mark, "recipe", error.what, error.hint)
            return None
        known = {bundled.resolve() for _, bundled in load.bundled()}
        return path, text, None if path.resolve() in known else path.resolve().parent

    # -- what varies -------------------------------------------------------------------------------------------

    def axes(self, node: Node) -> tuple[Axis, ...]:
        entries = self.mapping(node, "vary", None)
        short = _short(list(entries))
        found = []
        for key, child in entries.items():
            values = self.values(child, f"vary.{key}", key)
            if values:
                found.append(Axis(key, short[key], values, child.place))
        return tuple(found)

    def values(self, node: Node, path: str, key: str) -> dict[str, Node]:
        """Values by label: the keys of a mapping, or for a list what is written there."""
        if isinstance(node.value, dict):
            found = dict(node.value)
        elif isinstance(node.value, list):
            found = {}
            for child in node.value:
                if isinstance(child.value, dict | list):
                    what = f"{kind_of(child)} has no name"
                    self.problem(child.mark, path, what, "write a mapping: NAME: VALUE for each")
                elif _label(child) in found:
                    self.problem(child.mark, path, f"'{_label(child)}' is there twice")
                else:
                    found[_label(child)] = child
        else:
            what = f"a list, or a mapping of name to value, is expected here, not {kind_of(node)}"
            self.problem(node.place, path, what, f"write [{node.value}] for a single value")
            return {}
        if not found and not self.problems:
            self.problem(node.place, path, "there is no value")
        if key == SEED:
            for child in found.values():
                self.value(child, path, Seed)
        return found

    def methods(self, node: Node, path: str = "methods") -> tuple[Method, ...]:
        found = []
        for name, child in self.mapping(node, path, None).items():
            self.name(name, child.place, f"{path}.{name}")
            found.append(self.method(name, child, f"{path}.{name}"))
        if not found:
            self.problem(node.place, path, "no method is given")
        return tuple(found)

    def method(self, name: str, node: Node, path: str) -> Method:
        entries = {} if node.value is None else dict(self.mapping(node, path, None))
        skip = entries.pop(SKIP, None)
        left = [] if skip is None else self.value(skip, f"{path}.{SKIP}", list[str]) or []
        return Method(name, entries, tuple(left), node.place)

    def rows(self, node: Node, recipe: tuple[Path, str, Path | None] | None) -> tuple[Method, ...]:
        """A stage of the recipe, or several, and their variants as methods."""
        stages = [node.value] if isinstance(node.value, str) else self.value(node, "rows", list[str])
        if stages is not None and not stages:
            self.problem(node.place, "rows", "no stage is named")
        if not stages or recipe is None:
            return ()
        path, shown, _ = recipe
        try:
            return rows_of(yaml_marks.read(path, shown), stages, node.place)
        except Problems as several:
            self.problems += several.problems
        except InputError as error:
            self.problem(node.place, "rows", error.what, error.hint)
        return ()

    def cross(self, node: Node) -> tuple[Plan | None, tuple[Method, ...]]:
        """The runs of a factorial plan as methods: ``base`` with the changes of the factors that a run has; the run
        without any is ``none``."""
        entries = self.mapping(node, "cross", ("base", "none", "factors"), ("none", "factors"))
        if "factors" not in entries or "none" not in entries:
            return None, ()
        factors = self.methods(entries["factors"], "cross.factors")
        if not 1 < len(factors) <= MOST:
            what = f"{len(factors)} factors cannot be crossed"
            self.problem(entries["factors"].place, "cross.factors", what, f"2 to {MOST} can")
            return None, ()
        base = dict(self.mapping(entries["base"], "cross.base", None)) if "base" in entries else {}
        for one, other in itertools.combinations(factors, 2):
            for key in entries_apart(one.changes, other.changes):
                what = f"factor '{one.name}' sets this to something else, and runs with both can have only one"
                hint = "let one factor set it, or write mappings without a common key, which are merged"
                self.problem(other.changes[key].place, f"cross.factors.{other.name}.{key}", what, hint)
        none = self.method(NONE, entries["none"], "cross.none")
        plan = plan_of([factor.name for factor in factors])
        known = {factor.name: factor for factor in factors}
        found = []
        for run in plan.runs:
            changes = base
            for factor in run:
                changes = _together(changes, known[factor].changes)
            name = plan.name(run)
            if run and (fault := names.fault(name)):
                self.problem(entries["factors"].place, "cross.factors", f"in a run with {len(run)} of them: {fault}")
            skip = tuple(stage for factor in run for stage in known[factor].skip)
            found.append(Method(name, changes, skip, node.place) if run else none)
        return plan, tuple(found)

    # -- what is compared --------------------------------------------------------------------------------------

    def compare(self, node: Node, methods: tuple[Method, ...]) -> Compare | None:
        keys = ("metric", "stage", "split", "reference", "unequal", "seconds", "also")
        entries = self.mapping(node, "compare", keys, ("metric", "stage", "split"))
        said: dict[str, Any] = {}
        for key, annotation in (("metric", str), ("stage", str), ("split", str), ("reference", str)):
            if key in entries:
                said[key] = self.value(entries[key], f"compare.{key}", annotation)
        known = [method.name for method in methods]
        if said.get("reference") is not None and said["reference"] not in known:
            what = f"no method is named '{said['reference']}'"
            self.problem(entries["reference"].mark, "compare.reference", what, names_there(said["reference"], known))
        if "unequal" in entries:
            reasons = self.mapping(entries["unequal"], "compare.unequal", UNEQUAL)
            said["unequal"] = {key: self.reason(child, f"compare.unequal.{key}") for key, child in reasons.items()}
        if "seconds" in entries:
            said["seconds"] = self.seconds(entries["seconds"])
        if any(said.get(key) is None for key in ("metric", "stage", "split")):
            return None
        also = self.items(entries["also"], "compare.also") if "also" in entries else []
        said["also"] = tuple(one for i, child in enumerate(also) if (one := self.also(child, i)) is not None)
        return Compare(mark=node.place, **said)

    def seconds(self, node: Node) -> dict[str, float]:
        """Stages in which all methods get the same time, and how much."""
        each = self.mapping(node, "compare.seconds", None)
        found = {
            name: self.value(child, f"compare.seconds.{name}", Annotated[float, Gt(0)]) for name, child in each.items()
        }
        return {name: float(seconds) for name, seconds in found.items() if seconds is not None}

    def also(self, node: Node, number: int) -> Compare | None:
        path, keys = f"compare.also[{number}]", ("metric", "stage", "split")
        entries = self.mapping(node, path, keys, keys)
        said = {key: self.value(entries[key], f"{path}.{key}", str) for key in keys if key in entries}
        return Compare(mark=node.place, **said) if all(said.get(key) is not None for key in keys) else None

    def reason(self, node: Node, path: str) -> str:
        text = self.value(node, path, str)
        if text is not None and not text.strip():
            self.problem(node.place, path, "no reason is given", "say why; the reason is shown in the report")
        return text or ""

    def claim(self, node: Node, methods: tuple[Method, ...], compare: Compare | None) -> Claim | None:
        entries = self.mapping(node, "claim", ("says", *SAID, "than_on", "source", "limits"), ("says",))
        says = self.reason(entries["says"], "claim.says") if "says" in entries else ""
        source, limits, than_on = (
            (self.value(entries[key], f"claim.{key}", str) or "") if key in entries else ""
            for key in ("source", "limits", "than_on")
        )
        if compare is not None and compare.reference is None:
            what = "methods are claimed to be better, but nothing says better than which"
            self.problem(node.place, "claim", what, "name it: compare: {reference: METHOD}")
        known = [method.name for method in methods if compare is None or method.name != compare.reference]
        said: dict[str, tuple[str, ...]] = {}
        for kind in SAID:
            if kind not in entries:
                continue
            said[kind] = tuple(self.value(entries[kind], f"claim.{kind}", list[str]) or ())
            for name in said[kind]:
                if name not in known:
                    hint = names_there(name, known)
                    self.problem(entries[kind].mark, f"claim.{kind}", f"'{name}' is not one of them", hint)
        if not any(said.values()):
            what = f"no method is said to be {', '.join(kind.replace('_', ' ') for kind in SAID)}"
            place = next((entries[kind].mark for kind in said), node.place)
            self.problem(place, "claim", what, "name one: better: [A]")
        if "loses_less" in said and compare is not None:
            other = [one.split for one in compare.also if (one.stage, one.metric) == (compare.stage, compare.metric)]
            if than_on not in other:
                what = f"methods are said to lose less than on '{than_on or 'nothing'}', which is not compared"
                hint = f"compare: {{also: [{{metric: {compare.metric}, stage: {compare.stage}, split: SPLIT}}]}}"
                self.problem(node.place, "claim.than_on", what, hint)
        return (
            Claim(says, source=source, limits=limits, than_on=than_on, **said) if says and any(said.values()) else None
        )

    # -- what is searched --------------------------------------------------------------------------------------

    def search(self, node: Node, axes: tuple[Axis, ...], compare: Compare | None) -> Search | None:
        entries = self.mapping(node, "search", ("trials", "over", "metric", "at", "seed"), ("trials", "over"))
        if compare is not None and compare.seconds:
            what = "methods that get the same seconds are not searched: each attempt would be given other epochs"
            self.problem(node.place, "search", what, "leave out compare.seconds, or search in a separate study")
        if compare is None and "compare" not in [problem.where for problem in self.problems]:
            self.problem(node.place, "search", "there is no 'compare' block, so nothing says what is good", "write one")
        if "trials" not in entries or "over" not in entries:
            return None
        trials = self.value(entries["trials"], "search.trials", Annotated[int, Gt(0)])
        over = self.mapping(entries["over"], "search.over", None)
        ranges = [self.range(key, child) for key, child in over.items()]
        if not ranges:
            self.problem(entries["over"].place, "search.over", "no key is searched")
        metric = self.value(entries["metric"], "search.metric", str) if "metric" in entries else None
        seed = self.value(entries["seed"], "search.seed", Annotated[int, Ge(0)]) if "seed" in entries else 0
        at = {axis.name: list(axis.values)[0 if axis.key == SEED else -1] for axis in axes}
        for name, child in self.mapping(entries["at"], "search.at", at).items() if "at" in entries else ():
            axis = next(axis for axis in axes if axis.name == name)
            if (label := _label(child)) not in axis.values:
                hint = names_there(label, axis.values)
                self.problem(child.mark, f"search.at.{name}", f"'{label}' is not one of its values", hint)
            at[name] = label
        if compare is None or trials is None or any(found is None for found in ranges):
            return None
        kept = tuple(found for found in ranges if found is not None)
        return Search(trials, kept, metric or compare.metric, at, seed or 0, node.place)

    def range(self, key: str, node: Node) -> Range | None:
        path = f"search.over.{key}"
        if isinstance(node.value, list):
            if len(node.value) < 2:
                self.problem(node.place, path, "a choice needs two values")
            return Range(key, choices=tuple(node.value), mark=node.place)
        entries = self.mapping(node, path, ("low", "high", "log"), ("low", "high"))
        if "low" not in entries or "high" not in entries:
            return None
        low, high = (self.value(entries[end], f"{path}.{end}", float) for end in ("low", "high"))
        log = self.value(entries["log"], f"{path}.log", bool) if "log" in entries else False
        if low is None or high is None or log is None:
            return None
        if low >= high or (log and low <= 0):
            what = f"{low:g} to {high:g} is not a range" + (" for a logarithm" if log else "")
            self.problem(node.place, path, what, "low below high" + (", both above 0" if log else ""))
        whole = all(isinstance(entries[end].value, int) for end in ("low", "high"))
        return Range(key, low, high, log, whole, mark=node.place)


def _together(one: Mapping[str, Node], other: Mapping[str, Node]) -> dict[str, Node]:
    """Both sets of changes; if both give a mapping for one key, its entries are merged."""
    found = dict(one)
    for key, node in other.items():
        before = found.get(key)
        if before is not None and isinstance(before.value, dict) and isinstance(node.value, dict):
            node = Node({**before.value, **node.value}, node.mark, node.key)
        found[key] = node
    return found


def _short(keys: list[str]) -> dict[str, str]:
    """The last words of each key, as many as tell it from the others."""
    found = {}
    for key in keys:
        words = key.split(".")
        for count in range(1, len(words) + 1):
            name = ".".join(words[-count:])
            if sum(other in (key, name) or other.endswith(f".{name}") for other in keys) == 1:
                break
        found[key] = name
    return found


def _label(node: Node) -> str:
    value = node.value
    return (
        {None: "none", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def labels(point: Mapping[str, str]) -> str:
    """A point of a study in words: ``seed 1, fraction 0.1``."""
    return ", ".join(f"{name} {label}" for name, label in point.items())
