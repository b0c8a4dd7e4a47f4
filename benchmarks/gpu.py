"""Checks that need a GPU, in eight minutes: the program behind ``.ci/gpu``. It needs only Python's standard library.

A new environment sees all packages of the Python that runs this, and gets medkit and, from ``--wheels``, what is missing.
Then come the steps, each a process of its own with a fraction of the time: the tests marked ``gpu``, a training step of
the three main recipes in bf16 with a trace, and the suites of the FFT-Conv block and the 3-D convolution. Each writes
while it measures, so its results are kept if it fails or is stopped, and the next one runs all the same.

    .ci/gpu [--wheels FOLDER] [--device cpu] [--seconds N] [--results FOLDER] [--installed]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 480.0  # for everything; more time is divided among all steps
LEAST = 5.0  # least seconds for which a step is started
COPIED = ("medkit", "plugins", "recipes", "benchmarks", "tests", "pyproject.toml", "README.md", "LICENSE")
Content = Any


@dataclass(frozen=True)
class Step:
    """A process with its fraction of the time, the file that it writes, and a summary of that file."""

    name: str
    command: list[str]
    seconds: float
    result: str  # a pattern of names
    told: Callable[[Content], list[str]]


@dataclass
class Run:
    """The time that is left, and the summary so far."""

    seconds: float
    results: Path
    work: Path
    prefix: str
    begun: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    failed: bool = False

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.begun)

    @property
    def summary(self) -> Path:
        return self.results / f"{self.prefix}-summary.txt"

    def say(self, line: str, failed: bool = False) -> None:
        """Print a line of the summary, and write all of it anew."""
        self.lines.append(line)
        self.failed |= failed
        print(line, flush=True)
        self.summary.write_text("\n".join(self.lines) + "\n", encoding="utf-8")

    def take(self, step: Step, environment: dict[str, str], folder: Path) -> None:
        """Run a step for at most its fraction of the time, or for what is left."""
        allowed = min(step.seconds * max(1.0, self.seconds / SECONDS), self.left)
        if allowed < LEAST:
            self.say(f"{step.name}: NOT RUN, no time was left", failed=True)
            return
        print(f"\n== {step.name} ({allowed:.0f} s at most)", flush=True)
        since, wall = time.monotonic(), time.time()
        code = run_for(step.command, allowed, environment, folder)
        took = time.monotonic() - since
        if code is None:
            self.say(f"{step.name}: STOPPED after {took:.0f} s; what it had measured is kept", failed=True)
        elif code:
            self.say(f"{step.name}: FAILED with exit code {code} after {took:.0f} s", failed=True)
        else:
            self.say(f"{step.name}: done in {took:.0f} s")
        for path in sorted(self.results.glob(step.result)):
            if path.stat().st_mtime >= wall - 1:
                for line in told_of(path, step.told):
                    self.say(f"  {line}")


def run_for(command: Sequence[str], seconds: float, environment: dict[str, str], folder: Path) -> int | None:
    """The exit code of a process, or None if it took too long and was ended together with its children."""
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(3)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def told_of(path: Path, told: Callable[[Content], list[str]]) -> list[str]:
    try:
        return told(json.loads(path.read_text("utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        return [f"{path.name} cannot be read: {error!r}"]


def outcomes_told(content: Content) -> list[str]:
    found = content["tests"]
    counts = {word: sum(test["outcome"] == word for test in found) for word in ("passed", "failed", "skipped")}
    lines = [", ".join(f"{number} {word}" for word, number in counts.items()) + f" on {content['device']}"]
    for test in found:
        lines += [f"{test['name']}: {test['outcome'] or 'unfinished'} {test['reason']}"] * (test["outcome"] != "passed")
        lines += [f"{test['name']}: {key}: {value}" for key, value in test["said"].items()]
    return lines


def training_told(content: Content) -> list[str]:
    return [
        f"{row['recipe']}: "
        + (
            f"{1e3 * row['seconds_a_step']:.1f} ms per step, the device waited {100 * row['waited']:.1f} % of it: "
            + ", ".join(f"{100 * part:.1f} % {name}" for name, part in row["waited_in"].items())
            if row["status"] == "ok"
            else f"{row['status']}: {row['reason']}"
        )
        for row in content["recipes"]
    ]


def suite_told(content: Content) -> list[str]:
    cases = content["cases"]
    wrong = [f"{case['suite']}: {case['name']}: {case['reason']}" for case in cases if case["status"] == "failed"]
    judged = [target["met"] for case in cases for target in case["targets"] if target["met"] is not None]
    timed = sum(bool(variant["seconds"]) for case in cases for variant in case["variants"])
    first = f"{len(cases)} cases, {timed} variants timed on {content['environment']['device']}"
    return [first + f", {sum(judged)} of {len(judged)} targets met" * bool(judged), *wrong]


def steps(python: str, device: str, results: Path, prefix: str) -> list[Step]:
    """The steps in their order, the shorter ones first; on a CPU with tiny sizes."""
    tiny = device == "cpu"
    suite = ["--quick", "--rounds", "3", "--no-memory"] if tiny else ["--rounds", "9"]
    bench = [python, "-m", "medkit", "bench"]
    saving = ["--device", device, "--results", str(results), *suite, "--save"]
    trace = [python, "-m", "medkit_benchmarks.training_trace", "--device", device, "--save"]
    tests = [python, "-m", "pytest", "tests/gpu", "-m", "gpu", "-p", "no:cacheprovider", "-v"]
    return [
        Step("tests", tests, 150, f"{prefix}-tests.json", outcomes_told),
        Step(
            "training",
            [*trace, str(results / f"{prefix}-training.json"), *["--tiny"] * tiny],
            110,
            f"{prefix}-training.json",
            training_told,
        ),
        Step(
            "FFT-Conv", [*bench, "fftconv", *saving, f"{prefix}-fftconv"], 110, f"{prefix}-fftconv-*.json", suite_told
        ),
        Step("Conv3D", [*bench, "conv3d", *saving, f"{prefix}-conv3d"], 90, f"{prefix}-conv3d-*.json", suite_told),
    ]


def install(run: Run, wheels: Path | None) -> tuple[str, Path]:
    """Make an environment with medkit; returns its Python and the copy of the sources it was made from."""
    folder, source = run.work / "environment", run.work / "source"
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "results")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    ask = 'import sysconfig; print(sysconfig.get_path("purelib"))'
    own = subprocess.run([python, "-c", ask], check=True, capture_output=True, encoding="utf-8").stdout.strip()
    # Not --system-site-packages: if this Python is a virtual environment, that would leave out its packages.
    seen = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    Path(own, "parent.pth").write_text("\n".join(seen) + "\n", encoding="utf-8")
    options = ["--no-index", "--no-build-isolation", "--quiet", *(["--find-links", str(wheels)] if wheels else [])]
    pip = [python, "-m", "pip", "install", *options]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if wheels and any(wheels.glob("setuptools-*.whl")):
        subprocess.run([*pip, "--upgrade", "setuptools"], check=False, env=environment)
    done = subprocess.run(
        [*pip, f"{source}[test]"], env=environment, timeout=run.left, capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n")
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise OSError("; ".join(lines) or f"pip ended with {done.returncode}")
    return python, source


def about(run: Run, device: str) -> None:
    """Say what the numbers were measured on."""
    found = {name: _version(name) for name in ("torch", "triton")}
    versions = ", ".join(f"{name} {version}" for name, version in found.items())
    run.say(f"Python {sys.version.split()[0]}, {versions}, device {device}")
    if device == "cpu":
        run.say("A rehearsal with tiny sizes on a CPU: it shows that the steps work, and its numbers mean nothing.")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="where to install what is missing from")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:NUMBER, or cpu for a rehearsal with tiny sizes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything (%(default)s)")
    parser.add_argument("--results", type=Path, metavar="FOLDER", default=ROOT / "benchmarks" / "results")
    parser.add_argument("--installed", action="store_true", help="medkit is installed in this Python: use it as it is")
    given = parser.parse_args()
    if given.wheels is not None and not given.wheels.is_dir():
        parser.error(f"there is no folder {given.wheels}")
    if given.device.partition(":")[0] not in ("cpu", "cuda"):
        parser.error(f"'{given.device}' is not a device: cuda, cuda:NUMBER or cpu")
    results = given.results.resolve()
    results.mkdir(parents=True, exist_ok=True)
    prefix = "rehearsal" if given.device == "cpu" else "gpu"
    with tempfile.TemporaryDirectory() as work:
        run = Run(given.seconds, results, Path(work), prefix)
        about(run, given.device)
        if given.installed:
            python, source = sys.executable, ROOT
        else:
            try:
                python, source = install(run, given.wheels and given.wheels.resolve())
            except (subprocess.SubprocessError, OSError) as error:
                run.say(f"installing: FAILED: {error}; give missing packages with --wheels FOLDER", True)
                return finish(run)
            run.say(f"installing: done in {run.seconds - run.left:.0f} s")
        environment = os.environ | {
            "MEDKIT_CACHE": str(run.work / "cache"),
            "MEDKIT_GPU_DEVICE": given.device,
            "MEDKIT_GPU_TESTS": str(results / f"{prefix}-tests.json"),
            "PYTHONUNBUFFERED": "1",
        }
        for step in steps(python, given.device, results, prefix):
            run.take(step, environment, source)
    return finish(run)


def finish(run: Run) -> int:
    """Copy what was written to ``$OUT``, if there is one."""
    run.say(f"everything: {run.seconds - run.left:.0f} s, {'SOMETHING FAILED' if run.failed else 'nothing failed'}")
    if out := os.environ.get("OUT"):
        for path in run.results.glob(f"{run.prefix}-*"):
            if path.suffix in (".json", ".txt"):
                shutil.copy(path, out)
    print(f"\nresults: {run.results}/{run.prefix}-*")
    return int(run.failed)


if __name__ == "__main__":
    sys.exit(main())
