"""Finding and loading plugins, one guarded entry point at a time.

A plugin that raises or calls ``sys.exit()``, was made for another medkit or misspells a hook is left out entirely: one
line on stderr says so, ``medkit plugins why NAME`` shows the traceback, and every other plugin works. What it prints
while it is being loaded goes to stderr, and the current folder is kept. ``MEDKIT_PLUGINS=a,b`` loads only these
(empty: none), ``MEDKIT_STRICT=1`` raises instead.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

import medkit
from medkit.errors import InputError, RunError
from medkit.guard import PluginExit, cause, guarded, strict
from medkit.registry import hooks
from medkit.registry.table import Registrar, Registry

GROUP = "medkit.plugins"
DISTRIBUTION = "medkit-imaging"


@dataclass
class PluginInfo:
    """What is known about one plugin."""

    name: str
    distribution: str
    version: str
    ok: bool
    reason: str = ""
    traceback: str = ""
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class Plugins:
    """All plugins of a process: their components, their hooks and what went wrong."""

    registry: Registry
    manager: pluggy.PluginManager
    infos: list[PluginInfo]
    files: dict[str, bytes] = field(default_factory=dict)


def load(
    entry_points: Iterable[metadata.EntryPoint] | None = None, environ: Mapping[str, str] | None = None
) -> Plugins:
    """Load core's parts and every installed plugin (or the given entry points) into a fresh registry."""
    environ = os.environ if environ is None else environ
    manager = pluggy.PluginManager("medkit")
    manager.add_hookspecs(hooks)
    result = Plugins(Registry(), manager, [])
    core = importlib.import_module("medkit.registry.builtin")
    _register(result, "medkit", core, DISTRIBUTION, medkit.__version__)
    wanted = environ.get("MEDKIT_PLUGINS")
    only = None if wanted is None else {name.strip() for name in wanted.split(",") if name.strip()}
    found = metadata.entry_points(group=GROUP) if entry_points is None else entry_points
    points = sorted(found, key=lambda point: point.name)
    for name in sorted((only or set()) - {point.name for point in points}):
        hint = "install it, or leave it out of that variable"
        error = InputError(f"MEDKIT_PLUGINS names '{name}', which is not installed", hint=hint)
        _fail(result, name, "?", "?", error, environ)
    for point in points:
        if only is not None and point.name not in only:
            continue
        distribution = point.dist
        dist_name = distribution.name if distribution else "?"
        version = distribution.version if distribution else "?"
        try:
            if any(info.name == point.name and info.ok for info in result.infos):
                raise InputError(f"another installed package already provides a plugin named '{point.name}'")
            _check_version(distribution)
            with guarded():
                _register(result, point.name, point.load(), dist_name, version)
        except Exception as error:
            _fail(result, point.name, dist_name, version, error, environ)
    return result


def _check_version(distribution: metadata.Distribution | None) -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for text in (distribution.requires or []) if distribution else []:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) != DISTRIBUTION or (
            requirement.marker and not requirement.marker.evaluate()
        ):
            continue
        if not requirement.specifier.contains(medkit.__version__, prereleases=True):
            what = f"it needs {DISTRIBUTION}{requirement.specifier}, and this is {medkit.__version__}"
            raise InputError(what, hint="install a version of the plugin, or of medkit, that fits")


def _register(result: Plugins, name: str, module: Any, distribution: str, version: str) -> None:
    """Add one plugin's components and hooks, all of them or none."""
    fresh = Registry()
    if not hasattr(module, "medkit_register"):
        raise InputError("it has no function medkit_register(registry)", name, "mark one with medkit.api.hookimpl")
    checker = pluggy.PluginManager("medkit")
    checker.add_hookspecs(hooks)
    checker.register(module, name)
    checker.check_pending()
    checker.hook.medkit_register(registry=Registrar(fresh, name))
    result.manager.register(module, name)
    result.registry.entries.update(fresh.entries)
    counts = Counter(entry.kind for entry in fresh.entries.values())
    result.infos.append(PluginInfo(name, distribution, version, True, counts=dict(counts)))


def _fail(
    result: Plugins, name: str, distribution: str, version: str, error: Exception, environ: Mapping[str, str]
) -> None:
    if strict(environ):
        raise InputError(f"plugin '{name}' cannot be loaded: {error}", hint="unset MEDKIT_STRICT to go on") from error
    reason = str(error) if isinstance(error, InputError | PluginExit) else f"{type(error).__name__}: {error}"
    reason = " ".join(reason.split())[:300] or type(error).__name__
    text = "".join(traceback.format_exception(error))
    result.infos.append(PluginInfo(name, distribution, version, False, reason, text))
    result.registry.failed[name] = reason
    print(f"medkit: plugin '{name}' was left out: {reason} (medkit plugins why {name})", file=sys.stderr)


@functools.cache
def _loaded() -> Plugins:
    return load()


def registry() -> Registry:
    """The components of this process; plugins are loaded at the first call."""
    return _loaded().registry


