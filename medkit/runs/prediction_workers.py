"""Images dealt out to processes, the next to whichever is free; one that is killed loses only its current case."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from medkit.data.inputs import Input
from medkit.data.processes import PATIENCE, end_all, settle
from medkit.errors import MedkitError

Answer = tuple[Input, str | None]
"""An image, and why it failed, if it did."""
Work = Callable[[Input], None]
Start = Literal["fork", "spawn"]


def attempt(work: Work, image: Input) -> str | None:
    """Why an image failed, or None. An unexpected error is reported by kind and place: its text may quote the image."""
    try:
        work(image)
    except MedkitError as error:
        return str(error)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename}:{frame.lineno}"
        return f"unexpected {type(error).__name__} at {where}; this is a bug in medkit or a plugin"
    return None


def by_processes(work: Work, images: Sequence[Input], jobs: int, start: Start) -> Iterator[Answer]:
    """Answers as they arrive.

    Parameters
    ----------
    start:
        ``fork`` shares what has already been read, and knows plugins under development; a GPU that has been used
        needs ``spawn``.
    """
    context = multiprocessing.get_context(start)
    waiting = deque(range(len(images)))
    running: dict[Connection, tuple[Any, int]] = {}  # process, and the image that it is working on

    def begin() -> None:
        here, there = context.Pipe()
        parent = os.getpid() if start == "fork" else None
        others = [here, *running] if start == "fork" else []
        process: Any = context.Process(  # type: ignore[attr-defined]
            target=_work, args=(work, images, there, parent, others), daemon=True
        )
        process.start()
        there.close()
        hand_over(here, process)

    def hand_over(pipe: Connection, process: Any) -> None:
        number = waiting.popleft()
        running[pipe] = process, number
        pipe.send_bytes(str(number).encode())

    try:
        for _ in range(min(jobs, len(images))):
            begin()
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                process, number = running.pop(pipe)
                try:
                    problem = json.loads(pipe.recv_bytes())
                except (EOFError, OSError):
                    process.join()
                    pipe.close()
                    yield images[number], _ended(process.exitcode)
                    if waiting:
                        begin()
                    continue
                if waiting:
                    hand_over(pipe, process)
                else:
                    pipe.close()  # the process ends when nobody asks any more
                    process.join(PATIENCE)
                yield images[number], problem
    finally:
        end_all([process for process, _ in running.values()])


def _ended(code: int | None) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with code {code}"
    return f"its process {how}; did it run out of memory? Fewer --jobs need less"


def _work(work: Work, images: Sequence[Input], pipe: Connection, parent: int | None, others: list[Connection]) -> None:
    """What each process does; told to end, it cleans up what it was writing."""
    settle(parent)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    for other in others:  # pipes of the parent, which would stay open here when the parent closes them
        other.close()
    try:
        while True:
            number = int(pipe.recv_bytes())
            pipe.send_bytes(json.dumps(attempt(work, images[number])).encode())
    except (EOFError, OSError):
        pass
    finally:
        pipe.close()
        os._exit(0)  # nothing of the parent's should be ended here a second time
