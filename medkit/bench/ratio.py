"""Ratios of two ways of doing one thing, measured in turn, with their bound, and the files they are kept in.

For what does not fit into a case of ``medkit bench``: ways that start ranks or workers, that are compared by CPU
time or by memory, or that take minutes. A script in ``benchmarks/`` reads::

    times = take_turns({"engine": engine, "bare loop": bare}, rounds=9)
    save("step", [Ratio.of("a training step", times, "engine", "bare loop", at_most=1.05)])

Each script writes one file, ``ratio-NAME.json``; ``python benchmarks/ratios.py`` makes one table of them all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from medkit.bench.results import environment, replace
from medkit.bench.timing import quartiles, ratios
from medkit.errors import InputError

FORMAT = 1
RESULTS = Path("benchmarks/results")
Clock = Literal["wall", "cpu", "own"]
Triple = tuple[float, float, float]


def take_turns(
    ways: Mapping[str, Callable[[], Any]], rounds: int = 9, clock: Clock = "wall", warm_up: int = 1
) -> dict[str, list[float]]:
    """The number of every way in each of ``rounds`` rounds, in an order that is reversed every other round.

    Parameters
    ----------
    ways:
        Functions by name.
    clock:
        ``wall``: seconds that pass; ``cpu``: CPU seconds that this process takes, not counting its children's;
        ``own``: what the function returns, such as seconds that a rank has measured, or bytes.
    warm_up:
        Rounds before the first that counts.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_up + rounds):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            number = _number(ways[name], clock)
            if turn >= warm_up:
                found[name].append(number)
    return found


def _number(way: Callable[[], Any], clock: Clock) -> float:
    if clock == "own":
        return float(way())
    read = time.perf_counter if clock == "wall" else time.process_time
    start = read()
    way()
    return read() - start


@dataclass(frozen=True)
class Ratio:
    """``first``'s number over ``second``'s: quartiles of the rounds' ratios, and of the numbers of each.

    So "at least 1.7 times as fast" is the time of the slow way over that of the quick one, ``at_least=1.7``.
    """

    name: str
    first: str
    second: str
    ratio: Triple
    first_numbers: Triple
    second_numbers: Triple
    rounds: int
    unit: str = "s"
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        numbers: Mapping[str, Sequence[float]],
        first: str,
        second: str,
        **promised: Any,
    ) -> Ratio:
        """From the numbers that :func:`take_turns` gives; ``promised`` are ``at_most`` or ``at_least``, and more."""
        one, other = numbers[first], numbers[second]
        found = quartiles(ratios(one, other))
        return cls(name, first, second, found, quartiles(one), quartiles(other), len(one), **promised)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps within its bound; None without one."""
        if self.at_most is None and self.at_least is None:
            return None
        low = self.at_least if self.at_least is not None else float("-inf")
        high = self.at_most if self.at_most is not None else float("inf")
        return low <= self.ratio[1] <= high

    @property
    def bound(self) -> str:
        low, high = self.at_least, self.at_most
        return " and ".join(f"{sign} {value:g}" for sign, value in (("≥", low), ("≤", high)) if value is not None)

    def __str__(self) -> str:
        low, middle, high = self.ratio
        told = f"{self.name}: {self.first} / {self.second} = {middle:.3f} ({low:.3f}-{high:.3f}, {self.rounds} rounds)"
        return told if self.met is None else f"{told}, {self.bound}: {'met' if self.met else 'NOT met'}"


@dataclass(frozen=True)
class Ratios:
    """What one script has measured, and where."""

    name: str
    ratios: list[Ratio]
    environment: dict[str, Any] = field(default_factory=dict)


def save(name: str, found: Sequence[Ratio], folder: Path = RESULTS) -> Path:
    """Print ``found``, and write them with machine, versions and commit to ``ratio-NAME.json``, whole or not at all."""
    for ratio in found:
        print(ratio)
    about = environment(torch.device("cpu"), [])
    content = {"medkit_ratios": FORMAT, "name": name, "environment": about, "ratios": [asdict(r) for r in found]}
    return replace(folder / f"ratio-{name}.json", json.dumps(content, indent=1) + "\n")


def read(path: Path) -> Ratios:
    """What :func:`save` wrote.

    Raises
    ------
    InputError
        if the file is missing or is something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["medkit_ratios"] != FORMAT:
            raise InputError(f"ratios of format {content['medkit_ratios']}, not {FORMAT}", str(path), "measure again")
        triples = ("ratio", "first_numbers", "second_numbers")
        found = [Ratio(**item | {key: tuple(item[key]) for key in triples}) for item in content["ratios"]]
        return Ratios(content["name"], found, content["environment"])
    except OSError as error:
        raise InputError(f"no ratios can be read: {error.strerror}", str(path)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"this is not a file of ratios ({error})", str(path)) from error


def markdown(folder: Path = RESULTS) -> str:
    """One table of all ratios kept in ``folder``, and below it what each file was measured on."""
    kept = [read(path) for path in sorted(folder.glob("ratio-*.json"))]
    if not kept:
        raise InputError("there are no files ratio-*.json", str(folder), "run the scripts of benchmarks/ first")
    lines = ["| what | ratio | median | quartiles | bound | |", "|---|---|---|---|---|---|"]
    for file in kept:
        for r in file.ratios:
            verdict = {True: "met", False: "**not met**", None: ""}[r.met]
            sides = f"{r.first} / {r.second}"
            lines.append(
                f"| {r.name} | {sides} | {r.ratio[1]:.2f} | {r.ratio[0]:.2f}-{r.ratio[2]:.2f} | {r.bound} | {verdict} |"
            )
    lines.append("")
    for file in kept:
        about = file.environment
        notes = [r.note for r in file.ratios if r.note]
        machine = f"{about['device']}, {about['cores']} cores, threads used: {about['threads']}"
        versions = f"torch {about['libraries']['torch']}, medkit at {about['commit'] or about['medkit']}"
        told = f"`ratio-{file.name}.json`: {machine}, {versions}, {about['measured']}."
        lines.append("- " + " ".join([told, *dict.fromkeys(notes)]))
    return "\n".join(lines) + "\n"
