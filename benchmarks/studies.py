"""What a study costs beside its trials: the same trials as a study with one worker, and run by hand one after another.

By hand is measured twice: by one Python process that runs them all, which imports once like a worker and shares stages
like a study; and by one ``medkit run`` command each. Wall time and CPU time of each way include its children; CPU time
says more on a machine with other work.

    python -m benchmarks.studies STUDY.yaml FOLDER [--commands]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

BY_HAND = """
import sys
from pathlib import Path
from medkit.runs.run import run
from medkit.runs.settings import RunSettings
from medkit.studies.folder import StudyFolder
study, out = Path(sys.argv[1]), Path(sys.argv[2])
settings = RunSettings(device="cpu", quiet=True, jobs=1, link=out.resolve())
for trial in StudyFolder.open(study).trials():
    run(study / "recipes" / f"{trial.name}.yaml", out / trial.name, settings=settings)
"""


def measured(commands: list[list[str]]) -> tuple[float, float]:
    """Wall and CPU seconds of commands, one after the other, with all that they start."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - begun, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commands", action="store_true", help="also one command per trial")
    parser.add_argument(
        "--rounds", type=int, default=2, help="the first one also prepares the cases, where MEDKIT_CACHE has none"
    )
    said = parser.parse_args()
    said.folder.mkdir(parents=True)
    os.environ.setdefault("MEDKIT_CACHE", str(said.folder / "cache"))
    medkit = [sys.executable, "-m", "medkit"]
    for number in range(said.rounds):
        study, hand = said.folder / f"study{number}", said.folder / f"hand{number}"
        ways = {
            "study": measured(
                [[*medkit, "study", "run", said.study, "--out", str(study), "--jobs", "1", "--device", "cpu"]]
            )
        }
        hand.mkdir()
        ways["by hand, one process"] = measured([[sys.executable, "-c", BY_HAND, str(study), str(hand)]])
        if said.commands:
            names = [path.stem for path in sorted((study / "recipes").glob("*.yaml"))]
            made = said.folder / f"commands{number}"
            ways["by hand, a command each"] = measured(
                [
                    [*medkit, "run", str(study / "recipes" / f"{name}.yaml"), "--out", str(made / name), "--fresh"]
                    for name in names
                ]
            )
        for way, (wall, cpu) in ways.items():
            one, other = ways["study"][0] / wall, ways["study"][1] / cpu
            print(
                f"round {number}  {way:24}  {wall:7.1f} s  {cpu:7.1f} s CPU  study / this: {one:.3f}, CPU {other:.3f}"
            )


if __name__ == "__main__":
    main()
