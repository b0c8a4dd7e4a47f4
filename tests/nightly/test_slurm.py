"""The job scripts of docs/cluster.md, on a SLURM of two make-believe nodes of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import small_recipe

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "cluster"
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY")

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(shutil.which("slurmctld") is None, reason="needs slurm-wlm and munge"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons are started as root"),
]


class Cluster:
    """A SLURM with what its jobs need."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.work = work
        programs = work / "bin"
        programs.mkdir()
        for name, module in (("medkit", "medkit"), ("torchrun", "torch.distributed.run")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            (programs / name).chmod(0o755)
        self.environ = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "MEDKIT_CACHE": str(work / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        for text in re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL):
            (work / re.search(r"^# (\S+\.sh):", text, re.MULTILINE)[1]).write_text(text)

    def call(self, *words: object) -> str:
        done = subprocess.run(
            list(map(str, words)), cwd=self.work, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, *words: object) -> str:
        """Start a job; returns its number."""
        return self.call("sbatch", "--parsable", "--output=%j.log", "--cpus-per-task=1", *words).strip()

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job."""
        return dict(re.findall(r"(\w+)=(\S+)", self.call("scontrol", "show", "job", number, "-o")))

    def ended(self, number: str, seconds: float = 240) -> dict[str, str]:
        """Wait for a job's end."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if (found := self.job(number))["JobState"] in OVER:
                return found
            time.sleep(0.3)
        raise AssertionError(f"{found}\n{self.log(number)}")

    def log(self, number: str) -> str:
        path = self.work / f"{number}.log"
        return path.read_text() if path.exists() else ""

    def medkit(self, *words: object) -> None:
        self.call("medkit", *words)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # paths of sockets are short
    subprocess.run([SCRIPTS / "slurm-up.sh", folder], check=True, stdin=subprocess.DEVNULL)
    try:
        yield Cluster(folder, tmp_path_factory.mktemp("cluster"))
    finally:
        subprocess.run([SCRIPTS / "slurm-down.sh", folder], check=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def straight(cluster: Cluster) -> Path:
    """A run on two ranks of one machine that nothing has interrupted."""
    cluster.medkit("run", "tiny_ich_seg", "--out", "straight", "--devices", 2, "--device", "cpu")
    return cluster.work / "straight"


def assert_same(found: Path, wanted: Path) -> None:
    names = sorted(path.name for path in (wanted / "weights").iterdir())
    assert names
    assert sorted(path.name for path in (found / "weights").iterdir()) == names
    for name in names:
        assert (found / "weights" / name).read_bytes() == (wanted / "weights" / name).read_bytes(), name
    assert (found / "results.json").read_bytes() == (wanted / "results.json").read_bytes()


def after_epochs(cluster: Cluster, run: str, count: int) -> None:
    path, limit = cluster.work / run / "metrics.jsonl", time.monotonic() + 600
    while not path.exists() or path.read_text().count("\n") < count:
        assert time.monotonic() < limit
        time.sleep(0.1)


@pytest.mark.parametrize("script", ["nodes.sh", "torchrun.sh"])
def test_two_nodes_give_the_weights_of_two_ranks_on_one(cluster: Cluster, straight: Path, script: str) -> None:
    out = script.removesuffix(".sh")
    number = cluster.submit(script, "tiny_ich_seg", out, "--device", "cpu")
    assert cluster.ended(number)["JobState"] == "COMPLETED", cluster.log(number)
    assert_same(cluster.work / out, straight)


def test_a_job_that_is_asked_to_stop_is_requeued_and_ends_as_one_that_was_not(cluster: Cluster) -> None:
    small_recipe("long", epochs=40).write(cluster.work / "long.yaml")
    cluster.medkit("run", "long.yaml", "--out", "long", "--device", "cpu")
    number = cluster.submit("job.sh", "long.yaml", "stopped", "--device", "cpu")
    after_epochs(cluster, "stopped", 3)
    cluster.call("scancel", "--signal=TERM", number)
    found = cluster.ended(number)
    assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "1"), cluster.log(number)
    assert "interrupted by SIGTERM" in (cluster.work / "stopped" / "log.txt").read_text()
    assert "resumable: medkit resume stopped" in cluster.log(number)
    assert_same(cluster.work / "stopped", cluster.work / "long")


def test_a_job_of_two_nodes_that_is_asked_to_stop_goes_on_too(cluster: Cluster, straight: Path) -> None:
    number = cluster.submit("nodes.sh", "tiny_ich_seg", "stopped2", "--device", "cpu")
    after_epochs(cluster, "stopped2", 1)
    cluster.call("scancel", "--signal=TERM", number)
    found = cluster.ended(number)
    assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "1"), cluster.log(number)
    assert_same(cluster.work / "stopped2", straight)


def test_a_job_whose_time_is_up_is_requeued_and_ends_as_one_that_had_time(cluster: Cluster) -> None:
    """The signal comes 40 to 100 s after the start; so many epochs take minutes on any machine."""
    small_recipe("hours", epochs=6000).write(cluster.work / "hours.yaml")
    cluster.medkit("run", "hours.yaml", "--out", "at_once", "--device", "cpu")
    number = cluster.submit("--time=2", "--signal=TERM@20", "job.sh", "hours.yaml", "hours", "--device", "cpu")
    found = cluster.ended(number, 900)
    assert found["JobState"] == "COMPLETED", cluster.log(number)
    assert int(found["Restarts"]) >= 1
    epochs = [line.split('"epoch": ')[1].split(",")[0] for line in (cluster.work / "hours" / "metrics.jsonl").open()]
    assert epochs == [str(epoch) for epoch in range(1, 6001)]
    assert_same(cluster.work / "hours", cluster.work / "at_once")


def test_an_array_trains_one_seed_a_job(cluster: Cluster) -> None:
    number = cluster.submit("--array=1-2", "seeds.sh", "tiny_ich_cls", "array", "--device", "cpu")
    limit = time.monotonic() + 600
    while cluster.call("squeue", "-h", "-j", number):
        assert time.monotonic() < limit
        time.sleep(0.3)
    for seed in (1, 2):
        assert (cluster.work / "array" / f"seed-{seed}" / "report.html").is_file()
        assert f"seed: {seed}\n" in (cluster.work / "array" / f"seed-{seed}" / "recipe.yaml").read_text()


def test_a_wrong_recipe_on_two_nodes_is_told_once_with_its_exit_code(cluster: Cluster) -> None:
    number = cluster.submit("nodes.sh", "nonsense", "none")
    assert cluster.ended(number)["ExitCode"] == "2:0"
    assert cluster.log(number).count("there is no such recipe file") == 1
    assert not (cluster.work / "none").exists()


def test_a_run_folder_that_not_all_ranks_see_is_refused(cluster: Cluster) -> None:
    for rank in "01":
        (cluster.work / f"disk{rank}").mkdir()
    call = "srun bash -c 'cd disk$SLURM_PROCID && exec medkit run tiny_ich_cls --out own --device cpu'"
    number = cluster.submit("--nodes=2", "--ntasks-per-node=1", f"--wrap={call}")
    assert cluster.ended(number)["ExitCode"] == "2:0", cluster.log(number)
    assert cluster.log(number).count("does not see the run folder of rank 0") == 1
    assert not (cluster.work / "disk0" / "own" / "recipe.yaml").exists()
