"""The conformance checks of encoders, operators, generators and discriminators (:mod:`medkit.testing`)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from medkit.errors import InputError
from medkit.protocols import Encoder, offered
from medkit.registry.schema import schema_of
from medkit.testing.calls import check_alone, check_calls
from medkit.testing.common import (
    build,
    check_construction,
    check_devices,
    check_dtype,
    check_gradients,
    check_schema,
    check_state,
    dimensions,
    example_features,
)


def check_encoder(
    constructor: Callable[..., Any], *, in_channels: int = 1, image: tuple[int, ...] | None = None, **arguments: Any
) -> None:
    """An encoder returns a pyramid of the declared channels and strides; ``stages()`` holds every parameter once, from
    input to output.

    ``image`` is the height and width of the images to try (default: 64 x 96, or the only size that it takes); for an
    encoder of volumes depth, height and width (default: 16 x 32 x 48). An encoder that takes only one size has to
    refuse others with an :class:`InputError` that says what to do. In evaluation mode its maps are the same every time,
    and those of an image do not depend on the others in its batch, but on each of its channels; no call changes its
    input or keeps a graph.
    """
    check_schema(constructor)
    if "in_channels" in schema_of(constructor).arguments:
        arguments["in_channels"] = in_channels
    encoder = build(constructor, arguments, "encoder")
    check_construction(constructor, arguments)
    only = getattr(encoder, "only_size", None)
    image = image or only or ((16, 32, 48) if dimensions(encoder) == (3,) else (64, 96))
    x = torch.randn(2, in_channels, *image)
    _check_maps(encoder, x)
    check_calls(encoder, lambda m, given: m(given), x)
    check_alone(encoder, lambda m, given: m(given), x)
    _check_channels(encoder, x)
    steps = [stride if isinstance(stride, tuple) else (stride,) for stride in encoder.strides]
    each = 3 if dimensions(encoder) == (3,) else 1
    assert all(len(step) == each for step in steps), "an encoder of volumes needs strides for depth, height and width"
    deeper = all(a <= b for near, far in pairwise(steps) for a, b in zip(near, far, strict=True))
    assert deeper, "strides must go from shallow to deep"
    found = [id(p) for _, stage in offered(Encoder, encoder, "stages")() for p in stage.parameters()]
    assert len(found) == len(set(found)), "stages() holds a parameter twice"
    assert set(found) == {id(p) for p in encoder.parameters()}, "stages() leaves parameters out"
    if found:  # an encoder may just pass the image on
        check_gradients(encoder, sum(m.square().mean() for m in encoder(x)))  # type: ignore[arg-type]
    other = torch.randn(1, in_channels, *(side + more for side, more in zip(image, (1, 3, 5), strict=False)))
    if only is None:
        _check_maps(encoder, other)
    else:
        _check_refused(encoder, other)
    check_state(encoder, lambda m: m(x), lambda: build(constructor, arguments, seed=9))
    check_dtype(encoder, lambda m: m(x.double()))
    check_devices(encoder, lambda m, d: m(x.to(d)))


def _check_maps(encoder: Any, x: torch.Tensor) -> None:
    """Maps have the declared channels, and the image's size divided by the declared strides."""
    maps = encoder(x.clone())
    sound = isinstance(maps, list | tuple) and all(isinstance(feature, torch.Tensor) for feature in maps)
    assert sound, f"forward() must return a list of maps (N,C,H,W), not {type(maps).__name__}"
    assert all(bool(torch.isfinite(feature).all()) for feature in maps), "a map is not finite (NaN or infinite)"
    other = next((feature.dtype for feature in maps if feature.dtype != x.dtype), None)
    assert other is None, f"a map is {other}, but the image is {x.dtype}"
    assert len(maps) == len(encoder.channels) == len(encoder.strides), "numbers of maps, channels and strides differ"
    for feature, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        assert feature.shape[1] == channels, f"a map has {feature.shape[1]} channels, but {channels} are declared"
        each = stride if isinstance(stride, tuple) else (stride,) * (x.dim() - 2)
        assert len(each) == x.dim() - 2, f"the stride {stride} does not have {x.dim() - 2} dimensions"
        expected = tuple(-(-side // s) for side, s in zip(x.shape[2:], each, strict=True))
        size = tuple(feature.shape[2:])
        if getattr(encoder, "unpadded", False):
            assert all(a <= b for a, b in zip(size, expected, strict=True)), (
                f"with stride {stride}, a map should have at most {expected} pixels, not {size}"
            )
        else:
            assert size == expected, f"with stride {stride}, a map should have {expected} pixels, not {size}"


def _check_channels(encoder: Any, x: torch.Tensor) -> None:
    """Every channel of the image has an effect on some map."""
    trained = encoder.training
    encoder.eval()
    with torch.no_grad():
        before = encoder(x.clone())
        for channel in range(x.shape[1]):
            other = x.clone()
            other[:, channel] = 1 - other[:, channel]
            seen = any(not torch.equal(a, b) for a, b in zip(before, encoder(other), strict=True))
            assert seen, f"channel {channel} of {x.shape[1]} changes no map: forward() does not look at it"
    encoder.train(trained)


def _check_refused(encoder: Any, x: torch.Tensor) -> None:
    hint: str | None = None
    try:
        encoder(x)
    except InputError as error:
        hint = error.hint or ""
    assert hint is not None, f"only_size is {encoder.only_size}, and an image of {tuple(x.shape[2:])} is taken"
    assert hint, "an image of another size is refused without saying what to do"


def check_operator(constructor: Callable[..., Any], **arguments: Any) -> None:
    """An operator returns logits of the declared task; padded slices have no influence; gradients reach everything.

    ``slices`` gives the same of every slice, in whichever chunk it comes: several volumes, one, or a part of one.
    """
    operator = build(constructor, arguments, "operator")
    check_construction(constructor, arguments)
    task = getattr(operator, "task", None)
    assert task in ("classification", "segmentation"), f"task must be classification or segmentation, not {task!r}"
    lengths = torch.tensor([4, 2])
    volumes = [operator.slices(example_features((32, 32), int(depth))) for depth in lengths]
    features = nn.utils.rnn.pad_sequence(volumes, batch_first=True)
    _check_slices(operator)
    logits = operator(features, lengths)
    check_calls(operator, lambda m, given: m(given, lengths), features)
    if task == "classification":
        assert tuple(logits.shape) == (2,), f"classification logits must be (B,), not {tuple(logits.shape)}"
    else:
        assert tuple(logits.shape[:2]) == (2, 4), f"segmentation logits must be (B,D,H,W), not {tuple(logits.shape)}"
        assert logits.dim() == 4, f"segmentation logits must be (B,D,H,W), not {tuple(logits.shape)}"
        logits = torch.cat([volume[:depth] for volume, depth in zip(logits, lengths.tolist(), strict=True)])
    check_gradients(operator, logits.square().sum())
    operator.eval()
    with torch.no_grad():
        features = features.detach()
        dirty = features.clone()
        dirty[1, 2:] = 1e3
        a, b = operator(features, lengths), operator(dirty, lengths)
        if task == "segmentation":
            a, b = a[1, :2], b[1, :2]
        assert torch.allclose(a, b, atol=1e-5), "padded slices change the result"
        alone = operator(features[1:, :2], lengths[1:])
        mine = b[1:] if task == "classification" else b[None]
        assert torch.allclose(alone, mine, atol=1e-4), "a volume's result depends on the others in its batch"
    check_state(operator, lambda m: m(features, lengths), lambda: build(constructor, arguments, seed=9))
    check_dtype(operator, lambda m: m(features.double(), lengths))


def _check_slices(operator: Any) -> None:
    """What is kept of a slice does not depend on the slices that come with it."""
    trained = operator.training
    operator.eval()
    joined = example_features((32, 32), 6)
    with torch.no_grad():
        whole = operator.slices(joined)
        assert len(whole) == 6, f"slices() returns {len(whole)} rows for 6 slices"
        parts = [operator.slices([f[some] for f in joined]) for some in (slice(4), slice(4, 5), slice(5, 6))]
    operator.train(trained)
    assert torch.allclose(torch.cat(parts), whole, rtol=1e-4, atol=1e-4), (
        "slices() gives something else of a slice if others come with it: it gets chunks of the slices of all volumes "
        "of a batch, so what depends on a whole volume belongs into forward()"
    )


def check_generator(constructor: Callable[..., Any], **arguments: Any) -> None:
    """A generator returns an image of the same shape, for odd sizes too, and in evaluation mode the same every time;
    gradients reach everything."""
    generator = build(constructor, arguments, "generator")
    check_construction(constructor, arguments)
    for size in ((32, 32), (33, 31)):
        x = torch.rand(2, 1, *size)
        y = generator(x.clone())
        assert y.shape == x.shape, f"{tuple(x.shape)} became {tuple(y.shape)}"
    check_calls(generator, lambda m, given: m(given), x)
    check_alone(generator, lambda m, given: m(given), x)
    check_gradients(generator, (generator(x) - 0.5).square().mean())
    check_state(generator, lambda m: m(x), lambda: build(constructor, arguments, seed=9))
    check_dtype(generator, lambda m: m(x.double()))
    check_devices(generator, lambda m, d: m(x.to(d)))


def check_discriminator(constructor: Callable[..., Any], *, size: int = 64, **arguments: Any) -> None:
    """A discriminator returns a dictionary of scores; shared parameters are its own, and every task trains them."""
    discriminator = build(constructor, arguments, "discriminator")
    check_construction(constructor, arguments)
    x = torch.rand(2, 1, size, size)
    scores = discriminator(x)
    assert isinstance(scores, dict), f"scores must be a dictionary, not a {type(scores).__name__}"
    check_calls(discriminator, lambda m, given: m(given), x)
    check_alone(discriminator, lambda m, given: m(given), x)
    shared = list(discriminator.shared_parameters())
    own = {id(p) for p in discriminator.parameters()}
    assert all(id(p) in own for p in shared), "shared_parameters() names a parameter that is not its own"
    for task, score in scores.items():
        found = torch.autograd.grad(score.square().sum(), shared, retain_graph=True, allow_unused=True)
        assert any(g is not None for g in found), f"task '{task}' reaches none of the shared parameters"
    check_gradients(discriminator, torch.stack([s.square().mean() for s in scores.values()]).sum())
    check_state(discriminator, lambda m: m(x), lambda: build(constructor, arguments, seed=9))
    check_dtype(discriminator, lambda m: m(x.double()))
