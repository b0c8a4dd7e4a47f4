"""The conformance checks of objectives, optimizers, schedules and clipping (:mod:`medkit.testing`), on real steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medkit.protocols import Objective, offered
from medkit.testing.calls import check_alone, check_repeats, compare_alone, meet_on_purpose
from medkit.testing.common import build, generators_rest, python_and_numpy_rest, same
from medkit.testing.heads import check_predictions, example_batch, in_slices

STEPS = 12
"""Steps of the whole training, of which a check does all but the last."""
SAVED = 7
"""Steps before the state is saved: a queue is full by then, and a counter of every second to fifth step out of phase
with one that starts again."""


def check_objective(
    constructor: Callable[..., Any], *, batch: Mapping[str, Any] | None = None, **arguments: Any
) -> None:
    """A few steps of every turn on one batch: losses are scalars, weights change, and saved states resume bit for bit.

    Predictions have standard names and shapes, and in evaluation mode an item's are the same every time, alone or in a
    batch.

    Parameters
    ----------
    batch:
        Entries that replace those of the example batch (:func:`medkit.testing.heads.example_batch`).
    arguments:
        The constructor's own; parts are given as built modules, or as ``Placed(module, {"weight": 1.0})`` if their slot
        has keys. They are copied, so that every objective starts the same.
    """

    def fresh() -> Any:
        return build(constructor, copy.deepcopy(arguments), "objective")

    objective = fresh()
    size = (8, 16, 16) if objective.unit == "patch3d" else (32, 32)
    given = example_batch(size, {}, batch or {}, objective.unit)
    parts = objective.parts()
    turns = list(objective.turns())
    assert turns, "turns() must name at least one turn"
    for turn in turns:
        strangers = [name for name in turn.parts if name not in parts]
        assert not strangers, f"turn '{turn.name}' trains '{strangers[0]}', which parts() does not name"
    _check_predict(objective, given)
    kept = copy.deepcopy(given)
    before = copy.deepcopy(objective.state_dict())
    optimizers = _optimizers(objective)
    _steps(objective, optimizers, given, range(1), first=True)
    same(kept, given, "losses() changes the batch, which the next turn sees too")
    for turn in turns:
        trained = {id(p) for name in turn.parts for p in parts[name].parameters() if p.requires_grad}
        moved = [n for n, p in objective.named_parameters() if id(p) in trained and not torch.equal(p, before[n])]
        assert moved, f"turn '{turn.name}' does not change any weight of {', '.join(turn.parts)}"
    _steps(objective, optimizers, given, range(1, SAVED))
    saved = copy.deepcopy([objective.state_dict(), [o.state_dict() for o in optimizers.values()]])
    _steps(objective, optimizers, given, range(SAVED, STEPS - 1))
    other = fresh()
    again = _optimizers(other)
    other.load_state_dict(saved[0])
    for optimizer, state in zip(again.values(), saved[1], strict=True):
        optimizer.load_state_dict(state)
    _steps(other, again, given, range(SAVED, STEPS - 1))
    message = (
        "steps from saved weights differ from those without saving: what else does it remember? A resumed run would "
        "differ; keep it in a parameter or buffer, also what is used only after several steps (a queue, a counter)"
    )
    same(objective.state_dict(), other.state_dict(), message)


def _check_predict(objective: Any, batch: Mapping[str, Any]) -> None:
    objective.eval()
    items = len(batch["lengths"]) if "lengths" in batch else None
    images = batch["image"]
    if images.dim() == 5:
        images, items = in_slices(images), len(images)
    kept = copy.deepcopy(dict(batch))
    with torch.no_grad():
        check_predictions(objective.predict(dict(batch)), images, items)
    same(kept, dict(batch), "predict() changes the batch, which metrics and pictures need: make a new tensor")

    def predict(objective: Any, given: Any) -> Any:
        return objective.predict(dict(given))

    check_repeats(objective, predict, dict(batch), "predict()")
    if "lengths" in batch:
        _check_volumes_alone(objective, batch)
    else:
        check_alone(objective, predict, dict(batch), items)
    objective.train()


@torch.no_grad()
def _check_volumes_alone(objective: Any, batch: Mapping[str, Any]) -> None:
    """In evaluation mode what is predicted of a volume does not depend on the others in its batch."""
    lengths = batch["lengths"].tolist()
    if meet_on_purpose(objective):
        return

    def of_volume(value: Any, number: int) -> Any:
        if isinstance(value, Tensor | list) and len(value) == sum(lengths):
            start = sum(lengths[:number])
            return value[start : start + lengths[number]]
        return value[number : number + 1] if isinstance(value, Tensor | list) and len(value) == len(lengths) else value

    together = objective.predict(dict(batch))
    for number in range(len(lengths)):
        alone = objective.predict({key: of_volume(value, number) for key, value in batch.items()})
        compare_alone([of_volume(value, number) for value in together.values()], list(alone.values()))


def _optimizers(objective: Any) -> dict[str, torch.optim.Optimizer]:
    parts = objective.parts()
    return {
        turn.name: torch.optim.Adam([p for name in turn.parts for p in parts[name].parameters()], 1e-2)
        for turn in objective.turns()
    }


def _steps(
    objective: Any,
    optimizers: Mapping[str, torch.optim.Optimizer],
    batch: Mapping[str, Any],
    steps: range,
    first: bool = False,
) -> None:
    """Train; in its ``first`` step an objective may make what it needs, under a seed that it puts back."""
    rest = python_and_numpy_rest if first else generators_rest
    objective.train()
    for number in steps:
        torch.manual_seed(number)
        for name, optimizer in optimizers.items():
            optimizer.zero_grad()
            offered(Objective, objective, "before_step")(name, number, STEPS)
            with rest("losses()"):
                losses = objective.losses(name, batch)
            assert isinstance(losses, Mapping), f"losses() must return a dictionary, not a {type(losses).__name__}"
            assert losses, f"losses() of turn '{name}' is empty"
            for key, value in losses.items():
                assert isinstance(value, Tensor), f"loss '{key}' must be a tensor, not a {type(value).__name__}"
                assert value.dim() == 0, f"loss '{key}' is not a scalar: {tuple(value.shape)}"
                assert torch.isfinite(value), f"loss '{key}' is {value}"
                assert value.requires_grad, f"loss '{key}' has no graph: it would train nothing"
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            offered(Objective, objective, "after_step")(name)


def check_optimizer(constructor: Callable[..., Any], **arguments: Any) -> None:
    """A torch optimizer with the given ``lr``, which changes weights but not at a rate of 0, resumes from its state and
    keeps the groups it is given."""
    settings = build(constructor, arguments, "optimizer")

    def start() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = nn.Linear(4, 3)
        optimizer = settings.build(list(layer.parameters()))
        assert isinstance(optimizer, torch.optim.Optimizer), "build() must return a torch.optim.Optimizer"
        return layer, optimizer

    _check_groups(settings)
    layer, optimizer = start()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in layer.parameters()}, "the optimizer does not hold just the parameters it was given"
    rates = {float(group["lr"]) for group in optimizer.param_groups}
    assert rates == {float(settings.lr)}, f"its groups have the rates {sorted(rates)}, but 'lr' is {settings.lr}"
    before = copy.deepcopy(layer.state_dict())
    _descend(layer, optimizer)
    assert any(not torch.equal(before[n], p) for n, p in layer.named_parameters()), "a step does not change any weight"
    saved = copy.deepcopy([layer.state_dict(), optimizer.state_dict()])
    _descend(layer, optimizer)
    other, again = start()
    other.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    _descend(other, again)
    same(layer.state_dict(), other.state_dict(), "a step from its saved state differs: a resumed run would drift")
    kept = copy.deepcopy(layer.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    _descend(layer, optimizer)
    same(kept, layer.state_dict(), "it changes weights at a learning rate of 0: schedules would not be obeyed")


def _check_groups(settings: Any) -> None:
    """An optimizer keeps the groups that it is given."""
    layer = nn.Linear(4, 3)
    given = [{"params": [layer.weight], "lr_scale": 0.5}, {"params": [layer.bias], "weight_decay": 0.0}]
    groups = settings.build([dict(group) for group in given]).param_groups
    asked = [{key: group[key] for key in group if key != "params"} for group in given]
    kept = [{key: group[key] for key in ("lr_scale", "weight_decay") if key in group} for group in groups]
    lost = len(kept) != 2 or any(not wanted.items() <= found.items() for wanted, found in zip(asked, kept, strict=True))
    assert not lost, f"of the groups {asked} it keeps {kept}: 'no_decay' and 'layer_decay' would be lost"


def _descend(layer: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    layer(torch.linspace(-1, 1, 8).reshape(2, 4)).square().mean().backward()
    optimizer.step()


def check_schedule(constructor: Callable[..., Any], **arguments: Any) -> None:
    """A schedule gives a finite rate, not below 0, for every epoch of short and long runs, always the same."""
    schedule = build(constructor, arguments, "schedule")
    for epochs in (1, 2, 10, 100):
        rates = [schedule.rate(0.1, epoch, epochs) for epoch in range(epochs)]
        for epoch, rate in enumerate(rates):
            where = f"in epoch {epoch} of {epochs}"
            assert isinstance(rate, float | int), f"the rate {where} must be a number, not a {type(rate).__name__}"
            assert math.isfinite(rate), f"the rate {where} is {rate}"
            assert rate >= 0, f"the rate {where} is {rate}"
        backwards = [schedule.rate(0.1, epoch, epochs) for epoch in reversed(range(epochs))]
        assert rates == backwards[::-1], "rate() depends on earlier calls: a resumed run would differ"
        assert any(rate > 0 for rate in rates), f"all rates of {epochs} epochs are 0: nothing would train"


def check_clip(constructor: Callable[..., Any], **arguments: Any) -> None:
    """Clipping changes gradients in place and nothing else, makes none longer, and always does the same."""
    clip = build(constructor, arguments, "clip")
    for size in (0.0, 1e-3, 1.0, 1e6):
        results = []
        for _ in range(2):
            torch.manual_seed(0)
            layer = nn.Linear(4, 3)
            before = copy.deepcopy(layer.state_dict())
            for p in layer.parameters():
                p.grad = torch.randn_like(p) * size
            given: list[Any] = [p.grad for p in layer.parameters()]
            longest = _length(layer)
            answer = clip.clip(list(layer.parameters()))
            assert answer is None, "clip() must change gradients in place and return nothing"
            same(before, layer.state_dict(), "clip() changes weights, not only their gradients")
            now = [p.grad for p in layer.parameters()]
            assert all(a is b for a, b in zip(given, now, strict=True)), "clip() does not change 'grad' in place"
            assert all(bool(torch.isfinite(g).all()) for g in given), f"it spoils a gradient of size {size:g}"
            assert _length(layer) <= longest * (1 + 1e-6), f"it makes a gradient of size {size:g} longer"
            results.append({str(i): g.clone() for i, g in enumerate(given)})
        same(results[0], results[1], "clip() depends on earlier calls: a resumed run would differ")


def _length(layer: nn.Linear) -> float:
    return math.sqrt(sum(float(p.grad.double().square().sum()) for p in layer.parameters() if p.grad is not None))
