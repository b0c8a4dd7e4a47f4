"""The whole extension surface: the hooks a plugin may implement.

A hook that raises (or calls ``sys.exit()``) does not end a run: one warning names plugin, hook and cause, and the run
goes on. What a hook prints goes to stderr. ``run`` is a :class:`medkit.runs.handle.Run` in all of them: ``folder``
(Path), ``recipe`` (the resolved recipe), ``results`` (``results[stage][split][metric]``, empty until something has been
evaluated), ``status`` (``running``, ``finished``, ``failed`` or ``interrupted``) and ``failed`` (stage to reason).
On several ranks only the main one asks plugins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from medkit.registry.table import Registrar

hookspec = pluggy.HookspecMarker("medkit")
hookimpl = pluggy.HookimplMarker("medkit")


@hookspec
def medkit_register(registry: Registrar) -> None:
    """Add components: ``registry.pretext("rotation", "medkit_rotation.head:RotationHead", "one line")``."""


@hookspec
def medkit_run_start(run: Any) -> None:
    """A run begins, or continues after an interruption."""


@hookspec
def medkit_epoch_end(run: Any, stage: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """Epoch ``epoch`` (from 1) of ``stage`` has ended with these numbers, and nothing but numbers.

    ``train/LOSS``, ``SPLIT/METRIC``, ``lr`` (or ``lr/TURN``) and ``seconds``; not a number (nan) where undefined.
    """


@hookspec
def medkit_run_end(run: Any) -> None:
    """A run has ended, completely or not: ``run.status`` says. Called once for each ``medkit_run_start``."""


@hookspec
def medkit_listeners(run: Any) -> list[Any] | None:
    """Objects that are told about this run, step by step (:class:`medkit.api.Listener`); asked as it begins."""
    return None


@hookspec
def medkit_report(run: Any) -> list[tuple[str, str]] | None:
    """More sections for the report: (title, HTML). ``medkit report`` also asks, for a run made long ago."""
    return None


@hookspec
def medkit_data_commands() -> Mapping[str, str] | None:
    """More commands below ``medkit data``: name to a lazy ``"package.module:function"`` with typer's annotations.

    Of two commands with the same name the first is kept and the other left out, with a line on stderr.
    """
