"""Many programs in a process of its own: one that hangs, crashes or grows is found, told and left behind."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import mutations
from fuzz.judge import judge, kinds

SECONDS = 20.0  # for one input
MEMORY = 2**30  # bytes that reading may need beyond what the process had before


@dataclass
class Tally:
    """How many inputs ended how, and each fault with what makes it again."""

    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{dict(self.ends)}, {len(self.faults)} faults" + "".join(f"\n  {fault}" for fault in self.faults)


def program_of(name: str, seed: int) -> list[mutations.Operation]:
    """The program that ``seed`` stands for."""
    return mutations.drawn(np.random.default_rng([seed, len(name)]), kinds(name))


def _work(pipe: Any, inputs: dict[str, Path]) -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        peak = None
        while (task := pipe.recv()) is not None:
            name, seed = task
            try:
                end = judge(name, inputs[name], program_of(name, seed), Path(folder))
            except Exception as error:
                end = f"fault: {error}"
            now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if peak is not None and now - peak > MEMORY:
                end = f"fault: {(now - peak) / 2**30:.1f} GiB more memory"
            peak = now
            pipe.send(end)


def sweep(inputs: dict[str, Path], seeds: Iterator[int] | range) -> Tally:
    """Judge every seed on one of the inputs, in turn."""
    tally, names, context = Tally(), sorted(inputs), multiprocessing.get_context("spawn")
    process = pipe = None
    try:
        for seed in seeds:
            if process is None:
                pipe, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, inputs), daemon=True)
                process.start()
                theirs.close()
                first = True
            assert pipe is not None
            name = names[seed % len(names)]
            end = "fault: the process died"
            try:
                pipe.send((name, seed))
                # The first input also waits for imports.
                end = pipe.recv() if pipe.poll(SECONDS + 60 * first) else f"fault: no end within {SECONDS:g} s"
            except (EOFError, OSError):
                pass
            first = False
            tally.ends[f"{name.split('-')[0]} {end.split(':')[0]}"] += 1
            if end.startswith("fault"):
                tally.faults.append(f"{name} seed {seed} {program_of(name, seed)}: {end}")
            if end.startswith(("fault: no end", "fault: the process")):
                process.kill()
                process = None
    finally:
        if process is not None:
            process.kill()
    return tally
