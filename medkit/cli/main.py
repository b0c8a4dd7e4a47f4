"""The ``medkit`` command: signals first, then the commands, and how each ends."""

from __future__ import annotations

import atexit
import errno
import io
import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from medkit.engine import interrupt
from medkit.engine.ranks import RENDEZVOUS, place
from medkit.errors import ElsewhereError, InputError, MedkitError, StoppedError, visible

INTERRUPTIBLE = ("run", "resume", "evaluate", "study")
"""Commands that leave a run folder in order, and exit with 130, when a signal asks them to stop."""


def main() -> None:
    """Run the command line; every error a user can cause gives one line and an exit code, without a traceback."""
    try:
        _run()
    except SystemExit as end:
        if _is_rank():
            _leave(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


def _run() -> None:
    _open_missing_streams()
    _refuse_lost_folder()
    if sys.argv[1:2] and sys.argv[1] in INTERRUPTIBLE:
        interrupt.install(speak=RENDEZVOUS not in os.environ)
    from medkit.engine import launch  # after the handlers, like everything that takes time

    if launch.is_launched():
        launch.die_with_launcher()
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ? for characters it lacks
    try:
        from medkit.cli.app import app

        app(prog_name="medkit")
    except MedkitError as error:
        if "--json" in sys.argv and isinstance(error, InputError):  # later ones follow what was found
            from medkit.cli.output import show_json

            show_json({"errors": error.json()})
        _end(error, str(error), error.exit_code)
    except KeyboardInterrupt:
        _end(StoppedError("interrupted"), "interrupted", StoppedError.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.errno == errno.EIO and (interrupt.leave_terminal() or interrupt.requested()):
            _end(StoppedError("interrupted"), "interrupted", StoppedError.exit_code)
        if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            _end(error, f"{error.filename or 'output'}: {error.strerror}", 1)
        _unexpected(error)
    except Exception as error:
        _unexpected(error)
    finally:
        interrupt.over()


def _open_missing_streams() -> None:
    """Connect to nowhere the standard streams that the command was started without (``2>&-``).

    Otherwise the next files to be opened would take their numbers, and receive what libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number is this one
            if getattr(sys, name) is None:
                setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _refuse_lost_folder() -> None:
    """End if the current folder was removed: relative paths then mean nothing, and torch's libraries crash."""
    try:
        os.getcwd()
    except OSError:
        error = InputError("the current folder no longer exists", hint="go to one that does (cd)")
        _end(error, str(error), error.exit_code)


def _end(error: Exception, text: str, code: int) -> None:
    """Say why the command ends; of several ranks, the one that knows."""
    from medkit.engine import launch

    if os.environ.get("MEDKIT_TRACEBACK") and not isinstance(error, StoppedError):
        traceback.print_exception(error)
    if launch.is_launched():
        launch.leave_message(error, text, code)
    elif not isinstance(error, ElsewhereError):
        start = "" if isinstance(error, StoppedError) else "error: "
        with suppress(OSError):  # nobody is reading any more
            for line in text.rstrip("\n").split("\n") if text else ():
                print(f"{start}{visible(line.rstrip())}", file=sys.stderr)
    sys.exit(code)


def _is_rank() -> bool:
    try:
        return place().world_size > 1
    except InputError:
        return False  # the environment names no place; that is said elsewhere


def _leave(code: int) -> NoReturn:
    """End a rank without taking Python down.

    Connections that torch keeps may have threads which then abort the process, and after a failure they may be waiting
    for ranks that no longer answer.
    """
    if code == 0:
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _unexpected(error: Exception) -> None:
    """A bug of ours (or of a plugin): say so, and how to see the whole traceback."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = f"unexpected {type(error).__name__} at {frame.filename}:{frame.lineno}: {error}"
    _end(error, f"{text}\nthis is a bug; MEDKIT_TRACEBACK=1 shows the whole traceback", 1)
