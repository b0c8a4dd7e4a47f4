"""Exit codes and messages: 2 for the user's input, 1 for what failed, 130 for Ctrl-C; never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medkit.cli.new_plugin import write_plugin
from medkit.engine.progress import Progress
from medkit.errors import InputError

PLUGIN = '''
from medkit.api import hookimpl

class Broken:
    """A source that fails."""

    def __init__(self, error: str = "bug") -> None:
        self.error = error

    def cases(self):
        if self.error == "full":
            raise OSError(28, "No space left on device", "/data/big")
        raise ZeroDivisionError("the bottom of it")

    def load(self, case):
        raise NotImplementedError

    def identity(self, case):
        return case.id

@hookimpl
def medkit_register(registry):
    registry.source("broken", "faulty:Broken", "a source that fails")
'''
RECIPE = """
medkit: 1
name: faulty
data:
  d:
    source: {use: "faulty:broken", error: ERROR}
    splits: {train: {fold: train}}
    prepare: []
stages:
  - name: s
    unit: slice
    batch: 1
    epochs: 1
    validate: null
    objective: {use: multitask, encoder: {use: timm, model: test_resnet}, heads: {c: {use: "smartnet:slice_class"}}}
    optim: {use: adam}
report: {splits: [train]}
"""


def faulty(folder: Path, error: str) -> list[str]:
    (folder / "faulty.py").write_text(PLUGIN)
    (folder / "recipe.yaml").write_text(RECIPE.replace("ERROR", error))
    return ["run", "recipe.yaml", "--plugin", "faulty.py", "--out", "out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "tiny_ich_sgg"], "tiny_ich_seg"),
        (["check", "tiny_ich_seg", "--set", "stages.pretext.batch=0"], "batch"),
        (["check", "tiny_ich_cls", "--set", "stages.classify.objective.operator.hiden=4"], "did you mean 'hidden'?"),
        (["check", "tiny_ich_cls", "--set", "stages.classify.objective.operator.hidden=-4"], "-4 is not int > 0"),
        (["check", "tiny_ich_cls", "--set", "nonsense"], "nonsense"),
        (["list", "encoders"], "did you mean 'encoder'?"),
        (["show", "scse_unett"], "did you mean 'smartnet:scse_unet'?"),
        (["plugins", "why", "smartnt"], "did you mean 'smartnet'?"),
        (["run", "tiny_ich_seg", "--precision", "fp8", "--out", "x"], "fp8"),
        (["run", "tiny_ich_seg", "--devices", "0"], "--devices"),
        (["run"], "Missing argument"),
        (["resume", "no_such_run"], "no_such_run"),
        (["evaluate", "no_such_run", "--split", "test"], "no_such_run"),
        (["report", "no_such_run"], "no_such_run"),
        (["compare", "one"], "two or more"),
        (["new", "plugin", "Not-A-Name"], "Not-A-Name"),
        (["data", "ct-ich", "no_such_folder", "--out", "m.csv"], "no_such_folder"),
        (["data", "rsna", "no_such_folder", "--out", "m.csv"], "no_such_folder"),
        (["frobnicate"], "frobnicate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_of_the_user_exits_with_2_says_it_and_writes_nothing(medkit, tmp_path, arguments, message):
    done = medkit(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_several_problems_of_a_recipe_are_told_in_one_go_each_on_its_line(medkit, tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE.replace("faulty:broken", "nowhere").replace("epochs: 1", "epochs: -1"))
    lines = medkit("check", "r.yaml").stderr.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("error: r.yaml:") for line in lines)


def test_a_bug_is_one_line_with_its_place_and_how_to_see_more(medkit, tmp_path):
    done = medkit(*faulty(tmp_path, "bug"))
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "faulty.py:" in done.stderr
    assert "MEDKIT_TRACEBACK=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_traceback_of_a_bug_is_shown_when_asked_for(medkit, tmp_path):
    done = medkit(*faulty(tmp_path, "bug"), MEDKIT_TRACEBACK="1")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr


def test_a_full_disk_is_one_line_that_names_the_file(medkit, tmp_path):
    done = medkit(*faulty(tmp_path, "full"))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "error: /data/big: No space left on device")


def test_a_run_folder_in_use_is_not_written_over(medkit, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    done = medkit("run", "tiny_ich_cls", "--out", "out")
    assert done.returncode == 2
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_reader_that_closes_early_gets_no_traceback():
    command = [sys.executable, "-m", "medkit", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert said == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="Ctrl-C", marks=pytest.mark.nightly),
        pytest.param(signal.SIGTERM, id="a scheduler's SIGTERM"),
    ],
)
def test_an_interruption_exits_with_130_names_the_folder_and_resume_goes_on_to_the_end(medkit, tmp_path, number):
    environ = os.environ | {"MEDKIT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    keys = ["--set", "stages.pretext.epochs=8"]
    command = [sys.executable, "-m", "medkit", "run", "tiny_ich_cls", "--out", "out", *keys]
    process = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True)
    log, limit = tmp_path / "out" / "metrics.jsonl", time.monotonic() + 600
    while not log.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130, said
    assert "resumable: medkit resume out" in said
    assert "Traceback" not in said
    assert medkit("resume", "out").returncode == 0
    epochs = [line for line in log.read_text().splitlines() if '"pretext"' in line]
    assert len(epochs) == 8


def test_a_locale_that_is_not_utf_8_changes_nothing(medkit, tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = medkit("run", "tiny_ldct", "--out", "Läufe/a", "--set", "stages.denoise.epochs=1", **ascii_only)
    assert done.returncode == 0, done.stderr
    report = tmp_path / "Läufe" / "a" / "report.html"
    assert report.is_file()
    assert "Läufe" in (report.parent / "log.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["mps", "gpu", "0", "CPU", "cuda:99", "xpu"])
def test_a_device_that_is_none_is_told_before_anything_is_made(tmp_path, name):
    from medkit.engine.runtime import Runtime

    with pytest.raises(InputError, match=r"cpu|no cuda|no CUDA"):
        Runtime.start(device=name)


def test_a_training_whose_lines_nobody_reads_goes_on(tmp_path, capsys, monkeypatch):
    class Closed:
        def isatty(self):
            return False

        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    kept = []
    monkeypatch.setattr(sys, "stderr", Closed())
    with Progress(log=kept.append) as progress:
        progress.say("one")
        progress.say("two")
    assert kept == ["one", "two"]


@pytest.mark.parametrize("name", ["torch", "test", "medkit", "phantoms", "a" * 41])
def test_a_new_plugin_does_not_take_a_name_that_is_taken(tmp_path, name):
    with pytest.raises(InputError):
        write_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["train", "r.yaml"], "'medkit run RECIPE' trains"),
        (["infer", "runs/first"], "'medkit predict RUN --input SCAN' applies one"),
        (["run", "r.yaml", "--lr", "0.1"], "--set stages.STAGE.optim.lr=X"),
        (["run", "r.yaml", "--batch_size", "4"], "--set stages.STAGE.batch=N"),
    ],
)
def test_what_other_tools_call_it_is_answered_with_its_name_here(medkit, typed, said):
    done = medkit(*typed)
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith(said)
    assert "Possible options" not in done.stderr


def test_an_option_that_a_command_has_under_a_similar_name_is_offered(medkit):
    assert "--output" in medkit("predict", "runs/first", "--out", "mine").stderr


def test_a_name_in_an_error_cannot_steer_the_terminal(medkit):
    said = medkit("report", "\x1b[2J\x9b31mrun").stderr
    assert said.startswith("error: \\x1b[2J\\x9b31mrun: ")
    assert "\x1b" not in said
