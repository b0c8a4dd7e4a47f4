"""Who is told about a run besides medkit itself: the trackers that a user names, and the listeners of plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medkit.errors import InputError, Problems
from medkit.protocols.events import Listener
from medkit.recipe.blocks import Block
from medkit.recipe.pieces import Pieces
from medkit.recipe.yaml import Node, from_python, parse
from medkit.registry.plugins import Hooks, registry
from medkit.registry.promises import Object, faults
from medkit.registry.static import static_schema
from medkit.runs.handle import Run

Track = str | Mapping[str, Any]
"""A tracker by its name, or with settings: ``{"use": "mlflow", "every": 10}``, also as text."""
HOOK = "medkit_listeners"
SHOWN = ("image", "mask", "mask_probability", "target", "output", "reconstruction")
"""Pictures of an example that listeners are given: (H,W) in [0,1]."""


def read_trackers(given: Sequence[Track]) -> list[Block]:
    """Check trackers in the way the components of a recipe are checked; of two with the same name the last one counts.

    Raises
    ------
    InputError
        with every mistake found.
    """
    pieces = Pieces(registry(), static_schema)
    found = {}
    for one in given:
        block = pieces.block(_node(one), "tracker", "")
        if isinstance(block, Block):
            found[block.name] = block
        elif block is not None:
            raise InputError("a tracker cannot be a part of a recipe", "--track", "'medkit list tracker' shows all")
    if pieces.problems:
        raise Problems(pieces.problems)
    return list(found.values())


def _node(one: Track) -> Node:
    if isinstance(one, str):
        return parse(one, "--track") if one.lstrip().startswith("{") else from_python(one, "--track")
    return from_python(dict(one), "--track")


class Trackers:
    """The trackers of a run, built before it writes anything, so that what one lacks is reported then.

    Raises
    ------
    InputError
        if there is no such tracker, its settings are wrong, or it lacks what it needs.
    """

    def __init__(self, given: Sequence[Track]) -> None:
        self.blocks = read_trackers(given)
        self.listeners: list[tuple[str, Any]] = [(f"tracker '{block.name}'", block.build()) for block in self.blocks]
        """Each with the name that a warning calls it by."""

    def plain(self) -> list[dict[str, Any]]:
        """What makes the same trackers again when the run is continued."""
        return [block.plain() for block in self.blocks]


def listeners_of_plugins(hooks: Hooks, run: Run) -> list[tuple[str, Any]]:
    """The listeners that plugins have for every run; what is not a listener is reported and left out."""
    found = []
    for plugin, listeners in hooks(HOOK, run=run):
        if not isinstance(listeners, list | tuple):
            hooks.fault(plugin, HOOK, f"it answered {listeners!r:.80}, not a list of listeners")
            continue
        for listener in listeners:
            if lacking := list(faults(Object(listener), Listener)):
                hooks.fault(plugin, HOOK, f"{listener!r:.80} {' and '.join(lacking)}")
            else:
                found.append((f"plugin '{plugin}'", listener))
    return found


def pictures(examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The pictures of a split's examples, by number and what they show, without the names of their cases."""
    return {
        f"{i}/{key}": np.asarray(example[key], dtype=np.float32)
        for i, example in enumerate(examples, start=1)
        for key in SHOWN
        if key in example
    }
