"""Pretexts of one image: turned, shuffled or masked. Values by hand or by explicit loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from medkit_ssl.jigsaw import Jigsaw, normalised
from medkit_ssl.mae import MAE, sines_and_cosines
from medkit_ssl.permutations import far_apart
from medkit_ssl.rotation import Rotation
from medkit_ssl.simmim import SimMIM

from medkit.errors import InputError
from medkit.objectives.multitask import Multitask
from medkit.registry.marks import Placed
from medkit.testing import check_component
from medkit.testing.common import ExampleEncoder

SMALL: list[tuple[str, dict[str, Any]]] = [
    ("ssl:rotation", {}),
    ("ssl:rotation", {"copies": 1, "level": 0, "pool": "max"}),
    ("ssl:jigsaw", {"permutations": 5, "tile_width": 4, "hidden": 8}),
    ("ssl:simmim", {"patch": 8}),
    ("ssl:mae", {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}),
    ("ssl:mae", {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2, "norm_pix": False}),
]
LARGE = {"decoder_width": 16, "decoder_depth": 2, "decoder_heads": 2}


@pytest.mark.parametrize(("name", "arguments"), SMALL, ids=str)
def test_a_head_keeps_every_promise_of_a_pretext(name, arguments):
    check_component("pretext", name, **arguments)


# -- rotation ------------------------------------------------------------------------------------------------------


def test_an_image_is_shown_in_all_four_turns_with_their_numbers():
    turned, target = Rotation((2,)).view({"image": torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])})
    assert turned[:, 0].tolist() == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    assert target.tolist() == [0, 1, 2, 3]


def test_one_turn_of_each_image_is_drawn_where_a_quarter_of_the_time_is_wanted():
    head = Rotation((2,), copies=1)
    torch.manual_seed(0)
    turned, target = head.view({"image": torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]).repeat(40, 1, 1, 1)})
    assert sorted(set(target.tolist())) == [0, 1, 2, 3]
    corner = {0: 1, 1: 2, 2: 4, 3: 3}
    assert [image[0, 0, 0].item() for image in turned] == [corner[turn] for turn in target.tolist()]


def test_the_loss_of_a_turn_is_the_surprise_at_the_right_one():
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    loss = Rotation((2,)).loss(logits, torch.tensor([0, 1]))["cross_entropy"]
    by_hand = -(math.log(math.e**2 / (math.e**2 + 3)) + math.log(1 / (math.e + 3))) / 2
    assert loss.item() == pytest.approx(by_hand, rel=1e-6)


def test_images_that_are_not_square_are_refused_with_the_way_out():
    with pytest.raises(InputError, match="an image of 4x6 has another shape") as found:
        Rotation((2,)).view({"image": torch.rand(1, 1, 4, 6)})
    assert "pad_resize" in found.value.hint


def test_a_level_that_the_pyramid_has_not_is_refused():
    with pytest.raises(InputError, match="no level 3 in a pyramid of 3"):
        Rotation((2, 3, 4), level=3)


# -- jigsaw --------------------------------------------------------------------------------------------------------


def test_each_order_is_the_one_farthest_from_those_before_it():
    found = far_apart(5)
    assert all(sorted(row) == list(range(9)) for row in found.tolist())
    others = np.random.default_rng(1).permuted(np.tile(np.arange(9), (2000, 1)), axis=1)
    for i in range(1, 5):
        chosen = sum(int((found[i] != before).sum()) for before in found[:i])
        assert chosen >= max(sum(int((row != before).sum()) for before in found[:i]) for row in others)
    assert (found[0] != found[1]).all()


def test_the_orders_are_the_same_in_every_run_and_the_first_ones_of_a_larger_set():
    assert far_apart(3).tolist() == far_apart(5)[:3].tolist()
    assert far_apart(2).tolist() == [[1, 8, 2, 5, 4, 3, 0, 6, 7], [0, 1, 3, 2, 5, 4, 6, 7, 8]]


def test_tiles_lie_in_the_drawn_order_each_with_mean_0_and_deviation_1():
    head = Jigsaw((2,), permutations=3, tile=1.0, tile_width=2, hidden=2)
    image = torch.arange(81.0).reshape(1, 1, 9, 9).square()
    torch.manual_seed(5)
    shuffled, chosen = head.view({"image": image})
    for place in range(9):
        row, column = divmod(int(head.orders[chosen[0], place]), 3)
        cell = [image[0, 0, 3 * row + i, 3 * column + j].item() for i in range(3) for j in range(3)]
        mean = sum(cell) / 9
        deviation = math.sqrt(sum((value - mean) ** 2 for value in cell) / 9)
        expected = [(value - mean) / deviation for value in cell]
        assert shuffled[place, 0].flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_tiles_are_cut_at_random_places_inside_their_cells():
    head = Jigsaw((2,), permutations=2, tile=0.5, tile_width=2, hidden=2)
    pixels = torch.arange(576.0).reshape(1, 1, 24, 24).repeat(50, 1, 1, 1)
    torch.manual_seed(0)
    tiles = head.tiles(pixels)
    assert tiles.shape == (50, 9, 1, 4, 4)
    assert (tiles - tiles[..., :1, :1] == pixels[0, 0, :4, :4]).all()
    row, column = tiles[:, :, 0, 0, 0] // 24, tiles[:, :, 0, 0, 0] % 24
    number = torch.arange(9)
    for found, cell in ((row, number // 3), (column, number % 3)):
        inside = found - 8 * cell
        assert inside.min() == 0
        assert inside.max() == 4


def test_a_constant_tile_stays_constant():
    assert normalised(torch.full((1, 9, 1, 4, 4), 0.3)).abs().max() < 1e-3


def test_images_too_small_for_nine_tiles_are_refused():
    with pytest.raises(InputError, match="images of 2x2 cannot be cut into nine tiles"):
        Jigsaw((2,), permutations=2).view({"image": torch.rand(1, 1, 2, 2)})


# -- SimMIM --------------------------------------------------------------------------------------------------------


def test_masked_pixels_show_the_learned_patch_and_others_the_image():
    head = SimMIM((2,), (4,), ratio=0.5, patch=4)
    torch.manual_seed(0)
    (images, mask), _ = head.view({"image": torch.rand(3, 1, 10, 12)})
    assert mask.shape == (3, 1, 10, 12)
    seen: list[torch.Tensor] = []
    head.encode(lambda x: seen.append(x) or [x], (images, mask))
    for n in range(3):
        masked = 0
        for row in range(10):
            for column in range(12):
                hidden = bool(mask[n, 0, row, column])
                masked += hidden and row % 4 == 0 and column % 4 == 0
                value = head.token[0, row % 4, column % 4] if hidden else images[n, 0, row, column]
                assert seen[0][n, 0, row, column] == value
        assert masked == round(0.5 * 9)


def test_the_loss_counts_masked_pixels_only():
    head = SimMIM((2,), (2,), patch=2)
    mask = torch.zeros(1, 1, 2, 4, dtype=torch.bool)
    mask[..., :2] = True
    image = torch.tensor([[[[1.0, 2.0, 5.0, 5.0], [3.0, 4.0, 5.0, 5.0]]]])
    loss = head.loss(torch.zeros(1, 1, 2, 4), (image, mask))["l1"]
    assert loss.item() == (1 + 2 + 3 + 4) / 4


def test_a_ratio_that_masks_nothing_is_refused():
    with pytest.raises(InputError, match="of 4 patches per image, 0 would be masked"):
        SimMIM((2,), (2,), ratio=0.1, patch=16).view({"image": torch.rand(1, 1, 32, 32)})


# -- MAE -----------------------------------------------------------------------------------------------------------


def mae(**arguments: Any) -> MAE:
    torch.manual_seed(1)
    encoder = ExampleEncoder
    return MAE(encoder.patch, encoder.prefix_tokens, encoder.width, **LARGE | arguments)


def test_the_encoder_sees_a_quarter_of_the_patches_and_the_output_knows_nothing_of_the_others():
    head, encoder = mae().eval(), ExampleEncoder()
    torch.manual_seed(0)
    (images, keep, masked), _ = head.view({"image": torch.rand(2, 1, 32, 32)})
    assert keep.shape == (2, 4)
    assert all(sorted([*k, *m]) == list(range(16)) for k, m in zip(keep.tolist(), masked.tolist(), strict=True))
    other = images.clone()
    for n in range(2):
        for place in masked[n].tolist():
            row, column = divmod(place, 4)
            other[n, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 0.5
    first, second = (head(head.encode(encoder, (x, keep, masked))) for x in (images, other))
    assert torch.equal(first, second)


def test_the_target_is_each_masked_patch_with_mean_0_and_variance_1():
    head = mae()
    image = torch.rand(1, 1, 16, 24, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    (_, _, masked), target = head.view({"image": image})
    assert target.shape == (1, round(0.75 * 6), 64)
    for n, place in enumerate(masked[0].tolist()):
        row, column = divmod(place, 3)
        pixels = [image[0, 0, 8 * row + i, 8 * column + j].item() for i in range(8) for j in range(8)]
        mean = sum(pixels) / 64
        variance = sum((value - mean) ** 2 for value in pixels) / 63
        expected = [(value - mean) / math.sqrt(variance + 1e-6) for value in pixels]
        assert target[0, n].tolist() == pytest.approx(expected, abs=1e-4)


def test_the_decoder_gets_each_token_at_its_place():
    head, encoder = mae().eval(), ExampleEncoder()
    torch.manual_seed(0)
    (images, keep, masked), _ = head.view({"image": torch.rand(1, 1, 16, 24)})
    tokens = encoder.tokens(images, keep)
    embedded = head.embed(tokens)[0]
    places = sines_and_cosines(2, 3, 16)
    sequence = [embedded[0]]
    for place in range(6):
        at = keep[0].tolist().index(place) if place in keep[0].tolist() else None
        sequence.append((head.token if at is None else embedded[1 + at]) + places[place])
    x = torch.stack(sequence)[None]
    for block in head.blocks:
        x = block(x)
    expected = torch.stack([head.pixels(head.norm(x))[0, 1 + place] for place in masked[0].tolist()])
    assert torch.allclose(head(head.encode(encoder, (images, keep, masked)))[0], expected, atol=1e-6)


def test_positions_are_sines_and_cosines_of_row_and_column():
    found = sines_and_cosines(2, 3, 8)[5]  # row 1, column 2
    by_hand = [math.sin(1), math.sin(0.01), math.cos(1), math.cos(0.01)]
    by_hand += [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]
    assert found.tolist() == pytest.approx(by_hand, abs=1e-6)


def test_an_encoder_without_tokens_is_refused_with_the_way_out():
    with pytest.raises(InputError, match="no tokens that could be dropped") as found:
        MAE(None, None, None)
    assert "ssl:simmim" in found.value.hint


# -- in an objective -----------------------------------------------------------------------------------------------


def test_heads_with_an_encode_of_their_own_train_beside_one_that_shares_the_pass():
    encoder = ExampleEncoder()
    calls: list[int] = []
    encoder.register_forward_hook(lambda *_: calls.append(1))
    heads = {
        "mae": mae(),
        "simmim": SimMIM(encoder.channels, encoder.strides, patch=8),
        "rotation": Rotation(encoder.channels),
    }
    objective = Multitask(encoder, {name: Placed(head, {"weight": 1.0}) for name, head in heads.items()})
    batch = {"image": torch.rand(2, 1, 32, 32)}
    losses = objective.losses("train", batch)
    torch.stack(list(losses.values())).sum().backward()
    assert list(losses) == ["mae", "simmim", "rotation"]
    assert all(p.grad is not None for p in objective.heads.parameters())
    assert len(calls) == 2  # MAE's pass goes through tokens
    assert objective.predict(batch) == {}
