"""A run folder: who gets it, how it starts, and what is said of one that is damaged."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import medkit
from medkit import paths
from medkit.errors import InputError, MedkitError, RunError
from medkit.recipe import recipe_from
from medkit.reporting.report import write_report
from medkit.runs.cost import read_costs
from medkit.runs.folder import RunFolder


def recipe(**splits: dict[str, str]) -> dict[str, Any]:
    """The smallest training there is: a denoiser of one layer on phantoms."""
    return {
        "medkit": 1,
        "name": "smallest",
        "data": {
            "ct": {
                "source": {
                    "use": "mtdgan:low_dose",
                    "source": {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32]},
                },
                "splits": {"train": {"fold": "train"}, "val": {"fold": "val"}, **splits},
                "prepare": [{"use": "window", "low": 0, "high": 80}],
            }
        },
        "stages": [
            {
                "name": "denoise",
                "unit": "patch",
                "patch_size": 32,
                "patches": 1,
                "objective": {
                    "use": "restoration",
                    "generator": {"use": "baselines:red_cnn", "width": 2},
                    "losses": {"l1": "l1"},
                },
                "metrics": ["psnr"],
            }
        ],
    }


def test_a_folder_in_use_is_refused_before_any_case_is_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    made = recipe(test={"fold": "test"})
    made["data"]["ct"]["source"] = {"use": "manifest", "path": str(tmp_path / "nowhere.csv")}
    with pytest.raises(InputError, match="the output folder exists and is not empty"):
        medkit.run(made, tmp_path, quiet=True)
    with pytest.raises(InputError, match="nowhere"):
        medkit.run(made, tmp_path / "new", quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        made = recipe_from(recipe(test={"fold": "test"}))
        return medkit.run(made, tmp_path_factory.mktemp("runs") / "run", quiet=True).folder


def test_a_run_without_a_test_set_ends_with_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    done = medkit.run(recipe_from(recipe()), tmp_path / "run", quiet=True)
    assert done.results == {}
    assert "Evaluated on nothing" in done.report.read_text(encoding="utf-8")
    assert medkit.resume(tmp_path / "run", quiet=True).report.is_file()


def test_of_two_runs_that_want_a_folder_in_the_same_moment_one_gets_it(tmp_path: Path) -> None:
    for i in range(30):
        gate, won = threading.Barrier(2), []

        def start(path: Path = tmp_path / str(i) / "run", gate: Any = gate, won: list[int] = won) -> None:
            gate.wait()
            try:
                RunFolder.create(path)
                won.append(1)
            except InputError:
                pass

        threads = [threading.Thread(target=start) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [1]


@pytest.mark.parametrize(
    "left", [(), ("environment.json",), ("environment.json", "state.json", ".recipe.yaml.77.tmp", ".run.lock.5.tmp")]
)
def test_a_start_that_was_killed_can_be_made_again(
    tmp_path: Path, left: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("checkpoints", "weights", "examples"):
        (tmp_path / name).mkdir()
    for name in left:
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="start it again"):
        RunFolder.open(tmp_path)
    monkeypatch.setattr("medkit.runs.folder.STARTED", tmp_path.stat().st_mtime + 1)  # a process that began later
    RunFolder.create(tmp_path)


def test_a_start_within_a_tick_of_the_clock_is_not_taken_for_one_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder.create(tmp_path)
    monkeypatch.setattr("medkit.runs.folder.STARTED", tmp_path.stat().st_mtime + 0.004)
    with pytest.raises(InputError, match="not empty"):
        RunFolder.create(tmp_path)


@pytest.mark.parametrize("name", ["recipe.yaml", "notes.txt", "weights/a.safetensors"])
def test_a_folder_with_anything_else_in_it_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        RunFolder.create(tmp_path)


@pytest.mark.parametrize("name", ["environment.json", "state.json"])
def test_a_run_is_not_resumed_without_what_says_how(finished: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(RunError, match="is missing") as caught:
        medkit.resume(tmp_path / "run", quiet=True)
    assert name in str(caught.value)


CONTENTS = {"nothing": b"", "a list": b"[1]", "no UTF-8": b"\xff\xfe", "half": b'{"a"', "another mapping": b'{"denoise": 1, "done": 1, "notices": 1, "stage": 1}'}  # fmt: skip
FILES = ("recipe.yaml", "environment.json", "state.json", "results.json", "examples")


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_in_one_line(finished: Path, tmp_path: Path, name: str, content: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    path = next(run.glob("examples/*.npz")) if name == "examples" else run / name
    path.write_bytes(CONTENTS[content])
    error = raised(write_report, run) or (raised(medkit.resume, run) if name == "state.json" else None)
    assert error is None or (str(path) in error and "\n" not in error)


def raised(command: Callable[[Path], Any], run: Path) -> str | None:
    """What the command says; None where what is left in the file does no harm."""
    try:
        command(run)
    except MedkitError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", b"[1]"),
        ("metrics.jsonl", b"{}\n{}\n"),
        ("cases.csv", b"\xff"),
        ("cases.csv", b"stage,split\n1,2\n"),
    ],
)
def test_a_damaged_list_is_named_in_one_line(finished: Path, tmp_path: Path, name: str, content: bytes) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(RunError, match="damaged") as caught:
        write_report(tmp_path / "run")
    assert name in str(caught.value)


def test_half_a_last_row_of_cases_is_damage(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "cases.csv").write_bytes((run / "cases.csv").read_bytes()[:-3])
    with pytest.raises(RunError, match=r"cases\.csv: the file is damaged"):
        write_report(run)


def test_a_run_that_has_lost_results_of_a_finished_stage_is_not_resumed_in_silence(
    finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "results.json").unlink()
    with pytest.raises(RunError, match="the results of finished stage 'denoise' on 'test' are missing") as caught:
        medkit.resume(run, device="cpu", quiet=True)
    assert f"medkit evaluate {run} --split test" in str(caught.value)


@pytest.mark.parametrize("content", [b"[]", b'{"denoise": 1}', b'{"denoise": {"train_seconds": "x"}}'])
def test_a_damaged_list_of_costs_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "resources.json").write_bytes(content)
    with pytest.raises(RunError, match=r"resources\.json: the file is damaged"):
        read_costs(RunFolder(tmp_path))


@pytest.mark.parametrize("value", ["x", None, [1], {"value": "x", "low": 0, "high": 1, "n": 1, "n_empty": 0}, {"value": 1.0}])  # fmt: skip
def test_a_result_that_is_no_number_is_damage(finished: Path, tmp_path: Path, value: Any) -> None:
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    path.write_text(json.dumps({"denoise": {"test": {"psnr": value}}}))
    with pytest.raises(RunError, match="damaged"):
        write_report(tmp_path / "run")


def test_half_a_last_line_of_metrics_is_what_a_killed_run_leaves(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "den')
    assert write_report(tmp_path / "run").is_file()


def test_a_log_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "log.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        RunFolder(tmp_path).log("a line")
    assert (tmp_path / "elsewhere").read_text() == ""


@pytest.mark.parametrize(
    ("name", "typed"), [("a run", '"{}/a run"'), ("50$", '"{}/50\\$"'), ("Köln", "{}/Köln"), ("plain-1", "{}/plain-1")]
)
def test_commands_in_messages_can_be_typed_as_they_stand(tmp_path: Path, name: str, typed: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").touch()
    with pytest.raises(InputError) as refused:
        RunFolder(tmp_path / name).refuse_used()
    assert f"'medkit resume {typed.format(tmp_path)}'" in str(refused.value)


def test_a_folder_that_begins_with_a_dash_is_not_taken_for_an_option() -> None:
    assert paths.typed("-x") == "./-x"


def test_a_file_or_a_dead_link_in_the_folder_s_place_is_not_called_a_used_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, what in (("file", "a file, not a folder"), ("link", "a broken link")):
        with pytest.raises(InputError, match=what):
            RunFolder(tmp_path / name).refuse_used()
