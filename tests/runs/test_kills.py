"""A run killed by SIGKILL at random moments ends with the bytes of one that was not; .ci/nightly kills a hundred."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from helpers import large_enough, small_recipe
from kills import Trial


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for ranks in /proc")
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(tmp_path: Path, ranks: int) -> None:
    large_enough(small_recipe("killed", epochs=4, batch=2), tmp_path / "r.yaml")
    trial = Trial(tmp_path, "r.yaml", (), ranks, tmp_path / "cache")
    took, draw, said = trial.straight(), random.Random(ranks), []
    # On a machine that is idle again, a run may be over before it is killed.
    runs = [out for out in ("first", "second", "third") if not said and trial.killed(out, 2, took, draw, said.append)]
    assert trial.differences(runs[0]) == [], said
