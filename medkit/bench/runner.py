"""Find the suites and run them under pytest."""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from medkit.bench.results import Results, environment
from medkit.bench.session import Session
from medkit.errors import InputError, did_you_mean

PACKAGE = "medkit_benchmarks"


def suites() -> dict[str, Path]:
    """Suites by name: the pytest files ``bench_NAME.py`` of the benchmarks package that have cases."""
    folder = Path(str(importlib.resources.files(PACKAGE)))
    return {
        path.stem.removeprefix("bench_"): path
        for path in sorted(folder.glob("bench_*.py"))
        if "\ndef cases(" in path.read_text("utf-8")
    }


def choose(names: Sequence[str]) -> dict[str, Path]:
    """The suites of these names; ``all``, or none, for every one."""
    known = suites()
    if not names or "all" in names:
        return known
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"suites: {', '.join(known)}"
            raise InputError(f"there is no benchmark suite '{name}'", hint=hint)
    return {name: known[name] for name in names}


def run(chosen: dict[str, Path], session: Session, keep: Callable[[Results], object] | None = None) -> Results:
    """Run the suites; what failed is in ``failures``.

    Parameters
    ----------
    keep:
        Given the results so far after every case, so that they survive this process however it ends.

    Raises
    ------
    InputError
        if pytest-benchmark is not installed, or no case is left to run.
    """
    missing = [name for name in ("pytest", "pytest_benchmark") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(name.replace('_', '-') for name in missing)} is not installed",
            hint="pip install 'medkit-imaging[bench]'",
        )
    import pytest

    from medkit.bench.fixtures import Carrier

    def results(*more: str) -> Results:
        about = environment(session.device, list(chosen))
        return Results(about, session.roofline.measured(), session.finish(), [*session.failures, *more])

    if keep is not None:
        session.keep = lambda: keep(results("measuring did not finish"))
    carrier = Carrier(session)
    folder = next(iter(chosen.values())).parent
    options = ["-s", "-q", "--rootdir", str(folder), "-c", str(folder / "pytest.ini")]
    options += ["--benchmark-enable", "--benchmark-quiet"]
    with contextlib.redirect_stdout(io.StringIO()) as told, tempfile.TemporaryDirectory() as storage:
        options += ["--benchmark-storage", f"file://{storage}"]  # which would otherwise be made in the current folder
        code = pytest.main([*options, *map(str, chosen.values())], plugins=[carrier])
    if not carrier.collected and not session.failures:
        raise InputError("no case is left to run", hint="leave out --only or --quick")
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not session.failures:
        session.failures.append(f"pytest ended with {code}: {told.getvalue().strip()}")
    return results()
