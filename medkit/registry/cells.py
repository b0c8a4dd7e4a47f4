"""Parts that are written in a notebook: a class in a cell, registered by a decorator.

What is built and trained is not the object in the notebook but a file made of its text
(:mod:`medkit.registry.cell_source`): a single-file plugin, as ``--plugin`` takes it. The run keeps it, loads it again
and refuses it under the same rules. Its name ends in a digest of the text, so that a changed class is a different
part, and a recipe says which was trained.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import TypeVar

from medkit.errors import InputError, did_you_mean
from medkit.paths import cache_folder
from medkit.protocols import KINDS
from medkit.records import write_atomically
from medkit.registry import plugins
from medkit.registry.cell_source import text_of
from medkit.registry.schema import schema_of

DECORATOR = "part"
FOLDER = "cells"
Made = TypeVar("Made", bound=type)
_NAMES: dict[type, str] = {}
_PLUGIN_OF: dict[tuple[str, str], str] = {}
"""Kind and name of a part to the plugin that has its latest text."""


def part(kind: str, summary: str = "", *, name: str | None = None) -> Callable[[Made], Made]:
    """Make a class a part that recipes may use: ``@medkit.part("pretext")`` above it.

    A recipe in Python names it by the class itself, ``{"use": Turns}``, a file by its name, ``turns``. Run the cell
    again after a change: runs from then on use the new text, and earlier ones keep theirs in ``plugins/``.

    Parameters
    ----------
    kind:
        ``pretext``, ``loss``, ``metric`` and so on; ``medkit.protocols.KINDS`` has all.
    summary:
        One line about it; default: the first line of its docstring.
    name:
        What recipes call it; default: the name of the class in lower case, with ``_`` between words.

    Raises
    ------
    InputError
        if the kind is not known, or the class uses something in the notebook that cannot be written into a file.
    """
    if kind not in KINDS:
        raise InputError(f"'{kind}' is not a kind of component", hint=did_you_mean(kind, KINDS) or ", ".join(KINDS))

    def register(made: Made) -> Made:
        short = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", made.__name__).lower()
        line = summary or (made.__doc__ or made.__name__).strip().splitlines()[0].rstrip(".")
        _NAMES[made] = f"{_load(made, kind, short, line)}:{short}"
        return made

    return register


def name_of(made: type) -> str:
    """The full name under which a class is registered, in a cell or by a plugin.

    Raises
    ------
    InputError
        if it is not.
    """
    if made in _NAMES:
        return _NAMES[made]
    target = f"{made.__module__}:{made.__qualname__}"
    for entry in plugins.registry().entries.values():
        if entry.target == target:
            return entry.full_name
    raise InputError(f"the class '{made.__name__}' is not a registered part", hint="put @medkit.part(KIND) above it")


def _load(made: type, kind: str, short: str, line: str) -> str:
    """Register a class's text as a plugin of one file, unless this very text is; returns the plugin's name."""
    text = text_of(made, DECORATOR)
    stem = re.sub(r"\W", "_", short)
    plugin = f"{stem}_{hashlib.sha256(f'{kind} {line} {text}'.encode()).hexdigest()[:8]}"
    hook = (
        "\n\n@_hookimpl\ndef medkit_register(registry):\n"
        f"    registry.{kind}({short!r}, '{plugin}:{made.__name__}', {line!r})\n"
    )
    head = f'"""{made.__name__}, as it was written in a notebook, with what it uses of it."""\n\n'
    content = f"{head}from medkit.api import hookimpl as _hookimpl\n{text}{hook}"
    before = _PLUGIN_OF.get((kind, short))
    if before == plugin:
        return plugin
    path = cache_folder() / FOLDER / f"{plugin}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.encode())
    if plugin not in plugins.files():
        plugins.load_file(path)
    try:
        schema_of(plugins.registry().resolve(kind, f"{plugin}:{short}").load())
    except InputError:
        plugins.forget(plugin)
        raise
    if before is not None:
        plugins.forget(before)
    _PLUGIN_OF[kind, short] = plugin
    return plugin
