"""Denoising baselines against numbers of the published code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from medkit_baselines.red_cnn import REDCNN

from medkit.errors import InputError
from medkit.testing import check_generator


def test_red_cnn_equals_the_published_one(golden: Path) -> None:
    with np.load(golden / "redcnn_c8.npz") as file:
        arrays = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files}
    model = REDCNN(width=8)
    names = {f"w/{kind}{i + 1}.": f"{kind}s.{i}." for kind in ("conv", "tconv") for i in range(5)}
    weights = {}
    for name, array in arrays.items():
        for old, new in names.items():
            if name.startswith(old):
                weights[new + name.removeprefix(old)] = array
    model.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(model(arrays["x"]), arrays["y"], rtol=1e-4, atol=1e-5)


def test_red_cnn_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in REDCNN().parameters()) == 1_848_865


def test_red_cnn_keeps_every_promise_of_a_generator() -> None:
    check_generator(REDCNN, width=4)


def test_images_too_small_for_red_cnn_are_refused() -> None:
    with pytest.raises(InputError, match="at least 21 pixels per side"):
        REDCNN(width=2)(torch.rand(1, 1, 16, 16))
