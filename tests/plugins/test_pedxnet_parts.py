"""PedXnet's encoder and heads: promises, weights from files, what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from medkit_pedxnet.heads import BoneAge, ViewClass
from medkit_pedxnet.inception import InceptionV3
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models.inception import Inception3

from medkit.errors import InputError
from medkit.objectives.multitask import Multitask
from medkit.parts.encoders import TimmEncoder
from medkit.registry.marks import Placed
from medkit.testing import check_encoder, check_pretext

MAPS = [torch.randn(3, c, 64 // s, 64 // s) for c, s in ((6, 2), (8, 4), (12, 8))]


def test_inception_keeps_every_promise_of_an_encoder() -> None:
    check_encoder(InceptionV3, image=(80, 128))


class Finer(InceptionV3):
    """Says that its first map is coarser than it is."""

    strides = (4, 4, 8, 16, 32)


def test_maps_larger_than_the_stride_allows_are_found_without_padding_too() -> None:
    with pytest.raises(AssertionError, match="with stride 4, a map should have at most"):
        check_encoder(Finer, image=(80, 128))


@pytest.mark.parametrize(
    ("head", "arguments"),
    [("Fracture", {"hidden": 8}), ("BoneAge", {"hidden": 8}), ("BoneAge", {"hidden": 8, "start": 120.0})],
)
def test_heads_keep_every_promise_of_a_pretext(head: str, arguments: dict[str, float]) -> None:
    from medkit_pedxnet import heads

    check_pretext(getattr(heads, head), **arguments)


def test_the_view_head_keeps_every_promise_of_a_pretext() -> None:
    check_pretext(ViewClass, classes=3, batch={"label": torch.tensor([0.0, 2.0, 1.0])})


def test_inception_halves_512_pixels_to_14() -> None:
    with torch.no_grad():
        assert InceptionV3().eval()(torch.zeros(1, 1, 512, 512))[-1].shape == (1, 2048, 14, 14)


def test_an_image_too_small_for_inception_is_told() -> None:
    with pytest.raises(InputError, match="75x75 pixels or more, these are 80x60"):
        InceptionV3()(torch.zeros(1, 1, 80, 60))


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Inception3]:
    """A file of torchvision's own three-channel network, classifiers and all, and the network."""
    torch.manual_seed(0)
    net = Inception3(num_classes=5, aux_logits=True, transform_input=False, init_weights=False).eval()
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file(net.state_dict(), path)
    return path, net


def deepest(net: Inception3, x: Tensor) -> Tensor:
    """Torchvision's Mixed_7c."""
    kept: list[Tensor] = []
    handle = net.Mixed_7c.register_forward_hook(lambda module, inputs, output: kept.append(output))
    net(x)
    handle.remove()
    return kept[0]


@torch.no_grad()
@pytest.mark.parametrize("official", [False, True])
def test_colour_weights_see_grey_thrice_in_the_range_they_were_trained_on(
    colour: tuple[Path, Inception3], official: bool
) -> None:
    path, net = colour
    encoder = InceptionV3(weights=str(path), official_imagenet_input=official).eval()
    x = torch.rand(1, 1, 96, 96)
    repeated = x.expand(-1, 3, -1, -1)
    wanted = deepest(net, repeated if official else 2 * repeated - 1)
    torch.testing.assert_close(encoder(x)[-1], wanted)


def test_torchvisions_normalisation_and_input_transform_come_to_minus_one_to_one() -> None:
    """Mean and deviation of ImageNet, then transform_input of torchvision's network, are 2 x - 1."""
    x = torch.rand(1, 3, 4, 4)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = (x - mean[:, None, None]) / deviation[:, None, None]
    net = Inception3(num_classes=2, aux_logits=False, transform_input=True, init_weights=False)
    torch.testing.assert_close(net._transform_input(normal), 2 * x - 1, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_an_encoder_read_from_its_own_file_is_the_same(tmp_path: Path) -> None:
    first = InceptionV3().eval()
    save_file(first.state_dict(), tmp_path / "own.safetensors")
    second = InceptionV3(weights=str(tmp_path / "own.safetensors")).eval()
    x = torch.rand(1, 1, 80, 80)
    assert torch.equal(first(x)[-1], second(x)[-1])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="it is not InceptionV3's"):
        InceptionV3(weights=str(tmp_path / "other.safetensors"))


