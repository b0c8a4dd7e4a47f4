"""What the command line says on the way: at once, which stage, what a flag is called here, what comes next."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "tiny_ich_seg", "--epochs", "3"], "--set stages.STAGE.epochs=N"),
        (["run", "tiny_ich_seg", "--gpus=2"], "--devices N"),
        (["evaluate", "runs/x", "--lr", "3"], "--set stages.STAGE.optim.lr=X"),
        (["study", "run", "tiny", "--output", "x"], "--out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_flag_of_another_tool_is_answered_with_its_name_here(medkit, arguments, told):
    done = medkit(*arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_errors_of_a_recipe_are_json_for_programs_that_ask_for_json(medkit):
    done = medkit("check", "tiny_ich_seg", "--json", "--set", "stages.pretext.batch=0")
    assert done.returncode == 2
    (error,) = json.loads(done.stdout)["errors"]
    assert error["where"] == "--set stages.pretext.batch=0"


def test_a_run_speaks_at_once_names_its_stages_and_what_to_do_next(medkit, tmp_path):
    done = medkit("run", "tiny_ich_cls", "--out", "out")
    lines = done.stderr.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "tiny_ich_cls: checking the recipe"
    assert any(line.startswith("stage 2 of ") for line in lines)
    assert lines[-1] == "next: medkit predict out --input SCAN --output FOLDER"


def test_a_row_of_a_piped_table_is_one_line(medkit):
    listed = medkit("list", COLUMNS="40").stdout
    assert any("encoder" in line and len(line) > 60 for line in listed.splitlines())
