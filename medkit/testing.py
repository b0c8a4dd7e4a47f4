"""Conformance checks for authors of components: what every component of a kind has to do.

Call one from a test; it raises ``AssertionError`` with a sentence that says which promise was broken::

    def test_head_keeps_every_promise_of_a_pretext():
        check_pretext(RotationHead, hidden=8)
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.plugin import registry
from medkit.protocols import KINDS
from medkit.registry import Entry
from medkit.schema import schema_of
from medkit.static import static_schema
from medkit.testing_metric import check_on, example_cases

CHANNELS, STRIDES = (6, 8, 12), (2, 4, 8)


def check_schema(constructor: Callable[..., Any]) -> None:
    """Every argument is annotated, none is ``*`` or ``**``, and the first line of the docstring says what it is.

    What ``medkit check`` reads from the source has to be what the class itself says.
    """
    try:
        schema = schema_of(constructor)
    except InputError as error:
        raise AssertionError(f"the constructor is no schema: {error}") from error
    assert schema.description, f"{schema.name} has no docstring to describe it in 'medkit show'"
    module, name = getattr(constructor, "__module__", ""), getattr(constructor, "__qualname__", "<")
    if "<" in name or getattr(sys.modules.get(module), name, None) is not constructor:
        return  # made inside a function, or not found under its own name
    read = static_schema(Entry("component", "tested", name, f"{module}:{name}", ""))
    for argument in {*read.arguments, *schema.arguments}:
        mine, other = (s.arguments.get(argument) for s in (read, schema))
        assert mine is not None, f"'medkit check' does not see '{argument}', which {name} takes"
        assert other is not None, f"'medkit check' sees '{argument}', which {name} does not take"
        said, true = ((a.required, a.given, a.shape, a.type_name()) for a in (mine, other))
        assert said == true, f"'medkit check' reads '{argument}' of {name} as {said}, the class says {true}"


def _build(constructor: Callable[..., Any], arguments: Mapping[str, Any], seed: int = 0) -> Any:
    check_schema(constructor)
    given = {"channels": CHANNELS, "strides": STRIDES}
    wanted = schema_of(constructor).arguments
    torch.manual_seed(seed)
    return constructor(**{k: v for k, v in given.items() if k in wanted} | dict(arguments))


def _features(size: tuple[int, int], batch: int = 3, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    made = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, c, -(-size[0] // s), -(-size[1] // s), generator=made).to(dtype)
        for c, s in zip(CHANNELS, STRIDES, strict=True)
    ]


def check_gradients(module: nn.Module, loss: Tensor) -> None:
    """Every parameter gets a finite gradient from ``loss``."""
    module.zero_grad()
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches '{name}': it would never train"
        assert torch.isfinite(parameter.grad).all(), f"the gradient of '{name}' is not finite"


def check_construction(constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """The same seed gives the same weights; every tensor is a parameter or a buffer, so that it moves and is saved."""
    first, second = _build(constructor, arguments), _build(constructor, arguments)
    _same(
        first.state_dict(), second.state_dict(), "two constructions under one seed differ: draw from torch's generator"
    )
    for place, module in first.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and f"{name}_orig" not in module._parameters:
                where = f"{place}.{name}" if place else name
                raise AssertionError(f"'{where}' is neither parameter nor buffer: it stays behind on .to(device)")


def check_state(
    module: nn.Module, output: Callable[[nn.Module], Any], fresh: Callable[[], nn.Module] | None = None
) -> None:
    """Weights survive safetensors: another one (``fresh()``, else a copy) with them gives the same output."""
    weights = load(save({k: v.contiguous().clone() for k, v in module.state_dict().items()}))
    other = copy.deepcopy(module) if fresh is None else fresh()
    for parameter in other.parameters():
        nn.init.constant_(parameter, 0.5)
    try:
        other.load_state_dict(weights)
    except RuntimeError as error:
        raise AssertionError(f"its weights do not fit another one: {error}") from error
    module.eval(), other.eval()
    torch.manual_seed(2)
    first = output(module)
    torch.manual_seed(2)
    _same(first, output(other), "after a round trip of its weights, the output differs")


def _same(a: Any, b: Any, message: str) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b), message
    elif isinstance(a, Mapping):
        assert a.keys() == b.keys(), message
        for key in a:
            _same(a[key], b[key], message)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), message
        for x, y in zip(a, b, strict=True):
            _same(x, y, message)


def check_dtype(module: nn.Module, output: Callable[[nn.Module], Any]) -> None:
    """The module computes in float64 when moved there: it makes no float32 tensors of its own."""
    try:
        output(copy.deepcopy(module).double().eval())
    except RuntimeError as error:
        raise AssertionError(f"in float64 it fails, so it makes tensors of a fixed type: {error}") from error


def check_devices(module: nn.Module, output: Callable[[nn.Module, torch.device], Any]) -> None:
    """The module moves to a GPU with everything it needs (checked where there is one)."""
    if torch.cuda.is_available():
        device = torch.device("cuda")
        output(copy.deepcopy(module).to(device), device)


def check_encoder(
    constructor: Callable[..., Any], *, in_channels: int = 1, image: tuple[int, int] = (64, 96), **arguments: Any
) -> None:
    """A pyramid of the declared channels and strides; ``stages()`` holds every parameter once, input to output.

    ``image`` is the height and width it is tried on.
    """
    check_schema(constructor)
    if "in_channels" in schema_of(constructor).arguments:
        arguments["in_channels"] = in_channels
    encoder = _build(constructor, arguments)
    check_construction(constructor, arguments)
    x = torch.randn(2, in_channels, *image)
    maps = encoder(x)
    assert len(maps) == len(encoder.channels) == len(encoder.strides), "one map a declared channel and stride is wanted"
    for feature, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        assert feature.shape[1] == channels, f"a map has {feature.shape[1]} channels, {channels} are declared"
        expected = tuple(-(-side // stride) for side in image)
        size = tuple(feature.shape[2:])
        if getattr(encoder, "unpadded", False):
            assert all(a <= b for a, b in zip(size, expected, strict=True)), (
                f"stride {stride} makes at most {expected}, not {size}"
            )
        else:
            assert size == expected, f"stride {stride} makes {expected}, not {size}"
    assert list(encoder.strides) == sorted(encoder.strides), "strides go from shallow to deep"
    found = [id(p) for _, stage in encoder.stages() for p in stage.parameters()]
    assert len(found) == len(set(found)), "stages() holds a parameter twice"
    assert set(found) == {id(p) for p in encoder.parameters()}, "stages() leaves parameters out"
    if found:  # an encoder may do nothing but hand the image on
        check_gradients(encoder, sum(m.square().mean() for m in encoder(x)))  # type: ignore[arg-type]
    encoder(torch.randn(1, in_channels, image[0] + 1, image[1] + 3))
    check_state(encoder, lambda m: m(x), lambda: _build(constructor, arguments, seed=9))
    check_dtype(encoder, lambda m: m(x.double()))
    check_devices(encoder, lambda m, d: m(x.to(d)))


def check_pretext(constructor: Callable[..., Any], *, batch: Mapping[str, Any] | None = None, **arguments: Any) -> None:
    """``view``, ``forward``, ``loss`` and ``predict`` fit together; gradients reach every parameter; odd sizes work.

    Fields in the head's ``needs`` are zeros and ones unless ``batch`` has them.
    """
    head = _build(constructor, arguments)
    check_construction(constructor, arguments)
    needs = getattr(head, "needs", ())
    assert isinstance(needs, tuple), "needs is a tuple of field names"
    fields = {name: torch.tensor([0.0, 1.0, 1.0]) for name in needs}
    for size in ((32, 32), (33, 33)):
        made = torch.Generator().manual_seed(3)
        given: dict[str, Any] = {
            "image": torch.rand(3, 1, *size, generator=made),
            "mask": (torch.rand(3, 1, *size, generator=made) > 0.5).float(),
            "label": torch.tensor([0.0, 1.0, 1.0]),
            "ids": ["a", "b", "c"],
            **fields,
        } | dict(batch or {})
        fields = {name: given[name] for name in needs}
        torch.manual_seed(4)
        view, target = head.view(given)
        torch.manual_seed(4)
        again = head.view(given)
        _same([view, target], list(again), "view() differs under the same seed: draw from torch's generator")
        assert view.shape[0] == 3 or view.dim() == 4, "view() returns images (N,C,H,W)"
        features = _features((view.shape[2], view.shape[3]), len(view))
        terms = head.loss(head(features, **fields), target)
        assert terms, "loss() names at least one term"
        for name, term in terms.items():
            assert term.dim() == 0, f"loss term '{name}' is no scalar: {tuple(term.shape)}"
            assert torch.isfinite(term), f"loss term '{name}' is not finite"
        check_gradients(head, torch.stack(list(terms.values())).sum())
        head.eval()
        for name, value in head.predict(head(features, **fields)).items():
            assert len(value) == len(view), f"prediction '{name}' has {len(value)} items for {len(view)} images"
            if name.endswith("probability"):
                assert value.min() >= 0, f"'{name}' falls below 0"
                assert value.max() <= 1, f"'{name}' exceeds 1"
        head.train()
    check_state(head, lambda m: m(features, **fields), lambda: _build(constructor, arguments, seed=9))
    check_dtype(head, lambda m: m(_features((32, 32), dtype=torch.float64), **fields))
    check_devices(head, lambda m, d: m([f.to(d) for f in features], **{k: v.to(d) for k, v in fields.items()}))


def check_operator(constructor: Callable[..., Any], **arguments: Any) -> None:
    """Logits of the declared task, padded slices without influence, gradients everywhere."""
    operator = _build(constructor, arguments)
    check_construction(constructor, arguments)
    task = getattr(operator, "task", None)
    assert task in ("classification", "segmentation"), f"task is {task!r}"
    lengths = torch.tensor([4, 2])
    volumes = [operator.slices(_features((32, 32), int(depth))) for depth in lengths]
    features = nn.utils.rnn.pad_sequence(volumes, batch_first=True)
    logits = operator(features, lengths)
    if task == "classification":
        assert tuple(logits.shape) == (2,), f"classification logits are (B,), not {tuple(logits.shape)}"
    else:
        assert tuple(logits.shape[:2]) == (2, 4), f"segmentation logits are (B,D,H,W), not {tuple(logits.shape)}"
        assert logits.dim() == 4, f"segmentation logits are (B,D,H,W), not {tuple(logits.shape)}"
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
        assert torch.allclose(alone, mine, atol=1e-4), "a volume's result depends on the others of its batch"
    check_state(operator, lambda m: m(features, lengths), lambda: _build(constructor, arguments, seed=9))
    check_dtype(operator, lambda m: m(features.double(), lengths))


def check_generator(constructor: Callable[..., Any], **arguments: Any) -> None:
    """An image of the same shape, odd sizes too; gradients everywhere."""
    generator = _build(constructor, arguments)
    check_construction(constructor, arguments)
    for size in ((32, 32), (33, 31)):
        x = torch.rand(2, 1, *size)
        y = generator(x)
        assert y.shape == x.shape, f"{tuple(x.shape)} became {tuple(y.shape)}"
    check_gradients(generator, (generator(x) - 0.5).square().mean())
    check_state(generator, lambda m: m(x), lambda: _build(constructor, arguments, seed=9))
    check_dtype(generator, lambda m: m(x.double()))
    check_devices(generator, lambda m, d: m(x.to(d)))


def check_discriminator(constructor: Callable[..., Any], *, size: int = 64, **arguments: Any) -> None:
    """A dictionary of scores; shared parameters are among its own and get gradients from every task."""
    discriminator = _build(constructor, arguments)
    check_construction(constructor, arguments)
    x = torch.rand(2, 1, size, size)
    scores = discriminator(x)
    assert isinstance(scores, dict), f"scores are a dictionary, not a {type(scores).__name__}"
    shared = list(discriminator.shared_parameters())
    own = {id(p) for p in discriminator.parameters()}
    assert all(id(p) in own for p in shared), "shared_parameters() names a stranger"
    for task, score in scores.items():
        found = torch.autograd.grad(score.square().sum(), shared, retain_graph=True, allow_unused=True)
        assert any(g is not None for g in found), f"task '{task}' reaches none of the shared parameters"
    check_gradients(discriminator, torch.stack([s.square().mean() for s in scores.values()]).sum())
    check_state(discriminator, lambda m: m(x), lambda: _build(constructor, arguments, seed=9))
    check_dtype(discriminator, lambda m: m(x.double()))


def check_loss(
    constructor: Callable[..., Any],
    prediction: Tensor | None = None,
    target: Tensor | None = None,
    *,
    context: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> None:
    """A finite scalar with a gradient for the prediction; by default of logits (3,1,16,16) against zeros and ones."""
    loss = _build(constructor, arguments)
    made = torch.Generator().manual_seed(5)
    if prediction is None:
        prediction = torch.randn(3, 1, 16, 16, generator=made)
    if target is None:
        target = (torch.rand(prediction.shape, generator=made) > 0.5).float()
    prediction = prediction.clone().requires_grad_()
    value = loss(prediction, target, **(context or {}))
    assert value.dim() == 0, f"a loss is a scalar, not {tuple(value.shape)}"
    assert torch.isfinite(value), f"the loss is {value}"
    assert value.requires_grad, "no gradient reaches the prediction: the loss would train nothing"
    (gradient,) = torch.autograd.grad(value, prediction, allow_unused=True)
    assert gradient is not None, "no gradient reaches the prediction: the loss would train nothing"
    assert torch.isfinite(gradient).all(), "the gradient is not finite"


def check_metric(
    constructor: Callable[..., Any], cases: Sequence[Mapping[str, Any]] | None = None, **arguments: Any
) -> None:
    """A metric does on evaluated cases what :class:`medkit.protocols.Metric` promises.

    It declares name, unit, direction and the rule for empty cases; it leaves cases and rows as they are and says the
    same twice; rows stack; number, scores, extras and interval are floats; what it offers the bootstrap agrees with
    ``compute``. Without ``cases`` it is tried on volumes and on slices (:func:`example_cases`).
    """
    given = [cases] if cases is not None else [example_cases(), example_cases(unit="slice")]
    for those in given:
        check_on(_build(constructor, arguments), _build(constructor, arguments), those)


def check_component(kind: str, component: str | Callable[..., Any], /, **arguments: Any) -> None:
    """Check a component of ``kind``, given by its class or its registered name; ``arguments`` go to its constructor.

    Objectives are checked by training a recipe with them; optimizers and schedules by their schema only.

    Raises
    ------
    InputError
        if the name is unknown.
    AssertionError
        if a promise is broken.
    """
    if kind not in KINDS:
        raise InputError(f"'{kind}' is not a kind of component", hint=f"kinds: {', '.join(KINDS)}")
    constructor = registry().resolve(kind, component).load() if isinstance(component, str) else component
    if kind in _CHECKS:
        _CHECKS[kind](constructor, **arguments)
    elif kind == "source":
        check_source(_build(constructor, arguments))
    elif kind == "transform":
        transform = _build(constructor, arguments)
        (check_transform if hasattr(transform, "apply") else check_augmentation)(transform)
    else:
        check_schema(constructor)


_CHECKS: dict[str, Callable[..., None]] = {
    "encoder": check_encoder,
    "pretext": check_pretext,
    "operator": check_operator,
    "generator": check_generator,
    "discriminator": check_discriminator,
    "loss": check_loss,
    "metric": check_metric,
}


def check_augmentation(augmentation: Any) -> None:
    """A form for the CPU or the device, each of which makes something; one that is missing says why."""
    forms = 0
    for form in ("cpu", "device"):
        try:
            assert getattr(augmentation, form)() is not None, f"{form}() returns nothing"
            forms += 1
        except NotImplementedError as error:
            if not str(error):
                raise AssertionError(f"{form}() is not there and does not say why") from error
    assert forms, "an augmentation has a form for the CPU, the device or both"


def check_source(source: Any) -> None:
    """Unique cases with patients, loading that repeats itself, masks and targets on the image's grid."""
    cases = list(source.cases())
    assert cases, "the source has no cases"
    assert len({case.id for case in cases}) == len(cases), "two cases share an id"
    assert all(case.patient for case in cases), "a case has no patient"
    record, again = source.load(cases[0]), source.load(cases[0])
    assert np.array_equal(record.image.voxels, again.image.voxels), "loading a case twice gives different voxels"
    assert source.identity(cases[0]) == source.identity(cases[0]), "identity() changes between two calls"
    if len(cases) > 1:
        assert source.identity(cases[0]) != source.identity(cases[1]), "two cases share an identity"
    for name in ("mask", "target"):
        other = getattr(record, name)
        if other is not None:
            assert record.image.same_grid(other) is None, f"the {name} lies on another grid than the image"


def check_transform(transform: Any, image: np.ndarray | None = None) -> None:
    """Keys and depth stay; the same input gives the same output; ``restore`` brings the shape back."""
    rng = np.random.default_rng(0)
    voxels = rng.normal(30, 30, (3, 40, 36)).astype(np.int16) if image is None else image
    mask = (rng.random(voxels.shape) > 0.5).astype(np.uint8)
    first = transform.apply({"image": voxels.copy(), "mask": mask.copy()})
    second = transform.apply({"image": voxels.copy(), "mask": mask.copy()})
    assert set(first) == {"image", "mask"}, "a transform keeps the keys"
    assert all(len(array) == len(voxels) for array in first.values()), "a transform keeps the number of slices"
    assert first["image"].shape == first["mask"].shape, "image and mask have different shapes afterwards"
    assert np.array_equal(first["image"], second["image"]), "a transform of preparation is deterministic"
    assert set(np.unique(first["mask"])) <= {0, 1}, "the mask is no longer 0 and 1"
    back = transform.restore(first["image"].astype(np.float32), voxels.shape[1:])
    assert back.shape == voxels.shape, f"restore() gives {back.shape}, the source was {voxels.shape}"
