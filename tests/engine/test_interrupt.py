"""Signals: when they raise, when they wait for a step's end, and what a second Ctrl-C does."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

START = """
import os, signal, sys, time
from medkit.engine import interrupt
interrupt.install()
def send(name): os.kill(os.getpid(), getattr(signal, name))
"""
ALL = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"]


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", START + program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ALL)
def test_an_early_signal_ends_with_130_and_says_so(name: str) -> None:
    done = run(f"send('{name}'); print('went on')")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == f"interrupted by {name} before anything was begun\n"


@pytest.mark.parametrize("name", ALL)
def test_a_signal_outside_of_steps_raises_at_once(name: str) -> None:
    done = run(f"interrupt.begin('bye')\ntry: send('{name}')\nexcept KeyboardInterrupt as error: print(error)")
    assert done.stdout == f"{name}\n"


def test_a_signal_inside_of_steps_waits_for_who_looks() -> None:
    program = """
interrupt.begin('bye')
try:
    with interrupt.deferred():
        send('SIGTERM')
        print('step done', interrupt.requested(), interrupt.asked_by())
except interrupt.Interrupted: print('stopped')
"""
    assert run(program).stdout == "step done True SIGTERM\nstopped\n"


def test_an_error_that_the_same_signal_caused_counts_as_the_interruption() -> None:
    program = """
interrupt.begin('bye')
try:
    with interrupt.deferred():
        send('SIGTERM')
        raise RuntimeError('a worker exited')
except interrupt.Interrupted: print('stopped')
"""
    assert run(program).stdout == "stopped\n"


def test_a_second_ctrl_c_ends_at_once_after_cleaning_up() -> None:
    program = """
interrupt.begin('bye')
with interrupt.cleaning(lambda: print('clean', flush=True)), interrupt.deferred():
    send('SIGINT')
    send('SIGINT')
    print('went on')
"""
    done = run(program)
    assert (done.returncode, done.stdout, done.stderr) == (130, "clean\n", "bye\n")


def test_a_second_sigterm_still_waits_for_the_step() -> None:
    program = """
interrupt.begin('bye')
try:
    with interrupt.deferred():
        send('SIGTERM'); send('SIGTERM'); print('step done')
except interrupt.Interrupted: print('stopped')
"""
    assert run(program).stdout == "step done\nstopped\n"


def test_what_the_process_was_started_to_ignore_stays_ignored() -> None:
    program = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + START + "send('SIGHUP'); print('went on')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "went on\n"


def test_forked_workers_leave_signals_to_their_parent() -> None:
    program = """
interrupt.begin('bye')
child = os.fork()
if child == 0:
    send('SIGINT'); send('SIGUSR2'); send('SIGHUP')
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
child = os.fork()
if child == 0:
    send('SIGTERM')
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(program).stdout == f"7\n{-signal.SIGTERM}\n"


def test_without_installation_nothing_changes() -> None:
    program = "from medkit.engine import interrupt; import signal; print(signal.getsignal(signal.SIGTERM))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "0"
