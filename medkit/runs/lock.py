"""The lock of a run folder: one process writes in it at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from medkit.engine import interrupt
from medkit.engine.ranks import agreed
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.records import write_error
from medkit.runs.folder import RunFolder

NAME = "run.lock"
LOCK = "the lock of the run folder"
PATIENCE = 60.0  # seconds that a network disk may take to show a new file on another machine
YOUNG = 2.0  # seconds that a lock may be empty where file systems have no links: it is just being written
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Holder:
    """Who works in a run folder."""

    command: str
    """``run``, ``resume`` or ``evaluate``."""
    host: str
    machine: str
    """The system's own name for the machine; several hosts may share a name."""
    pids: str
    """What process ids on the host refer to: its boot and its process namespace (a container has its own)."""
    pid: int
    begun: str
    """When the process began, in the system's own words; a later process may have the same id."""
    job: str | None
    """The scheduler's job."""
    attempt: int
    """How often the scheduler has restarted the job."""
    since: str
    token: int

    @classmethod
    def this(cls, command: str) -> Holder:
        pid = os.getpid()
        job, attempt = _job(os.environ)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(
            command,
            socket.gethostname(),
            _machine(),
            _pids(),
            pid,
            begun(pid),
            job,
            attempt,
            since,
            secrets.randbits(62),
        )

    def __str__(self) -> str:
        job = f", {self.job}" if self.job else ""
        return f"'medkit {self.command}' (process {self.pid} on {self.host}{job}, since {self.since})"


FIELDS = tuple(Holder.__dataclass_fields__)


class Lock:
    """A held lock."""

    def __init__(self, path: Path, holder: Holder, notes: list[str]) -> None:
        self.path, self.holder = path, holder
        self.notes = notes
        """What has to be said about locks that were left behind."""

    def release(self) -> None:
        """Let others in. A lock that is no longer ours stays: somebody has removed ours, and holds this one."""
        found = held_by(self.path)
        if isinstance(found, Holder) and found.token == self.holder.token:
            with suppress(OSError):
                self.path.unlink()


@contextmanager
def locked(folder: RunFolder, command: str) -> Iterator[Lock]:
    """Hold the folder's lock while the block runs; one that was left behind is reported in the log and on stderr.

    Raises
    ------
    InputError
        if another process holds it, or may hold it on another machine.
    """
    lock: Lock | None = None
    try:
        with interrupt.deferred():  # a signal in the middle would leave the lock behind
            lock = acquire(folder.path, command)
        for note in lock.notes:
            folder.log(note)
            print(f"medkit: {folder.path}: {note}", file=sys.stderr)
        with interrupt.cleaning(lock.release):
            yield lock
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def locked_for_all(folder: RunFolder, command: str, runtime: Runtime) -> Iterator[None]:
    """:func:`locked` by the main rank, for all ranks; each of them has to see the folder.

    Raises
    ------
    InputError
        if a rank, on another machine, sees another folder under that name, or none.
    """
    strategy = runtime.strategy
    with ExitStack() as stack:
        own = locked(folder, command) if runtime.is_main else nullcontext()
        lock = agreed(strategy, lambda: stack.enter_context(own), LOCK)
        if runtime.world_size > 1:
            token = strategy.share(lock.holder.token if lock else None, LOCK)
            agreed(strategy, lambda: _look_for(folder.path, token, runtime.rank), LOCK)
        yield


def _look_for(folder: Path, token: int, rank: int) -> None:
    """Refuse a folder that does not hold rank 0's lock: what one rank writes, the others have to read."""
    end = time.monotonic() + PATIENCE
    while (found := held_by(folder / NAME)) is None or found.token != token:
        if time.monotonic() > end:
            what = f"rank {rank}, on {socket.gethostname()}, does not see the run folder of rank 0"
            raise InputError(what, str(folder), "choose an --out on a disk that all machines share")
        with suppress(OSError):
            os.listdir(folder.parent)  # network disks remember for a while what was not there
        time.sleep(0.1)


