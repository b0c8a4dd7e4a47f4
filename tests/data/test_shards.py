"""Shards: what is in them, crashes, damage, several writers, and readers that look on."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.data import shards_write
from medkit.data.shards import Shards
from medkit.data.shards_write import ShardWriter
from medkit.errors import RunError

META = {"counts": [1, 2], "doubt": ""}


def key(number: int) -> str:
    return f"{number * 2654435761 % 2**64:016x}{number:016x}"


def arrays(number: int) -> dict[str, np.ndarray]:
    image = np.full((2, 3, 5), number, np.float32)
    return {"image": image, "mask": (image > 2).astype(np.uint8), "affine": np.eye(4), "flat": np.arange(3)[:0]}


def write(folder: Path, numbers: range) -> None:
    with ShardWriter(folder) as writer:
        for number in numbers:
            writer.add(key(number), arrays(number), {**META, "number": number})


def assert_there(found: Shards, numbers: range) -> None:
    for number in numbers:
        sample = found.read(key(number))
        assert sample is not None
        assert sample[1] == {**META, "number": number}
        for name, array in arrays(number).items():
            assert np.array_equal(sample[0][name], array)
            assert sample[0][name].dtype == array.dtype


def shard_of(folder: Path) -> Path:
    return next(folder.glob("*.shard"))


def test_samples_are_read_back_with_their_types_shapes_and_meta(tmp_path: Path) -> None:
    write(tmp_path, range(20))
    assert_there(Shards(tmp_path), range(20))


def test_a_key_that_no_shard_has_is_none(tmp_path: Path) -> None:
    assert Shards(tmp_path / "not there").read(key(1)) is None
    write(tmp_path, range(3))
    assert Shards(tmp_path).read(key(7)) is None


def test_arrays_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path, range(1))
    found = Shards(tmp_path).read(key(0))
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found[0]["image"][0] = 1


def test_two_thousand_samples_are_two_files_and_one_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(file) or fsync(file))
    write(tmp_path, range(2000))
    assert len(list(tmp_path.iterdir())) == 2
    assert len(flushed) == 2  # the shard's and the index's


def test_a_full_shard_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_write, "SAMPLES", 4)
    write(tmp_path, range(10))
    assert len(list(tmp_path.glob("*.shard"))) == 3
    assert_there(Shards(tmp_path), range(10))


def test_what_was_flushed_is_seen_by_a_reader_that_was_there_before(tmp_path: Path) -> None:
    reader = Shards(tmp_path)
    assert reader.read(key(0)) is None
    with ShardWriter(tmp_path) as writer:
        writer.add(key(0), arrays(0), {**META, "number": 0})
        assert reader.read(key(0)) is None
        writer.flush()
        assert_there(reader, range(1))
        writer.add(key(1), arrays(1), {**META, "number": 1})
        writer.flush()
        assert_there(reader, range(2))


def test_metas_are_read_without_voxels(tmp_path: Path) -> None:
    write(tmp_path, range(6))
    write(tmp_path, range(10, 12))
    for path in tmp_path.glob("*.shard"):
        path.write_bytes(b"")
    wanted = [11, 3, 8, 0]
    keys = np.stack([np.frombuffer(bytes.fromhex(key(number)), np.uint8) for number in wanted])
    found = {position: meta["number"] for position, meta in Shards(tmp_path).metas(keys)}
    assert found == {0: 11, 1: 3, 3: 0}


def test_finding_a_sample_again_asks_the_file_system_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, range(5))
    reader = Shards(tmp_path)
    assert_there(reader, range(5))
    for name in ("stat", "open"):
        monkeypatch.setattr(Path, name, lambda *a, **k: pytest.fail("the file system was asked"))
        monkeypatch.setattr(os, name, lambda *a, **k: pytest.fail("the file system was asked"))
    assert_there(reader, range(5))


def test_a_changed_byte_of_an_array_is_told_once_and_the_sample_is_gone_for_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, range(3))
    content = bytearray(shard_of(tmp_path).read_bytes())
    place = content.index(np.float32(1).tobytes() * 30)
    content[place + 2] ^= 1
    shard_of(tmp_path).write_bytes(content)
    assert Shards(tmp_path).read(key(1)) is None
    assert "checksum of image differs" in capsys.readouterr().err
    later = Shards(tmp_path)
    assert later.read(key(1)) is None
    assert capsys.readouterr().err == ""
    assert_there(later, range(1))
    assert_there(later, range(2, 3))


def test_a_sample_that_was_made_again_takes_the_place_of_a_damaged_one(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    content = bytearray(shard_of(tmp_path).read_bytes())
    content[content.index(b'"arrays"') + 1] ^= 1
    shard_of(tmp_path).write_bytes(content)
    reader = Shards(tmp_path)
    assert reader.read(key(0)) is None
    write(tmp_path, range(1))
    assert_there(reader, range(3))
    assert_there(Shards(tmp_path), range(3))


def test_a_shard_that_was_cut_loses_only_what_lies_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, range(4))
    os.truncate(shard_of(tmp_path), shard_of(tmp_path).stat().st_size - 200)
    reader = Shards(tmp_path)
    assert_there(reader, range(3))
    assert reader.read(key(3)) is None
    assert "the shard ends at byte" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_index_is_told_and_its_samples_are_not_there(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, range(400))
    write(tmp_path, range(1000, 1001))
    index = max(tmp_path.glob("*.parquet"), key=lambda path: path.stat().st_size)
    content = bytearray(index.read_bytes())
    content[200] ^= 255
    index.write_bytes({"flip": bytes(content), "cut": bytes(content[:-50]), "empty": b""}[damage])
    reader = Shards(tmp_path)
    assert reader.read(key(3)) is None
    assert "is damaged" in capsys.readouterr().err
    assert_there(reader, range(1000, 1001))


def test_a_damaged_sample_of_a_folder_that_is_read_only_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, range(2))
    os.truncate(shard_of(tmp_path), shard_of(tmp_path).stat().st_size - 200)

    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError

    reader = Shards(tmp_path)
    assert_there(reader, range(1))
    monkeypatch.setattr(Path, "open", refused)
    assert reader.read(key(1)) is None
    assert_there(reader, range(1))


WRITER = """
import sys
import numpy as np
from pathlib import Path
from medkit.data import shards_write
shards_write.FLUSH_BYTES = 1 << 20
with shards_write.ShardWriter(Path(sys.argv[1])) as writer:
    for number in range(int(sys.argv[2]), 100000):
        writer.add(f"{number:032x}", {"image": np.full((4, 64, 64), number, np.float32)}, {"number": number})
