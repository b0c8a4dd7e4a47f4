"""Runs killed by SIGKILL at random moments and gone on with, until they end; what they end with is compared.

python tests/kills.py FOLDER [--kills 100] [--seed 0] [--system NAME] [--ranks N]: over four systems on one and on two
ranks, or some of them; the log is FOLDER/kills.log.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEMS = {
    "SMART-Net": ("tiny_ich_cls", ["--set", "stages.pretext.epochs=3"]),
    "MTD-GAN (PCGrad, EMA)": (
        "tiny_ldct_mtdgan",
        ["--set", "stages.denoise.objective.ema=0.9", "--set", "stages.denoise.epochs=4"],
    ),
    "DINO beside SMART-Net": ("tiny_ssl_smartnet", []),
    "PedXnet": ("tiny_pedxnet_boneage", ["--set", "stages.bone_age.epochs=2"]),
}


@dataclass
class Trial:
    """A recipe on a number of ranks, in a folder of its own."""

    folder: Path
    recipe: str
    options: Sequence[str]
    ranks: int
    cache: Path

    def start(self, out: str) -> subprocess.Popen[bytes]:
        """Start the run, or go on with it."""
        words = ["run", self.recipe, "--out", out, "--resume", "--device", "cpu", "--devices", str(self.ranks)]
        environment = os.environ | {"MEDKIT_CACHE": str(self.cache), "OMP_NUM_THREADS": "1", "MEDKIT_LINK": "0"}
        with (self.folder / f"{out}.txt").open("ab") as said:
            command = [sys.executable, "-m", "medkit", *words, *self.options]
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=said, stderr=said)

    def said(self, out: str) -> str:
        return (self.folder / f"{out}.txt").read_text(errors="replace")[-2000:]

    def straight(self) -> float:
        """The run that nobody kills; returns how long it took."""
        begun = time.monotonic()
        if self.start("straight").wait() != 0:
            raise AssertionError(self.said("straight"))
        return time.monotonic() - begun

    def killed(self, out: str, most: int, took: float, draw: random.Random, log: Callable[[str], None]) -> int:
        """Kill the run at most so often, going on each time, until it ends; returns how often it was."""
        for kills in range(most + 1):
            process = self.start(out)
            if kills == most:
                code = process.wait()
            else:
                code = self._kill_at(process, draw.uniform(0.05, 0.85) * took, out, draw, log)
            if code is not None:
                if code != 0:
                    raise AssertionError(f"exit code {code}: {self.said(out)}")
                return kills
        return most

    def _kill_at(
        self,
        process: subprocess.Popen[bytes],
        seconds: float,
        out: str,
        draw: random.Random,
        log: Callable[[str], None],
    ) -> int | None:
        """Kill the process, or one of its ranks, after so many seconds; returns the exit code if it ended before."""
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        ranks = children(process.pid) if self.ranks > 1 else []
        number = draw.randrange(1 + len(ranks))
        victim, name = (process.pid, "the command") if number == 0 else (ranks[number - 1], f"rank {number - 1}")
        os.kill(victim, signal.SIGKILL)
        process.wait()
        while any(alive(pid) for pid in ranks):
            time.sleep(0.02)
        log(f"{self.recipe} on {self.ranks}, {out}: {name} killed after {seconds:.2f} s, {self.position(out)}")
        return None

    def position(self, out: str) -> str:
        """How far the run has come, as its files say."""
        run = self.folder / out
        if not (run / "recipe.yaml").exists():
            return "before its first file"
        told = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
        done = json.loads((run / "state.json").read_text())["done"]
        return f"{len(told)} epochs told, {len(done)} stages done"

    def differences(self, out: str) -> list[str]:
        """In what a run differs from the straight one: bytes of weights, results, numbers of epochs."""
        mine, wanted = self.folder / out, self.folder / "straight"
        names = sorted(path.name for path in (wanted / "weights").iterdir())
        found = [] if sorted(path.name for path in (mine / "weights").iterdir()) == names else ["files of weights"]
        found += [
            name for name in names if (mine / "weights" / name).read_bytes() != (wanted / "weights" / name).read_bytes()
        ]
        if (mine / "results.json").read_bytes() != (wanted / "results.json").read_bytes():
            found.append("results.json")
        if epochs(mine) != epochs(wanted):
            found.append("metrics.jsonl")
        return found + [path.name for path in mine.rglob(".*.tmp")]


def epochs(run: Path) -> list[dict[str, object]]:
    """The numbers of all epochs, without what the clock has given them."""
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def children(pid: int) -> list[int]:
    """The processes that a process has started (Linux)."""
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill_all(
    folder: Path, kills: int, seed: int, systems: Sequence[str] = tuple(SYSTEMS), ranks: Sequence[int] = (1, 2)
) -> bool:
    """Spread so many kills over the systems on one and two ranks; whether all ended as the straight runs."""
    path = folder / "kills.log"

    def log(text: str) -> None:
        with path.open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    trials = [
        (system, Trial(folder / f"{SYSTEMS[system][0]}-{count}", *SYSTEMS[system], count, folder / "cache"))
        for count in ranks
        for system in systems
    ]
    draw, made, equal, failed = random.Random(seed), Counter(), Counter(), []
    for number, (system, trial) in enumerate(trials):
        wanted = kills // len(trials) + (number < kills % len(trials))
        trial.folder.mkdir(parents=True)
        took = trial.straight()
        key = f"{system}, {trial.ranks} rank{'s'[: trial.ranks - 1]}"
        attempt = 0
        while made[key] < wanted:
            attempt += 1
            out = f"killed{attempt}"
            times = trial.killed(out, wanted - made[key], took, draw, log)
            made[key] += times
            different = trial.differences(out)
            equal[key] += times if not different else 0
            failed += [f"{key}, {out}: {different}"] if different else []
            log(f"{trial.recipe} on {trial.ranks}, {out}: {times} kills, {different or 'equal'}")
    log(f"{sum(made.values())} kills, {sum(equal.values())} in runs that ended bit-equal")
    for key in made:
        log(f"  {key}: {made[key]} kills, {equal[key]} in runs that ended bit-equal")
    for text in failed:
        log(f"  NOT EQUAL {text}")
    return not failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--system", choices=SYSTEMS, action="append")
    parser.add_argument("--ranks", type=int, action="append")
    given = parser.parse_args()
    chosen = (given.system or tuple(SYSTEMS), given.ranks or (1, 2))
    sys.exit(0 if kill_all(given.folder.resolve(), given.kills, given.seed, *chosen) else 1)
