"""The two readings of a constructor, from source and from the class, agree for every way of writing one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medkit.errors import InputError
from medkit.registry import Entry
from medkit.registry.schema import Schema, schema_of
from medkit.registry.source_text import Unsure
from medkit.registry.static import _from_source, static_schema

OTHER = """
from typing import Annotated
from torch import nn
from medkit.api import Given
Levels = Annotated[tuple[int, ...], Given("encoder.strides")]
class Helper(nn.Module):
    '''Stands in another distribution's module.'''
    def __init__(self, a: int = 1) -> None:
        super().__init__()
"""
ZOO = """
import abc
import dataclasses
import enum
import functools
import typing as t
from dataclasses import KW_ONLY, InitVar, dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

import medkit.registry.marks as m
from medkit import api
from medkit.api import Channels as Pyramid, Slot
from medkit.parts.losses import Dice, BCE
from OTHER import Helper, Levels

LARGEST = 7
Size = Annotated[int, Field(gt=0, le=LARGEST)]

class Inherited(Dice):
    '''d'''

class Twice(Inherited):
    '''d'''

class Own(Dice):
    '''d'''
    def __init__(self, extra: Size = 2, *, smooth: "float" = 0.5) -> None:
        super().__init__(smooth)

class Abstract(abc.ABC):
    '''d'''
    def __init__(self, a: int) -> None: ...

class Mixin:
    '''d'''
    def __init__(self, mixed: str = "m") -> None: ...

class Diamond(Mixin, Abstract):
    '''d'''

@dataclasses.dataclass
class Dotted:
    '''d'''
    width: int = 3

@dataclass(eq=False, kw_only=True)
class Called(Dotted):
    '''d'''
    width: float
    height: Size = LARGEST

@dataclass
class Fields:
    '''d'''
    count: ClassVar[int] = 1
    width: int = field(default=3)
    made: list[int] = field(init=False, default_factory=list)
    hidden: int = field(init=False, default=5)
    lists: list[int] = field(default_factory=list)
    _: KW_ONLY
    z: int = 4

@dataclass
class Hidden(Dotted):
    '''d'''
    width: int = field(init=False, default=1)
    depth: int | None = None

@dataclass
class Init:
    '''d'''
    seed: InitVar[int]
    width: int = 1

@dataclass(init=False)
class NoInit:
    '''d'''
    width: int = 1

class Plain(Dotted):
    '''d'''
    ignored: int = 9

class Head(nn.Module):
    '''d'''
    def __init__(self, channels: Pyramid, levels: Levels, strides: m.Strides, more: api.Channels, hidden: int = 4) -> None:
        super().__init__()

class Nested(nn.Module):
    '''d'''
    def __init__(self, inner: Annotated[nn.Module | None, Slot("loss", weight=1.0)] = None,
                 many: Annotated[t.Sequence[m.Placed], m.Slot("loss")] = (), path: Path | None = None) -> None:
        super().__init__()

class Linear(nn.Linear):
    '''d'''
    def __init__(self, width: int) -> None:
        super().__init__(width, width)

class Mode(enum.Enum):
    A = "a"

class WithEnum(nn.Module):
    '''d'''
    def __init__(self, mode: Mode = Mode.A, kind: Literal["x", "y"] = "x") -> None:
        super().__init__()

class Meta(type):
    def __call__(cls, *a, **k): return super().__call__(*a, **k)

class WithMeta(metaclass=Meta):
    '''d'''
    def __init__(self, a: int = 1) -> None: ...

def wrapped(cls):
    '''Gives a class another constructor.'''
    def __init__(self, other: int = 1) -> None: ...
    cls.__init__ = __init__
    return cls

@wrapped
class Decorated:
    '''d'''
    def __init__(self, a: int = 1) -> None: ...

class Late:
    '''d'''
    def __init__(self, a: int = 1) -> None: ...

def _late(self, later: int = 1) -> None: ...
Late.__init__ = _late

class Assigned:
    '''d'''
    __init__ = _late

if LARGEST > 3:
    class Branch:
        '''d'''
        def __init__(self, yes: int = 1) -> None: ...
else:
    class Branch:
        '''d'''
        def __init__(self, no: int = 1) -> None: ...

class Outer:
    class Inner:
        '''d'''
        def __init__(self, a: int = 1) -> None: ...

def factory(width: int = 3) -> nn.Module:
    '''d'''
    return nn.Conv2d(1, width, 3)

@functools.cache
def cached(width: int = 3) -> int:
    '''d'''
    return width

