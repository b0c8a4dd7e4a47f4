"""The table of components: kind and name to a lazy ``module:attribute`` string.

Registering imports nothing; only building a component, or asking for its schema, imports its module.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from medkit.errors import InputError, did_you_mean
from medkit.guard import cause, guarded
from medkit.protocols import KINDS

NAME = re.compile(r"\w[\w.+-]*")
"""Names of plugins and of their components: a full name is one of each with a colon between them."""


@dataclass(frozen=True)
class Entry:
    """One registered component: ``target`` is ``package.module:Attribute``."""

    kind: str
    plugin: str
    name: str
    target: str
    summary: str

    @property
    def full_name(self) -> str:
        return f"{self.plugin}:{self.name}"

    def load(self) -> Any:
        """Import the component's module and return its constructor."""
        module, _, attribute = self.target.partition(":")
        try:
            with guarded():
                found = importlib.import_module(module)
        except Exception as error:
            what = str(error) if isinstance(error, ImportError) else cause(error)
            hint = (
                f"is everything that plugin '{self.plugin}' needs installed?"
                if isinstance(error, ImportError)
                else None
            )
            raise InputError(
                f"{self.kind} '{self.full_name}' cannot be imported from '{self.target}': {what}", hint=hint
            ) from error
        try:
            return functools.reduce(getattr, attribute.split("."), found)
        except AttributeError as error:
            hint = did_you_mean(attribute, [name for name in vars(found) if not name.startswith("_")])
            raise InputError(
                f"{self.kind} '{self.full_name}' cannot be imported from '{self.target}': {error}", hint=hint
            ) from error


@dataclass
class Registry:
    """All components known to this process, by kind and full name (``plugin:name``)."""

    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        if entry.kind not in KINDS:
            raise InputError(f"'{entry.kind}' is not a kind of component", entry.plugin, f"kinds: {', '.join(KINDS)}")
        if not NAME.fullmatch(entry.name) or not NAME.fullmatch(entry.plugin):
            hint = "letters, digits, '_', '-', '.' and '+'; the plugin's own name is put before it"
            raise InputError(f"'{entry.name}' is not a name for a component", entry.plugin, hint)
        if ":" not in entry.target:
            raise InputError(f"target '{entry.target}' of '{entry.full_name}' is not 'module:attribute'", entry.plugin)
        key = entry.kind, entry.full_name
        if key in self.entries:
            raise InputError(f"{entry.kind} '{entry.full_name}' is registered twice", entry.plugin)
        self.entries[key] = entry

    def of_kind(self, kind: str) -> Iterator[Entry]:
        """Entries of one kind, sorted by full name."""
        return iter(sorted((e for (k, _), e in self.entries.items() if k == kind), key=lambda e: e.full_name))

    def resolve(self, kind: str, name: str) -> Entry:
        """Find a component by full (``smartnet:scse_unet``) or short (``scse_unet``) name.

        Raises
        ------
        InputError
            if no component of that kind has the name (similar names, other kinds of that name and plugins that failed
            to load are listed), or if several plugins register the short name.
        """
        if (kind, name) in self.entries:
            return self.entries[kind, name]
        matches = [e for e in self.of_kind(kind) if e.name == name]
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = " and ".join(f"'{e.full_name}'" for e in matches)
            raise InputError(f"{kind} '{name}' is ambiguous: {names} both have that name", hint="write the full name")
        raise InputError(f"no {kind} is named '{name}'", hint=self._help(kind, name))

    def _help(self, kind: str, name: str) -> str:
        others = sorted({e.kind for e in self.entries.values() if name in (e.name, e.full_name)} - {kind})
        if others:
            return f"'{name}' is a {' and a '.join(others)}, not a {kind}"
        near = did_you_mean(name, [e.full_name for e in self.of_kind(kind)])
        hint = near or f"'medkit list {kind}' shows what there is"
        if self.failed:
            hint += f" (plugins that failed to load: {', '.join(sorted(self.failed))}; see 'medkit plugins why NAME')"
        return hint


@dataclass
class Registrar:
    """What a plugin's ``medkit_register(registry)`` hook receives: one method per kind, all alike.

    Each takes the component's short name, its lazy target ``"package.module:Attribute"`` and one line about it.
    """

    registry: Registry
    plugin: str

    def _add(self, kind: str, name: str, target: str, summary: str) -> None:
        self.registry.add(Entry(kind, self.plugin, name, target, summary))

    def encoder(self, name: str, target: str, summary: str) -> None:
        self._add("encoder", name, target, summary)

    def pretext(self, name: str, target: str, summary: str) -> None:
        self._add("pretext", name, target, summary)

    def operator(self, name: str, target: str, summary: str) -> None:
        self._add("operator", name, target, summary)

    def generator(self, name: str, target: str, summary: str) -> None:
        self._add("generator", name, target, summary)

    def discriminator(self, name: str, target: str, summary: str) -> None:
        self._add("discriminator", name, target, summary)

    def loss(self, name: str, target: str, summary: str) -> None:
        self._add("loss", name, target, summary)

    def metric(self, name: str, target: str, summary: str) -> None:
        self._add("metric", name, target, summary)

    def source(self, name: str, target: str, summary: str) -> None:
        self._add("source", name, target, summary)

    def transform(self, name: str, target: str, summary: str) -> None:
        self._add("transform", name, target, summary)

    def objective(self, name: str, target: str, summary: str) -> None:
        self._add("objective", name, target, summary)

    def optimizer(self, name: str, target: str, summary: str) -> None:
        self._add("optimizer", name, target, summary)

    def schedule(self, name: str, target: str, summary: str) -> None:
        self._add("schedule", name, target, summary)

    def clip(self, name: str, target: str, summary: str) -> None:
        self._add("clip", name, target, summary)

    def tracker(self, name: str, target: str, summary: str) -> None:
        self._add("tracker", name, target, summary)

    def distiller(self, name: str, target: str, summary: str) -> None:
        self._add("distiller", name, target, summary)
