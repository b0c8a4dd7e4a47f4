"""``medkit study run --on ray`` on a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nightly.study_clusters import ended, kill, killed_in_the_midst, same, started, written

pytestmark = pytest.mark.ray


@pytest.fixture
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
    found = Cluster(initialize_head=True, head_node_args=head)
    found.second = found.add_node(num_cpus=1, object_store_memory=100 << 20)
    yield found
    found.shutdown()


def test_a_worker_and_a_node_are_killed_and_the_results_are_equal(cluster: Any, tmp_path: Path) -> None:
    path = written(tmp_path)
    environ = {**os.environ, "MEDKIT_CACHE": str(tmp_path / "cache"), "RAY_ADDRESS": cluster.address}
    ended(started(path, tmp_path / "local", environ))
    process = started(path, tmp_path / "ray", environ, "--on", "ray")
    killed_in_the_midst(process, tmp_path / "ray", kill)
    cluster.remove_node(cluster.second, allow_graceful=False)
    ended(process)
    same(tmp_path / "ray", tmp_path / "local")


def test_no_cluster_is_told_before_anything_is_written(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    environ = {**os.environ, "MEDKIT_CACHE": str(tmp_path / "cache"), "RAY_ADDRESS": "127.0.0.1:1"}
    process = started(written(tmp_path), tmp_path / "ray", environ, "--on", "ray")
    assert "no Ray cluster answers" in process.communicate()[1]
    assert process.returncode == 2
    assert not (tmp_path / "ray").exists()