def _to_stderr(text: str) -> None:
    print(f"medkit: {text}", file=sys.stderr)


class Hooks:
    """Asks the plugins' implementations of a hook, each guarded: one that raises loses only its own answer.

    The first fault of each is reported in one line (``tell``) that names plugin, hook and cause; it is asked again next
    time. ``MEDKIT_STRICT=1`` raises a :class:`RunError` instead, ``MEDKIT_TRACEBACK=1`` shows the traceback.
    """

    def __init__(self, tell: Callable[[str], None] = _to_stderr) -> None:
        self.tell = tell
        self._told: set[tuple[str, str]] = set()

    def __call__(self, hook: str, /, **arguments: Any) -> list[tuple[str, Any]]:
        """What each plugin answers to ``hook``, with its name; those that answer None are left out."""
        found = []
        for one in reversed(getattr(_loaded().manager.hook, hook).get_hookimpls()):
            try:
                if one.wrapper or one.hookwrapper:
                    raise TypeError("medkit's hooks have no wrappers")
                with guarded():
                    answer = one.function(**{name: _own(arguments[name]) for name in one.argnames})
            except Exception as error:
                if os.environ.get("MEDKIT_TRACEBACK"):
                    traceback.print_exception(error)
                self.fault(one.plugin_name, hook, cause(error), error)
            else:
                if answer is not None:
                    found.append((one.plugin_name, answer))
        return found

    def fault(self, plugin: str, hook: str, what: str, error: Exception | None = None) -> None:
        """Report that a plugin's hook has failed, or has answered something unusable."""
        if strict(os.environ):
            hint = "unset MEDKIT_STRICT to go on without it"
            raise RunError(f"{hook} of plugin '{plugin}' failed: {what}", hint=hint) from error
        if (plugin, hook) not in self._told:
            self._told.add((plugin, hook))
            self.tell(f"warning: {hook} of plugin '{plugin}' failed, and medkit goes on without it: {what}")


def _own(value: Any) -> Any:
    """A mapping's copy, which a plugin may change without changing anybody else's numbers."""
    return dict(value) if isinstance(value, Mapping) else value


def plugins() -> list[PluginInfo]:
    """Every plugin found, in the order of loading, core first."""
    return list(_loaded().infos)


def load_file(path: str | Path) -> str:
    """Add the plugin in one Python file (``medkit run --plugin ./my_head.py``); returns its name, the file's stem.

    The file holds a ``medkit_register`` hook whose targets are ``"my_head:Class"``.

    Raises
    ------
    InputError
        if there is no such file, its name clashes with an installed module or plugin, or it cannot be loaded.
    """
    path = Path(path)
    name = path.stem
    if path.suffix != ".py" or not path.is_file():
        raise InputError("a plugin under development is one Python file, and this is not one", str(path))
    if not name.isidentifier():
        raise InputError(f"'{name}' is not a Python name", str(path), "rename the file")
    result = _loaded()
    if any(info.name == name and info.ok for info in result.infos):
        raise InputError(f"a plugin named '{name}' is already loaded", str(path), "rename the file")
    # If the current folder is on the path (``python -m medkit``), the file itself is what is found.
    found = None if name in sys.modules else importlib.util.find_spec(name)
    same = found is not None and found.origin is not None and Path(found.origin).resolve().parent in _homes(path)
    if name in sys.modules or (found is not None and not same):
        raise InputError(f"'{name}' is the name of an installed module", str(path), "rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    content = path.read_bytes()
    try:
        with guarded():
            # These very bytes, which a run keeps, and not what a bytecode cache has for the file.
            exec(compile(content, str(path), "exec"), vars(module))
            _register(result, name, module, str(path), "file")
    except Exception as error:
        del sys.modules[name]
        if isinstance(error, InputError):
            raise InputError(error.what, str(path), error.hint) from error
        if isinstance(error, PluginExit):
            raise InputError(f"the plugin cannot be loaded: {cause(error)}", str(path)) from error
        raise InputError(f"the plugin raised {cause(error)}", str(path)) from error
    result.files[name] = content
    return name


def forget(name: str) -> None:
    """Take back a plugin that :func:`load_file` has added, such as one whose text has changed."""
    result = _loaded()
    del result.files[name]
    sys.modules.pop(name, None)
    result.manager.unregister(name=name)
    result.infos[:] = [info for info in result.infos if info.name != name]
    for key in [key for key, entry in result.registry.entries.items() if entry.plugin == name]:
        del result.registry.entries[key]


def _homes(path: Path) -> set[Path]:
    """Folders in which a module of a plugin file's name is that file, or the one that it was copied from."""
    return {path.resolve().parent, Path.cwd()}


def files() -> dict[str, bytes]:
    """The plugins loaded from single files, by name, with the bytes that were run."""
    return dict(_loaded().files)


def freeze() -> list[str]:
    """Requirement lines that install the plugins now loaded."""
    return sorted({f"{i.distribution}=={i.version}" for i in plugins() if i.ok and i.version not in ("?", "file")})
