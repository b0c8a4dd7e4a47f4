"""Runs a program for medkit, and ends it with all that it has started when medkit ends, however that happens.

A separate process, called by its path with Python alone: ``supervisor.py PARENT COMMAND...``. It ends as the command
ends. SIGTERM, which the system also sends when the parent is killed, ends the command: in good order if the parent
asks for it, at once if the parent has gone.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys

LOOK = 0.2  # seconds between two looks at the parent
PATIENCE = 10.0  # seconds that a program has to end after SIGINT


def die_with_parent(number: int) -> None:
    """Have the system signal this process when its parent ends (Linux; elsewhere it looks for the parent)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number, 0, 0, 0)  # PR_SET_PDEATHSIG


def end(program: subprocess.Popen[bytes], patience: float) -> None:
    """End a program and its whole group."""
    with contextlib.suppress(ProcessLookupError):
        if patience:
            os.killpg(program.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(patience)
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: None)  # not ignored: the program would inherit that
    die_with_parent(signal.SIGTERM)
    try:
        program = subprocess.Popen(command, process_group=0, preexec_fn=lambda: die_with_parent(signal.SIGKILL))
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        sys.exit(127)
    while program.poll() is None:
        if os.getppid() != parent:
            end(program, 0)
        elif asked:
            end(program, PATIENCE)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(LOOK)
    end(program, 0)  # its children, if it left any: they hold the pipe that medkit reads
    code = program.returncode
    if code < 0:  # end by the same signal, so that anyone looking sees it
        with contextlib.suppress(OSError):  # SIGKILL's handler is the system's own
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
