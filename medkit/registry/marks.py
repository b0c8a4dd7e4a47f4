"""Marks for constructor annotations: what the parent fills in, what is itself a component, and what names a file.

A constructor's signature is its recipe schema. Three kinds of argument need more than a type:

``Given``
    filled by the parent while it builds its children, never written in a recipe::

        def __init__(self, channels: Channels, hidden: int = 256): ...

``Slot``
    an argument that is itself a component (or a list or mapping of components)::

        def __init__(
            self,
            encoder: Annotated[nn.Module, Slot("encoder")],
            heads: Annotated[dict[str, Placed], Slot("pretext", weight=1.0)],
        ): ...

``Path``, or ``File`` on a text
    an argument that names a file or folder: a relative one in a recipe starts at the recipe's own folder::

        def __init__(self, path: Path, weights: Annotated[str, File("hub:")] | None = None): ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any


@dataclass(frozen=True)
class Given:
    """An argument taken from a sibling built earlier: ``Given("encoder.channels")`` is its attribute path.

    ``data`` is the data block that the component is trained on, ``stage`` the stage of the recipe.
    """

    path: str


class Slot:
    """An argument that is a component of ``kind``.

    Keyword arguments name extra keys that a recipe may write beside ``use:``, with their default values (whose
    types are their types). A slot with extra keys gives its parent :class:`Placed` objects instead of bare parts.
    ``contract`` is the protocol that the component has to keep in this place, such as ``TieLoss``; default: its kind's.
    """

    def __init__(self, kind: str, contract: type | None = None, /, **keys: Any) -> None:
        self.kind, self.contract = kind, contract
        self.keys: Mapping[str, Any] = keys

    def __repr__(self) -> str:
        contract = f", {self.contract.__name__}" if self.contract is not None else ""
        extra = "".join(f", {name}={value!r}" for name, value in self.keys.items())
        return f"Slot({self.kind!r}{contract}{extra})"


@dataclass(frozen=True)
class Placed:
    """A built part together with the keys of the slot it sits in, such as ``placed["weight"]``."""

    part: Any
    keys: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.keys[key]


@dataclass(frozen=True, init=False)
class File:
    """A text that names a file or folder, unless it begins with one of ``but``, such as ``hub:``."""

    but: tuple[str, ...]

    def __init__(self, *but: str) -> None:
        object.__setattr__(self, "but", but)


Channels = Annotated[tuple[int, ...], Given("encoder.channels")]
"""Channels of the encoder's feature pyramid, shallow to deep."""

Strides = Annotated[tuple[int, ...], Given("encoder.strides")]
"""Strides of the encoder's feature pyramid with respect to its input, shallow to deep."""

Strides3d = Annotated[tuple[tuple[int, int, int], ...], Given("encoder.strides")]
"""Strides (depth, height, width) of the pyramid of an encoder of volumes, shallow to deep."""

PatchSize = Annotated[Any, Given("stage.patch_sides")]
"""Depth, height and width of the patches of volumes that the stage trains on; give it the default None."""

MaskClasses = Annotated[Any, Given("data.classes")]
"""The classes of the data block's masks (:class:`medkit.protocols.classes.Classes`), or None if they have none; give
it the default None."""

CaseLabels = Annotated[Any, Given("data.labels")]
"""The labels that the data block declares (:class:`medkit.protocols.labels.Labels`), or None if it declares none;
give it the default None."""

Weights = Annotated[str, File("hub:", "random_test_features")]
"""A file of weights, or ``hub:NAME``, or the name of the untrained features for tests."""
