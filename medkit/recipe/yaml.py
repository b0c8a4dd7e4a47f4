"""YAML 1.2 with the place of every value: ``1e-4`` is a number, ``on`` a string, a key written twice an error."""

from __future__ import annotations

import copy
import dataclasses
import enum
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from medkit.errors import InputError, Problems, did_you_mean
from medkit.recipe.values import SEPARATOR

INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
ENV = re.compile(r"\$\$\{|\$\{([^}]*)\}")
TAGS = {kind: f"tag:yaml.org,2002:{tag}" for kind, tag in (("scalar", "str"), ("sequence", "seq"), ("mapping", "map"))}
# A recipe is a page or two. These bounds stop texts designed to use up all memory or time.
LARGEST = 2**20  # characters in a file
DEEPEST = 40  # mappings and lists inside each other
MOST = 50_000  # values; each use of an alias counts with all that it stands for
DIGITS = 100  # in a number


@dataclass(frozen=True)
class Mark:
    """A place in a file; ``line`` and ``column`` count from 1, and are 0 where there is no file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass
class Node:
    """A value with its place: a scalar, a list of nodes, or a mapping of key to node."""

    value: Any
    mark: Mark
    key: Mark | None = None

    @property
    def place(self) -> Mark:
        """Where an error about this entry points: at its key if it has one."""
        return self.key or self.mark

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def read(path: Path, shown: str | None = None) -> Node:
    """Parse a file; ``shown`` is its name in errors."""
    name = shown or str(path)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the recipe cannot be read: {error}", name) from error
    return parse(text, name)


def parse(text: str, name: str) -> Node:
    """Parse YAML text; all problems found are reported together."""
    if len(text) > LARGEST:
        raise InputError(f"the file is longer than {LARGEST:,} characters", name, "is it a recipe?")
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        what = str(error.problem) if isinstance(error, _Bound) else f"not valid YAML: {error.problem}"
        hint = "indent with spaces" if "'\\t'" in str(error.problem) else None
        raise InputError(what, where, hint) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # an escape or a version out of all bounds
        raise InputError(f"not valid YAML: {' '.join(str(error).split())}", name) from None
    if root is None:
        raise InputError("the file is empty", name)
    converter = _Converter(name)
    node = converter.node(root)
    if converter.problems:
        raise Problems(converter.problems)
    return node


class _Bound(yaml.MarkedYAMLError):
    """More than a recipe can hold."""


class _Loader(yaml.SafeLoader):
    """Composes nodes as PyYAML does, up to a depth and a number, and keeps the tags that were written."""

    depth = count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self.depth += 1
        self.count += 1
        if self.depth > DEEPEST:
            raise _Bound(problem=f"nested more than {DEEPEST} deep", problem_mark=event.start_mark)
        if self.count > 2 * MOST:  # keys are nodes too
            raise _Bound(problem=f"more than {MOST:,} values", problem_mark=event.start_mark)
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        if not isinstance(event, yaml.AliasEvent):
            node.written = event.tag
        return node


class _Converter:
    """From PyYAML's nodes to ours; problems are collected."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[InputError] = []
        self.count = 0
        self.open: list[Any] = []

    def problem(self, what: str, mark: Mark, hint: str | None = None) -> Node:
        self.problems.append(InputError(what, str(mark), hint))
        return Node(None, mark)

    def node(self, node: Any) -> Node:
        mark = self.mark(node)
        self.count += 1
        if self.count > MOST:
            raise InputError(f"more than {MOST:,} values, aliases written out", str(mark), "write less, or no aliases")
        if any(node is outer for outer in self.open):
            return self.problem("this alias stands for something that it is a part of", mark, "write it out")
        if len(self.open) > DEEPEST:
            return self.problem(f"nested more than {DEEPEST} deep", mark)
        if node.written not in (None, "!", TAGS[node.id]):
            return self.problem(f"the tag '{node.written}' is not allowed", mark, "a recipe is plain data")
        self.open.append(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                return Node([self.node(child) for child in node.value], mark)
            if isinstance(node, yaml.MappingNode):
                return Node(self.entries(node), mark)
            return self.scalar(node, mark)
        finally:
            self.open.pop()

    def mark(self, node: Any) -> Mark:
        return Mark(self.name, node.start_mark.line + 1, node.start_mark.column + 1)

    def entries(self, node: Any) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key_node, child in node.value:
            place = self.mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem("a key must be a word", place, "write the keys out")
                continue
            key = key_node.value
            if key == "<<" and key_node.style is None:
                self.problem("merge keys are not allowed", place, "write the keys out")
            elif fault := text_fault(key):
                self.problem(fault, place)
            elif key in found:
                self.problem(f"'{key}' is written twice", place, f"first at line {found[key].place.line}")
            else:
                found[key] = self.node(child)
                found[key].key = place
        return found

    def scalar(self, node: Any, mark: Mark) -> Node:
        value: Any = node.value
        if node.style is None and node.written is None:
            try:
                value = scalar(value)
            except ValueError as error:
                return self.problem(str(error), mark, "quote it if it is text")
        if isinstance(value, str):
            value = _expand(value, mark, self.problems)
            if fault := text_fault(value):
                return self.problem(fault, mark)
        return Node(value, mark)


def text_fault(text: str) -> str | None:
    """What is wrong with a text wherever it appears, or None."""
    if "\0" in text:
        return "a text contains the character NUL"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "a text contains half a character, or one that this locale cannot read (PYTHONUTF8=1 reads them)"
    return None


def scalar(text: str) -> Any:
    """A plain scalar by the core schema of YAML 1.2.

    Raises
    ------
    ValueError
        for a number that cannot be kept: hundreds of digits, or beyond the range of a float (``12e4567``).
    """
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if not (number := INT.fullmatch(text)) and not FLOAT.fullmatch(text):
        if match := SPECIAL.fullmatch(text):
            return float("nan") if match.group(3) else float(match.group(1) + "inf")
        return text
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text):,} digits")
    if number:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    value = float(text)
    mantissa = re.split("[eE]", text)[0]
    if math.isinf(value) or (value == 0 and mantissa.strip("+-.0") != ""):
        raise ValueError(f"{text} is outside the range of floating-point numbers")
    return value


