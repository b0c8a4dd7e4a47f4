"""Checkpoints: whole or not there, never unpickled, faults told with the file's name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from medkit.engine import checkpoint
from medkit.errors import InputError, RunError


def write(path: Path, value: float = 1.0) -> None:
    checkpoint.write_tensors(path, {"weights.w": torch.full((1000,), value)}, {"stage": "s"})


def test_tensors_and_state_come_back(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.LAST
    write(path)
    tensors, state = checkpoint.read_tensors(path)
    assert torch.equal(tensors["weights.w"], torch.ones(1000))
    assert state == {"stage": "s"}


def test_a_truncated_checkpoint_names_the_file_and_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.LAST
    write(path), write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"last\.safetensors.*previous\.safetensors, is kept"):
        checkpoint.read_tensors(path)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="corrupt"):
        checkpoint.read_tensors(path)


class Trap:
    """Leaves a trace if it is ever unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["TRAP"],)


def test_a_pickled_checkpoint_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    path = tmp_path / checkpoint.LAST
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="not a complete safetensors file"):
        checkpoint.read_tensors(path)
    assert not (tmp_path / "sprung").exists()


def test_a_full_disk_leaves_the_old_checkpoint_and_no_scrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / checkpoint.LAST
    write(path, 1.0)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        write(path, 2.0)
    assert checkpoint.read_tensors(path)[0]["weights.w"][0] == 1.0
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.LAST]


def test_weights_of_another_model_list_what_does_not_fit(tmp_path: Path) -> None:
    checkpoint.save_weights(tmp_path / "w.safetensors", nn.Linear(2, 3))
    with pytest.raises(InputError, match=r"missing: 0\.weight.*unknown: "):
        checkpoint.load_weights(tmp_path / "w.safetensors", nn.Sequential(nn.Linear(2, 3)))
