"""A variant in a separate process, for settings that hold for a whole process, such as those of its allocator."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medkit.bench.case import Unavailable, arrays
from medkit.errors import RunError

PAGES_KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34), "MALLOC_TOP_PAD_": str(1 << 24)}
"""glibc's allocator then gives nothing back to the system, so that pages are mapped once; see docs/benchmarks.md."""


def surroundings(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables of a process that measures: this one's, the same number of threads, and ``environ``."""
    return os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | dict(environ or {})


class Remote:
    """A function that a separate process calls when this one is called; the two never compute at the same time.

    Parameters
    ----------
    suite, case, variant:
        What the process makes and calls.
    environ:
        Its environment variables in addition to those of this process.

    Raises
    ------
    Unavailable
        if the variant cannot run.
    RunError
        if the process ends, here or at a call.
    """

    def __init__(self, suite: Path, case: str, variant: str, environ: Mapping[str, str]) -> None:
        self.name, self.faults = f"{case}, {variant}", 0.0
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - as long as the process
        command = [sys.executable, "-m", "medkit.bench.child", str(suite), case, variant, "serve"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            encoding="utf-8",
            errors="replace",
            env=surroundings(environ),
        )
        self._end = weakref.finalize(self, _end, self._process)
        reason = self._answer().get("unavailable")
        if reason is not None:
            self.close()
            raise Unavailable(reason)

    def __call__(self) -> None:
        self.seconds(1)

    def seconds(self, calls: int) -> float:
        """Seconds per call over ``calls`` calls by the clock there; ``faults`` is then how many pages it had mapped."""
        answer = self._ask(f"call {calls}")
        self.faults = answer["faults"]
        took: float = answer["seconds"]
        return took

    def result(self) -> list[np.ndarray]:
        """What a call gives, as arrays."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "result.npz"
            count = self._ask(f"result {path}")["arrays"]
            with np.load(path, allow_pickle=False) as content:
                return [content[f"arr_{i}"] for i in range(count)]

    def close(self) -> None:
        self._end()

    def _ask(self, order: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: there is no answer, which says more
            print(order, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            lines = self._said.read().strip().splitlines()
            raise RunError(f"the separate process failed: {lines[-1] if lines else 'no output'}", self.name)
        answer: dict[str, Any] = json.loads(line)
        return answer


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()  # the end of its orders
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def serve(make: Callable[[], Callable[[], Any]]) -> None:
    """The other side: make the function, then call it for every line of the standard input until that ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a suite prints is not an answer

    def answer(**content: Any) -> None:
        print(json.dumps(content), file=answers, flush=True)

    try:
        function = make()
    except Unavailable as reason:
        answer(unavailable=str(reason))
        return
    answer(ready=True)
    for order in sys.stdin:
        word, _, what = order.strip().partition(" ")
        if word == "result":
            kept = list(arrays(function()))
            np.savez(what, *kept)
            answer(arrays=len(kept))
            del kept
        else:
            before, start, calls = page_faults(), time.perf_counter(), int(what)
            for _ in range(calls):
                function()
            answer(seconds=(time.perf_counter() - start) / calls, faults=(page_faults() - before) / calls)


def page_faults() -> int:
    """Pages mapped for this process so far without reading a disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