"""


def start(folder: Path, first: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(first)])


def test_writers_killed_at_any_time_leave_only_whole_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writers = [start(tmp_path, 0), start(tmp_path, 50000)]
    while len(list(tmp_path.glob("*.parquet"))) < 2:
        assert [writer.poll() for writer in writers] == [None, None]
        time.sleep(0.01)
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    reader = Shards(tmp_path)
    assert len(reader) > 10
    for first in (0, 50000):
        number = first
        while (found := reader.read(f"{number:032x}")) is not None:
            assert (found[0]["image"] == number).all()
            number += 1
        assert number > first
    assert capsys.readouterr().err == ""


def test_what_a_killed_writer_never_made_readable_is_removed_by_the_next(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        writer = ShardWriter(tmp_path)
        writer.add(key(0), arrays(0), META)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with ShardWriter(tmp_path) as alive:
        alive.add(key(5), arrays(5), META)  # not yet readable either, but its writer lives
        write(tmp_path, range(1, 2))
        assert len(list(tmp_path.glob("*.shard"))) == 2
    assert len(Shards(tmp_path)) == 2


def test_a_shard_that_is_swept_before_its_writer_has_locked_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = fcntl.flock, []

    def late(*arguments: Any) -> None:
        if not swept:  # another writer of this machine begins at this very moment
            swept.append(shard_of(tmp_path))
            shards_write._sweep(tmp_path)
            assert not swept[0].exists()
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    write(tmp_path, range(2))
    assert_there(Shards(tmp_path), range(2))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_clear_error_and_keeps_what_was_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    with ShardWriter(tmp_path) as writer:
        writer.add(key(0), arrays(0), {**META, "number": 0})
        writer.flush()
        writer.add(key(1), arrays(1), META)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot be written: No space left.*MEDKIT_CACHE"):
            writer.flush()
    reader = Shards(tmp_path)
    assert_there(reader, range(1))
    assert reader.read(key(1)) is None


def test_shards_can_be_sent_to_another_process(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    reader = Shards(tmp_path)
    assert_there(reader, range(3))
    assert_there(pickle.loads(pickle.dumps(reader)), range(3))
