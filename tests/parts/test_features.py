"""Feature networks: weights by name, nothing fetched unasked, one network a process, FID's Inception by its reference."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import nn

from medkit.errors import InputError
from medkit.parts.features import RANDOM, VGG19, Remembered, digest, load_by_name, network
from medkit.parts.inception import FIDInception, resize_tf1
from medkit.parts.metrics_fid import FID
from medkit.parts.metrics_perceptual import PL, TML


def drawn(module: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state of ``module`` with random weights and statistics that keep activations of ordinary size."""
    made = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in module.state_dict().items():
        if tensor.dim() == 4:
            state[name] = torch.randn(tensor.shape, generator=made) * (2 / tensor[0].numel()) ** 0.5
        elif name.endswith(("var", "bn.weight")):
            state[name] = 0.75 + 0.5 * torch.rand(tensor.shape, generator=made)
        elif tensor.is_floating_point():
            state[name] = 0.1 * torch.randn(tensor.shape, generator=made)
    return state


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of torchvision's VGG19, but with a classifier that is no more than a name."""
    with torch.device("meta"):
        whole = torchvision.models.vgg19().features
    state = {f"features.{name}": tensor for name, tensor in drawn(whole).items()}
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(state | {"classifier.0.weight": torch.zeros(1)}, path)
    return path


def test_vgg19_has_torchvisions_layers_up_to_relu5_1(vgg_file: Path) -> None:
    found = network("vgg19", str(vgg_file))
    reference = torchvision.models.vgg19().features.eval()
    load_by_name(reference, drawn(reference), "")
    x = torch.rand(1, 1, 48, 40)
    with torch.inference_mode():
        y, expected = x.expand(-1, 3, -1, -1), []
        for index, layer in enumerate(reference):
            y = layer(y)
            if index in (1, 6, 11, 20, 29):
                expected.append(y.clone())
        for level, wanted in zip(found(x), expected, strict=True):
            torch.testing.assert_close(level, wanted, rtol=1e-4, atol=1e-5)


def test_a_file_of_the_features_alone_is_read_too(vgg_file: Path, tmp_path: Path) -> None:
    state = {name.removeprefix("features."): t for name, t in network("vgg19", str(vgg_file)).state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "alone.safetensors")
    again = network("vgg19", str(tmp_path / "alone.safetensors")).state_dict()
    assert all(torch.equal(again[f"features.{name}"], tensor) for name, tensor in state.items())