def is_text(text: str) -> bool:
    """True if a plain scalar of this text is read as the text itself."""
    try:
        return scalar(text) is text
    except ValueError:
        return False


def _expand(text: str, mark: Mark, problems: list[InputError]) -> str:
    """Environment variables for ``${NAME}``; ``$${`` is the text ``${``. What a variable holds is not read again."""

    def replace(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return "${"
        found = os.environ.get(match.group(1))
        if found is None:
            problems.append(
                InputError(f"the environment variable {match.group(1)} is not set", str(mark), "export it first")
            )
            return ""
        return found

    return ENV.sub(replace, text) if "${" in text else text


def from_python(value: Any, name: str = "recipe", depth: int = 0) -> Node:
    """A node tree from Python data, for recipes built in code.

    Pydantic models and dataclasses are mappings of their fields, enums are their values, and a class that is a
    registered part (of a plugin, or by :func:`medkit.part`) is its full name.

    Raises
    ------
    InputError
        if it holds something that YAML cannot: only text, numbers, true, false, None, lists and mappings are allowed.
    """
    mark = Mark(name)
    if depth > DEEPEST:
        raise InputError(f"nested more than {DEEPEST} deep", name)
    value = _plain(value)
    if isinstance(value, Mapping):
        return Node(
            {_plain_text(str(key), name): from_python(item, name, depth + 1) for key, item in value.items()}, mark
        )
    if isinstance(value, list | tuple):
        return Node([from_python(item, name, depth + 1) for item in value], mark)
    if isinstance(value, str | os.PathLike):
        return Node(_plain_text(os.fspath(value), name), mark)
    if isinstance(value, bool):
        return Node(value, mark)
    if isinstance(value, Integral | Real):  # numpy's numbers, too
        return Node(int(value) if isinstance(value, Integral) else float(value), mark)
    if value is None:
        return Node(None, mark)
    what = f"an object of the class {type(value).__name__} cannot be written in a recipe"
    raise InputError(what, name, "text, numbers, lists and mappings can, and a part as {'use': NAME OR CLASS, ...}")


def _plain(value: Any) -> Any:
    if isinstance(value, type):
        from medkit.registry.cells import name_of

        return name_of(value)
    if isinstance(value, BaseModel):
        return {key: getattr(value, key) for key in type(value).model_fields}
    if dataclasses.is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    return value.value if isinstance(value, enum.Enum) else value


def _plain_text(text: str, name: str) -> str:
    if fault := text_fault(text):
        raise InputError(fault, name)
    return text


def override(root: Node, assignment: str) -> None:
    """Apply ``KEY=VALUE`` (``stages.pretext.epochs=2``); list entries are named by index or by their ``name``.

    Raises
    ------
    InputError
        if the path leads nowhere; the value's own problems are found with the rest of the recipe.
    """
    where = f"--set {assignment}"
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise InputError("an override reads KEY=VALUE", where, "for example stages.pretext.epochs=2")
    value = parse(text, where) if text.strip() else Node(None, Mark(where))
    assign(root, path.strip(), value, Mark(where))


SHORT = {"train": ("split", "fraction")}
"""Keys of a stage whose plain value is short for a mapping that has it under the first of these names."""


def assign(root: Node, path: str, value: Node, mark: Mark) -> None:
    """Put a copy of ``value`` at a dotted ``path`` below ``root``."""
    keys = path.split(".")
    node = root
    for i, key in enumerate(keys):
        last = i == len(keys) - 1
        done = ".".join(keys[:i])
        if isinstance(node.value, dict):
            if last:
                node.value[key] = _placed(value, mark)
                return
            if keys[i + 1] in SHORT.get(key, ()) and "objective" in node.value:
                _write_out(node, key, mark)
            if key not in node.value:
                # A stage's name may contain dots only through its parts, so a similar name is the best help.
                raise InputError(
                    f"'{done}' has no '{key}'" if done else f"there is no '{key}'",
                    str(mark),
                    did_you_mean(key, node.value),
                )
            node = node.value[key]
        elif isinstance(node.value, list):
            index = _index(node.value, key)
            if index is None:
                names = [
                    str(n.value["name"].value) for n in node.value if isinstance(n.value, dict) and "name" in n.value
                ]
                base, at, label = key.partition(SEPARATOR)
                hint = f"a variant's keys are below {done}.{base}.repeat.{label}" if at and base in names else None
                raise InputError(f"'{done}' has no entry '{key}'", str(mark), hint or did_you_mean(key, names))
            if last:
                node.value[index] = _placed(value, mark)
                return
            node = node.value[index]
        else:
            raise InputError(f"'{done}' is a plain value and has no '{key}'", str(mark))


def steps(node: Node | None, path: Iterable[str]) -> Iterator[tuple[str, Node | None]]:
    """Each word of a path below ``node``, entries of lists by their number, with what is there; None for nothing."""
    for word in path:
        value = None if node is None else node.value
        if isinstance(value, list):
            index = _index(value, word)
            word, node = (word, None) if index is None else (str(index), value[index])
        else:
            node = value.get(word) if isinstance(value, dict) else None
        yield word, node


def _write_out(stage: Node, key: str, mark: Mark) -> None:
    """Turn what is short for a mapping, or absent, into that mapping."""
    found = stage.value.get(key)
    if found is None:
        stage.value[key] = Node({}, mark)
    elif not isinstance(found.value, dict):
        stage.value[key] = Node({SHORT[key][0]: found}, found.mark, found.key)


def _index(nodes: list[Node], key: str) -> int | None:
    for i, node in enumerate(nodes):
        if isinstance(node.value, dict) and "name" in node.value and str(node.value["name"].value) == key:
            return i
    return int(key) if re.fullmatch("[0-9]{1,9}", key) and int(key) < len(nodes) else None


def _placed(value: Node, mark: Mark) -> Node:
    new = copy.deepcopy(value)
    new.key = value.key if value.mark.line and not value.mark.file.startswith("--set") else mark
    if new.mark.file.startswith("--set"):
        new.mark = mark
    return new
