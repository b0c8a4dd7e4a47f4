"""Keys of prepared samples change with all that voxels come from: arguments, code, files."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from medkit.data.code import code_of
from medkit.data.dataset import Dataset
from medkit.data.keys import described
from medkit.data.transforms import CLAHE, Window
from medkit.errors import InputError


class Step:
    """A plugin's step with one argument of any kind."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def apply(self, arrays: dict) -> dict:
        return arrays

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return array


def table(position: int, dtype: type = np.float64) -> np.ndarray:
    array = np.zeros(4096, dtype)
    array[position] = 5
    return array


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (table(2000), table(2001)),
        (table(2000), table(2000, np.float32)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (1, "1"),
        (1, True),
        (1, 1.0),
        (0.1, 0.1 + 1e-17 + 2e-17),
        ([1, 2], [[1], 2]),
        ({"a": 1}, {"a": 2}),
        (None, "None"),
        (Window(0, 80), Window(0, 81)),
        (Window(0, 80), CLAHE()),
        (b"a", "a"),
    ],
)
def test_different_arguments_have_different_keys(one: Any, other: Any) -> None:
    assert described(Step(one)) == described(Step(one))
    assert described(Step(one)) != described(Step(other))


class Plain:
    def apply(self, arrays: dict) -> dict:
        return arrays

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return array


class Slotted(Plain):
    __slots__ = ("__hidden", "_factor", "unfilled")

    def __init__(self, factor: float = 1.0) -> None:
        self.__hidden = self._factor = factor


class Hidden:
    __slots__ = "__hidden"

    def __init__(self, factor: float = 1.0) -> None:
        self.__hidden = factor


class Inheriting(Hidden):
    __slots__ = ()


class Both(Hidden):
    def __init__(self, factor: float = 1.0) -> None:
        super().__init__(factor)
        self.same = 1


class Defaulted(Plain):
    factor = 1.0

    def __init__(self, factor: float = 1.0) -> None:
        self._factor = factor


class Property(Plain):
    def __init__(self, factor: float = 1.0) -> None:
        self._kept = [factor, len]  # what cannot be part of a key need not be, as the property says it all

    @property
    def factor(self) -> float:
        return self._kept[0]


class Named(NamedTuple):
    factor: float = 1.0


@dataclasses.dataclass
class Initial:
    factor: dataclasses.InitVar[float] = 1.0
    same: int = 1

    def __post_init__(self, factor: float) -> None:
        self._factor = factor


@dataclasses.dataclass(slots=True)
class Fields:
    factor: float = 1.0


KEPT = [Slotted, Hidden, Inheriting, Both, Defaulted, Property, Named, Initial, Fields]


@pytest.mark.parametrize("kind", KEPT)
def test_two_arguments_have_two_keys_however_a_step_keeps_them(kind: Callable[[float], Any]) -> None:
    assert described(kind(1.0)) == described(kind(1.0))
    assert described(kind(1.0)) != described(kind(0.0))


