"""What commands that run on several ranks share: where this process stands, and the words for the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medkit.cli.components import load_files
from medkit.engine import interrupt
from medkit.engine.ranks import Place, agreed, place
from medkit.errors import InputError, StoppedError


@contextmanager
def stoppable(hint: str) -> Iterator[None]:
    """Inside, signals end the command with 130 and ``hint``, after whatever is under way has cleaned up."""
    interrupt.begin(f"interrupted at once; {hint}")
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError("interrupted", hint=hint) from None


def place_here(devices: int) -> Place:
    """The place of this process among ranks that somebody else has started."""
    here = place()
    if here.world_size > 1 and devices > 1:
        what = f"{here.by} has started {here.world_size} ranks, of which this is one"
        raise InputError(what, "--devices", "leave --devices out: it starts its own ranks")
    return here


def load_files_together(here: Place, plugin: list[str] | None, device: str | None) -> None:
    """Load plugin files; of several ranks, one says what is wrong with them."""
    if here.world_size == 1 or not plugin:
        load_files(plugin)
        return
    from medkit.engine.runtime import Runtime

    agreed(Runtime.start(device=device).strategy, lambda: load_files(plugin), "the plugin files")


def repeated(option: str, values: list[str] | None) -> list[str]:
    return [word for value in values or [] for word in (option, value)]


def given(option: str, value: object) -> list[str]:
    return [] if value is None else [option, str(value)]