Alias = Own
BCE2 = BCE
partly = functools.partial(factory, width=2)
"""
NAMES = [
    *("Inherited", "Twice", "Own", "Abstract", "Mixin", "Diamond", "Dotted", "Called", "Fields", "Hidden", "Init"),
    *("NoInit", "Plain", "Head", "Nested", "Linear", "WithEnum", "WithMeta", "Decorated", "Late", "Assigned", "Branch"),
    *("Outer.Inner", "factory", "cached", "Alias", "BCE2", "Helper", "Dice", "partly"),
]
LOOSE = """
class Stars:
    '''d'''
    def __init__(self, *sizes: int) -> None: ...

class Keywords:
    '''d'''
    def __init__(self, a: int = 1, **options: int) -> None: ...

class ByPosition:
    '''d'''
    def __init__(self, a: int, /) -> None: ...

class Bare:
    '''d'''
    def __init__(self, a=1) -> None: ...

class Misspelt:
    '''d'''
    def __init__(self, a: itn = 1) -> None: ...
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory):
    """Modules of constructors written in many ways; the function gives an entry of one of them."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "zoo_other.py").write_text(OTHER)
    (folder / "zoo_main.py").write_text(ZOO.replace("OTHER", "zoo_other"))
    (folder / "zoo_later.py").write_text("from __future__ import annotations\n" + ZOO.replace("OTHER", "zoo_other"))
    (folder / "zoo_loose.py").write_text("from __future__ import annotations\n" + LOOSE)
    sys.path.insert(0, str(folder))
    yield lambda module, name: Entry("loss", "zoo", name, f"{module}:{name}", "")
    sys.path.remove(str(folder))


def told(schema: Schema) -> dict[str, tuple[object, ...]]:
    return {
        name: (a.required, a.given, a.shape, a.optional, a.type_name(), a.slot and (a.slot.kind, dict(a.slot.keys)))
        for name, a in schema.arguments.items()
    }


@pytest.mark.parametrize("module", ["zoo_main", "zoo_later"])
@pytest.mark.parametrize("name", NAMES)
def test_source_and_class_tell_the_same_arguments(zoo, module, name):
    entry = zoo(module, name)
    assert told(static_schema(entry)) == told(schema_of(entry.load()))


@pytest.mark.parametrize("name", ["Inherited", "Own", "Diamond", "Dotted", "Hidden", "Plain", "Nested", "factory"])
def test_ordinary_constructors_are_read_without_an_import(zoo, name):
    _from_source(zoo("zoo_main", name).target)


@pytest.mark.parametrize("name", ["Called", "WithMeta", "Decorated", "Late", "Assigned", "Branch", "Head", "partly"])
def test_what_the_text_does_not_settle_is_asked_of_the_class(zoo, name):
    with pytest.raises(Unsure):
        _from_source(zoo("zoo_main", name).target)


@pytest.mark.parametrize("name", ["Stars", "Keywords", "ByPosition", "Bare", "Misspelt"])
def test_a_constructor_that_is_no_schema_is_refused_by_both_readings(zoo, name):
    entry = zoo("zoo_loose", name)
    with pytest.raises(InputError) as static:
        static_schema(entry)
    with pytest.raises(InputError) as true:
        schema_of(entry.load())
    assert static.value.what == true.value.what


def test_a_recipe_gives_a_subclass_the_arguments_that_it_inherits(tmp_path: Path, zoo):
    assert static_schema(zoo("zoo_main", "Inherited")).validate("smooth", 1) == 1.0
    with pytest.raises(InputError, match="-1"):
        static_schema(zoo("zoo_main", "Inherited")).validate("smooth", -1)


def test_an_enumeration_in_a_recipe_is_kept_as_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from medkit.recipe.pieces import Pieces
    from medkit.recipe.yaml import from_python
    from medkit.registry import Registry

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "enum_part.py").write_text(
        "import enum\nclass Mode(enum.Enum):\n    FAST = 'fast'\n"
        "class Part:\n    '''d'''\n    def __init__(self, mode: Mode) -> None:\n        self.mode = mode\n"
        "    def rate(self, lr, epoch, epochs):\n        return lr\n"
    )
    registry = Registry()
    registry.add(Entry("schedule", "mine", "part", "enum_part:Part", ""))
    pieces = Pieces(registry, static_schema)
    block = pieces.block(from_python({"use": "part", "mode": "fast"}), "schedule", "here")
    assert not pieces.problems
    assert block.plain() == {"use": "mine:part", "mode": "fast"}
    pieces.block(from_python({"use": "part", "mode": "slow"}), "schedule", "here")
    assert "'slow' is not Mode" in str(pieces.problems[0])
