"""One case: its variants made, checked, timed in turn, their memory measured, its targets judged."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from medkit.bench.accuracy import Judge
from medkit.bench.case import Case, Target, Unavailable, Variant
from medkit.bench.memory import in_child, on_gpu
from medkit.bench.remote import Remote
from medkit.bench.results import CaseResult, TargetResult, VariantResult
from medkit.bench.timing import Interleaved, quartiles, ratios
from medkit.errors import MedkitError

Rounds = Callable[[Interleaved, int], None]


class Measurement:
    """A case of the pytest file ``suite`` on ``device``, and what has been found so far.

    A variant that fails, by an exception or by what it gives, is a row that says why; the others are measured. The case
    fails as a whole if its reference or its truth does. ``say`` gets the traceback of anything unexpected.
    """

    def __init__(self, case: Case, suite: Path, device: torch.device, say: Callable[[str], None]) -> None:
        self.case, self.suite, self.device, self.say = case, suite, device, say
        self.functions: dict[str, Callable[[], Any]] = {}
        self.result = CaseResult(
            suite.stem.removeprefix("bench_"),
            case.name,
            case.reference.name,
            case.allowed(device),
            case.relative,
            case.group,
            case.size,
        )
        self.rows = {
            variant.name: VariantResult(variant.name, dtype=variant.dtype or case.work.dtype)
            for variant in case.variants
        }
        self.result.variants = list(self.rows.values())

    def run(self, rounds: Rounds, number: int, budget: float, memory: bool) -> None:
        """Measure ``number`` rounds, or as many as ``budget`` seconds allow; ``rounds`` runs them."""
        try:
            for variant in self.case.variants:
                self._make(variant)
            if self._ready() and self._checked():
                turns = Interleaved(self.functions, self.case.reference.name, self.device)
                rounds(turns, turns.rounds(number, budget))
                self._fill(turns)
                if self.case.memory and memory:
                    self._memory()
        except Exception as error:
            self._fail(self.result, error)
        finally:
            for name in list(self.functions):
                self._drop(name)
            gc.collect()
        self.result.targets = [self._judge(target) for target in self.case.targets]
        wrong = [f"'{row.name}' failed: {row.reason}" for row in self.rows.values() if row.status == "failed"]
        if wrong and self.result.status == "ok":
            self.result.status, self.result.reason = "failed", "; ".join(wrong)
        for row in self.rows.values():
            if row.status == "ok" and row.seconds is None:
                row.status, row.reason = "skipped", "the case failed before it was timed"

    def _make(self, variant: Variant) -> None:
        row = self.rows[variant.name]
        try:
            if variant.environ is None:
                self.functions[variant.name] = variant.make(self.device)
            elif self.device.type != "cpu":
                raise Unavailable("a separate process is for settings of a CPU")
            else:
                self.functions[variant.name] = Remote(self.suite, self.case.name, variant.name, variant.environ)
        except Unavailable as reason:
            row.status, row.reason = "skipped", str(reason)
        except Exception as error:
            self._fail(row, error)

    def _ready(self) -> bool:
        """Whether there is a reference; without one there is nothing to compare the others with."""
        row = self.rows[self.case.reference.name]
        if row.name not in self.functions:
            self.result.status, self.result.reason = "failed", f"the reference '{row.name}' {row.status}: {row.reason}"
        return row.name in self.functions

    def _checked(self) -> bool:
        """Check every variant's result before anything is timed; returns whether the reference is still there.

        So every variant has been called once, and what is compiled or chosen at a first call is not part of a time.
        """
        judge = Judge(self.case, self.device)
        for name in list(self.functions):
            row = self.rows[name]
            try:
                found = judge.look(self.case.variant(name), self.functions[name])
                row.error, row.flips = found.error, found.flips
                if found.wrong:
                    row.status, row.reason = "failed", found.wrong
            except Exception as error:
                self._fail(row, error)
            if row.status == "failed":
                self._drop(name)
                if name == self.case.reference.name:
                    break
        self.result.tolerance = judge.tolerance
        return self._ready()

    def _fill(self, turns: Interleaved) -> None:
        base, work = turns.times[self.case.reference.name], self.case.work
        for name, times in turns.times.items():
            row = self.rows[name]
            row.seconds, row.rounds = quartiles(times), len(times)
            row.speed = quartiles(ratios(base, times))
            row.remark = getattr(turns.functions[name], "remark", "")
            if any(variant.environ is not None for variant in self.case.variants):
                row.faults = quartiles(turns.faults[name])[1]
            if self.case.variant(name).same:
                took = row.seconds[1]
                row.flops_per_s = work.flops / took if work.flops else None
                row.bytes_per_s = work.bytes / took if work.bytes else None

    def _memory(self) -> None:
        for name, function in self.functions.items():
            variant, row = self.case.variant(name), self.rows[name]
            if not variant.memory:
                continue
            try:
                if self.device.type == "cuda":
                    row.memory = on_gpu(function, self.device)
                else:
                    row.memory = in_child(self.suite, self.case.name, name, variant.environ)
            except Exception as error:
                self._fail(row, error)
        base = self.rows[self.case.reference.name].memory
        for row in self.rows.values():
            if base and row.memory is not None:
                row.memory_share = row.memory / base

    def _judge(self, target: Target) -> TargetResult:
        row, value = self.rows[target.variant], None
        if row.speed is not None:
            value = {
                "speed": row.speed[1],
                "time": 1 / row.speed[1],
                "memory": row.memory_share,
                "error": row.error,
            }[target.quantity]
        judged = value is not None and self.device.type == target.device
        met = target.met(value) if judged and value is not None else None
        return TargetResult(target.variant, target.quantity, target.bound, str(target), value, met)

    def _fail(self, row: CaseResult | VariantResult, error: Exception) -> None:
        if isinstance(error, MedkitError):
            row.reason = str(error)
        else:
            self.say("".join(traceback.format_exception(error)))
            lines = str(error).strip().splitlines()
            row.reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        row.status = "failed"

    def _drop(self, name: str) -> None:
        function = self.functions.pop(name)
        if isinstance(function, Remote):
            function.close()
