"""A large tree of mixed contents, as a hospital hands it over."""

from __future__ import annotations

from pathlib import Path

from helpers import check_mixed_tree


def test_of_a_thousand_studies_each_gives_its_right_series_and_a_reason_for_all_else(tmp_path: Path) -> None:
    check_mixed_tree(tmp_path, studies=1000)
