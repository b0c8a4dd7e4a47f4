"""Pieces of a recipe: mappings, values, records and components, each checked, every problem kept with its place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from medkit import names
from medkit.errors import InputError, did_you_mean
from medkit.recipe.blocks import Block, Reference
from medkit.recipe.model import hints
from medkit.recipe.yaml import Mark, Node
from medkit.registry import Entry, Registry
from medkit.registry.promises_static import check_source_promises
from medkit.registry.schema import Argument, Schema, is_plain, validate, with_files
from medkit.registry.static import static_constant


class Named(Protocol):
    """Something with names in it."""

    @property
    def names(self) -> tuple[str, ...]: ...


Declared = TypeVar("Declared", bound=Named)


class Pieces:
    """Reads pieces of a YAML tree; what is wrong is collected in ``problems``, so that all of it is told together."""

    def __init__(self, components: Registry, schema: Callable[[Entry], Schema], folder: Path | None = None) -> None:
        self.components, self.schema, self.folder = components, schema, folder
        self.problems: list[InputError] = []

    def problem(self, mark: Mark, path: str, what: str, hint: str | None = None) -> None:
        self.problems.append(InputError(f"{path}: {what}" if path else what, str(mark), hint))

    def name(self, name: str, mark: Mark, path: str) -> None:
        """A name that becomes a file, a folder or a key."""
        if fault := names.fault(name):
            self.problem(mark, path, fault)

    def declared(self, node: Node, path: str, make: Callable[[Any], Declared]) -> Declared | None:
        """What a data block declares by name, made by ``make`` from plain data: classes of masks, labels of cases."""
        if node.value is None:
            return None
        try:
            found = make(node.plain())
        except InputError as error:
            self.problem(node.place, path, error.what, error.hint)
            return None
        for name in found.names:
            self.name(name, node.place, path)
        return found

    # -- plain pieces ------------------------------------------------------------------------------------------

    def mapping(
        self, node: Node, path: str, known: Iterable[str] | None, required: Iterable[str] = ()
    ) -> dict[str, Node]:
        """The entries of a mapping; unknown and missing keys are problems."""
        if not isinstance(node.value, dict):
            self.problem(node.place, path, f"a mapping is expected here, not {kind_of(node)}")
            return {}
        if known is not None:
            known = list(known)
            for key, child in node.value.items():
                if key not in known:
                    hint = did_you_mean(key, known) or f"known keys: {', '.join(known)}"
                    self.problem(child.place, join(path, key), "unknown key", hint)
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
            self.problem(node.place, path, f"a list is expected here, not {kind_of(node)}")
            return []
        return node.value

    # -- components --------------------------------------------------------------------------------------------

    def block(
        self,
        node: Node,
        kind: str,
        path: str,
        argument: Argument | None = None,
        beside: Mapping[str, Any] | None = None,
    ) -> Block | Reference | None:
        """A component of ``kind``; keys of its slot are split from its own arguments.

        So are those of ``beside`` (key to type), unless the component has an argument of that name.
        """
        if isinstance(node.value, str):
            node = Node({"use": Node(node.value, node.mark, node.key)}, node.mark, node.key)
        if not isinstance(node.value, dict):
            self.problem(
                node.place, path, f"{with_article(kind)} is expected here ({{use: NAME, ...}}), not {kind_of(node)}"
            )
            return None
        entries = dict(node.value)
        slot_keys = dict(argument.slot.keys) if argument is not None and argument.slot is not None else {}
        keys: dict[str, Any] = {}
        for key, default in slot_keys.items():
            if key in entries:
                keys[key] = self.value(entries.pop(key), join(path, key), _type_of(default))
        if "from" in entries:
            return self._reference(node, entries, keys, path)
        if "use" not in entries:
            hint = f"'medkit list {kind}' shows what there is"
            self.problem(node.place, path, f"'use' is missing: which {kind}?", hint)
            return None
        use = entries.pop("use")
        if not isinstance(use.value, str):
            self.problem(use.mark, path, f"'use' takes the name of a {kind}, not {kind_of(use)}")
            return None
        try:
            entry = self.components.resolve(kind, use.value)
            schema = self.schema(entry)
        except InputError as error:
            self.problem(use.mark, path, error.what, error.hint)
            return None
        try:
            check_source_promises(entry, argument.slot.contract if argument and argument.slot else None)
        except InputError as error:
            self.problem(use.mark, path, error.what, error.hint)
        arguments: dict[str, Any] = {}
        writable = schema.writable
        others = {key: kind for key, kind in (beside or {}).items() if key not in writable}
        for key, child in entries.items():
            where = join(path, key)
            if key in others:
                keys[key] = self.value(child, where, others[key])
            elif key not in writable:
                known = [*writable, *slot_keys, *others]
                if key in schema.arguments:
                    hint = f"'{entry.full_name}' gets it from the parts beside it"
                else:
                    hint = did_you_mean(key, known) or (f"it takes: {', '.join(known)}" if known else "it takes none")
                self.problem(child.place, where, f"'{entry.full_name}' takes no argument of that name", hint)
            elif writable[key].slot is not None:
                arguments[key] = self._slot(child, writable[key], where)
            else:
                arguments[key] = self.argument(child, where, writable[key].annotation)
        for key, wanted in writable.items():
            if wanted.required and key not in entries:
                self.problem(node.mark, path, f"'{entry.full_name}' needs '{key}' ({wanted.type_name()})")
        self._ends(Block(entry, arguments, keys, node.mark, path), entries, writable)
        return Block(entry, arguments, keys, node.mark, path)

    def _ends(self, block: Block, entries: Mapping[str, Node], writable: Mapping[str, Argument]) -> None:
        """Check two arguments of which the class says, by ``ends``, that the first is below the second."""
        lower, sign, upper = static_constant(block.entry, "ends") or ("", "", "")
        if lower not in writable or upper not in writable:
            return
        low, high = (block.arguments.get(name, writable[name].default) for name in (lower, upper))
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            return  # already reported
        if low > high or (sign == "<" and low == high):
            place = next((entries[name].place for name in (upper, lower) if name in entries), block.mark)
            what = f"'{lower}' ({low:g}) is not {'below' if sign == '<' else 'at most'} '{upper}' ({high:g})"
            self.problem(place, block.path, what)

    def argument(self, node: Node, path: str, annotation: Any) -> Any:
        """A plain argument; the files and folders it names become absolute, whichever folder the run is resumed in."""

        def place(text: str) -> str:
            here = os.path.abspath(os.path.expanduser(text))
            # What is typed on the command line is relative to where it is typed.
            if self.folder is None or node.mark.file.startswith("--set"):
                return here
            found = os.path.abspath(self.folder / os.path.expanduser(text))
            if not os.path.exists(found) and os.path.exists(here):
                hint = f"relative paths in a recipe start at its own folder; if you mean this one, write {here}"
                self.problem(node.mark, path, f"'{text}' is not in {self.folder}, but in the current folder", hint)
            return found

        value = with_files(annotation, self.value(node, path, annotation), place)
        if not is_plain(value):
            return node.plain()  # an enumeration's member or a dataclass, made again when the component is built
        return list(value) if isinstance(value, tuple) else value

    def _reference(self, node: Node, entries: dict[str, Node], keys: dict[str, Any], path: str) -> Reference | None:
        text = entries.pop("from")
        for key, child in entries.items():
            self.problem(child.place, join(path, key), "a part taken by 'from' has no arguments of its own")
        stage, dot, part = text.value.partition(".") if isinstance(text.value, str) else ("", "", "")
        if not dot or not part:
            self.problem(text.mark, path, f"{kind_of(text)} is not STAGE.PART", "for example pretext.encoder")
            return None
        return Reference(stage, part, keys, text.mark, path)

    def _slot(self, node: Node, argument: Argument, path: str) -> Any:
        assert argument.slot is not None
        kind = argument.slot.kind
        if node.value is None:
            if not argument.optional:
                self.problem(node.place, path, f"{with_article(kind)} is expected here, not nothing")
            return None
        if argument.shape == "one":
            return self.block(node, kind, path, argument)
        if argument.shape == "list":
            return [self.block(c, kind, f"{path}[{i}]", argument) for i, c in enumerate(self.items(node, path))]
        if not isinstance(node.value, dict) or "use" in node.value:
            self.problem(node.place, path, f"a mapping of name to {kind} is expected here")
            return {}
        for key, child in node.value.items():
            if fault := names.part_fault(key):
                self.problem(child.place, path, fault)
        return {key: self.block(child, kind, join(path, key), argument) for key, child in node.value.items()}

    def blocks(self, node: Node, kind: str, path: str) -> list[Any]:
        return [self.block(child, kind, f"{path}[{i}]") for i, child in enumerate(self.items(node, path))]

    def per_turn(self, node: Node | None, kind: str, default: str, path: str, beside: Mapping[str, Any]) -> Any:
        """One block for every turn, or a mapping of turn to block."""
        if node is None:
            return Block(self.components.resolve(kind, f"medkit:{default}"), path=path)
        if isinstance(node.value, dict) and "use" not in node.value and node.value:
            return {
                turn: self.block(child, kind, join(path, turn), beside=beside) for turn, child in node.value.items()
            }
        return self.block(node, kind, path, beside=beside)

    def record(self, node: Node, cls: type, path: str) -> Any:
        types = hints(cls)
        required = [f.name for f in fields(cls) if f.default is NO_DEFAULT]
        entries = self.mapping(node, path, list(types), required)
        values = {key: self.value(child, f"{path}.{key}", types[key]) for key, child in entries.items()}
        return cls(**values) if all(key in values for key in required) else None


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def kind_of(node: Node) -> str:
    if node.value is None:
        return "nothing"
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    return repr(node.value)


def names_there(word: str, known: Iterable[str]) -> str:
    known = list(known)
    return did_you_mean(word, known) or (f"there are: {', '.join(known)}" if known else "there are none")


def _type_of(default: Any) -> Any:
    if isinstance(default, list | tuple):
        return list[str]
    return type(default) if not isinstance(default, float) else float


def with_article(noun: str) -> str:
    """``a loss``, ``an optimizer``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
