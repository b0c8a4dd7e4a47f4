"""Whatever a plugin imports of its own is part of its key, however it imports it; what is installed is not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medkit.data.code import code_of

NAMES = ("plug", "consts", "first", "second", "tools", "library")
CLASS = "\nclass Step:\n    def apply(self, arrays):\n        return arrays\n"
IN_APPLY = "class Step:\n    def apply(self, arrays):\n        {}\n        return arrays\n"


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A path of this test's own, and none of its modules left behind."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in NAMES:
            del sys.modules[name]


def written(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def changes(folder: Path, module: str, file: str) -> bool:
    """Whether the digest of a plugin's class changes with a file."""
    importlib.invalidate_caches()
    step = importlib.import_module(module).Step
    before = code_of.__wrapped__(step)
    assert code_of.__wrapped__(step) == before
    (folder / file).write_text("FACTOR = 0.0\n")
    return code_of.__wrapped__(step) != before


@pytest.mark.parametrize(
    "text",
    [
        "from consts import FACTOR" + CLASS,
        "SIGN = '#'; from consts import FACTOR" + CLASS,
        "from consts import *" + CLASS,
        "from consts import (  # (the factor)\n    FACTOR as by,\n)" + CLASS,
        "from consts \\\n    import FACTOR" + CLASS,
        "import os, consts as c" + CLASS,
        "import consts; FACTOR = consts.FACTOR; del consts" + CLASS,
        "try: import consts; del consts\nexcept ImportError: pass" + CLASS,
        "if True:\n    from consts import FACTOR" + CLASS,
        "import importlib\nFACTOR = importlib.import_module('consts').FACTOR" + CLASS,
        IN_APPLY.format("from consts import FACTOR"),
        IN_APPLY.format("import os; import consts"),
    ],
)
def test_a_number_of_a_helper_file_is_part_of_the_key(tmp_path: Path, text: str) -> None:
    written(tmp_path, {"plug.py": text, "consts.py": "FACTOR = 1.0\n"})
    assert changes(tmp_path, "plug", "consts.py")


def test_a_number_of_a_helper_of_a_helper_is_part_of_the_key(tmp_path: Path) -> None:
    files = {"plug.py": "from first import FACTOR" + CLASS, "first.py": "from second import FACTOR\n"}
    written(tmp_path, files | {"second.py": "from consts import FACTOR\n", "consts.py": "FACTOR = 1.0\n"})
    assert changes(tmp_path, "plug", "consts.py")


@pytest.mark.parametrize("text", ["from tools.numbers.consts import FACTOR", "import tools.numbers.consts"])
@pytest.mark.parametrize("regular", [True, False])
def test_a_number_of_a_package_beside_a_plugin_file_is_part_of_the_key(
    tmp_path: Path, text: str, regular: bool
) -> None:
    files = {"plug.py": text + CLASS, "tools/numbers/consts.py": "FACTOR = 1.0\n"}
    written(tmp_path, files | ({"tools/__init__.py": "", "tools/numbers/__init__.py": ""} if regular else {}))
    assert changes(tmp_path, "plug", "tools/numbers/consts.py")


@pytest.mark.parametrize(
    "text",
    [
        "from .more.consts import FACTOR" + CLASS,
        "from .more import consts" + CLASS,
        IN_APPLY.format("from .more.consts import FACTOR"),
        IN_APPLY.format("from . import more; from .more import consts"),
        IN_APPLY.format("from plug.more.consts import FACTOR"),
    ],
)
@pytest.mark.parametrize("place", ["", "site-packages"])
def test_a_number_anywhere_in_a_plugin_package_is_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, place: str
) -> None:
    home = tmp_path / place
    written(home, {"plug/__init__.py": "", "plug/steps.py": text, "plug/more/__init__.py": ""})
    written(home, {"plug/more/consts.py": "FACTOR = 1.0\n"})
    monkeypatch.syspath_prepend(str(home))
    assert changes(home, "plug.steps", "plug/more/consts.py")


def test_a_number_of_a_package_further_up_is_part_of_the_key(tmp_path: Path) -> None:
    files = {"plug/inner/steps.py": "from ..more.consts import FACTOR" + CLASS, "plug/more/consts.py": "FACTOR = 1.0\n"}
    written(tmp_path, files)
    assert changes(tmp_path, "plug.inner.steps", "plug/more/consts.py")


def test_an_installed_library_is_no_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, {"plug.py": "from library import FACTOR\nimport numpy, medkit\n" + CLASS})
    written(tmp_path, {"site-packages/library.py": "FACTOR = 1.0\n"})
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    assert not changes(tmp_path, "plug", "site-packages/library.py")


def test_the_key_is_the_same_wherever_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run keeps a copy of its plugin's file, but not of what the file imports."""
    written(tmp_path, {"plug.py": "from consts import FACTOR" + CLASS, "consts.py": "FACTOR = 1.0\n"})
    before = code_of.__wrapped__(importlib.import_module("plug").Step)
    for number, name in enumerate(("plug.py", "consts.py")):
        moved = tmp_path / "ab"[number] / name
        moved.parent.mkdir()
        (tmp_path / name).rename(moved)
        monkeypatch.syspath_prepend(str(moved.parent))
        del sys.modules[name.removesuffix(".py")]
    importlib.invalidate_caches()
    assert code_of.__wrapped__(importlib.import_module("plug").Step) == before
