"""What a study costs beside its trials: run as a study on one core and, at the same time, by hand on another.

``python benchmarks/bench_study.py claims/pretraining_is_steadier`` starts the study with one worker, and, as soon as its
recipes are written, one Python process that runs them all, imports once like a worker and shares stages like a study.
Each has a cache of its own, so both prepare the cases. Writes ``benchmarks/results/ratio-study.json``. Nothing else may
run on the machine's first two cores meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from medkit_benchmarks import script

from medkit.bench.ratio import Ratio, save

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


def measured(command: list[str], core: int, cache: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command that has one core, with all that it starts."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "MEDKIT_CACHE": str(cache)}
    begun = time.monotonic()
    process = subprocess.Popen(
        ["taskset", "--cpu-list", str(core), *command], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"error: {' '.join(command)} failed:\n{errors.decode(errors='replace')[-2000:]}")
    return time.monotonic() - begun, used.ru_utime + used.ru_stime


def until_planned(study: Path, ended: Future[tuple[float, float]]) -> None:
    while not list(study.glob("trials/*/recipe.yaml")):
        if ended.done():
            ended.result()
            sys.exit("error: the study ended without a trial")
        time.sleep(0.1)


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("study", help="path, or name of a bundled study")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    wall: dict[str, list[float]] = {"study": [], "by hand": []}
    cpu: dict[str, list[float]] = {"study": [], "by hand": []}
    trials = 0
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(2) as pool:
            here = Path(temporary)
            study, hand = here / "study", here / "hand"
            hand.mkdir()
            words = [
                "-m",
                "medkit",
                "study",
                "run",
                arguments.study,
                "--out",
                str(study),
                "--jobs",
                "1",
                "--device",
                "cpu",
            ]
            one = pool.submit(measured, [sys.executable, *words], 0, here / "cache0")
            until_planned(study, one)
            other = pool.submit(measured, [sys.executable, "-c", BY_HAND, str(study), str(hand)], 1, here / "cache1")
            for name, ended in {"study": one, "by hand": other}.items():
                seconds = ended.result()
                wall[name].append(seconds[0])
                cpu[name].append(seconds[1])
            trials = len((study / "trials.jsonl").read_text("utf-8").splitlines())
    keep(arguments.study, trials, wall, cpu)


def keep(study: str, trials: int, wall: dict[str, list[float]], cpu: dict[str, list[float]]) -> None:
    note = f"The {trials} trials of {study}, one worker against one process that runs them by hand, a core each."
    save(
        "study",
        [
            Ratio.of("a study over its trials by hand: wall", wall, "study", "by hand", at_most=1.03, note=note),
            Ratio.of("a study over its trials by hand: CPU", cpu, "study", "by hand", note=note),
        ],
    )


if __name__ == "__main__":
    main()
