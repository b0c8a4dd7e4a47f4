"""The pytest side: a fixture that measures a case, with pytest-benchmark timing its reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medkit.bench.case import Case
from medkit.bench.device import place
from medkit.bench.results import CaseResult
from medkit.bench.session import Session
from medkit.bench.timing import Interleaved


class Carrier:
    """The pytest plugin through which ``medkit bench`` hands over its session and learns what failed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.collected = 0

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        wanted = [item for item in items if self.session.wants(_case(item))]
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = wanted
        self.collected = len(wanted)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._note(report)

    def pytest_keyboard_interrupt(self) -> None:
        self.session.failures.append("interrupted: what was still to come was not measured")

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """A case that failed is noted in its result; anything else is printed in full and its last line noted."""
        if not any(case.reason and case.reason in report.longreprtext for case in self.session.results):
            self.session.say(report.longreprtext)
            self.session.failures.append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")


def _case(item: pytest.Item) -> Case:
    callspec: Any = item.callspec  # type: ignore[attr-defined]
    found: Case = callspec.params["case"]
    return found


@pytest.fixture
def versus(benchmark: Any, request: pytest.FixtureRequest) -> Callable[[Case], CaseResult]:
    """``versus(case)``: check the variants, time them in turn, measure their memory.

    The reference's rounds are those of pytest-benchmark; the ratios of the others are its extra information.
    """
    carriers = [found for found in request.config.pluginmanager.get_plugins() if isinstance(found, Carrier)]
    if carriers:
        session = carriers[0].session
    else:
        session = Session(place())

    def rounds(turns: Interleaved, number: int) -> None:
        benchmark.pedantic(turns.reference, setup=turns.before, teardown=turns.after, rounds=number)

    def run(case: Case) -> CaseResult:
        benchmark.group = case.group or case.name
        result: CaseResult = session.run(case, Path(request.path), rounds)
        for variant in result.variants:
            if variant.speed is not None:
                benchmark.extra_info[variant.name] = {"speed": variant.speed, "error": variant.error}
        if result.status == "failed":
            pytest.fail(result.reason, pytrace=False)
        return result

    return run
