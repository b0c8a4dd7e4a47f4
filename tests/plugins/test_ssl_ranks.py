"""Losses that compare the rows of all ranks, uneven ones too."""

from __future__ import annotations

from pathlib import Path

import torch


def test_two_ranks_learn_from_negatives_covariances_and_a_centre_of_all_items(launch_ranks):
    folder = launch_ranks(Path(__file__).with_name("ssl_ranks_script.py"))
    centres = [torch.load(folder / f"centre{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.equal(*centres)
