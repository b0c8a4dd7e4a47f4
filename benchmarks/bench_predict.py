"""What a second process gains where one command predicts 100 phantom scans, from the command's start to its end.

``python benchmarks/bench_predict.py`` trains a small network, writes the scans as NIfTI, and lets ``medkit predict``
take them with ``--jobs 1`` and ``--jobs 2`` in turn; ``benchmarks/results/ratio-predict.json``. Both have to write the
same masks. One process has all of torch's threads (OMP_NUM_THREADS=1: one), two have one thread each. The CPU time on
the longest way, that of the command's own process and of the busiest that it starts, says what a machine would show on
which nothing else runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medkit_benchmarks import script

from medkit.bench.ratio import Ratio, save, take_turns

SCANS, SIDE, SLICES = 100, 192, 24
RECIPE = """
medkit: 1
name: bench_predict
data:
  heads:
    source: {use: "phantoms:head_ct", patients: 6, size: [SIDE, SIDE], slices: 4}
    splits: {train: {fold: train}, internal: {fold: test}}
    prepare: [{use: window, low: 0, high: 80}, {use: resize, size: [SIDE, SIDE]}]
stages:
  - name: segment
    batch: 4
    objective:
      use: multitask
      encoder: {use: timm, model: resnet18, in_channels: 1}
      heads: {seg: {use: "smartnet:scse_unet"}}
    metrics: [dice]
"""


def medkit(*arguments: object) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "medkit", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write_scans(folder: Path) -> None:
    from medkit.data.io import write_like
    from medkit.data.resample import even
    from medkit.recipe import recipe_from

    data = {
        "source": {"use": "phantoms:head_ct", "patients": SCANS, "size": [SIDE, SIDE], "slices": SLICES, "seed": 7},
        "splits": {"train": {"fold": "train"}},
    }
    stage = {"name": "s", "objective": {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}}}
    stage["objective"]["heads"] = {"cls": {"use": "smartnet:slice_class"}}
    recipe = recipe_from({"medkit": 1, "name": "scans", "data": {"d": data}, "stages": [stage]})
    source = recipe.data["d"].source.build()
    for case in list(source.cases())[:SCANS]:
        image = even(source.load(case).image, nearest=False)  # some are tilted
        write_like(image, folder / f"{case.id}.nii.gz", kind="image", description="phantom")


def busiest(pid: int, most: dict[int, float]) -> None:
    """Keep the CPU seconds of a process and of those that it has started, as far as they have come."""
    tick = os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("utf-8").rsplit(")", 1)[1].split()
        except OSError:
            continue
        number = int(stat.parent.name)
        if number == pid or int(fields[1]) == pid:
            most[number] = (int(fields[11]) + int(fields[12])) / tick


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        (here / "recipe.yaml").write_text(RECIPE.replace("SIDE", str(SIDE)), encoding="utf-8")
        medkit("run", here / "recipe.yaml", "--out", here / "run", "--device", "cpu")
        (here / "scans").mkdir()
        write_scans(here / "scans")
        turn, cpu = 0, {1: [], 2: []}

        def predict(jobs: int) -> float:
            nonlocal turn
            turn += 1
            out = here / f"{jobs}-{turn}"
            given = ("--input", here / "scans", "--output", out, "--jobs", jobs, "--device", "cpu")
            command = [sys.executable, "-W", "ignore", "-m", "medkit", "predict", here / "run", *given]
            start, most = time.perf_counter(), {}
            process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None:
                busiest(process.pid, most)
                time.sleep(0.05)
            passed = time.perf_counter() - start
            if process.returncode or len(list(out.glob("*/prediction.nii.gz"))) != SCANS:
                sys.exit(f"error: --jobs {jobs} did not predict all scans")
            children = [seconds for pid, seconds in most.items() if pid != process.pid]
            cpu[jobs].append(most[process.pid] + max(children, default=0.0))
            return passed

        times = take_turns(
            {"one process": lambda: predict(1), "two processes": lambda: predict(2)}, arguments.rounds, "own", 0
        )
        masks = [
            {file.parent.name: file.read_bytes() for file in here.glob(f"{n}/*/prediction.nii.gz")}
            for n in ("1-1", "2-2")
        ]
        if masks[0] != masks[1]:
            sys.exit("error: two processes write other masks than one")
        note = f"{SCANS} scans of {SLICES} slices of {SIDE}x{SIDE}, segmented by resnet18 with scse_unet."
        found = {"wall": times, "CPU on the longest way": {"one process": cpu[1], "two processes": cpu[2]}}
        ratios = [
            Ratio.of(
                f"{SCANS} scans predicted: {what}", numbers, "one process", "two processes", at_least=1.7, note=note
            )
            for what, numbers in found.items()
        ]
        save("predict", ratios)


if __name__ == "__main__":
    main()
