"""Results of a benchmark run: records, their file, and the comparison with an earlier run."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from medkit.errors import InputError, RunError
from medkit.records import made_with, write_atomically

FORMAT = 2
Status = Literal["ok", "skipped", "failed"]
LIBRARIES = ("torch", "numpy", "opencv-python-headless", "triton")


@dataclass
class VariantResult:
    """One variant of a case. ``speed`` is the reference's time over the variant's; triples are (q1, median, q3).

    ``flips`` are the arguments of ReLUs that rounded to the other side of zero; ``faults`` are the pages a call had
    mapped, kept if a variant has a separate process; ``remark`` is what the variant says about itself. ``reason``
    says why it was ``skipped`` or ``failed``.
    """

    name: str
    seconds: tuple[float, float, float] | None = None
    speed: tuple[float, float, float] | None = None
    rounds: int = 0
    error: float | None = None
    memory: int | None = None
    memory_share: float | None = None
    flops_per_s: float | None = None
    bytes_per_s: float | None = None
    roofline_share: float | None = None
    dtype: str = ""
    faults: float | None = None
    remark: str = ""
    flips: int | None = None
    status: Status = "ok"
    reason: str = ""


@dataclass
class TargetResult:
    """A promise and what was found; ``met`` is None if it could not be judged."""

    variant: str
    quantity: str
    bound: float
    text: str
    found: float | None
    met: bool | None


@dataclass
class CaseResult:
    """All variants of a case; it has ``failed``, for the ``reason`` given, if one or all of them have."""

    suite: str
    name: str
    reference: str
    tolerance: float
    relative: bool
    group: str = ""
    size: int = 0
    variants: list[VariantResult] = field(default_factory=list)
    targets: list[TargetResult] = field(default_factory=list)
    status: Status = "ok"
    reason: str = ""

    @property
    def unmeasured(self) -> bool:
        """Whether no variant was timed."""
        return all(variant.seconds is None for variant in self.variants)

    def variant(self, name: str) -> VariantResult | None:
        return next((variant for variant in self.variants if variant.name == name), None)


@dataclass
class Results:
    """All cases of a run, the machine, and what failed."""

    environment: dict[str, Any]
    roofline: dict[str, float] = field(default_factory=dict)
    cases: list[CaseResult] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def write(results: Results, path: Path) -> Path:
    """Write ``results`` as JSON, whole or not at all; an earlier file of that name is replaced."""
    return replace(path, json.dumps({"medkit_bench": FORMAT, **asdict(results)}, indent=1) + "\n")


def replace(path: Path, text: str) -> Path:
    """Write a text file whole or not at all, along with its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder cannot be made: {error.strerror}", str(path.parent)) from error
    write_atomically(path, text.encode())
    return path


def read(path: Path) -> Results:
    """Read what :func:`write` wrote.

    Raises
    ------
    InputError
        if the file is missing or is something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["medkit_bench"] not in (1, FORMAT):
            raise InputError(f"results of format {content['medkit_bench']}, not {FORMAT}", str(path), "measure again")
        cases = [_case(case) for case in content["cases"]]
        return Results(content["environment"], content["roofline"], cases, content["failures"])
    except OSError as error:
        there = sorted(other.stem for other in path.parent.glob("*.json"))
        hint = f"saved so far: {', '.join(there)}" if there else "save some with --save NAME"
        raise InputError(f"no results can be read: {error.strerror}", str(path), hint) from error
    except (ValueError, KeyError, TypeError) as error:
        hint = "'medkit bench SUITE --save NAME' writes such files"
        raise InputError(f"this is not a file of benchmark results ({error})", str(path), hint) from error


def _case(content: dict[str, Any]) -> CaseResult:
    variants = [_variant(variant) for variant in content["variants"]]
    targets = [TargetResult(**target) for target in content["targets"]]
    return CaseResult(**content | {"variants": variants, "targets": targets})


def _variant(content: dict[str, Any]) -> VariantResult:
    known = content | {key: tuple(content[key]) if content[key] else None for key in ("seconds", "speed")}
    if "skipped" in known:  # format 1, which kept nothing that failed
        skipped = known.pop("skipped")
        known |= {"status": "skipped" if skipped else "ok", "reason": skipped or ""}
    return VariantResult(**known)


def slower(now: Results, before: Results, above: float) -> tuple[list[tuple[str, float]], int]:
    """Variants whose median time is more than ``above`` times what it was, slowest first, and how many were compared.

    Raises
    ------
    InputError
        if the two runs have no variant in common.
    """
    earlier = {(c.suite, c.name, v.name): v.seconds[1] for c in before.cases for v in c.variants if v.seconds}
    found = {
        f"{c.suite}, {c.name}, {v.name}": v.seconds[1] / earlier[c.suite, c.name, v.name]
        for c in now.cases
        for v in c.variants
        if v.seconds and (c.suite, c.name, v.name) in earlier
    }
    if not found:
        raise InputError("the two runs have no variant in common", hint="compare runs of the same suites")
    worse = [(name, ratio) for name, ratio in found.items() if ratio > above]
    return sorted(worse, key=lambda pair: -pair[1]), len(found)


def comparable(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """What in two environments makes times differ on its own, in words; good to know before anything is measured.

    Raises
    ------
    InputError
        if they have different devices or numbers of threads: their ratio would say nothing.
    """
    for key, told in (("device", "device"), ("threads", "number of threads")):
        if now[key] != before[key]:
            hint = "compare runs on one machine with the same OMP_NUM_THREADS; --save NAME keeps this one's"
            raise InputError(
                f"the saved results are from another {told}: {before[key]}, not {now[key]}", "--compare", hint
            )
    one, other = before["libraries"], now["libraries"]
    changed = [f"{name} was {old}" for name, old in one.items() if other.get(name) != old]
    if before.get("allocator", {}) != now.get("allocator", {}):
        changed.append("the allocator's settings (MALLOC_*) were different")
    return changed


def path_of(folder: Path, name: str, device: torch.device) -> Path:
    """Where results saved as ``name`` on ``device`` are: ``NAME-DEVICE.json``.

    Raises
    ------
    InputError
        if ``name`` is not a plain word.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"'{name}' cannot name results", "--save", "letters, digits, '-', '_' and '.'")
    label = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return folder / f"{name}-{re.sub(r'[^a-z0-9_]+', '-', label.lower())}.json"


def environment(device: torch.device, suites: Sequence[str]) -> dict[str, Any]:
    """What a reader needs to repeat the measurement. No host or user names."""
    return {
        **made_with(LIBRARIES),
        "commit": commit_of(Path(__file__).parent),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "allocator": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
        "suites": list(suites),
        "measured": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def commit_of(folder: Path) -> str | None:
    """The commit of the checkout that contains a folder, with ``-dirty`` if it was changed; None without one.

    Results themselves do not count: a measurement that keeps what it has so far would make itself dirty.
    """
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    changed = _git(
        folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)benchmarks/results"
    )
    return f"{commit}-dirty" if commit and changed else commit


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, encoding="utf-8", check=False)
    except OSError:  # no git
        return None
    return done.stdout.strip() or None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
