"""What a name in a module's source stands for, found without importing the module.

Only what the text settles is answered: a name bound once at the top of its module, to a class, a function, a value or
an import. Everything else (bound twice, in a branch, by a star, by another distribution's module) is :class:`Unsure`,
and the caller imports the component instead.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TRIVIAL_BASES = frozenset({"builtins.object", "typing.Protocol", "typing.Generic", "abc.ABC"})
MODULE = "torch.nn.Module"
_SAME = {"torch.nn.modules.module.Module": MODULE, "torch.nn.modules.Module": MODULE, "typing_extensions.": "typing."}


class Unsure(Exception):
    """The source alone does not say."""


@dataclass(frozen=True)
class Found:
    """What a name stands for: ``node`` (a class, a function or an expression) in ``source``, or a ``foreign`` name."""

    node: ast.ClassDef | ast.FunctionDef | ast.expr | None = None
    source: Source | None = None
    foreign: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """The same for the same thing."""
        return self.foreign or (self.source.name if self.source else ""), getattr(self.node, "lineno", 0)


class Source:
    """The text of one module. ``own`` are top-level packages whose sources may be read too."""

    def __init__(self, name: str, path: Path, own: frozenset[str]) -> None:
        self.name, self.path, self.own = name, path, own
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError) as error:
            raise Unsure(str(error)) from error
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self._bound: dict[str, list[ast.stmt]] = {}
        self._rebound: set[str] = set()  # bound somewhere in a branch, or deleted
        self._touched: set[str] = set()  # passed to a call, or given attributes
        self._open = False
        for statement in tree.body:
            self._read(statement)

    def _read(self, statement: ast.stmt) -> None:
        match statement:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                self._bind(statement.name, statement)
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    if alias.name == "*":
                        self._open = True
                    else:
                        whole = isinstance(statement, ast.Import) and alias.asname is None
                        self._bind(
                            alias.name.split(".")[0] if whole else alias.asname or alias.name,
                            type(statement)(**{**vars(statement), "names": [alias]}),
                        )
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if statement.value is not None:
                    self._bind(name, statement)
            case ast.Expr(value=ast.Constant()):
                pass
            case _:
                self._uncertain(statement)

    def _uncertain(self, statement: ast.stmt) -> None:
        """Note what a branch, a loop, a call or an assignment to an attribute may bind or change."""
        for node in ast.walk(statement):
            match node:
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                    self._rebound.add(name)
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    self._rebound.add(name)
                case ast.alias():
                    self._open |= node.name == "*"
                    self._rebound.add((node.asname or node.name).split(".")[0])
                case ast.Name(id=name):
                    self._touched.add(name)

    def _bind(self, name: str, statement: ast.stmt) -> None:
        self._bound.setdefault(name, []).append(statement)

    def find(self, expression: ast.expr) -> Found:
        """What a name, dotted or not, stands for."""
        if isinstance(expression, ast.Attribute):
            outer = self.find(expression.value)
            if not outer.foreign:
                raise Unsure(f"an attribute of {outer.key}")
            return _dotted(f"{outer.foreign}.{expression.attr}", self.own)
        if isinstance(expression, ast.Name):
            return self.named(expression.id)
        raise Unsure(ast.dump(expression))

    def named(self, name: str) -> Found:
        """What a name at the top of the module stands for."""
        statements = self._bound.get(name, [])
        if name in self._rebound or len(statements) > 1:
            raise Unsure(f"{name} is bound twice, or in a branch")
        if not statements:
            if hasattr(builtins, name) and not self._open:
                return Found(foreign=f"builtins.{name}")
            raise Unsure(f"{name} is not bound in {self.name}")
        statement = statements[0]
        match statement:
            case ast.ClassDef() | ast.FunctionDef():
                if name in self._touched:
                    raise Unsure(f"{name} may be changed after its definition")
                return Found(statement, self)
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                return self.find(value) if isinstance(value, ast.Name | ast.Attribute) else Found(value, self)
            case ast.Import(names=[alias]):
                return Found(foreign=alias.name if alias.asname else name)
            case ast.ImportFrom(module=module, level=level, names=[alias]):
                return _dotted(f"{self._absolute(module, level)}.{alias.name}", self.own)
        raise Unsure(f"{name} is bound by {type(statement).__name__}")

    def _absolute(self, module: str | None, level: int) -> str:
        if not level:
            return module or ""
        parts = self.package.split(".")
        return ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])


def _dotted(name: str, own: frozenset[str]) -> Found:
    """A dotted name: followed into the packages of ``own``, else foreign."""
    if name.split(".")[0] not in own:
        for start, same in _SAME.items():
            name = same + name.removeprefix(start) if name.startswith(start) else name
        return Found(foreign=name)
    module, _, attribute = name.rpartition(".")
    if _path(name) is not None:
        return Found(foreign=name)  # a module itself
    return source(module, own).named(attribute)


def source(module: str, own: frozenset[str] = frozenset()) -> Source:
    """The source of a module; medkit's and its own top-level package's may be read with it.

    Raises
    ------
    Unsure
        if it has none that can be read.
    """
    return _source(module, own | {"medkit", module.split(".")[0]})


@functools.cache
def _source(module: str, own: frozenset[str]) -> Source:
    path = _path(module)
    if path is None:
        raise Unsure(f"no source of {module}")
    return Source(module, path, own)


@functools.cache
def _path(module: str) -> Path | None:
    """The file of a module, found without importing the packages above it."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    if not inner:
        return Path(spec.origin)
    if spec.submodule_search_locations is None:
        return None
    for root in spec.submodule_search_locations:
        place = Path(root, *inner)
        for path in (place.with_name(place.name + ".py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


def is_standard(name: str) -> bool:
    """True if a foreign name belongs to Python itself."""
    return name.split(".")[0] in sys.stdlib_module_names


def lineage(found: Found) -> list[Found]:
    """A class and its bases in the order in which Python looks up an attribute; trivial bases are left out.

    Raises
    ------
    Unsure
        if a base or a decorator is one that this reading does not know, or there is a metaclass.
    """
    if found.foreign == MODULE:
        return [found]
    if not isinstance(found.node, ast.ClassDef) or found.source is None:
        raise Unsure(f"{found.key} is not a class")
    if found.node.keywords or getattr(found.node, "type_params", None):
        raise Unsure(f"{found.node.name} has a metaclass, or is generic")
    for decorator in found.node.decorator_list:
        if decorator_name(found.source, decorator) not in ("dataclasses.dataclass", "typing.runtime_checkable"):
            raise Unsure(f"{found.node.name} is decorated")
    bases = [found.source.find(b.value if isinstance(b, ast.Subscript) else b) for b in found.node.bases]
    kept = [base for base in bases if base.foreign not in TRIVIAL_BASES]
    return [found, *_merge([*map(lineage, kept), kept])]


def decorator_name(source: Source, decorator: ast.expr) -> str:
    """The foreign name of a decorator, called or not; empty for one of ours."""
    return source.find(decorator.func if isinstance(decorator, ast.Call) else decorator).foreign


def _merge(sequences: list[list[Found]]) -> Iterator[Found]:
    """Python's own linearisation (C3)."""
    keyed = [[(item.key, item) for item in sequence] for sequence in sequences]
    while keyed := [sequence for sequence in keyed if sequence]:
        for sequence in keyed:
            key, item = sequence[0]
            if not any(key == other for rest in keyed for other, _ in rest[1:]):
                break
        else:
            raise Unsure("these bases have no order")
        yield item
        keyed = [[pair for pair in sequence if pair[0] != key] for sequence in keyed]
