"""Files per second that ``medkit data folder`` reads on one core, and its memory as a tree grows: ``results/folder.json``.

Trees of mixed contents are written first (``mixed_tree``). Each is then read by a process of its own, of which CPU time
and peak memory are measured. Files are in the system's cache, so the program is measured and not the disk.

python benchmarks/bench_folder.py [--studies 200 800]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from medkit_benchmarks.mixed_tree import write as write_tree

from medkit.bench.results import environment, replace
from medkit.data.tree_table import Choices
from medkit.data.tree_write import write

RESULT = Path(__file__).with_name("results") / "folder.json"


def read(root: Path, out: Path) -> dict[str, Any]:
    """One tree, in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    made = write(root, out, Choices())
    seconds = time.process_time() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    found = {"files": made.files, "cases": len(made.rows), "cpu_seconds": round(seconds, 2)}
    return found | {"files_a_second": round(made.files / seconds), "mib_grown": round(grown / 2**10, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, nargs="+", default=[200, 800])
    parser.add_argument("--slices", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--read", type=Path, nargs=2, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.read:
        print(json.dumps(read(*words.read)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sizes = [(words.studies[0], n) for n in words.slices] + [(n, words.slices[0]) for n in words.studies[1:]]
        for i, (studies, slices) in enumerate(sizes):
            root = Path(folder) / str(i)
            write_tree(root, studies, slices)
            command = [sys.executable, __file__, "--read", str(root), f"{root}.csv"]
            told = subprocess.run(command, env=os.environ, capture_output=True, encoding="utf-8", check=True)
            rows.append({"studies": studies, "slices": slices, **json.loads(told.stdout)})
            print(rows[-1], flush=True)
    content = {"environment": environment(torch.device("cpu"), []), "trees": rows}
    replace(RESULT, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
