"""YAML 1.2 with the place of every value: ``1e-4`` is a number, ``on`` is a string, a key written twice an error."""

from __future__ import annotations

import copy
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medkit.errors import InputError, Problems, did_you_mean

INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
ENV = re.compile(r"\$\{([^}]*)\}")
STANDARD_TAGS = ("str", "int", "float", "bool", "null", "seq", "map", "timestamp", "merge", "value", "binary")


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
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the recipe cannot be read: {error}", name) from error
    return parse(text, name)


def parse(text: str, name: str) -> Node:
    """Parse YAML text; every problem found is told at once."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise InputError(f"not valid YAML: {error.problem}", where) from None
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {error}", name) from None
    if root is None:
        raise InputError("the file is empty", name)
    problems: list[InputError] = []
    node = _convert(root, name, problems)
    if problems:
        raise Problems(problems)
    return node


def _convert(node: yaml.Node, name: str, problems: list[InputError]) -> Node:
    mark = Mark(name, node.start_mark.line + 1, node.start_mark.column + 1)
    if node.tag and not (node.tag.startswith("tag:yaml.org,2002:") and node.tag.rsplit(":", 1)[1] in STANDARD_TAGS):
        problems.append(InputError(f"the tag '{node.tag}' is not allowed", str(mark), "a recipe is plain data"))
        return Node(None, mark)
    if isinstance(node, yaml.SequenceNode):
        return Node([_convert(child, name, problems) for child in node.value], mark)
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Node] = {}
        for key_node, child in node.value:
            place = Mark(name, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key == "<<":
                what = "merge keys are not allowed" if key else "a key must be a word"
                problems.append(InputError(what, str(place), "write the keys out"))
                continue
            if key in found:
                problems.append(
                    InputError(f"'{key}' is written twice", str(place), f"first at line {found[key].place.line}")
                )
                continue
            found[key] = _convert(child, name, problems)
            found[key].key = place
        return Node(found, mark)
    assert isinstance(node, yaml.ScalarNode)
    if node.style is not None:
        return Node(_expand(node.value, mark, problems), mark)
    return Node(_expand(scalar(node.value), mark, problems), mark)


def scalar(text: str) -> Any:
    """A plain scalar by the core schema of YAML 1.2."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    if match := SPECIAL.fullmatch(text):
        return float("nan") if match.group(3) else float(match.group(1) + "inf")
    return text


def _expand(value: Any, mark: Mark, problems: list[InputError]) -> Any:
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        found = os.environ.get(match.group(1))
        if found is None:
            problems.append(
                InputError(f"the environment variable {match.group(1)} is not set", str(mark), "export it first")
            )
            return ""
        return found

    return ENV.sub(replace, value)


def from_python(value: Any, name: str = "recipe") -> Node:
    """A node tree of Python data, for recipes built in code."""
    mark = Mark(name)
    if isinstance(value, dict):
        return Node({str(key): from_python(child, name) for key, child in value.items()}, mark)
    if isinstance(value, list | tuple):
        return Node([from_python(child, name) for child in value], mark)
    return Node(value, mark)


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
            if key not in node.value:
                # A stage's name may hold dots of its own only through its parts, so a near word is the best help.
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
                raise InputError(f"'{done}' has no entry '{key}'", str(mark), did_you_mean(key, names))
            if last:
                node.value[index] = _placed(value, mark)
                return
            node = node.value[index]
        else:
            raise InputError(f"'{done}' is a plain value and has no '{key}'", str(mark))


def _index(nodes: list[Node], key: str) -> int | None:
    for i, node in enumerate(nodes):
        if isinstance(node.value, dict) and "name" in node.value and str(node.value["name"].value) == key:
            return i
    return int(key) if key.isdigit() and int(key) < len(nodes) else None


def _placed(value: Node, mark: Mark) -> Node:
    new = copy.deepcopy(value)
    new.key = value.key if value.mark.line and not value.mark.file.startswith("--set") else mark
    if new.mark.file.startswith("--set"):
        new.mark = mark
    return new
