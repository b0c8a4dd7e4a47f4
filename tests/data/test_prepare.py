"""Preparation by processes: the same samples as by one, failures by name, and what a killed one leaves."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkit.data.dataset import Dataset
from medkit.data.prepare import fill
from medkit.data.transforms import CLAHE, Resize, Window
from medkit.errors import InputError, RunError
from medkit.protocols import Case, Record

Make = Callable[..., Any]


def dataset(source: Any, folder: Path | None) -> Dataset:
    return Dataset(source, {"all": {}}, [Window(), CLAHE(), Resize((16, 20))], cache_dir=folder)


@pytest.mark.parametrize("jobs", [2, 3])
def test_processes_make_the_samples_of_one_bit_for_bit(source: Make, tmp_path: Path, jobs: int) -> None:
    given = source(n=7, paired=True)
    one, many = dataset(given, tmp_path / "one"), dataset(given, tmp_path / "many")
    one.prepare_all(given.cases())
    many.prepare_all(given.cases(), jobs=jobs)
    assert len(list((tmp_path / "many" / "shards").glob("*.shard"))) == jobs
    for case in given.cases():
        a, b = one.sample(case), many.sample(case)
        for name in ("image", "mask", "target", "packed_mask", "slice_volumes", "affine", "positive_voxels"):
            assert np.array_equal(getattr(a, name), getattr(b, name))
        assert (a.label, a.digests, a.shapes) == (b.label, b.digests, b.shapes)
    assert given.loads == 7  # by the one process; those of others are not counted here


def test_progress_is_told_of_every_case_whoever_prepared_it(source: Make, tmp_path: Path) -> None:
    given, told = source(n=6), []
    dataset(given, tmp_path).prepare_all(given.cases()[:2])
    dataset(given, tmp_path).prepare_all(given.cases(), lambda done, total: told.append((done, total)), jobs=2)
    assert told == [(done, 6) for done in range(2, 7)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_case_that_fails_is_named_and_the_others_are_prepared(source: Make, tmp_path: Path, jobs: int) -> None:
    given = source(n=6)
    for number in (0, 4):
        given.all[number] = dataclasses.replace(given.all[number], label=1.0)  # their masks are empty
    data = dataset(given, tmp_path)
    failures = list(fill(data, given.cases(), jobs))
    assert sorted(failure.case for failure in failures) == ["c0", "c4"]
    assert all("its mask is all empty" in str(failure.error) for failure in failures)
    assert data.missing(given.cases()) == [0, 4]
    again = [failure.case for failure in fill(data, given.cases(), jobs)]
    assert (again if jobs == 1 else sorted(again)) == ["c0", "c4"]  # two processes fail in the order in which they end


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_ends_at_the_first_case_that_fails(source: Make, tmp_path: Path, jobs: int) -> None:
    given = source(n=6)
    given.all[2] = dataclasses.replace(given.all[2], label=1.0)
    with pytest.raises(InputError, match="case 'c2' is labelled 1"):
        dataset(given, tmp_path).prepare_all(given.cases(), jobs=jobs)
    assert multiprocessing.active_children() == []


class Misbehaving:
    """Cases of which the third does something at its loading."""

    def __init__(self, given: Any, act: Callable[[], None]) -> None:
        self.given, self.act = given, act
        self.cases, self.identity = given.cases, given.identity

    def load(self, case: Case) -> Record:
        if case.id == "c2":
            self.act()
        return self.given.load(case)


def test_a_killed_process_names_its_case_and_the_samples_of_the_others_stay(source: Make, tmp_path: Path) -> None:
    given = source(n=6)
    broken = Misbehaving(given, lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RunError, match=r"ended by SIGKILL at case 'c2'; .*Fewer --jobs"):
        dataset(broken, tmp_path).prepare_all(given.cases(), jobs=2)
    assert multiprocessing.active_children() == []
    dataset(given, tmp_path).prepare_all(given.cases(), jobs=2)


def test_a_bug_of_a_plugin_names_the_case_with_its_traceback(source: Make, tmp_path: Path) -> None:
    given = source(n=6)
    broken = Misbehaving(given, lambda: [][0])
    with pytest.raises(RunError, match=r"(?s)^case 'c2': .*IndexError: list index out of range"):
        dataset(broken, tmp_path).prepare_all(given.cases(), jobs=2)


def test_leaving_early_ends_the_processes_and_keeps_what_they_have_made(source: Make, tmp_path: Path) -> None:
    given = source(n=8)
    given.all[1] = dataclasses.replace(given.all[1], label=0.0)  # it has a bleed: the second process's first case
    at_third = tmp_path / "the first process is at its second case, c2"

    def wait() -> None:
        at_third.touch()
        time.sleep(60)

    class Slow(Misbehaving):
        def load(self, case: Case) -> Record:
            while case.id == "c1" and not at_third.exists():
                time.sleep(0.01)
            return super().load(case)

    failures = fill(dataset(Slow(given, wait), tmp_path), given.cases(), jobs=2)
    assert next(failures).case == "c1"
    failures.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
    assert 0 not in dataset(Slow(given, wait), tmp_path).missing(given.cases())


def test_without_a_cache_the_memory_that_samples_take_is_bounded(source: Make) -> None:
    given = source(n=6)
    data = dataset(given, None)
    data.memory.most = 3 * data.sample(given.cases()[0]).nbytes
    data.prepare_all(given.cases(), jobs=2)
    assert 1 <= len(data.memory) <= 3
    assert data.memory.size <= data.memory.most
    assert [digests for _, digests in data.digests(given.cases())]


def test_an_unpacked_mask_is_not_kept_in_memory(source: Make) -> None:
    given = source(n=2)
    data = dataset(given, None)
    assert data.sample(given.cases()[1]).native_mask is not None
    kept = data.memory.get("c1")
    assert kept is not None
    assert "native_mask" not in vars(kept)


def test_labels_and_counts_are_read_without_voxels(source: Make, tmp_path: Path) -> None:
    given = source(n=4)
    dataset(given, tmp_path).prepare_all(given.cases())
    for path in (tmp_path / "shards").glob("*.shard"):
        path.write_bytes(b"")
    data = dataset(given, tmp_path)
    assert data.positive(given.cases()).tolist() == [False, True, False, True]
    assert data.missing(given.cases()) == []
    assert all(digests for _, digests in data.digests(given.cases()))
