"""Signals that ask a run to stop: noted when they arrive, obeyed between two steps.

Nothing here imports torch, so that the handlers are in place before anything heavy is imported. Where they are not
installed (``medkit.run`` in your own program) nothing changes: Ctrl-C raises KeyboardInterrupt as ever.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from medkit.errors import StoppedError

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)


class Interrupted(KeyboardInterrupt):
    """A signal has asked the run to stop, and it does so in good order."""


class _State:
    """What the handlers know; there is one per process, as there is one set of handlers."""

    asked: str | None = None
    """The first signal that came."""
    waiting = 0
    """How many callers have promised to look at :func:`requested`."""
    farewell: str | None = None
    """What to print if the process ends at once; None until it has begun to do anything."""
    speak = True
    cleaners: list[Callable[[], None]] = []
    installed: list[signal.Signals] = []
    terminals: list[int] = []
    """Which of the standard streams were shown in a terminal at the start."""


def install(speak: bool = True) -> None:
    """From now on the signals that schedulers and terminals send end the process with 130, in good order.

    Before :func:`begin` they end it at once, since importing is no place for an exception out of nowhere. Signals that
    the process was started to ignore (``nohup``) stay ignored. A process that has another one to speak for it ends
    silently.
    """
    _State.speak = speak
    if threading.current_thread() is not threading.main_thread():
        return
    _State.terminals = [stream for stream in (0, 1, 2) if os.isatty(stream)]
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
            _State.installed.append(number)
    os.register_at_fork(after_in_child=leave_to_parent)


def begin(farewell: str) -> None:
    """The command begins: a signal raises KeyboardInterrupt now, or waits for a step's end inside :func:`deferred`.

    ``farewell`` is what a second Ctrl-C says as it ends the process at once.
    """
    _State.farewell = farewell


def requested() -> bool:
    """Whether a signal has asked this process to stop."""
    return _State.asked is not None


def asked_by() -> str | None:
    """The name of the signal that has asked this process to stop, if one has."""
    return _State.asked


def leave_terminal() -> bool:
    """If the terminal was closed, print into the void, as any write to it would fail; returns whether it was."""
    closed = [stream for stream in _State.terminals if not os.isatty(stream)]
    for stream in closed:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    return bool(closed)


def clear() -> None:
    """Forget the request; for a process that starts another run after an interrupted one."""
    _State.asked = None


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal only shows in :func:`requested`; the caller looks there after each step, saves and stops.

    Raises
    ------
    Interrupted
        at the end of the block, and in place of any error inside (a loader's process may have had the same signal),
        if a signal arrived; at its start, if one arrived before.
    """
    if _State.asked:
        raise Interrupted(_State.asked)
    _State.waiting += 1
    try:
        yield
    except Exception as error:
        if _State.asked:
            raise Interrupted(_State.asked) from error
        raise
    finally:
        _State.waiting -= 1
    if _State.asked:
        raise Interrupted(_State.asked)


@contextmanager
def cleaning(clean: Callable[[], None]) -> Iterator[None]:
    """Inside, ``clean`` is called first if a second Ctrl-C ends the process at once."""
    _State.cleaners.append(clean)
    try:
        yield
    finally:
        _State.cleaners.remove(clean)


def over() -> None:
    """The command has ended: a signal no longer changes its exit code."""
    for number in _State.installed:
        signal.signal(number, signal.SIG_IGN)


def leave_to_parent() -> None:
    """For a worker process: only its parent decides when to stop, and ends it by SIGTERM or a message."""
    for number in _State.installed:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    _State.asked, _State.waiting, _State.cleaners = None, 0, []


def _handle(number: int, frame: object) -> None:
    name = signal.Signals(number).name
    if name == "SIGHUP":
        leave_terminal()
    if _State.asked is not None:
        if number == signal.SIGINT:
            _end(_State.farewell or "interrupted")
        return
    _State.asked = name
    if _State.farewell is None:
        _end(f"interrupted by {name} before anything was begun")
    if not _State.waiting:
        raise KeyboardInterrupt(name)


def _end(text: str) -> None:
    """End without Python's own shutdown, which fills with tracebacks when a signal interrupts it."""
    for clean in reversed(_State.cleaners):
        with suppress(Exception):
            clean()
    if _State.speak:
        with suppress(OSError):
            os.write(2, f"{text}\n".encode())
    os._exit(StoppedError.exit_code)
