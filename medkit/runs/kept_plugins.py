"""Single-file plugins (``--plugin FILE``): kept with the run that used them, and loaded from there later.

A run folder is data, and may come from anybody: a file in it is run only if it is byte for byte what this user has
given to ``--plugin`` for an earlier run (its digest is noted in the cache folder). Everything else is refused, with
what to type.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medkit.errors import InputError
from medkit.paths import cache_folder
from medkit.records import write_atomically
from medkit.registry import plugins as plugin

FOLDER = "plugins"


def keep_plugins(folder: Path) -> dict[str, str]:
    """Copy the plugin files now loaded into ``folder/plugins``; returns the SHA-256 digest of each by name."""
    found = {}
    for name, content in plugin.files().items():
        (folder / FOLDER).mkdir(exist_ok=True)
        write_atomically(folder / FOLDER / f"{name}.py", content)
        found[name] = digest(content)
        _note(found[name])
    return found


def load_kept(folder: Path, environment: Mapping[str, Any]) -> None:
    """Load the plugin files that a run was made with, unless they are already loaded.

    Raises
    ------
    InputError
        if a file is missing, was edited, or has never been used by this user; it says which ``--plugin`` to give.
    """
    wanted = environment.get("plugin_files")
    for name, then in (wanted if isinstance(wanted, Mapping) else {}).items():
        path = folder / FOLDER / f"{name}.py"
        given = plugin.files().get(name)
        if given is not None:
            if digest(given) != then:
                text = f"medkit: the plugin file '{name}' is not the one that the run was made with"
                print(f"{text} (SHA-256 {digest(given)[:12]}, then {then[:12]})", file=sys.stderr)
            continue
        if any(info.name == name and info.ok for info in plugin.plugins()):
            print(f"medkit: the plugin '{name}' is an installed one; the run was made with {path}", file=sys.stderr)
            continue
        made = f"the run was made with the plugin file {name}.py (SHA-256 {str(then)[:12]})"
        if not path.is_file():
            raise InputError(f"{made}, which is not there", str(path), f"restore it, or give --plugin {name}.py")
        now = digest(path.read_bytes())
        if now != then:
            hint = f"restore it, or give --plugin {path} to use it as it is"
            raise InputError(f"{made}, and the file has been edited since (now {now[:12]})", str(path), hint)
        if now not in _noted():
            hint = f"a run folder's code is not run unasked: look at it, then give --plugin {path}"
            raise InputError(f"{made}, which was never used here", str(path), hint)
        plugin.load_file(path)


def digest(content: bytes) -> str:
    """SHA-256, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _list() -> Path:
    return cache_folder() / "plugin_files.txt"


def _noted() -> set[str]:
    """Digests of the files that this user has given to ``--plugin``."""
    try:
        return set(_list().read_text(encoding="utf-8").split())
    except OSError:
        return set()


def _note(text: str) -> None:
    if text in _noted():
        return
    with contextlib.suppress(OSError):  # then --plugin has to be given again
        _list().parent.mkdir(parents=True, exist_ok=True)
        with _list().open("a", encoding="utf-8") as file:
            file.write(text + "\n")
