"""Telling a run's listeners what happens in it, each guarded, so that none can end a training."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medkit.errors import RunError
from medkit.guard import cause, guarded, strict
from medkit.protocols.events import (
    EpochEnded,
    Event,
    Images,
    Listener,
    Message,
    RunEnded,
    RunStarted,
    StageEnded,
    StageFailed,
    StageStarted,
    StepEnded,
)

__all__ = [
    "EpochEnded",
    "Event",
    "Events",
    "Images",
    "Listener",
    "Message",
    "RunEnded",
    "RunStarted",
    "StageEnded",
    "StageFailed",
    "StageStarted",
    "StepEnded",
]


def _to_stderr(text: str) -> None:
    print(f"medkit: {text}", file=sys.stderr)


class Events:
    """Who is told about a run.

    Parameters
    ----------
    listeners:
        Plugins' listeners (:class:`Listener`), each with the name that warnings use for it, such as
        ``tracker 'tensorboard'``. What they print goes to stderr. One that raises, or calls ``sys.exit()``, costs one
        warning and is not asked again; ``MEDKIT_STRICT=1`` raises a :class:`RunError` instead, ``MEDKIT_TRACEBACK=1``
        shows the traceback.
    warn:
        Receives these warnings.
    own:
        Listeners of medkit itself, asked first. What they raise ends the run: nobody wants a run without its
        ``metrics.jsonl``.
    """

    def __init__(
        self,
        listeners: Iterable[tuple[str, Any]] = (),
        warn: Callable[[str], None] = _to_stderr,
        own: Sequence[Any] = (),
    ) -> None:
        self._warn = warn
        self._own = [_methods(listener) for listener in own]
        self._listeners: list[tuple[str, dict[str, Callable[[Any], None]]]] = []
        for name, listener in listeners:
            try:
                with guarded():
                    self._listeners.append((name, _methods(listener)))
            except Exception as error:
                self._fault(name, "a method", error)

    def wants(self, event: type[Event]) -> bool:
        """Whether anybody listens for such events: nothing is put together at each step if nobody does."""
        return any(event.method in methods for methods in [*self._own, *(methods for _, methods in self._listeners)])

    def emit(self, event: Event) -> None:
        """Tell everybody who has a method for ``event``, one after the other."""
        for methods in self._own:
            if event.method in methods:
                methods[event.method](event)
        for name, methods in list(self._listeners):
            if event.method not in methods:
                continue
            try:
                with guarded():
                    methods[event.method](_own(event))
            except Exception as error:
                self._listeners.remove((name, methods))
                self._fault(name, event.method, error)

    def _fault(self, name: str, method: str, error: Exception) -> None:
        if os.environ.get("MEDKIT_TRACEBACK"):
            traceback.print_exception(error)
        what = f"{method} of {name} failed"
        if strict():
            raise RunError(f"{what}: {cause(error)}", hint="unset MEDKIT_STRICT to go on without it") from error
        self._warn(f"warning: {what}, and the run goes on without it: {cause(error)}")


def _own(event: Event) -> Event:
    """The event with copies of its mappings: a listener that changes them changes nobody else's numbers."""
    given = {name: dict(value) for name, value in vars(event).items() if isinstance(value, Mapping)}
    return replace(event, **given) if given else event


def _methods(listener: Any) -> dict[str, Callable[[Any], None]]:
    """What a listener can be told, by the names of its methods; an attribute of such a name is not a method."""
    found = {kind.method: getattr(listener, kind.method, None) for kind in Event.__subclasses__()}
    return {name: method for name, method in found.items() if callable(method)}
