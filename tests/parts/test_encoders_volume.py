"""Encoders of volumes: what they promise, what they refuse, and the head that segments on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medkit.errors import InputError
from medkit.objectives.multitask3d import Multitask3d
from medkit.parts.label_heads import Classification, Multilabel, Ordinal, Regression
from medkit.parts.resenc import ResidualEncoder
from medkit.parts.resnet3d import ResNet3d
from medkit.parts.unet3d import UNet3d
from medkit.protocols.classes import Classes
from medkit.protocols.labels import Labels
from medkit.registry.marks import Placed
from medkit.testing import check_encoder, check_objective, check_pretext

FLAT: dict[str, Any] = {"kernels": [(1, 3, 3), (3, 3, 3)], "strides": [(1, 1, 1), (1, 2, 2)]}
SMALL: dict[str, Any] = {"widths": (4, 6), "blocks": (1, 2)}


@pytest.mark.parametrize("shape", [{}, FLAT], ids=["cubes", "slices far apart"])
def test_the_residual_encoder_keeps_every_promise(shape: dict[str, Any]) -> None:
    check_encoder(ResidualEncoder, **SMALL, **shape)


@pytest.mark.parametrize("more", [{}, {"stem_stride": (2, 2, 2), "dilated": True, "shortcut": "A"}], ids=["", "Med3D"])
def test_the_3d_resnet_keeps_every_promise(more: dict[str, Any]) -> None:
    check_encoder(ResNet3d, depth=10, width=4, in_channels=2, **more)


def test_strides_multiply_in_each_direction() -> None:
    encoder = ResidualEncoder(1, (4, 4, 4), (1, 1, 1), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)))
    assert encoder.strides == ((1, 1, 1), (1, 2, 2), (2, 4, 4))


def test_the_default_is_resenc_l() -> None:
    """Six stages; the weights of convolutions, their biases, and two numbers a channel of each norm, summed by hand."""
    widths, blocks, before, count = (32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6), 32, 27 * 32 + 3 * 32
    for width, number in zip(widths, blocks, strict=True):
        count += 27 * width * before + (2 * number - 1) * 27 * width * width + 2 * number * 3 * width
        count += width * before + 2 * width if width != before else 0
        before = width
    with torch.device("meta"):
        assert sum(p.numel() for p in ResidualEncoder().parameters()) == count


def test_med3d_s_resnet_18_has_the_published_size() -> None:
    """32.99 million; the stem, then four layers of four 3x3x3 convolutions with batch norms."""
    with torch.device("meta"):
        net = ResNet3d(18, stem_stride=(2, 2, 2), dilated=True, shortcut="A")
    assert sum(p.numel() for p in net.parameters()) == 22_080 + 442_880 + 1_549_312 + 6_195_200 + 24_776_704
    assert net.strides[-1] == (8, 8, 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blocks": (1,)}, "a stage has one of each"),
        ({"kernels": [(1, 3, 3)]}, "1 kernels for 2 stages"),
        ({"kernels": [(2, 3, 3), (3, 3, 3)]}, "kernels have odd sides"),
    ],
)
def test_stages_that_do_not_fit_each_other_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ResidualEncoder(**(SMALL | wrong))


def test_a_patch_that_ends_as_one_voxel_is_refused_with_a_way_out() -> None:
    with pytest.raises(InputError, match="the deepest map would be one voxel") as caught:
        ResidualEncoder(**SMALL)(torch.zeros(1, 1, 2, 2, 2))
    assert "larger patches" in str(caught.value.hint)


@pytest.mark.parametrize("encoder", [ResidualEncoder(**SMALL), ResNet3d(10, width=4)], ids=["resenc", "resnet3d"])
def test_slices_are_refused(encoder: torch.nn.Module) -> None:
    with pytest.raises(InputError, match="takes \\(N,C,D,H,W\\)"):
        encoder(torch.zeros(2, 1, 32, 32))


# -- the head and the objective ------------------------------------------------------------------------------------


def test_the_segmentation_head_keeps_every_promise() -> None:
    check_pretext(UNet3d)


def objective(**more: Any) -> Multitask3d:
    torch.manual_seed(0)
    encoder = ResidualEncoder(**SMALL, **FLAT)
    head = UNet3d(encoder.channels, encoder.strides, **more)
    return Multitask3d(encoder, {"seg": Placed(head, {"weight": 1.0})}, window=(4, 16, 16)).eval()


def test_coarser_maps_are_trained_with_half_the_weight_of_the_next_finer_one() -> None:
    """Four resolutions: the finest and the next are trained, by 2/3 and 1/3."""
    torch.manual_seed(0)
    encoder = ResidualEncoder(1, (4, 5, 6, 7), (1, 1, 1, 1), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)))
    head = UNet3d(encoder.channels, encoder.strides, deep_supervision=True)
    images, mask = torch.rand(2, 1, 8, 16, 16), (torch.rand(2, 1, 8, 16, 16) > 0.7).float()
    finest, coarser = head(encoder(images))
    assert (finest.shape, coarser.shape) == ((2, 1, 8, 16, 16), (2, 1, 8, 8, 8))
    wanted = {name: 2 / 3 * term for name, term in head.criterion(finest, mask).items()}
    for name, term in head.criterion(coarser, mask[..., ::2, ::2]).items():
        wanted[name] = wanted[name] + term / 3
    found = head.loss([finest, coarser], mask)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    sum(found.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert torch.equal(head.eval()(encoder(images)), head.head(head.decoder(encoder(images))))


def test_deep_supervision_of_an_encoder_that_is_too_shallow_is_refused() -> None:
    with pytest.raises(InputError, match="leaves out the two lowest resolutions, and the encoder has 3"):
        UNet3d((4, 4, 4), ((1, 1, 1), (2, 2, 2), (4, 4, 4)), deep_supervision=True)


def test_the_objective_keeps_every_promise() -> None:
    torch.manual_seed(0)
    encoder = ResidualEncoder(**SMALL)
    head = Placed(UNet3d(encoder.channels, encoder.strides), {"weight": 1.0})
    check_objective(Multitask3d, encoder=encoder, heads={"seg": head}, window=(4, 8, 8))


@torch.no_grad()
def test_a_volume_of_one_window_is_what_the_head_says_of_it() -> None:
    task, volume = objective(), torch.rand(1, 1, 4, 16, 16)
    said = torch.sigmoid(task.heads["seg"](task.encoder(volume)))
    found = task.predict({"image": volume[0].transpose(0, 1), "lengths": torch.tensor([4])})
    assert found["mask_probability"].shape == (4, 1, 16, 16)
    torch.testing.assert_close(found["mask_probability"][:, 0], said[0, 0])
    torch.testing.assert_close(found["probability"], said.amax().reshape(1))


@torch.no_grad()
def test_volumes_of_a_batch_are_predicted_each_by_itself() -> None:
    task, slices = objective(), torch.rand(11, 1, 20, 24)
    both = task.predict({"image": slices, "lengths": torch.tensor([6, 5])})
    alone = task.predict({"image": slices[6:], "lengths": torch.tensor([5])})
    torch.testing.assert_close(both["mask_probability"][6:], alone["mask_probability"])
    assert both["probability"].shape == (2,)


@torch.no_grad()
@pytest.mark.parametrize("overlapping", [False, True])
def test_masks_with_classes_have_a_probability_each(overlapping: bool) -> None:
    told = Classes(("a", "b"), overlapping)
    found = objective(classes=told).predict({"image": torch.rand(5, 1, 16, 16), "lengths": torch.tensor([5])})
    assert found["mask_probability"].shape == (5, 2, 16, 16)


def test_a_volume_whose_predicted_mask_is_empty_is_not_positive() -> None:
    head = UNet3d((4, 8, 8), ((1, 1, 1), (2, 2, 2), (4, 4, 4)), classes=Classes(("a", "b")))
    logits = torch.tensor([0.4, 0.3, 0.3]).log().view(1, 3, 1, 1, 1)  # none is the likeliest, any of them likelier
    assert float(head.predict(logits)["probability"]) < 0.5


def test_a_head_that_gives_neither_maps_nor_numbers_is_refused_by_name() -> None:
    class Profile(torch.nn.Linear):
        def predict(self, output: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"probability": output[:, 0, 0]}

        def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
            return super().forward(features[-1].mean((3, 4)).transpose(1, 2))

    task = Multitask3d(ResidualEncoder(**SMALL), {"s": Placed(Profile(6, 1), {"weight": 1.0})}, window=(4, 8, 8))
    with pytest.raises(InputError, match="head 's' makes"):
        task.predict({"image": torch.rand(4, 1, 8, 8), "lengths": torch.tensor([4])})


@pytest.mark.parametrize(
    ("head", "labels", "targets"),
    [
        (Classification, Labels("one_of", ("a", "b", "c")), [0.0, 2.0, 1.0]),
        (Multilabel, Labels("any_of", ("a", "b"), column="c"), [[0.0, 1.0], [1.0, 1.0], [float("nan"), 0.0]]),
        (Ordinal, Labels("ordered", ("a", "b", "c")), [0.0, 2.0, 1.0]),
        (Regression, Labels("unit", unit="mL"), [0.5, 2.0, 1.5]),
    ],
)
def test_heads_of_declared_labels_take_maps_of_slices_and_of_volumes(
    head: type, labels: Labels, targets: list[Any]
) -> None:
    check_pretext(head, labels=labels, batch={"labels": torch.tensor(targets)}, hidden=4)


@torch.no_grad()
def test_numbers_of_a_volume_are_the_mean_over_its_windows() -> None:
    torch.manual_seed(0)
    encoder, volume = ResidualEncoder(**SMALL, **FLAT), torch.rand(1, 1, 6, 16, 24)
    head = Regression(encoder.channels, labels=Labels("unit", unit="mL"))
    seg = UNet3d(encoder.channels, encoder.strides)
    heads = {"seg": Placed(seg, {"weight": 1.0}), "size": Placed(head, {"weight": 1.0})}
    batch = {"image": volume[0].transpose(0, 1), "lengths": torch.tensor([6])}
    both = Multitask3d(encoder, heads, window=(4, 16, 16)).eval().predict(batch)
    alone = Multitask3d(encoder, {"size": heads["size"]}, window=(4, 16, 16)).eval().predict(batch)
    each = [head(encoder(volume[..., z : z + 4, :, x : x + 16])) for z in (0, 2) for x in (0, 8)]
    torch.testing.assert_close(both["value"], torch.cat(each).mean(0))
    torch.testing.assert_close(alone["value"], both["value"])
    assert both["mask_probability"].shape == (6, 1, 16, 24)
