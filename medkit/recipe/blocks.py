"""Blocks: one constructor call each, as data, and how they are built bottom-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medkit.errors import InputError
from medkit.guard import cause
from medkit.recipe.yaml import Mark
from medkit.registry import Entry
from medkit.registry.marks import Placed
from medkit.registry.promises import check_promises
from medkit.registry.schema import MISSING, Argument, schema_of

FOREIGN = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What constructors raise for arguments that they cannot take. Not RuntimeError: that is how a GPU runs short."""
Taken = Callable[[str, str], Any]
"""``taken(stage, part)``: the trained part of an earlier stage."""
Seeded = Callable[[str], None]
"""``seeded(path)``: called just before the component at ``path`` (``heads.seg``; the outermost is ``""``) is made."""


@dataclass(frozen=True)
class Making:
    """What components built together have in common: the data block and the stage that they are trained in."""

    taken: Taken | None = None
    seeded: Seeded | None = None
    data: Any = None
    stage: Any = None


@dataclass
class Reference:
    """``{from: stage.part}``: a part that an earlier stage has trained."""

    stage: str
    part: str
    keys: dict[str, Any] = field(default_factory=dict)
    mark: Mark = field(default=Mark("recipe"), compare=False)
    path: str = field(default="", compare=False)

    def plain(self) -> dict[str, Any]:
        return {"from": f"{self.stage}.{self.part}", **self.keys}


@dataclass
class Block:
    """``{use: name, ...}``: a component with its arguments; nested components are blocks themselves.

    ``keys`` are those of the slot the block sits in (``weight``), not the component's own.
    """

    entry: Entry
    arguments: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    mark: Mark = field(default=Mark("recipe"), compare=False)
    path: str = field(default="", compare=False)

    @property
    def kind(self) -> str:
        return self.entry.kind

    @property
    def name(self) -> str:
        return self.entry.full_name

    def plain(self) -> dict[str, Any]:
        """Plain data with the full name."""

        def convert(value: Any) -> Any:
            if isinstance(value, Block | Reference):
                return value.plain()
            if isinstance(value, Mapping):
                return {key: convert(item) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return [convert(item) for item in value]
            return value

        return {"use": self.name, **{k: convert(v) for k, v in self.arguments.items()}, **convert(self.keys)}

    def build(
        self,
        *,
        taken: Taken | None = None,
        seeded: Seeded | None = None,
        siblings: Mapping[str, Any] | None = None,
        contract: type | None = None,
        data: Any = None,
        stage: Any = None,
    ) -> Any:
        """Construct the component, its children first.

        Parameters
        ----------
        taken:
            Resolves ``{from: stage.part}``.
        seeded:
            Seeds the generators that each component draws its weights from.
        siblings:
            Parts that the parent has already built, for ``Given`` arguments.
        contract:
            The protocol that its place requires; default: that of its kind.
        data:
            The data block that it is trained on, for ``Given("data.classes")``.
        stage:
            The stage that it is trained in, for ``Given("stage.patch_sides")``.

        Raises
        ------
        InputError
            with the block's place, if an argument is wrong, a sibling that it needs is missing, or the component lacks
            what its kind promises.
        """
        return self._make(Making(taken, seeded, data, stage), "", siblings or {}, contract)

    def _make(self, making: Making, at: str, siblings: Mapping[str, Any], contract: type | None) -> Any:
        constructor = self.entry.load()
        schema = schema_of(constructor)
        built: dict[str, Any] = {}
        try:
            for name, argument in schema.arguments.items():
                if argument.given is not None:
                    found = self._given(argument, {"data": making.data, "stage": making.stage} | dict(siblings))
                    if found is not None:
                        built[name] = found
                elif name not in self.arguments:
                    continue
                elif argument.slot is not None:
                    place = f"{at}.{name}" if at else name
                    built[name] = self._children(argument, self.arguments[name], built, (making, place))
                else:
                    built[name] = schema.validate(name, self.arguments[name])
            if making.seeded is not None:
                making.seeded(at)
            component = constructor(**built)
            check_promises(component, self.kind, self.name, contract)
            return component
        except InputError as error:
            if error.where is not None:
                raise
            raise InputError(
                f"{self.path}: {error.what}" if self.path else error.what, str(self.mark), error.hint
            ) from error
        except FOREIGN as error:
            raise InputError(f"{self.path}: '{self.name}': {cause(error)}", str(self.mark)) from error

    def _given(self, argument: Argument, siblings: Mapping[str, Any]) -> Any:
        assert argument.given is not None
        root, *attributes = argument.given.path.split(".")
        if root not in siblings:
            if argument.default is not MISSING:
                return None
            raise InputError(f"'{self.name}' needs an {root} beside it")
        found = siblings[root]
        if found is None and argument.default is not MISSING:
            return None
        found = found.part if isinstance(found, Placed) else found
        for attribute in attributes:
            if not hasattr(found, attribute):
                if argument.default is not MISSING:
                    return None
                raise InputError(f"'{self.name}' needs the {attribute} of the {root}, and this {root} has none")
            found = getattr(found, attribute)
        return found

    def _children(self, argument: Argument, value: Any, built: Mapping[str, Any], place: tuple[Making, str]) -> Any:
        if value is None:
            return None
        making, at = place
        if argument.shape == "dict":
            return {name: _child(child, argument, built, (making, f"{at}.{name}")) for name, child in value.items()}
        if argument.shape == "list":
            return [_child(child, argument, built, (making, f"{at}.{i}")) for i, child in enumerate(value)]
        return _child(value, argument, built, place)


def _child(child: Block | Reference, argument: Argument, siblings: Mapping[str, Any], place: tuple[Making, str]) -> Any:
    assert argument.slot is not None
    making, at = place
    if isinstance(child, Reference):
        if making.taken is None:
            raise InputError(f"'{child.stage}.{child.part}' can only be taken inside a run", str(child.mark))
        part = making.taken(child.stage, child.part)
    else:
        part = child._make(making, at, siblings, argument.slot.contract)
    if not argument.slot.keys:
        return part
    return Placed(part, {**argument.slot.keys, **child.keys})