def acquire(folder: Path, command: str) -> Lock:
    """Take the lock; one that a process of this machine has left behind is taken over."""
    path, holder, notes = folder / NAME, Holder.this(command), []
    while not _made(path, holder):
        if note := _remove_left(path, holder):
            notes.append(note)
    return Lock(path, holder, notes)


def _made(path: Path, holder: Holder) -> bool:
    """Whether the lock could be made: with its content, as an empty one may be taken over."""
    content = json.dumps(asdict(holder)).encode()
    temporary = path.with_name(f".{path.name}.{holder.token}.tmp")
    try:
        _write(temporary, content)
        try:
            os.link(temporary, path)
        except FileNotFoundError:  # the process that works here has tidied up
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _write(path, content)
    except FileExistsError:
        return False
    except OSError as error:
        raise write_error(error, path, temporary) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return True


def _write(path: Path, content: bytes) -> None:
    """Write a new file, or none."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _remove_left(path: Path, mine: Holder) -> str | None:
    """Remove a lock whose holder is gone, and say so; None if it is already gone.

    Of several that find it abandoned one removes it: the one holding the system's lock on the very file of that name.
    """
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        with suppress(OSError):  # a file system without such locks
            fcntl.flock(file, fcntl.LOCK_EX)
        found, end = held_by(path), time.monotonic() + YOUNG
        while found is None and time.monotonic() < end:
            time.sleep(0.05)
            found = held_by(path)
        try:
            if os.stat(path).st_ino != os.fstat(file).st_ino:
                return None
        except FileNotFoundError:
            return None
        if isinstance(found, Holder):
            _refuse_living(found, mine, path)
        path.unlink()
        return f"the lock of {found} is taken over: it has ended" if found else "an empty lock is taken over"
    finally:
        os.close(file)


def _refuse_living(found: Holder, mine: Holder, path: Path) -> None:
    if hint := may_live(found, mine, path):
        raise InputError(f"{found} is working in this run folder", str(path.parent), hint)


def may_live(found: Holder, mine: Holder, path: Path) -> str:
    """What to do about the holder of a lock that lives, or may; nothing if it is known to have ended."""
    if (found.host, found.pids) == (mine.host, mine.pids):
        return "wait until it has ended, or end it" if begun(found.pid) == found.begun else ""
    if found.machine == mine.machine != "" and found.host == mine.host and _boot(found.pids) != _boot(mine.pids):
        return ""  # the machine has been restarted since
    if found.job is not None and found.job == mine.job and found.attempt < mine.attempt:
        return ""  # a scheduler ends a job before it restarts it
    return f"it cannot be checked from {mine.host}; if it has ended there, delete {path}"


def held_by(path: Path) -> Holder | None:
    """The holder that a lock names; None if it names none (yet)."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Holder(**{name: found[name] for name in FIELDS})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def same_process(one: Holder, other: Holder) -> bool:
    """Whether two locks belong to one process."""
    return all(getattr(one, name) == getattr(other, name) for name in ("host", "machine", "pids", "pid", "begun"))


def _machine() -> str:
    for name in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with suppress(OSError):
            text = Path(name).read_text(encoding="ascii").strip()
            return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()  # the name itself is nobody's business
    return ""


def _pids() -> str:
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{boot} {namespace}"


def _boot(pids: str) -> str:
    return pids.partition(" ")[0]


def begun(pid: int) -> str:
    """When a process began, in the system's own words; empty if there is none."""
    if sys.platform == "linux":
        try:
            # The fields after the name, which may hold anything, in brackets: state, ..., the start in ticks.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return ""
        return fields[19] if fields[0] not in "ZX" else ""
    words = ["ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=False).stdout.strip()


def _job(environ: Mapping[str, str]) -> tuple[str | None, int]:
    """The scheduler's job that this process belongs to, and how often it was restarted."""
    if number := environ.get("SLURM_JOB_ID"):
        attempt = environ.get("SLURM_RESTART_COUNT", "0")
        return f"SLURM job {number}", int(attempt) if attempt.isdigit() else 0
    for name, scheduler in (("PBS_JOBID", "PBS"), ("LSB_JOBID", "LSF"), ("JOB_ID", "job")):
        if number := environ.get(name):
            return f"{scheduler} {number}", 0
    return None, 0
