"""Balanced samples at three levels from a generated manifest of 2.6 million radiographs: seconds and peak memory.

The views' frequencies are proportional to 1/rank. A process of its own is measured: it reads the manifest, draws for 7,
30 and 68 classes with a split by date and by patient, and writes the three samples.

    python benchmarks/bench_sampling.py [ROWS]
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from medkit_benchmarks import script
from medkit_benchmarks.kept_table import keep


def generate(path: Path, rows: int) -> None:
    """A manifest of ``rows`` images of ``rows / 5`` patients, 3 % of them after July 2018."""
    import pyarrow as pa
    import pyarrow.parquet
    from medkit_pedxnet.views import Views

    rng = np.random.default_rng(0)
    names = Views().names[68]
    share = 1 / np.arange(1, 69)
    views = rng.choice(68, rows, p=share / share.sum())
    patients = np.sort(rng.integers(rows // 5, size=rows))  # patients come one after the other in time
    first, last = np.datetime64("1997-01-01"), np.datetime64("2018-12-31")
    days = first + ((last - first).astype(int) * patients / (rows // 5)).astype(int)
    table = pa.table(
        {
            "image": pa.array([f"radiographs/{i // 10000:03d}/{i:08d}.dcm" for i in range(rows)]),
            "view": pa.DictionaryArray.from_arrays(pa.array(views, pa.int8()), pa.array(names)),
            "patient": pa.array([f"P{number:07d}" for number in patients]),
            "date": pa.array(days.astype("datetime64[D]")),
        }
    )
    pa.parquet.write_table(table, path)


def measure(manifest: str, folder: str) -> None:
    """Print CPU seconds and peak memory in GB of this process."""
    from medkit_pedxnet.commands import pedxnet

    start = time.process_time()
    pedxnet(Path(manifest), Path(folder), date_column="date", split_date="2018-07-01", leave_out=True)
    seconds = time.process_time() - start
    print("measured", seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=2_600_000, help="of the manifest (%(default)s)")
    parser.add_argument("--measure", nargs=2, metavar=("MANIFEST", "FOLDER"), help="once, in this process")
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure(*arguments.measure)
        return
    rows = arguments.rows
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.parquet"
        generate(manifest, rows)
        megabytes, found = manifest.stat().st_size / 1e6, []
        for turn in range(3):
            command = [sys.executable, __file__, "--measure", str(manifest), f"{folder}/sample{turn}"]
            said = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
            found.append([float(word) for word in said.rpartition("measured ")[2].split()])
    seconds, memory = (statistics.median(each) for each in zip(*found, strict=True))
    columns = {"rows": ",", "Parquet, MB": ".0f", "CPU seconds": ".1f", "peak memory, GB": ".2f"}
    keep(
        "sampling",
        columns,
        [(rows, megabytes, seconds, memory)],
        "Samples at all three levels; median of three processes.",
    )


if __name__ == "__main__":
    main()
