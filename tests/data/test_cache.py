"""Prepared samples on disk: keys, damage, concurrency, and never half an entry."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.data.cache import Cache, described, key_of
from medkit.data.dataset import Dataset
from medkit.data.transforms import CLAHE, Resize, Window
from medkit.errors import InputError, RunError
from medkit.protocols import Case, Record

STEPS = [Window(), CLAHE(), Resize((16, 20))]
ARRAYS = {"image": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "mask": np.ones((2, 3, 4), np.uint8)}


def dataset(source: Any, folder: Path | None, steps: list = STEPS) -> Dataset:
    return Dataset(source, {"all": {}}, steps, cache_dir=folder)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_written_is_read_back_through_memory_maps(tmp_path: Path) -> None:
    Cache(tmp_path).write("ab12", ARRAYS, {"shape": [3, 4]})
    arrays, meta = Cache(tmp_path).read("ab12")  # type: ignore[misc]
    assert meta == {"shape": [3, 4]}
    assert isinstance(arrays["image"], np.memmap)
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_an_entry_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert Cache(tmp_path).read("ab12") is None


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_cached_sample_equals_a_fresh_one(
    source: Callable[..., Any], tmp_path: Path, paired: bool, masked: bool
) -> None:
    given = source(paired=paired, masked=masked)
    fresh, cached = dataset(given, None), dataset(given, tmp_path)
    for case in given.cases():
        cached.sample(case)
        a, b = fresh.sample(case), cached.sample(case)
        for name in ("image", "mask", "target", "native_mask", "slice_volumes"):
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None) == (y is None)
            assert x is None or np.array_equal(x, y)
        assert (a.native_shape, a.label) == (b.native_shape, b.label) or np.isnan(a.label)
        back = np.zeros(a.image.shape, np.float32)
        assert a.restore(back).shape == b.restore(back).shape == (len(a.image), 24, 24)


@pytest.mark.parametrize("where", [None, "disk"])
def test_a_case_is_loaded_once(source: Callable[..., Any], tmp_path: Path, where: str | None) -> None:
    given = source(n=3)
    data = dataset(given, tmp_path if where else None)
    for _ in range(2):
        for case in given.cases():
            data.sample(case)
    assert given.loads == 3


def test_a_second_dataset_takes_what_the_first_prepared(source: Callable[..., Any], tmp_path: Path) -> None:
    dataset(source(), tmp_path).prepare_all(source().cases())
    later = source()
    dataset(later, tmp_path).prepare_all(later.cases())
    assert later.loads == 0


@pytest.mark.parametrize(
    "other",
    [[Window(0, 79), *STEPS[1:]], [STEPS[0], CLAHE(2.1), STEPS[2]], [*STEPS[:2], Resize((20, 16))], STEPS[:1], []],
)
def test_other_preparation_is_another_entry(source: Callable[..., Any], tmp_path: Path, other: list) -> None:
    dataset(source(n=1), tmp_path).prepare_all(source(n=1).cases())
    given = source(n=1)
    dataset(given, tmp_path, other).prepare_all(given.cases())
    assert given.loads == 1


def test_other_voxels_are_another_entry(source: Callable[..., Any], tmp_path: Path) -> None:
    dataset(source(n=1), tmp_path).prepare_all(source(n=1).cases())
    given = source(n=1, shape=(4, 20, 20))
    dataset(given, tmp_path).prepare_all(given.cases())
    assert given.loads == 1


class Plain:
    """A plugin's step that is no dataclass."""

    def __init__(self, strength: float) -> None:
        self.strength = strength


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    strength: float = 1.0


def test_a_step_is_described_by_class_module_version_and_arguments() -> None:
    newer = type("Plain", (Plain,), {"version": 1, "__module__": Plain.__module__})
    elsewhere = type("Plain", (Plain,), {"__module__": "another.plugin"})
    kinds = [Plain(1.0), Plain(2.0), newer(1.0), elsewhere(1.0), Slotted(), Slotted(2.0)]
    assert len({described(step) for step in kinds}) == len(kinds)
    assert described(Plain(1.0)) == described(Plain(1.0))


def test_keys_tell_apart_where_one_part_ends() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")


def image_file(folder: Path) -> Path:
    return next(path for path in files(folder) if path.name == "image.npy")


def cut(folder: Path) -> None:
    path = image_file(folder)
    path.write_bytes(path.read_bytes()[:-100])


def remove(folder: Path) -> None:
    image_file(folder).unlink()


def empty(folder: Path) -> None:
    image_file(folder).write_bytes(b"")


def garble(folder: Path) -> None:
    (image_file(folder).parent / "meta.json").write_text("{")


def reshape(folder: Path) -> None:
    np.save(image_file(folder), np.zeros((1, 2, 3), np.float32))


