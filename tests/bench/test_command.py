"""``medkit bench`` as it is used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run_command

ROOT = Path(__file__).resolve().parents[2]


def medkit(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return run_command(["bench", *arguments], folder, {"COLUMNS": "150"} | environ)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of a quick run saved as 'mine'."""
    folder = tmp_path_factory.mktemp("bench")
    done = medkit(folder, "fftconv", "--quick", "--only", "inference", "--rounds", "3", "--no-memory", "--save", "mine")
    assert done.returncode == 0, done.stderr
    assert "fftconv: inference 1x8x16x16" in done.stdout
    return folder


def test_a_quick_run_checks_and_times_every_form(saved: Path) -> None:
    (path,) = (saved / "benchmarks" / "results").glob("mine-*.json")
    (case,) = json.loads(path.read_text())["cases"]
    assert [v["name"] for v in case["variants"]] == ["composed", "lean", "dft", "triton"]
    assert all(v["seconds"][0] > 0 and v["rounds"] == 3 for v in case["variants"] if v["status"] == "ok")
    assert all(v["error"] <= case["tolerance"] for v in case["variants"][1:] if v["status"] == "ok")


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package medkit_benchmarks whose one suite has cases that fail."""
    folder = tmp_path_factory.mktemp("toys")
    package = folder / "medkit_benchmarks"
    package.mkdir()
    shutil.copy(ROOT / "tests" / "bench" / "toy_suite.py", package / "bench_toy.py")
    for name in ("__init__.py", "conftest.py", "pytest.ini"):
        shutil.copy(ROOT / "benchmarks" / name, package / name)
    return folder


def run_toys(toys: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return medkit(toys, "toy", "--rounds", "3", *arguments, PYTHONPATH=str(toys), **environ)


def test_cases_that_fail_are_rows_and_the_others_are_kept_and_saved(toys: Path) -> None:
    done = run_toys(toys, "--save", "toy", "--json")
    assert done.returncode == 1, done.stderr
    (path,) = (toys / "benchmarks" / "results").glob("toy-*.json")
    for cases in (json.loads(done.stdout)["cases"], json.loads(path.read_text())["cases"]):
        assert [case["status"] for case in cases] == ["failed", "ok", "failed", "ok"]
        assert "off by 5.0e-01" in cases[0]["reason"]
        assert cases[2]["reason"] == "ValueError: it broke"
        assert all(variant["seconds"] for case in cases[1::2] for variant in case["variants"])
    assert "failures: 2" in done.stderr


def test_the_table_shows_what_failed(toys: Path) -> None:
    done = run_toys(toys, "--only", "wrong")
    assert done.returncode == 1
    assert "FAILED: 'wrong' failed: it is off by 5.0e-01" in done.stdout


def test_what_was_measured_is_saved_even_if_the_process_is_killed(toys: Path) -> None:
    done = run_toys(toys, "--save", "killed", TOY_DIES="1")
    assert done.returncode not in (0, 1)
    (path,) = (toys / "benchmarks" / "results").glob("killed-*.json")
    content = json.loads(path.read_text())
    assert [case["name"] for case in content["cases"]] == ["wrong", "right", "no truth"]
    assert content["failures"][-1] == "measuring did not finish"


def test_saved_results_print_as_markdown(saved: Path) -> None:
    done = medkit(saved, "--markdown", "mine")
    assert done.returncode == 0, done.stderr
    assert "**fftconv: inference 1x8x16x16**" in done.stdout


def test_a_slower_variant_than_before_is_a_failure(saved: Path) -> None:
    (path,) = (saved / "benchmarks" / "results").glob("mine-*.json")
    content = json.loads(path.read_text())
    for variant in content["cases"][0]["variants"]:
        if variant["seconds"]:
            variant["seconds"] = [second / 1e6 for second in variant["seconds"]]
    path.with_name(path.name.replace("mine", "faster")).write_text(json.dumps(content))
    options = ["fftconv", "--quick", "--only", "inference", "--rounds", "1", "--no-memory"]
    done = medkit(saved, *options, "--compare", "faster", "--fail-above", "1.10")
    assert done.returncode == 1
    assert "slower than in 'faster'" in done.stderr


def test_results_of_another_device_are_refused_before_anything_is_measured(saved: Path) -> None:
    (path,) = (saved / "benchmarks" / "results").glob("mine-*.json")
    content = json.loads(path.read_text())
    content["environment"]["device"] = "Another Processor"
    path.with_name(path.name.replace("mine", "theirs")).write_text(json.dumps(content))
    done = medkit(saved, "fftconv", "--quick", "--compare", "theirs")
    assert done.returncode == 2
    assert "from another device: Another Processor" in done.stderr
    assert "inference" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ffftconv"], "did you mean 'fftconv'?"),
        (["fftconv", "--device", "gpu"], "cpu, cuda or cuda:NUMBER"),
        pytest.param(["fftconv", "--compare", "none"], "--save NAME", marks=pytest.mark.nightly),
        (["fftconv", "--only", "nothing"], "no case is left"),
        pytest.param(["fftconv", "--save", "../a"], "cannot name results", marks=pytest.mark.nightly),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = medkit(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_pytest_benchmark_the_error_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'pytest_benchmark' else find(name, *rest)\n"
        "sys.argv = ['medkit', 'bench', 'fftconv', '--quick']\n"
        "from medkit.cli.main import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'medkit-imaging[bench]'" in done.stderr


@pytest.mark.nightly
def test_suites_run_under_pytest_alone() -> None:
    command = [sys.executable, "-m", "pytest", str(ROOT / "benchmarks" / "bench_metrics.py"), "-k", "64x64"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout
    assert "SSIM of a pair 64x64" in done.stdout
