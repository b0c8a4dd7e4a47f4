"""The whole extension surface: the hooks a plugin may implement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from medkit.registry import Registrar

hookspec = pluggy.HookspecMarker("medkit")
hookimpl = pluggy.HookimplMarker("medkit")


@hookspec
def medkit_register(registry: Registrar) -> None:
    """Add components: ``registry.pretext("rotation", "medkit_rotation.head:RotationHead", "one line")``."""


@hookspec
def medkit_run_start(run: Any) -> None:
    """A run begins; ``run.folder`` is its folder, ``run.recipe`` its resolved recipe."""


@hookspec
def medkit_epoch_end(run: Any, stage: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """An epoch of ``stage`` has ended with these numbers."""


@hookspec
def medkit_run_end(run: Any) -> None:
    """A run has ended; ``run.results`` holds its results."""


@hookspec
def medkit_report(run: Any) -> list[tuple[str, str]] | None:
    """More sections of the report: (title, HTML)."""
    return None


@hookspec
def medkit_data_commands() -> Mapping[str, str] | None:
    """More commands below ``medkit data``: name to a lazy ``"package.module:function"`` with typer's annotations."""
