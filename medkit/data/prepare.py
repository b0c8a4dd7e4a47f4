"""Filling the cache: cases are distributed to processes of one thread each, which have their own shards.

Processes, because most of the work holds Python's lock, so that several threads would be slower than one.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from medkit.data.processes import end_all, settle
from medkit.data.sample import pack, remarks
from medkit.data.shards_write import ShardWriter
from medkit.errors import InputError, MedkitError, RunError
from medkit.protocols import Case

if TYPE_CHECKING:
    from medkit.data.dataset import Dataset


@dataclass(frozen=True)
class Failure:
    """A case that could not be prepared, and why."""

    case: str
    error: MedkitError


def fill(
    dataset: Dataset,
    cases: Sequence[Case],
    jobs: int = 1,
    progress: Callable[..., None] | None = None,
    *,
    stop: bool = False,
) -> Iterator[Failure]:
    """Prepare those of ``cases`` that are not in the cache, and yield each that fails; the others go on.

    Parameters
    ----------
    jobs:
        Number of processes; it does not change a bit of the samples.
    progress:
        Called with ``(done, total)``, at least after each prepared case.
    stop:
        End after the first failure.

    Raises
    ------
    RunError
        if it is pointless to go on: the cache cannot be written, or a process was killed.
    """
    tell = progress or (lambda done, total: None)
    if dataset.cache is None:
        yield from _into_memory(dataset, cases, tell, stop)
        return
    missing = dataset.missing(cases)
    done = len(cases) - len(missing)
    if done:
        tell(done, len(cases))
    if not missing:
        return
    work = _one_by_one if min(jobs, len(missing)) < 2 else _by_processes
    with contextlib.closing(work(dataset, cases, missing, jobs)) as results:
        for position, failure, told in results:
            done += 1
            if told is not None:
                dataset.remarks.add(cases[position].id, told)
            tell(done, len(cases))
            if failure is not None:
                yield failure
                if stop:
                    return


Results = Generator[tuple[int, Failure | None, dict[str, Any] | None], None, None]
"""Position of a case, its failure, or else what is told about it (:func:`medkit.data.sample.remarks`)."""


def _into_memory(dataset: Dataset, cases: Sequence[Case], tell: Callable[..., None], stop: bool) -> Iterator[Failure]:
    for done, case in enumerate(cases, 1):
        try:
            dataset.sample(case)
        except InputError as error:
            yield Failure(case.id, error)
            if stop:
                return
        tell(done, len(cases))


def _one_by_one(dataset: Dataset, cases: Sequence[Case], missing: Sequence[int], jobs: int) -> Results:
    assert dataset.cache is not None
    with dataset.cache.writer() as writer:
        for position in missing:
            case = cases[position]
            try:
                told = _prepare(dataset, case, writer)
            except InputError as error:
                yield position, Failure(case.id, error), None
            else:
                yield position, None, told


def _prepare(dataset: Dataset, case: Case, writer: ShardWriter) -> dict[str, Any]:
    sample = dataset.prepared(case)
    writer.add(dataset.keys.of(case).hex(), *pack(sample))
    return remarks(sample)


# -- several processes ---------------------------------------------------------------------------------------------


def _by_processes(dataset: Dataset, cases: Sequence[Case], missing: Sequence[int], jobs: int) -> Results:
    """Process i of n gets every n-th case from the i-th on."""
    context = multiprocessing.get_context("fork")  # sources of plugins that are not installed cannot be pickled
    number = min(jobs, len(missing))
    running: dict[Connection, tuple[Any, deque[int]]] = {}  # and the positions each has not reported yet
    try:
        for i in range(number):
            mine = list(missing[i::number])
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(dataset, cases, mine, there, os.getpid()), daemon=True)
            process.start()
            there.close()
            running[here] = process, deque(mine)
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                process, waiting = running[pipe]
                try:
                    message = json.loads(pipe.recv_bytes())
                except EOFError:
                    del running[pipe]
                    process.join()
                    if waiting:  # it ended without reporting its next case
                        raise _ended(process.exitcode, cases[waiting[0]].id) from None
                    continue
                if "fatal" in message:
                    raise RunError(*message["fatal"])
                waiting.popleft()
                yield message["position"], _failure(cases, message), message.get("told")
    finally:
        end_all([process for process, _ in running.values()])


def _failure(cases: Sequence[Case], message: dict[str, Any]) -> Failure | None:
    if "error" not in message:
        return None
    return Failure(cases[message["position"]].id, InputError(*message["error"]))


def _ended(code: int | None, case: str) -> RunError:
    if code is not None and code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    else:
        how = f"ended with code {code}"
    what = f"a process that prepares cases {how} at case '{case}'"
    return RunError(what, hint="was there too little memory? Fewer --jobs need less; what was prepared is kept")


def _work(dataset: Dataset, cases: Sequence[Case], mine: list[int], pipe: Connection, parent: int) -> None:
    """The work of one process; on SIGTERM it first makes readable what it has prepared."""
    settle(parent)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))

    def say(**message: Any) -> None:
        pipe.send_bytes(json.dumps(message).encode())

    assert dataset.cache is not None
    try:
        with dataset.cache.writer() as writer:
            for position in mine:
                try:
                    told = _prepare(dataset, cases[position], writer)
                except InputError as error:
                    say(position=position, error=[error.what, error.where, error.hint])
                except RunError:
                    raise
                except Exception:
                    what = f"preparation failed; this is a bug in medkit or a plugin:\n{traceback.format_exc().strip()}"
                    say(fatal=[what, f"case '{cases[position].id}'", None])
                    return
                else:
                    say(position=position, told=told)
    except RunError as error:
        say(fatal=[error.what, error.where, error.hint])
    finally:
        pipe.close()
        os._exit(0)  # do not run the parent's exit handlers again
