"""Every component that medkit and its own plugins register keeps the promises of its kind."""

from __future__ import annotations

import pytest
import torch

from medkit import testing
from medkit.errors import InputError
from medkit.protocols.labels import Labels
from medkit.registry.plugins import registry
from medkit.testing import check_component

MODULES = [
    ("encoder", "timm", {"model": "test_resnet"}),
    ("encoder", "timm", {"model": "test_resnet", "stem_stride": 1}),
    ("encoder", "timm", {"model": "resnet18", "in_channels": 3}),
    ("pretext", "slice_class", {}),
    ("pretext", "scse_unet", {"widths": (16, 8, 8, 8, 8)}),
    ("pretext", "pixel_shuffle", {"widths": (16, 8, 8, 8, 8)}),
    ("pretext", "smp", {}),
    ("operator", "lstm_classifier", {"hidden": 8}),
    ("operator", "conv3d_segmenter", {}),
    ("generator", "fft_generator", {"width": 4, "layers": 4}),
    ("generator", "conv_generator", {"width": 4, "layers": 4}),
    ("discriminator", "mtdgan:multitask", {"base": 4}),
]
METRICS = {f"medkit:{name}": {"weights": "random_test_features"} for name in ("pl", "tml", "fid")}
LOSSES = ["bce", "dice", "l1", "mse", "charbonnier", "edge"]


@pytest.mark.parametrize(("kind", "name", "arguments"), MODULES, ids=lambda value: str(value))
def test_a_registered_module_keeps_every_promise(kind, name, arguments):
    check_component(kind, name, **arguments)


@pytest.mark.parametrize(
    ("name", "labels", "values"),
    [
        ("classification", Labels("one_of", ("a", "b", "c"), ("a", "b", "c")), [0, 2, 1]),
        ("multilabel", Labels("any_of", ("a", "b"), ("a", "b"), column="c"), [[0, 1], [1, torch.nan], [1, 1]]),
        ("ordinal", Labels("ordered", ("a", "b", "c"), ("a", "b", "c")), [0, 2, 1]),
        ("regression", Labels("unit", unit="mm"), [3, 5, 2]),
    ],
)
def test_a_head_for_declared_labels_keeps_every_promise(name, labels, values):
    batch = {"labels": torch.tensor(values, dtype=torch.float32)}
    check_component("pretext", name, labels=labels, batch=batch, hidden=4, fields=("sex",))


@pytest.mark.parametrize("name", LOSSES)
def test_a_registered_loss_keeps_every_promise(name):
    check_component("loss", name)


def test_the_tie_between_heads_keeps_every_promise_of_a_loss():
    torch.manual_seed(0)
    check_component("loss", "consistency", prediction=torch.randn(3), target=torch.randn(3, 1, 64, 64))


@pytest.mark.parametrize("name", [entry.full_name for entry in registry().of_kind("metric")])
def test_a_registered_metric_keeps_every_promise(name):
    check_component("metric", name, **METRICS.get(name, {}))


@pytest.mark.parametrize("name", [entry.full_name for entry in registry().of_kind("transform")])
def test_a_registered_transform_keeps_every_promise(name):
    check_component("transform", name, **{"medkit:windows": {"windows": [[0, 80], [-20, 180]]}}.get(name, {}))


def test_the_phantoms_keep_every_promise_of_a_source():
    check_component("source", "head_ct", patients=2, size=[64, 64], slices=3)


def test_the_bound_on_a_gradient_s_norm_keeps_every_promise():
    check_component("clip", "norm", limit=1.0)


@pytest.mark.parametrize("entry", registry().entries.values(), ids=lambda entry: f"{entry.kind} {entry.full_name}")
def test_every_registered_constructor_is_a_schema(entry):
    testing.check_schema(entry.load())


def test_an_unknown_name_is_the_caller_s_mistake():
    with pytest.raises(InputError, match="did you mean"):
        check_component("loss", "dicee")


def test_an_unknown_kind_is_the_caller_s_mistake():
    with pytest.raises(InputError, match="not a kind"):
        check_component("losses", "dice")
