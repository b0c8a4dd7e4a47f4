"""One run of benchmarks: every case is checked, timed in rounds, and its memory measured."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medkit.bench.case import Case, Target, Unavailable, Variant, difference
from medkit.bench.device import current, tf32
from medkit.bench.memory import in_child, on_gpu
from medkit.bench.remote import Remote
from medkit.bench.results import CaseResult, TargetResult, VariantResult
from medkit.bench.roofline import Roofline
from medkit.bench.timing import Interleaved, quartiles, ratios
from medkit.errors import RunError

Rounds = Callable[[Interleaved, int], None]
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
        Instead of each case's own number.
    budget:
        Seconds that the rounds of one case may take; at least three rounds are run.
    memory:
        Measure memory where a case asks for it.
    say:
        Told what happens, a line at a time.
    """

    device: torch.device
    quick: bool = False
    only: str | None = None
    rounds: int | None = None
    budget: float = 12.0
    memory: bool = True
    say: Callable[[str], None] = lambda line: None
    results: list[CaseResult] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roofline = Roofline(self.device)
        self._cases: list[Case] = []

    def wants(self, case: Case) -> bool:
        return (case.quick or not self.quick) and (self.only is None or self.only in case.name)

    def run(self, case: Case, suite: Path, rounds: Rounds = by_hand) -> CaseResult:
        """Measure ``case`` of the pytest file ``suite``; ``rounds`` runs so many rounds.

        Raises
        ------
        RunError
            if a variant's error is above its tolerance: it is not timed.
        """
        self.say(f"{suite.stem.removeprefix('bench_')}: {case.name}")
        device = HOST if case.host else self.device
        result = CaseResult(
            suite.stem.removeprefix("bench_"),
            case.name,
            case.reference.name,
            case.allowed(device),
            case.relative,
            case.group,
            case.size,
        )
        functions: dict[str, Callable[[], Any]] = {}
        try:
            with current(device), tf32(False):
                self._measure(case, suite, device, functions, result, rounds)
        finally:
            for function in functions.values():
                if isinstance(function, Remote):
                    function.close()
            functions.clear()
            gc.collect()
        self.results.append(result)
        self._cases.append(case)
        if device == self.device and (case.work.flops or case.work.bytes):
            ran = [found for found in result.variants if found.seconds is not None]
            for dtype in dict.fromkeys([case.work.dtype, *(found.dtype for found in ran)]):
                self.roofline.measure(dtype, case.work.bytes)
            for found in ran:
                if found.flops_per_s:
                    self.roofline.seen(found.dtype, found.flops_per_s, f"{result.suite}: {found.name}")
        return result

    def finish(self) -> list[CaseResult]:
        """All results, with their shares of the roofline, which is known best at the end."""
        for result, case in zip(self.results, self._cases, strict=True):
            for found in result.variants:
                rated = found.seconds is not None and (found.flops_per_s or found.bytes_per_s)
                if rated and found.seconds and not (case.host and self.device != HOST):
                    found.roofline_share = self.roofline.share(case.work, found.seconds[1], found.dtype)
        return self.results

    def _measure(
        self,
        case: Case,
        suite: Path,
        device: torch.device,
        functions: dict[str, Callable[[], Any]],
        result: CaseResult,
        rounds: Rounds,
    ) -> None:
        for variant in case.variants:
            found = VariantResult(variant.name, dtype=variant.dtype or case.work.dtype)
            result.variants.append(found)
            try:
                functions[variant.name] = self._made(case, variant, suite, device)
            except Unavailable as reason:
                found.skipped = str(reason)
        if case.reference.name not in functions:
            raise RunError(f"the reference cannot run: {result.variants[0].skipped}", case.name)
        self._check(case, functions, result, device)
        turns = Interleaved(functions, case.reference.name, device)
        rounds(turns, turns.rounds(self.rounds or case.rounds, self.budget))
        self._fill(case, turns, result)
        if case.memory and self.memory:
            self._memory(case, suite, device, functions, result)
        result.targets = [self._judge(target, result, device) for target in case.targets]

    def _made(self, case: Case, variant: Variant, suite: Path, device: torch.device) -> Callable[[], Any]:
        if variant.environ is None:
            return variant.make(device)
        if device.type != "cpu":
            raise Unavailable("a process of its own is for settings of a CPU")
        return Remote(suite, case.name, variant.name, variant.environ)

    def _check(
        self, case: Case, functions: dict[str, Callable[[], Any]], result: CaseResult, device: torch.device
    ) -> None:
        """Compare every variant's result with the truth before anything is timed.

        So every variant has been called once, and what is compiled or chosen at a first call is no part of a time.
        """
        expected = case.truth(device)() if case.truth is not None else _result(functions[case.reference.name])
        problems = []
        for name, function in functions.items():
            variant, found = case.variant(name), result.variant(name)
            if variant is case.reference and case.truth is None:
                continue
            given = _result(function)
            if not variant.same:
                continue
            assert found is not None
            found.error = difference(given, expected, case.relative)
            allowed = case.allowed(device, variant)
            if not found.error <= allowed:
                problems.append(f"'{name}' is off by {found.error:.1e}, above the tolerance of {allowed:.1e}")
        if problems:
            raise RunError("; ".join(problems), case.name, "a wrong variant is not timed")

    def _fill(self, case: Case, turns: Interleaved, result: CaseResult) -> None:
        base = turns.times[case.reference.name]
        for found in result.variants:
            times = turns.times.get(found.name)
            if not times:
                continue
            found.seconds, found.rounds = quartiles(times), len(times)
            found.speed = quartiles(ratios(base, times))
            found.remark = getattr(turns.functions[found.name], "remark", "")
            if any(variant.environ is not None for variant in case.variants):
                found.faults = quartiles(turns.faults[found.name])[1]
            if case.variant(found.name).same:
                took = found.seconds[1]
                found.flops_per_s = case.work.flops / took if case.work.flops else None
                found.bytes_per_s = case.work.bytes / took if case.work.bytes else None

    def _memory(
        self,
        case: Case,
        suite: Path,
        device: torch.device,
        functions: dict[str, Callable[[], Any]],
        result: CaseResult,
    ) -> None:
        for found in result.variants:
            variant = case.variant(found.name)
            if found.name in functions and variant.memory:
                if device.type == "cuda":
                    found.memory = on_gpu(functions[found.name], device)
                else:
                    found.memory = in_child(suite, case.name, found.name, variant.environ)
        base = result.variants[0].memory
        for found in result.variants:
            if base and found.memory is not None:
                found.memory_share = found.memory / base

    def _judge(self, target: Target, result: CaseResult, device: torch.device) -> TargetResult:
        found, value = result.variant(target.variant), None
        assert found is not None
        if found.speed is not None:
            value = {
                "speed": found.speed[1],
                "time": 1 / found.speed[1],
                "memory": found.memory_share,
                "error": found.error,
            }[target.quantity]
        judged = value is not None and device.type == target.device
        met = target.met(value) if judged and value is not None else None
        return TargetResult(target.variant, target.quantity, target.bound, str(target), value, met)


def _result(function: Callable[[], Any]) -> Any:
    return function.result() if isinstance(function, Remote) else function()
