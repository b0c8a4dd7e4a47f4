"""``medkit prepare --on ray`` on a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
    found = Cluster(initialize_head=True, head_node_args=head)
    found.add_node(num_cpus=1, object_store_memory=100 << 20)
    yield found.address
    found.shutdown()


def prepare(cache: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medkit", "prepare", "tiny_ich_seg", "--on", "ray", "--jobs", "2", *options]
    environ = {**os.environ, "MEDKIT_CACHE": str(cache), **environ}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)


def test_tasks_prepare_all_cases_and_a_second_time_none(cluster: str, tmp_path: Path) -> None:
    done = prepare(tmp_path, RAY_ADDRESS=cluster)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "8 cases prepared\n"
    assert len(list((tmp_path / "shards").glob("*.shard"))) == 2
    again = prepare(tmp_path, RAY_ADDRESS=cluster)
    assert (again.returncode, again.stdout) == (0, "0 cases prepared\n")


def test_no_cluster_is_told(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    done = prepare(tmp_path, RAY_ADDRESS="127.0.0.1:1")
    assert done.returncode == 2, done.stderr
    assert "no Ray cluster answers" in done.stderr
