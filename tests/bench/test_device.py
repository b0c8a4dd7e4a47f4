"""Which device is measured, and settings of it that are put back."""

from __future__ import annotations

import contextlib

import pytest
import torch

from medkit.bench.device import has_tf32, place, tf32
from medkit.errors import InputError


def test_a_cpu_can_be_asked_for() -> None:
    assert place("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:x", "cpu:1", "cuda:99"])
def test_a_device_that_is_not_there_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError):
        place(name)


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_as_it_was_when_the_block_ends_with_an_error(allowed: bool) -> None:
    def flags() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = flags()
    with contextlib.suppress(ZeroDivisionError), tf32(allowed):
        assert flags() == (allowed, allowed)
        raise ZeroDivisionError
    assert flags() == before


def test_a_cpu_has_no_tf32() -> None:
    assert not has_tf32(torch.device("cpu"))
