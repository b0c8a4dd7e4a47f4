"""``medkit`` commands for tests: each a process of its own, forked from one that has imported the libraries already.

Python and the libraries take seconds to start, and tests give several hundred commands. None of medkit is imported
before the fork, so that every command imports what it needs of it, in its own order. A command that is given variables
which Python or a library reads as it starts (``PYTHONPATH``, ``LC_ALL``) is a new process. Tests that send signals start
theirs themselves.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

LIBRARIES = "torch timm cv2 pydicom scipy.stats scipy.ndimage matplotlib.pyplot jinja2 pydantic typer rich.progress"
ONCE = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "MPL", "TORCH")
"""How variables are called that are read once, when a process or a library starts."""
LIMIT = 1 << 20  # bytes of a message


def run_command(
    words: Sequence[object], folder: Path, environ: Mapping[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """What ``python -m medkit WORDS`` in ``folder`` has said and ended with; ``environ`` is added to this process's.

    It has one thread (OMP_NUM_THREADS). After ``timeout`` seconds it is killed, which raises an error.
    """
    line, added = [str(word) for word in words], dict(environ or {})
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **added}
    if any(name.startswith(ONCE) for name in added):
        start = [sys.executable, "-m", "medkit", *line]
        return subprocess.run(
            start, cwd=folder, env=whole, capture_output=True, text=True, timeout=timeout, check=False
        )
    message = json.dumps({"words": line, "folder": str(folder), "environ": whole}).encode()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        server, door = _server()
        door.settimeout(timeout)
        socket.send_fds(door, [message], [out.fileno(), err.fileno()])
        try:
            code = int(door.recv(LIMIT))
        except TimeoutError:
            _server.cache_clear()
            os.killpg(server.pid, signal.SIGKILL)  # and with it the command
            raise
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(line, code, out.read(), err.read())


@cache
def _server() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process that forks, and the way to it; it ends with this one."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, __file__, str(its.fileno())]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        words, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, env=environ, start_new_session=True
    )
    its.close()
    atexit.register(server.wait)
    atexit.register(ours.close)
    return server, ours


def _serve(door: socket.socket) -> None:
    """Fork a process for each message; return in that process, and where there will be no more messages."""
    for name in LIBRARIES.split():
        __import__(name)
    gc.collect()
    gc.freeze()  # a command's collections leave alone, and share, what was there before
    while True:
        message, given, *_ = socket.recv_fds(door, LIMIT, 2)
        if not message:
            sys.exit()
        if (child := os.fork()) == 0:
            break
        for descriptor in given:
            os.close(descriptor)
        door.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
    door.close()
    for standard, descriptor in zip((1, 2), given, strict=True):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    asked = json.loads(message)
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.chdir(asked["folder"])
    sys.path[0] = asked["folder"]
    sys.argv = ["medkit", *asked["words"]]


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from medkit.cli.main import main

    main()