def pickle(folder: Path) -> None:
    np.save(image_file(folder), np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("damage", [cut, remove, empty, garble, reshape, pickle])
def test_a_damaged_entry_is_made_again_with_one_line(
    source: Callable[..., Any], tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    given = source(n=1)
    expected = np.array(dataset(given, tmp_path).sample(given.cases()[0]).image)
    damage(tmp_path)
    sample = dataset(given, tmp_path).sample(given.cases()[0])
    assert np.array_equal(sample.image, expected)
    assert given.loads == 2
    assert capsys.readouterr().err.count("\n") == 1
    dataset(given, tmp_path).sample(given.cases()[0])
    assert given.loads == 2


def test_a_case_that_fails_leaves_nothing_behind(source: Callable[..., Any], tmp_path: Path) -> None:
    given = source(n=1)
    given.all[0] = dataclasses.replace(given.all[0], label=1.0)  # its mask is empty
    with pytest.raises(InputError, match="c0"):
        dataset(given, tmp_path).prepare_all(given.cases())
    assert files(tmp_path) == []


def test_a_label_changed_since_is_checked_against_the_cached_mask(source: Callable[..., Any], tmp_path: Path) -> None:
    given = source(n=1)
    dataset(given, tmp_path).prepare_all(given.cases())
    given.all[0] = dataclasses.replace(given.all[0], label=1.0)
    with pytest.raises(InputError, match="all empty"):
        dataset(given, tmp_path).sample(given.all[0])


def test_many_writers_of_one_entry_leave_one_whole_entry(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    wrong = []

    def work() -> None:
        cache = Cache(tmp_path)
        barrier.wait()
        cache.write("ab12", ARRAYS, {})
        found = cache.read("ab12")
        if found is None or not np.array_equal(found[0]["image"], ARRAYS["image"]):
            wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert {path.parent.name for path in files(tmp_path)} == {"ab12"}


WRITER = """
import sys, threading, numpy as np
from pathlib import Path
from medkit.data.cache import Cache
print("ready", flush=True)
for i in range(100000):
    Cache(Path(sys.argv[1])).write(f"{i:04d}", {"image": np.full((4, 256, 256), i, np.float32)}, {})
"""


def test_a_writer_killed_at_any_time_leaves_only_whole_entries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    while len(list(tmp_path.glob("*/0*"))) < 5:
        assert writer.poll() is None
    writer.kill()
    writer.wait()
    writer.stdout.close()
    entries = [path.name for path in tmp_path.glob("*/0*")]
    for key in entries:
        found = Cache(tmp_path).read(key)
        assert found is not None
        assert (found[0]["image"] == int(key)).all()
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot be written: No space left.*MEDKIT_CACHE"):
        Cache(tmp_path).write("ab12", ARRAYS, {})
    assert files(tmp_path) == []


def test_a_cache_that_is_no_folder_is_refused_with_what_to_change(source: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file of that name")
    with pytest.raises(InputError, match="cannot be read: Not a directory; name another folder in MEDKIT_CACHE"):
        dataset(source(), tmp_path / "cache").prepare_all(source().cases())


def test_prepare_all_tells_its_progress(source: Callable[..., Any], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    given = source(n=5)
    dataset(given, tmp_path).prepare_all(given.cases(), lambda done, total: told.append((done, total)), jobs=3)
    assert told == [(i, 5) for i in range(1, 6)]


def test_an_unknown_split_is_named_with_the_nearest_one(source: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="did you mean 'train'"):
        Dataset(source(), {"train": {}}).cases("trian")


def test_a_case_without_a_field_batches_carry_is_named(source: Callable[..., Any]) -> None:
    given = source(n=2)
    given.all[1] = dataclasses.replace(given.all[1], fields={"age": "old"})
    with pytest.raises(InputError, match="case 'c1' has no number in field 'age'"):
        Dataset(given, {"train": {}}, fields=("age",))


def test_a_source_without_cases_is_refused(source: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="no cases"):
        Dataset(source(n=0), {"train": {}})


def test_a_changed_byte_is_noticed_and_the_entry_made_again(
    source: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = source(n=1)
    expected = np.array(dataset(given, tmp_path).sample(given.cases()[0]).image)
    content = bytearray(image_file(tmp_path).read_bytes())
    content[-3] ^= 1
    image_file(tmp_path).write_bytes(content)
    assert np.array_equal(dataset(given, tmp_path).sample(given.cases()[0]).image, expected)
    assert "checksum of image differs" in capsys.readouterr().err


def test_a_changed_number_beside_the_arrays_is_noticed(source: Callable[..., Any], tmp_path: Path) -> None:
    given = source(n=1)
    dataset(given, tmp_path).sample(given.cases()[0])
    meta = image_file(tmp_path).parent / "meta.json"
    meta.write_text(meta.read_text().replace('"native_shape": [24', '"native_shape": [25'))
    assert dataset(given, tmp_path).sample(given.cases()[0]).native_shape == (24, 24)
    assert given.loads == 2


def test_a_case_is_looked_at_before_and_after_it_is_read_and_not_again(
    source: Callable[..., Any], tmp_path: Path
) -> None:
    given = source(n=1)
    asked = []
    identity = given.identity
    given.identity = lambda case: asked.append(case.id) or identity(case)
    data = dataset(given, tmp_path)
    for _ in range(3):
        data.sample(given.cases()[0])
    assert asked == ["c0", "c0"]


def test_a_file_that_is_replaced_while_it_is_read_is_refused_and_not_kept(
    source: Callable[..., Any], tmp_path: Path
) -> None:
    given, file = source(n=2), tmp_path / "scan"
    load, identity = given.load, given.identity

    def replaced(case: Case) -> Record:
        file.write_text("longer than it was")
        return load(case)

    file.write_text("first")
    given.load = replaced
    given.identity = lambda case: f"{identity(case)} {file.stat().st_size}"
    data = dataset(given, tmp_path / "cache")
    one, other = given.cases()
    with pytest.raises(InputError, match="the files of case 'c0' have changed"):
        data.sample(one)
    file.write_text("first")
    with pytest.raises(InputError, match="the files of case 'c1' have changed"):
        data.prepare_all([other])
    given.load = load
    file.write_text("first")
    assert dataset(given, tmp_path / "cache").missing(given.cases()) == [0, 1]
