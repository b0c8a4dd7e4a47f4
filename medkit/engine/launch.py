"""Several ranks on this machine: started together, ended together, and speaking with one voice.

A rank tells the launcher why it ends, and the launcher says it once: the reason of the rank that failed first, not of
those that lost their connection to it. Nothing is restarted: a scheduler, or a person, resumes.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medkit.engine import interrupt
from medkit.engine.ranks import RENDEZVOUS
from medkit.errors import InputError, MedkitError, RunError, StoppedError
from medkit.records import write_atomically

LAUNCHER = "MEDKIT_LAUNCHER"
"""In the environment of a rank: the process id of its launcher."""
MESSAGES = "MEDKIT_MESSAGES"
"""In the environment of a rank: the folder in which it leaves why it ends."""
AFTER_A_FAILURE = 10.0  # seconds that the other ranks have to end by themselves
AFTER_A_SIGNAL = 300.0  # seconds that ranks have to finish their step and save
LOOK = 0.02  # seconds between two looks at the ranks


@dataclass(frozen=True)
class Message:
    """Why a rank ended."""

    rank: int
    code: int
    text: str
    secondary: bool
    """Another rank has to say why."""
    time: float


def launch(world_size: int, arguments: Sequence[str]) -> None:
    """Run ``python -m medkit ARGUMENTS`` on ``world_size`` ranks of this machine until all have ended.

    Raises
    ------
    MedkitError
        that of the first rank that failed, with its own message and exit code.
    KeyboardInterrupt
        if the ranks were asked to stop, here or in one of them.
    """
    with tempfile.TemporaryDirectory(prefix="medkit-") as name:
        messages = Path(name)
        ranks: list[subprocess.Popen[bytes]] = []
        with interrupt.cleaning(lambda: _kill(ranks)):
            try:
                for rank in range(world_size):
                    ranks.append(_start(rank, world_size, arguments, messages))
                _wait(ranks)
                if any(started.returncode != 0 for started in ranks):
                    _raise(ranks, messages)
            except KeyboardInterrupt:
                _ask(ranks)
                if any(started.poll() != 0 for started in ranks):
                    raise
            finally:
                _kill(ranks)


def _start(rank: int, world_size: int, arguments: Sequence[str], messages: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        RENDEZVOUS: (messages / "store").as_uri(),  # a file needs no free port
        LAUNCHER: str(os.getpid()),
        MESSAGES: str(messages),
    }
    command = [sys.executable, "-m", "medkit", *arguments]
    # A separate session: a terminal's Ctrl-C reaches the launcher alone, and a rank is ended with all its workers.
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended, or one has failed and the others have had their time."""
    while (codes := [rank.poll() for rank in ranks]) and None in codes and not any(codes):
        time.sleep(LOOK)
    if any(codes):
        _until(ranks, AFTER_A_FAILURE)


def _until(ranks: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(rank.poll() is None for rank in ranks):
        time.sleep(LOOK)


def _ask(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let ranks save and stop."""
    for rank in ranks:
        if rank.poll() is None:
            rank.send_signal(signal.SIGTERM)
    _until(ranks, AFTER_A_SIGNAL)


def _kill(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """Leave no process behind: neither a rank nor what it has started."""
    for rank in ranks:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(rank.pid, signal.SIGKILL)
        rank.wait()


def _raise(ranks: Sequence[subprocess.Popen[bytes]], messages: Path) -> None:
    """Raise what the rank that failed first said."""
    said = sorted(_read(messages), key=lambda message: message.time)
    codes = {number: rank.returncode for number, rank in enumerate(ranks) if rank.returncode}
    # A lost peer makes others abort (SIGABRT); any other signal from outside is a cause in itself.
    killed = {number: -code for number, code in codes.items() if code < 0 and -code != signal.SIGABRT}
    if killed:
        number, by = next(iter(killed.items()))
        raise RunError(
            f"rank {number} was killed by {signal.Signals(by).name}",
            hint="did the machine run out of memory? 'medkit resume' continues from the last checkpoint",
        )
    for message in [m for m in said if not m.secondary] or said:
        if message.code == StoppedError.exit_code:
            raise KeyboardInterrupt
        raise (InputError if message.code == InputError.exit_code else RunError)(message.text)
    number, code = next(iter(codes.items()))
    raise RunError(f"rank {number} ended with exit code {code}", hint="what it said is above")


def _read(folder: Path) -> Iterator[Message]:
    for path in sorted(folder.glob("*.json")):
        yield Message(**json.loads(path.read_text(encoding="utf-8")))


def is_launched() -> bool:
    """Whether this process is a rank started by :func:`launch`, which speaks for it."""
    return MESSAGES in os.environ


def leave_message(error: Exception, text: str, code: int) -> None:
    """Tell the launcher why this rank ends."""
    rank = int(os.environ["RANK"])
    message = Message(rank, code, text, isinstance(error, MedkitError) and error.secondary, time.time())
    with suppress(MedkitError):  # the launcher has gone, and with it the reader of this
        write_atomically(Path(os.environ[MESSAGES]) / f"{rank}.json", json.dumps(vars(message)).encode())


def die_with_launcher() -> None:
    """In a rank: be killed when the launcher ends, however it ends (Linux)."""
    launcher = int(os.environ[LAUNCHER])
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != launcher:  # it has gone already
        os._exit(1)
