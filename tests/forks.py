"""Processes that are forked from one that has imported the libraries: Python and these take seconds to start.

None of medkit is imported before the fork, so that every process imports what it needs of it, in its own order.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache

LIBRARIES = "torch timm cv2 pydicom scipy.stats scipy.ndimage matplotlib.pyplot jinja2 pydantic typer rich.progress"
LIMIT = 1 << 20  # bytes of a message


class Forked:
    """A forked process, with what tests use of :class:`subprocess.Popen`."""

    def __init__(self, message: Mapping[str, object]) -> None:
        self._out, self._err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._watch, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given = [self._out.fileno(), self._err.fileno(), its.fileno()]
        socket.send_fds(_server(), [json.dumps(message).encode()], given)
        its.close()
        self.pid = int(self._watch.recv(LIMIT))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = 600) -> int:
        """The exit code; TimeoutError if there is none within so many seconds."""
        if self.returncode is None:
            self._watch.settimeout(timeout)
            self.returncode = int(self._watch.recv(LIMIT))
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except BlockingIOError:
            return None

    def communicate(self, timeout: float | None = 600) -> tuple[str, str]:
        """What it has said, after its end; it is killed if it takes longer."""
        try:
            self.wait(timeout)
        except TimeoutError:
            self.kill()
            raise
        for file in (self._out, self._err):
            file.seek(0)
        return self._out.read(), self._err.read()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _server() -> socket.socket:
    """The way to the process that forks; it ends with this one."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, __file__, str(its.fileno())]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        words, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, env=environ, start_new_session=True
    )
    its.close()
    atexit.register(server.wait)
    atexit.register(ours.close)
    return ours


def _serve(door: socket.socket) -> str | None:
    """Fork a process for each message; return in that process, and there alone, with the script that it shall run."""
    for name in LIBRARIES.split():
        __import__(name)
    gc.collect()
    gc.freeze()  # a command's collections leave alone, and share, what was there before
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers below
    while True:
        message, given, *_ = socket.recv_fds(door, LIMIT, 3)
        if not message:
            sys.exit()
        if os.fork() == 0:
            break
        for descriptor in given:
            os.close(descriptor)
    door.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, watch = given
    if child := os.fork():  # a watcher, which tells who was started, and how it has ended
        os.write(watch, str(child).encode())
        os.write(watch, str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
        os._exit(0)
    os.close(watch)
    for standard, descriptor in zip((1, 2), streams, strict=True):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    asked = json.loads(message)
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.chdir(asked["folder"])
    script: str | None = asked.get("script")
    sys.path[0] = os.path.dirname(script) if script else asked["folder"]
    sys.argv = asked["words"]
    return script


if __name__ == "__main__":
    if script := _serve(socket.socket(fileno=int(sys.argv[1]))):
        runpy.run_path(script, run_name="__main__")
    else:
        from medkit.cli.main import main

        main()
