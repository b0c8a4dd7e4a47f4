"""One run of benchmarks: every case is checked, timed in rounds, and its memory measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from medkit.bench.case import Case
from medkit.bench.device import current, tf32
from medkit.bench.measurement import Measurement, Rounds
from medkit.bench.results import CaseResult
from medkit.bench.roofline import Roofline
from medkit.bench.timing import Interleaved

HOST = torch.device("cpu")


def by_hand(turns: Interleaved, rounds: int) -> None:
    """Run the rounds without pytest-benchmark."""
    for _ in range(rounds):
        turns.before()
        turns.reference()
        turns.after()


@dataclass
class Session:
    """How cases are measured, and what has been found.

    Parameters
    ----------
    device:
        Where the variants run.
    quick, only:
        Leave out cases that are not quick, or without this text in their name.
    rounds:
        In place of each case's own number.
    budget:
        Seconds that the rounds of one case may take; at least three rounds are run.
    memory:
        Measure memory if a case asks for it.
    say:
        Told what happens, a line at a time.
    keep:
        Called after every case, to keep what has been found so far.
    """

    device: torch.device
    quick: bool = False
    only: str | None = None
    rounds: int | None = None
    budget: float = 12.0
    memory: bool = True
    say: Callable[[str], None] = lambda line: None
    keep: Callable[[], object] | None = None
    results: list[CaseResult] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roofline = Roofline(self.device)
        self._cases: list[Case] = []

    def wants(self, case: Case) -> bool:
        return (case.quick or not self.quick) and (self.only is None or self.only in case.name)

    def run(self, case: Case, suite: Path, rounds: Rounds = by_hand) -> CaseResult:
        """Measure ``case`` of the pytest file ``suite``; ``rounds`` runs so many rounds.

        What fails is reported in the result, in its rows, and in ``failures``.
        """
        self.say(f"{suite.stem.removeprefix('bench_')}: {case.name}")
        device = HOST if case.host else self.device
        measurement = Measurement(case, suite, device, self.say)
        with current(device), tf32(False):
            measurement.run(rounds, self.rounds or case.rounds, self.budget, self.memory)
        result = measurement.result
        self.results.append(result)
        self._cases.append(case)
        if result.status == "failed":
            self.failures.append(f"{result.suite}: {result.name}: {result.reason}")
        if device == self.device and (case.work.flops or case.work.bytes) and not result.unmeasured:
            self._rates(case, result)
        if self.keep is not None:
            self.keep()
        return result

    def _rates(self, case: Case, result: CaseResult) -> None:
        """Measure the roof for this case, and raise it to what its variants reached."""
        ran = [found for found in result.variants if found.seconds is not None]
        for dtype in dict.fromkeys([case.work.dtype, *(found.dtype for found in ran)]):
            self.roofline.measure(dtype, case.work.bytes)
        for found in ran:
            if found.flops_per_s:
                self.roofline.seen(found.dtype, found.flops_per_s, f"{result.suite}: {found.name}")

    def finish(self) -> list[CaseResult]:
        """All results, with their shares of the roofline, which is known best at the end."""
        for result, case in zip(self.results, self._cases, strict=True):
            for found in result.variants:
                rated = found.seconds is not None and (found.flops_per_s or found.bytes_per_s)
                if rated and found.seconds and not (case.host and self.device != HOST):
                    found.roofline_share = self.roofline.share(case.work, found.seconds[1], found.dtype)
        return self.results