def test_metrics_with_the_same_weights_share_one_network(vgg_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pl = PL(str(vgg_file))
    monkeypatch.chdir(vgg_file.parent)
    tml = TML("vgg19.safetensors")
    assert pl.distances is tml.distances
    assert pl.distances.features is network("vgg19", str(vgg_file))


def test_building_a_network_leaves_the_random_state_alone(vgg_file: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "copy.safetensors"
    fresh.write_bytes(vgg_file.read_bytes())
    before = torch.get_rng_state()
    network("vgg19", str(fresh))
    FID(RANDOM)
    assert torch.equal(before, torch.get_rng_state())


def test_the_inception_of_fid_is_torchvisions_with_two_other_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    own = FIDInception()
    state = drawn(own)
    load_by_name(own.eval(), state, "")
    reference = torchvision.models.inception_v3(aux_logits=False, init_weights=False, num_classes=1008).eval()
    reference.fc = nn.Identity()
    load_by_name(reference, state, "")
    average = F.avg_pool2d

    def pool(x: torch.Tensor, kernel_size: int, stride: int, padding: int) -> torch.Tensor:
        # Only Mixed_7c reads 2048 channels.
        if x.shape[1] == 2048:
            return F.max_pool2d(x, kernel_size, stride, padding)
        return average(x, kernel_size, stride, padding, count_include_pad=False)

    x = torch.rand(1, 3, 299, 299) * 2 - 1
    with torch.inference_mode():
        found = own.features(x)
        monkeypatch.setattr(F, "avg_pool2d", pool)
        expected = reference(x)
    assert found.shape == (1, 2048)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_inception_of_fid_has_the_names_and_shapes_of_its_published_file() -> None:
    with torch.device("meta"):
        own = FIDInception().state_dict()
        published = torchvision.models.inception_v3(aux_logits=False, init_weights=False, num_classes=1008).state_dict()
    assert {k: v.shape for k, v in own.items()} == {
        k: v.shape for k, v in published.items() if k not in ("fc.weight", "fc.bias")
    }


@pytest.mark.parametrize("shape", [(512, 512), (40, 333)])
def test_the_resize_reads_each_output_at_its_index_times_the_scale(shape: tuple[int, int]) -> None:
    x = torch.rand(1, 1, *shape)
    found = resize_tf1(x, 299)[0, 0]
    for i, j in ((0, 0), (1, 5), (150, 298), (298, 298), (298, 0)):
        down, along = i * shape[0] / 299, j * shape[1] / 299
        y, z = int(down), int(along)
        y1, z1 = min(y + 1, shape[0] - 1), min(z + 1, shape[1] - 1)
        top = x[0, 0, y, z] * (1 - along + z) + x[0, 0, y, z1] * (along - z)
        bottom = x[0, 0, y1, z] * (1 - along + z) + x[0, 0, y1, z1] * (along - z)
        assert float(found[i, j]) == pytest.approx(float(top * (1 - down + y) + bottom * (down - y)), abs=1e-5)


@pytest.mark.parametrize("classes", [1000, 0])
def test_another_inception_with_the_same_names_is_refused_for_fid(tmp_path: Path, classes: int) -> None:
    state = drawn(FIDInception())
    if classes:
        state["fc.weight"] = torch.zeros(classes, 2048)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="not the Inception-v3 of FID"):
        FID(str(tmp_path / "w.safetensors"))


def test_a_converted_file_of_fid_s_inception_is_read(tmp_path: Path) -> None:
    state = drawn(FIDInception())
    save_file(state | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, tmp_path / "w.safetensors")
    found = FID(str(tmp_path / "w.safetensors")).embedder(torch.rand(1, 40, 50).numpy())
    assert found.shape == (1, 2048)


def test_a_file_of_another_network_is_refused_with_the_names_it_lacks(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"lacks 25 tensors of VGG19 \(features.0.bias"):
        PL(str(tmp_path / "w.safetensors"))


def test_a_narrower_network_is_refused() -> None:
    with pytest.raises(InputError, match="another shape"):
        load_by_name(VGG19(), drawn(VGG19((4, 4, 4, 4, 4))), "narrow.safetensors")


def test_a_missing_file_is_told_when_the_metric_is_built(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such weight file"):
        PL(str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize("weights", ["vgg19.pth", "imagenet", "hub:IMAGENET1K_V2"])
def test_weights_that_nobody_names_are_told(weights: str) -> None:
    with pytest.raises(InputError, match=r"names no weights|not on the hub"):
        PL(weights)


@pytest.mark.parametrize(("metric", "weights"), [(PL, "hub:IMAGENET1K_V1"), (FID, "hub:pt_inception-2015-12-05")])
def test_weights_from_the_hub_without_a_network_are_a_clear_error(
    metric: type, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(InputError, match=r"cannot be fetched.*no network.*safetensors"):
        metric(weights)


def test_remembered_values_are_made_once_and_the_oldest_go() -> None:
    asked: list[list[int]] = []

    def make(positions: list[int]) -> list[int]:
        asked.append(positions)
        return [10 * p for p in positions]

    known = Remembered(2)
    assert known.all(["a", "b", "a"], make) == [0, 10, 0]
    assert known.all(["a"], make) == [0]
    known.all(["c"], make)
    assert set(known.values) == {"a", "c"}
    assert asked == [[0, 1], [0]]


def test_a_digest_tells_shapes_apart() -> None:
    x = torch.arange(6.0).numpy()
    assert digest(x.reshape(2, 3)) != digest(x.reshape(3, 2))
    assert digest(x.reshape(2, 3)) == digest(x.reshape(2, 3).astype("float64"))
