"""Commands below ``medkit data``."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from medkit_pedxnet.views import Views


@pytest.fixture
def manifest(tmp_path):
    views = [view for view in Views().names[68] for _ in range(3)]
    dates = ["2018-01-01", "2018-02-01", "2018-08-01"] * 68
    columns = {
        "image": [f"{i}.dcm" for i in range(len(views))],
        "view": views,
        "patient": [f"p{i}" for i in range(len(views))],
        "date": dates,
    }
    parquet.write_table(pa.table(columns), tmp_path / "list.parquet")
    return tmp_path / "list.parquet"


def test_a_plugin_s_command_draws_its_samples(medkit, manifest, tmp_path):
    done = medkit(
        "data", "pedxnet", manifest, "--out", "samples", "--date-column", "date", "--split-date", "2018-07-01"
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "samples" / "sample.json").read_text())
    assert summary["total"] == 7 * 8
    assert {sum(summary[f"views_{level}"].values()) for level in (7, 30, 68)} == {56}
    kept = parquet.read_table(tmp_path / "samples" / "views_30.parquet")
    assert kept["fold"].to_pylist() == ["train"] * 56 + ["val"] * 68


def test_a_wrong_name_leaves_no_folder(medkit, manifest, tmp_path):
    done = medkit("data", "pedxnet", manifest, "--out", "samples", "--view-column", "views")
    assert done.returncode == 2
    assert "did you mean 'view'" in done.stderr
    assert not (tmp_path / "samples").exists()


def test_a_command_of_no_plugin_is_unknown(medkit):
    assert medkit("data", "pedxnets").returncode == 2


def test_a_plugin_that_is_switched_off_brings_no_command(medkit):
    assert "pedxnet" not in medkit("data", "--help", MEDKIT_PLUGINS="smartnet").stdout


def test_a_data_sets_own_folder_is_only_read(medkit, tmp_path, write_ct):
    data = tmp_path / "rsna"
    write_ct(data / "stage_2_train", np.full((2, 16, 16), 40), name="ID_{i}.dcm")
    (data / "stage_2_train.csv").write_text("ID,Label\nID_1_any,0\nID_2_any,1\n")
    before = sorted(data.rglob("*"))
    made = medkit("data", "rsna", data, "--out", tmp_path / "mine" / "rsna.csv")
    assert made.returncode == 0, made.stderr
    assert sorted(data.rglob("*")) == before
    assert len(list((tmp_path / "mine" / "rsna_series").glob("*.txt"))) == 1
    assert medkit("data", "rsna", data, "--out", "other.csv", "--lists", "lists").returncode == 0
    assert len(list((tmp_path / "lists").glob("*.txt"))) == 1
