"""``medkit study run --on slurm`` on a SLURM of two make-believe nodes of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from nightly.study_clusters import ended, kill, killed_in_the_midst, same, started, workers, written

SCRIPTS = Path(__file__).resolve().parents[1] / "cluster"
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        shutil.which("slurmctld") is None or os.geteuid() != 0, reason="needs root, slurm-wlm and munge"
    ),
]


@pytest.fixture
def slurm() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    subprocess.run(["bash", SCRIPTS / "slurm-up.sh", folder], check=True)
    yield folder
    subprocess.run(["bash", SCRIPTS / "slurm-down.sh", folder], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def environment(slurm: Path, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "MEDKIT_CACHE": str(tmp_path / "cache"), "SLURM_CONF": str(slurm / "slurm.conf")}


def descendants(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [pid, *(one for child in found for one in descendants(int(child)))]


def test_a_worker_and_a_node_are_killed_and_the_results_are_equal(slurm: Path, tmp_path: Path) -> None:
    path, environ = written(tmp_path), environment(slurm, tmp_path)
    ended(started(path, tmp_path / "local", environ))
    process = started(path, tmp_path / "slurm", environ, "--on", "slurm")
    killed_in_the_midst(process, tmp_path / "slurm", kill)

    def kill_node(worker: int) -> None:
        """The daemon of the worker's node, and the one that looks after the worker's task, with all of it."""
        words = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
        (node,) = (word.partition(b"=")[2].decode() for word in words if word.startswith(b"SLURMD_NODENAME="))
        task = int(subprocess.run(["ps", "-o", "ppid=", "-p", str(worker)], capture_output=True, text=True).stdout)
        for pid in [int((slurm / f"slurmd-{node}.pid").read_text()), *reversed(descendants(task))]:
            with suppress(ProcessLookupError):  # gone with its child
                kill(pid)

    killed_in_the_midst(process, tmp_path / "slurm", kill_node)
    ended(process)
    same(tmp_path / "slurm", tmp_path / "local")
    assert not workers(tmp_path / "slurm")


def test_a_folder_that_workers_do_not_see_is_refused(slurm: Path, tmp_path: Path) -> None:
    """The command runs where its folder is a disk of its own, as on a machine that shares none with the nodes."""
    own = tmp_path / "own"
    own.mkdir()
    alone = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {own} && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mounts are allowed here")
    process = started(written(tmp_path), own / "out", environment(slurm, tmp_path), "--on", "slurm", before=alone)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 2, said
    assert "a worker does not see the study's folder" in said
    assert "choose an --out on a disk that all machines share" in said
