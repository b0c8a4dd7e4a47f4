"""``medkit new plugin``: a package that stays small, installs, passes its own tests and trains."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

import medkit as package
from medkit.cli.new_plugin import write_plugin
from medkit.errors import InputError

FILES = {
    "pyproject.toml",
    "README.md",
    "medkit_quarter_turn/__init__.py",
    "medkit_quarter_turn/head.py",
    "recipes/quarter_turn.yaml",
    "tests/test_quarter_turn.py",
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write_plugin("quarter_turn", tmp_path)


def test_the_package_holds_six_files(written):
    assert {str(p.relative_to(written)) for p in written.rglob("*") if p.is_file()} == FILES


def test_no_placeholder_is_left(written):
    assert [p.name for p in written.rglob("*") if p.is_file() and "{{" in p.read_text()] == []


def test_the_least_that_a_plugin_needs_stays_a_page(written):
    lines = [
        line
        for name in ("pyproject.toml", "medkit_quarter_turn/__init__.py", "medkit_quarter_turn/head.py")
        for line in (written / name).read_text().splitlines()
        if line.strip()
    ]
    assert len(lines) <= 60


def test_the_package_asks_for_this_medkit(written):
    from packaging.requirements import Requirement

    project = tomllib.loads((written / "pyproject.toml").read_text())["project"]
    (requirement,) = map(Requirement, project["dependencies"])
    assert requirement.name == "medkit-imaging"
    assert requirement.specifier.contains(package.__version__)


def test_its_tests_need_nothing_that_its_readme_does_not_install(written):
    assert '".[test]" && python -m pytest' in (written / "README.md").read_text()
    assert tomllib.loads((written / "pyproject.toml").read_text())["project"]["optional-dependencies"]["test"] == [
        "pytest"
    ]


def test_the_command_says_what_to_do_next(medkit, tmp_path):
    done = medkit("new", "plugin", "turns", "--out", "mine")
    assert done.returncode == 0
    assert "pip install -e mine/medkit-turns" in done.stdout
    assert (tmp_path / "mine" / "medkit-turns" / "pyproject.toml").exists()


def test_an_existing_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "medkit-turns").mkdir()
    (tmp_path / "medkit-turns" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="the output exists"):
        write_plugin("turns", tmp_path)
    assert [p.name for p in (tmp_path / "medkit-turns").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "name", ["", "1st", "two words", "a-b", "Big", "class", "_hidden", "../up", "ünï", "a__b", "a_"]
)
def test_a_name_that_is_none_is_refused_and_nothing_is_written(tmp_path, name):
    with pytest.raises(InputError, match="not a Python name"):
        write_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.nightly
def test_the_package_installs_into_a_fresh_environment_passes_its_tests_and_trains(written, tmp_path):
    """A venv of its own that borrows this interpreter's libraries, so that torch is not installed once more."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    mine = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    # addsitedir reads the .pth files there too: an editable medkit is found as well.
    (mine / "borrowed.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MEDKIT_PLUGINS")}
    environ |= {"MEDKIT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "MEDKIT_STRICT": "1"}

    def do(*command: object) -> str:
        arguments = [str(python), *map(str, command)]
        done = subprocess.run(
            arguments, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    install = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    do("-m", "pip", "install", "-q", *install, written)
    assert (mine / "medkit_quarter_turn" / "head.py").exists()
    assert "quarter_turn" in do("-m", "medkit", "plugins")
    assert "1 passed" in do("-m", "pytest", "-q", "-p", "no:cacheprovider", written / "tests")
    do("-m", "medkit", "run", written / "recipes" / "quarter_turn.yaml", "--out", "run")
    assert (tmp_path / "run" / "report.html").exists()
    assert (tmp_path / "run" / "weights" / "classify.encoder.safetensors").exists()
