"""Shared memory in which batches are handed over and which is used again."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from medkit.data.slots import Place, Reader, Slots


def batch(number: float, items: int = 2) -> dict[str, Any]:
    return {
        "ids": [f"a{number}", "b"],
        "image": torch.full((items, 1, 4, 5), number),
        "mask": torch.full((items, 3), int(number), dtype=torch.uint8),
        "crooked": torch.arange(6.0).reshape(2, 3).t() + number,
        "none": torch.empty(0, 3),
        "label": torch.tensor(number, dtype=torch.float64),
    }


def test_what_is_read_is_what_was_written_in_its_order() -> None:
    found = Reader().read(Slots(0, 3).write(batch(1.5)))
    assert list(found) == list(batch(1.5))
    assert found.pop("ids") == ["a1.5", "b"]
    for name, value in found.items():
        wanted = batch(1.5)[name]
        assert torch.equal(value, wanted)
        assert (value.dtype, value.stride()) == (wanted.dtype, wanted.stride())


def test_a_batch_that_was_read_stays_as_it_is_when_its_slot_is_written_again() -> None:
    slots, reader = Slots(0, 2), Reader()
    first = reader.read(slots.write(batch(1)))
    for number in range(2, 6):
        reader.read(slots.write(batch(number)))
    assert torch.equal(first["image"], batch(1)["image"])


def test_a_slot_is_used_again_until_a_batch_needs_more() -> None:
    slots = Slots(0, 2)
    new = [slots.write(batch(1, items)).memory is not None for items in (2, 2, 2, 1, 50, 2, 50)]
    assert new == [True, True, False, False, True, False, False]


def test_a_batch_that_was_written_over_is_not_read() -> None:
    slots, reader = Slots(0, 1), Reader()
    first = slots.write(batch(1))
    slots.write(batch(2))
    with pytest.raises(RuntimeError, match="overwritten"):
        reader.read(first)


def test_each_process_has_slots_of_its_own() -> None:
    reader = Reader()
    one, two = (Slots(process, 1).write(batch(process)) for process in range(2))
    assert [float(reader.read(placed)["image"].max()) for placed in (one, two)] == [0, 1]


def test_places_do_not_overlap() -> None:
    placed = Slots(0, 1).write(batch(1)).batch
    places = [value for value in placed.values() if isinstance(value, Place)]
    assert all(one.stop <= two.start for one, two in itertools.pairwise(places))