def test_weights_that_lack_layers_are_refused(tmp_path: Path) -> None:
    state = {k: v for k, v in InceptionV3().state_dict().items() if not k.startswith("Mixed_7c")}
    save_file(state, tmp_path / "half.safetensors")
    with pytest.raises(InputError, match="missing or of another shape"):
        InceptionV3(weights=str(tmp_path / "half.safetensors"))


def test_xavier_weights_lie_within_their_bound() -> None:
    weight = InceptionV3().Conv2d_2a_3x3.conv.weight
    bound = (6 / (32 * 9 + 32 * 9)) ** 0.5
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.95 * bound


def test_auxiliary_logits_add_their_weighted_loss_in_training_only() -> None:
    torch.manual_seed(0)
    head = ViewClass((16, 24), 4, auxiliary=0.3)
    features = [torch.randn(2, 16, 17, 17), torch.randn(2, 24, 8, 8)]
    terms = head.loss(head(features), torch.tensor([1.0, 3.0]))
    assert set(terms) == {"ce", "auxiliary"}
    assert head.eval()(features).shape == (2, 4)


def test_a_map_too_small_for_auxiliary_logits_is_told() -> None:
    head = ViewClass((16, 24), 4, auxiliary=0.3)
    with pytest.raises(InputError, match="needs a map of 17x17, not 8x8"):
        head([torch.randn(2, 16, 8, 8), torch.randn(2, 24, 4, 4)])


@pytest.mark.parametrize("label", [7.0, -1.0, 1.5, float("nan")])
def test_labels_that_are_no_class_numbers_are_told(label: float) -> None:
    head = ViewClass((12,), 7)
    with pytest.raises(InputError, match="not a class number from 0 to 6"):
        head.loss(torch.zeros(2, 7), torch.tensor([0.0, label]))


def test_bone_age_starts_at_the_age_it_is_told() -> None:
    head = BoneAge((6, 8, 12), hidden=16, start=127.0).eval()
    found = head([m * 0.01 for m in MAPS], sex=torch.tensor([0.0, 1.0, 1.0]))
    assert (found - 127).abs().max() < 5


def objective() -> Multitask:
    torch.manual_seed(0)
    encoder = TimmEncoder("test_resnet")
    return Multitask(encoder, {"age": Placed(BoneAge(encoder.channels, hidden=8), {"weight": 1.0})}, slices_at_once=2)


def test_fields_of_a_batch_reach_the_head_in_training() -> None:
    task = objective().eval()
    image, label = torch.rand(2, 1, 32, 32), torch.tensor([100.0, 120.0])
    boys, girls = (
        task.losses("train", {"image": image, "label": label, "sex": torch.full((2,), s)}) for s in (1.0, 0.0)
    )
    assert boys["age"] != girls["age"]


def test_fields_of_a_volume_hold_for_each_of_its_slices_in_prediction() -> None:
    """Five slices in chunks of two, of volumes of two and three slices with different sex."""
    task = objective().eval()
    image = torch.rand(1, 1, 32, 32).expand(5, -1, -1, -1)
    batch = {"image": image, "lengths": torch.tensor([2, 3]), "sex": torch.tensor([1.0, 0.0])}
    with torch.no_grad():
        value = task.predict(batch)["value"]
    torch.testing.assert_close(value[:2], value[:1].expand(2))
    torch.testing.assert_close(value[2:], value[2:3].expand(3))
    assert value[0] != value[2]


def test_a_field_that_a_batch_has_not_is_named() -> None:
    with pytest.raises(InputError, match=r"needs the field 'sex'.*fields: \[sex\]"):
        objective().predict({"image": torch.rand(1, 1, 32, 32), "lengths": torch.tensor([1])})