class Table(dict):
    """Keeps its argument in itself."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__(of=factor)


def test_a_step_whose_arguments_cannot_be_seen_is_refused() -> None:
    with pytest.raises(InputError, match=r"'Table' cannot be part.*cache: false"):
        described(Table(0.0))


def test_whole_numbers_are_the_floats_that_an_argument_takes() -> None:
    assert described(Window(0, 80)) == described(Window(0.0, 80.0))


@pytest.mark.parametrize("value", [object(), len, np.array([{}], dtype=object), [object()], int])
def test_an_argument_whose_content_cannot_be_told_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InputError, match=r"Step\.value.*cache: false"):
        described(Step(value))


def test_such_an_argument_is_refused_before_anything_is_read(source: Callable[..., Any], tmp_path: Path) -> None:
    given = source()
    with pytest.raises(InputError, match=r"Step\.value"):
        Dataset(given, {"all": {}}, [Step(object())], cache_dir=tmp_path)
    Dataset(given, {"all": {}}, [Step(object())], cache_dir=None).sample(given.cases()[0])


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_that_a_step_reads_is_part_of_its_key(tmp_path: Path, kind: type) -> None:
    file = tmp_path / "curve.txt"
    file.write_text("1")
    before = described(Step(kind(file)))
    file.write_text("22")
    assert described(Step(kind(file))) != before


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", ["curve.txt", "inner/curve.txt"])
def test_every_file_of_a_folder_that_a_step_reads_is_part_of_its_key(tmp_path: Path, kind: type, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    (tmp_path / "around").symlink_to(tmp_path)
    file.write_text("1")
    before = described(Step(kind(tmp_path)))
    assert described(Step(kind(tmp_path))) == before
    file.write_text("22")
    assert described(Step(kind(tmp_path))) != before


def test_a_separator_is_no_folder() -> None:
    assert json.loads(described(Step("/")))[-1] == {"value": "/"}


PLUGIN = """
import helper_{n}
class Scale:
    def __init__(self, factor: float = 1.0): self.factor = factor
    def apply(self, arrays): return {{"image": arrays["image"] * {factor} * helper_{n}.GAIN}}
    def restore(self, array, shape): return array
"""


def loaded(folder: Path, n: int, factor: float = 1.0, gain: float = 1.0) -> type:
    """The class of a plugin file under work, freshly imported."""
    (folder / f"helper_{n}.py").write_text(f"GAIN = {gain}\n")
    (folder / f"plug_{n}.py").write_text(PLUGIN.format(n=n, factor=factor))
    for name in (f"helper_{n}", f"plug_{n}"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module(f"plug_{n}").Scale


def test_edited_code_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    first = described(loaded(tmp_path, 1)())
    assert described(loaded(tmp_path, 1)()) == first
    assert described(loaded(tmp_path, 1, factor=0.0)()) != first


def test_code_that_a_file_under_work_imports_is_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    first = described(loaded(tmp_path, 2)())
    assert described(loaded(tmp_path, 2, gain=2.0)()) != first


def test_a_file_edited_after_it_was_loaded_is_neither_the_old_nor_the_new_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = loaded(tmp_path, 3)
    old = described(before())
    source = (tmp_path / "plug_3.py").read_text()
    stale = loaded(tmp_path, 3)
    (tmp_path / "plug_3.py").write_text(source.replace("* 1.0 *", "* 0.0 *"))
    mixed = described(stale())
    assert len({old, mixed, described(loaded(tmp_path, 3, factor=0.0)())}) == 3


def test_keys_are_the_same_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "sets.py").write_text(
        "class Step:\n"
        "    def apply(self, arrays):\n        return arrays if 'a' in {'image', 'mask', 'target', 'b', 'c'} else {}\n"
        "    def restore(self, array, shape): return array\n"
    )
    code = "import sets; from medkit.data.keys import described; print(described(sets.Step()))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1


def test_medkits_own_steps_are_known_by_its_version() -> None:
    assert code_of(Window) == ""


@dataclasses.dataclass
class Holder:
    step: Any


def test_a_step_within_a_step_is_described_with_its_code() -> None:
    assert code_of(Step) in described(Holder(Step(1)))
    assert described(Holder(Step(1))) != described(Holder(Step(2)))


def test_a_file_that_a_function_imports_when_it_is_called_is_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "late_step.py").write_text("class Step:\n    def apply(self, x):\n        import late_help\n")
    (tmp_path / "late_help.py").write_text("def f():\n    from late_more import G\n")
    (tmp_path / "late_more.py").write_text("G = 1\n")
    step = importlib.import_module("late_step").Step
    before = code_of.__wrapped__(step)
    assert code_of.__wrapped__(step) == before
    (tmp_path / "late_more.py").write_text("G = 0\n")
    assert code_of.__wrapped__(step) != before
