"""PedXnet's network and heads against numbers of the published code, with weights made from their names."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from medkit_pedxnet.heads import BoneAge, Fracture, ViewClass
from medkit_pedxnet.inception import InceptionV3
from torch import Tensor, nn

CLOSE = {"rtol": 2e-3, "atol": 1e-3}


def made(module: nn.Module, seed: int) -> None:
    """Weights that follow from name, shape and seed alone, as those of the recorded run did."""
    state = module.state_dict()
    for name, own in state.items():
        if not own.is_floating_point():
            continue
        shape = tuple(own.shape)
        r = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
        if name.endswith("running_var"):
            value = 0.5 + r.rand(*shape)
        elif name.endswith("running_mean"):
            value = 0.1 * r.randn(*shape)
        elif len(shape) == 1:
            value = 1 + 0.1 * r.randn(*shape) if name.endswith("weight") else 0.05 * r.randn(*shape)
        else:
            value = r.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
        state[name] = torch.from_numpy(value.astype(np.float32))
    module.load_state_dict(state)


def load(path: Path) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def encoder() -> InceptionV3:
    encoder = InceptionV3().eval()
    made(encoder, 300)
    return encoder


@torch.no_grad()
def test_inception_and_the_view_head_give_the_published_features_and_logits(golden: Path, encoder: InceptionV3) -> None:
    arrays = load(golden / "pedxnet_inceptionv3_1ch.npz")
    head = ViewClass(encoder.channels, 7).eval()
    made(head, 300)
    features = encoder(arrays["x"])
    torch.testing.assert_close(features[-1].mean((2, 3)), arrays["feat_gap"], **CLOSE)
    torch.testing.assert_close(head(features), arrays["logits"], **CLOSE)


def test_inception_has_the_published_number_of_parameters() -> None:
    """24,362,414 with seven classes and the auxiliary classifier."""
    encoder = InceptionV3()
    head = ViewClass(encoder.channels, 7, auxiliary=0.3)
    assert sum(p.numel() for module in (encoder, head) for p in module.parameters()) == 24_362_414


@torch.no_grad()
def test_bone_age_equals_the_published_head_for_both_sexes(golden: Path) -> None:
    arrays = load(golden / "pedxnet_downstream_heads.npz")
    head = BoneAge((2048,)).eval()
    made(head, 301)
    sex = arrays["gender"][:, 0]
    for given, key in ((sex, "baa_out"), (1 - sex, "baa_out_flipped_gender")):
        torch.testing.assert_close(head([arrays["feat"]], sex=given), arrays[key][:, 0], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_fracture_equals_the_published_head(golden: Path) -> None:
    arrays = load(golden / "pedxnet_downstream_heads.npz")
    head = Fracture((2048,)).eval()
    made(head, 302)
    torch.testing.assert_close(head([arrays["feat"]]), arrays["fracture_logit"][:, 0], rtol=1e-3, atol=1e-3)
