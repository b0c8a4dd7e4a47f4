"""``medkit prepare --on slurm`` on a SLURM of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("slurmctld") is None or os.geteuid() != 0 or not (HERE / "slurm-up.sh").exists(),
        reason="needs root, slurm-wlm and munge",
    ),
]


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    subprocess.run(["bash", HERE / "slurm-up.sh", folder], check=True)
    yield {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run(["bash", HERE / "slurm-down.sh", folder], check=True)
    shutil.rmtree(folder, ignore_errors=True)


def prepare(environ: dict[str, str], cache: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medkit", "prepare", "tiny_ich_seg", "--on", "slurm", "--jobs", "2", *options]
    environ = {**environ, "MEDKIT_CACHE": str(cache)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)


def test_an_array_prepares_all_cases_and_a_second_one_none(slurm: dict[str, str], tmp_path: Path) -> None:
    done = prepare(slurm, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "8 cases prepared\n"
    assert "an array of 2 tasks" in done.stderr
    assert len(list((tmp_path / "shards").glob("*.shard"))) == 2
    again = prepare(slurm, tmp_path)
    assert (again.returncode, again.stdout) == (0, "0 cases prepared\n")


def test_what_sbatch_refuses_is_told(slurm: dict[str, str], tmp_path: Path) -> None:
    done = prepare(slurm, tmp_path, "--slurm=--partition=moon")
    assert done.returncode == 1
    assert "sbatch refused the job" in done.stderr
    assert "partition" in done.stderr
