"""Evaluation on two ranks: what is written is what one rank alone writes, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import run_command
from helpers import small_recipe, train

SCRIPT = Path(__file__).with_name("ranks_evaluation_script.py")
WRITTEN = {"results.json", "cases.csv", "examples", "slices", "subgroups"}


@pytest.mark.slow
def test_two_ranks_write_what_one_does_and_fail_together(launch_ranks: Callable[..., Path]) -> None:
    folder = launch_ranks(SCRIPT)
    for mode in ("slices", "volumes", "denoising", "views"):
        alone = folder / mode / "alone"
        written = {path.relative_to(alone): path for path in alone.rglob("*") if path.is_file()}
        assert {path.parts[0] for path in written} == WRITTEN | ({"embeddings"} if mode == "views" else set()), mode
        for name, path in written.items():
            assert (folder / mode / "ranks" / name).read_bytes() == path.read_bytes(), (mode, name)
    said = [(folder / f"ranks{rank}").read_text() for rank in (0, 1)]
    assert said[0] == said[1]
    assert "this case cannot be measured" in said[0]


@pytest.mark.slow
def test_a_run_evaluated_again_on_two_ranks_keeps_its_numbers(tmp_path: Path) -> None:
    run = train(small_recipe("again"), tmp_path / "run", device="cpu", quiet=True)
    before = (run.folder / "results.json").read_bytes()
    words = ["evaluate", run.folder, "--split", "test", "--device", "cpu", "--json"]
    alone, together = run_command(words, tmp_path), run_command([*words, "--devices", "2"], tmp_path)
    assert (alone.returncode, together.returncode) == (0, 0), together.stderr
    assert together.stdout == alone.stdout
    assert (run.folder / "results.json").read_bytes() == before
    assert not (run.folder / "cases").exists()
