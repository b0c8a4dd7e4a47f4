"""Running plugins' code so that it cannot end the process, change its folder or disturb its output."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class PluginExit(Exception):
    """A plugin's code tried to end the process; the message says how."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Run a plugin's code in this context.

    What it prints goes to stderr, so that a command's own output stays clean; the current folder, the standard streams
    and the handlers of SIGINT and SIGTERM are restored. Anything but an ``Exception`` (``sys.exit()``, a
    ``KeyboardInterrupt`` not caused by a signal) becomes a :class:`PluginExit`. Ctrl-C and SIGTERM work as usual.
    """
    with _interrupts() as interrupted, _streams(), _folder():
        try:
            yield
        except Exception:
            raise
        except BaseException as error:
            if interrupted:
                raise
            raise PluginExit(_words(error)) from error


def strict(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a fault in a plugin ends the command (``MEDKIT_STRICT=1``) instead of being reported and skipped."""
    return environ.get("MEDKIT_STRICT", "") not in ("", "0")


def cause(error: BaseException) -> str:
    """An error in a plugin's code in one line, with the file and line that raised it."""
    frames = traceback.extract_tb((error.__cause__ or error if isinstance(error, PluginExit) else error).__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    what = str(error) if isinstance(error, PluginExit) else f"{type(error).__name__}: {error}"
    return " ".join(what.split())[:300] + place


def _words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({'' if error.code is None else repr(error.code)})"
    return f"it raised {type(error).__name__}{f': {error}' if str(error) else ''}"


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The signals that arrived meanwhile; always none in threads other than the main one."""
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        arrived.append(number)
        handler = before[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    for number, handler in before.items():
        if callable(handler):  # else the system's own, which ends the process or ignores the signal
            signal.signal(number, note)
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Send text for stdout to stderr, including that of programs and C code."""
    streams = sys.stdout, sys.stderr
    kept = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        streams[0].flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    sys.stdout = streams[1]
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.__stdout__):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
        sys.stdout, sys.stderr = streams
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


@contextlib.contextmanager
def _folder() -> Iterator[None]:
    try:
        before = os.getcwd()
    except OSError:  # the current folder was deleted
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.getcwd() != before:
                os.chdir(before)
