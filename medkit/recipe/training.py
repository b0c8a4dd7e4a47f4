"""How a stage is trained: what ``medkit check`` can tell about its optimizer, schedule and end of training."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from medkit.errors import InputError
from medkit.names import TOTAL
from medkit.recipe import walk
from medkit.recipe.blocks import Block
from medkit.recipe.model import EarlyStop, KeepBest, Stage
from medkit.recipe.no_effect import never_opens, warm_up_told
from medkit.recipe.pieces import Pieces, names_there
from medkit.recipe.steps import from_source
from medkit.recipe.turns import check_part_names, check_turn_names
from medkit.recipe.yaml import Node
from medkit.registry.promises_static import Text
from medkit.registry.source_text import Unsure, lineage, source
from medkit.registry.static import static_schema

OF_STEPS: tuple[str, ...] = ("batch", "epochs", "optim", "schedule", "clip", "accumulate", "keep_best", "early_stop")
OF_STEPS += ("unfreeze", "balance", "patches", "patch_size", "slices", "draw", "checkpointing", "compile", "shard")
OF_STEPS += ("workers",)
"""Keys of a stage that say how it is trained step by step."""
TRAINED, BESIDE = "train", "_loss"
"""What the names of numbers begin with that training gives, and what is added to a loss's beside a metric's."""
USUAL = {"optim": "medkit:adam", "schedule": "medkit:constant"}
"""The values of those keys in a stage that does not set them."""


def check_training(pieces: Pieces, stage: Stage, entries: dict[str, Node], path: str, splits: Collection[str]) -> None:
    """What decides the epoch is measured, settings are what their components take, parts exist.

    ``splits`` are those of the stage's data block; that there are none is reported elsewhere.
    """
    for key, judged in (("keep_best", stage.keep_best), ("early_stop", stage.early_stop)):
        if judged is not None:
            _check_judged(pieces, stage, judged, entries[key], f"{path}.{key}")
            _check_judged_on(pieces, stage, judged.split, entries[key], f"{path}.{key}", splits)
    _check_recorded(pieces, stage, entries, path)
    for block in [*_each(stage.optim), *_each(stage.schedule)]:
        _check_settings(pieces, block)
    for block in _each(stage.optim):
        if block.keys.get("layer_decay") is not None and not _has_layers(stage):
            what = "it goes by the stages of an encoder, and the objective has none"
            pieces.problem(block.mark, f"{block.path}.layer_decay", what, "leave it out")
    _check_fitted(pieces, stage, entries, path)
    check_turn_names(pieces, stage, entries, path)
    check_part_names(pieces, stage, entries, path)
    if stage.compile and any((stage.shard or {}).values()):
        what = "divided parts are not compiled"
        pieces.problem(entries["shard"].mark, f"{path}.shard", what, "leave 'compile' or 'shard' out")


def _check_fitted(pieces: Pieces, stage: Stage, entries: dict[str, Node], path: str) -> None:
    """What is fitted at once has no steps, epochs or batches: keys about them would do nothing."""
    if not stage.fitted:
        return
    plain = Stage(stage.name, stage.objective)
    for key in OF_STEPS:
        said = getattr(stage, key)
        # A resolved recipe writes defaults out.
        usual = isinstance(said, Block) and said.plain() == {"use": USUAL.get(key)}
        if key in entries and said != getattr(plain, key) and not usual:
            what = f"'{stage.objective.name}' is fitted to features at once, and '{key}' would do nothing"
            pieces.problem(entries[key].mark, f"{path}.{key}", what, "leave it out")


def _each(blocks: Any) -> Iterator[Block]:
    """Each turn's block, or the one for all turns; what is not a block has already been reported."""
    for block in blocks.values() if isinstance(blocks, dict) else [blocks]:
        if isinstance(block, Block):
            yield block


def _check_judged(pieces: Pieces, stage: Stage, judged: KeepBest | EarlyStop, node: Node, path: str) -> None:
    """Epochs are judged by a metric of the stage or one of its losses."""
    metrics = [metric.entry.name for metric in stage.metrics if isinstance(metric, Block)]
    losses = list(losses_of(stage))
    if judged.metric not in [*metrics, *losses, TOTAL]:
        hint = f"the stage's metrics: {', '.join(metrics)}" if metrics else "the stage has no metrics"
        hint += f"; its losses: {', '.join(losses)}" if losses else ""
        pieces.problem(node.mark, path, f"no metric is named '{judged.metric}'", hint)


def _check_judged_on(pieces: Pieces, stage: Stage, split: str, node: Node, path: str, splits: Collection[str]) -> None:
    """Epochs are judged on the split that the stage validates on."""
    if not isinstance(split, str):
        return  # what is not a name has already been reported
    if splits and split not in splits:
        pieces.problem(node.mark, path, f"no split is named '{split}'", names_there(split, splits))
    elif stage.validate is None:
        what = f"the stage does not validate on '{split}', nor on any other split"
        pieces.problem(node.mark, path, what, f"write 'validate: {split}'")
    elif stage.validate != split:
        pieces.problem(node.mark, path, f"split '{split}' is not the one validated on ('{stage.validate}')")


def _check_recorded(pieces: Pieces, stage: Stage, entries: dict[str, Node], path: str) -> None:
    """Each loss is recorded under a name of its own: as ``train/NAME``, and in validation as ``SPLIT/NAME``."""
    if stage.validate == TRAINED:
        mark = entries["validate"].mark if "validate" in entries else entries["name"].mark
        what = f"what is validated would be recorded under the names of the losses that are trained on ({TRAINED}/NAME)"
        pieces.problem(mark, f"{path}.validate", what, "call the split otherwise")
    losses = list(losses_of(stage))
    metrics = [metric.entry.name for metric in stage.metrics if isinstance(metric, Block)]
    mark = entries["objective"].mark
    for name in losses:
        if name in metrics and f"{name}{BESIDE}" in [*losses, *metrics]:
            what = (
                f"the loss '{name}' is recorded as '{name}{BESIDE}' beside the metric of that name, as is another one"
            )
            pieces.problem(mark, f"{path}.objective", what, f"rename '{name}'")
    for tied in _ties(stage):
        if tied in losses:
            what = f"the tie between {' and '.join(repr(one) for one in tied.split('-', 1))} is recorded as '{tied}', "
            pieces.problem(mark, f"{path}.objective", f"{what}which is a head's name", "rename the head")


def _ties(stage: Stage) -> Iterator[str]:
    """What ties between heads are recorded as."""
    if isinstance(stage.objective, Block):
        for value in stage.objective.arguments.values():
            for block in value if isinstance(value, list) else ():
                pair = block.keys.get("between") if isinstance(block, Block) else None
                if isinstance(pair, list | tuple) and len(pair) == 2:
                    yield "-".join(str(one) for one in pair)


def losses_of(stage: Stage) -> Iterator[str]:
    """Names of the losses that the recipe gives a stage's objective: those of its heads, and of its own ``losses``."""
    if not isinstance(stage.objective, Block):
        return
    for value in stage.objective.arguments.values():
        for name, block in value.items() if isinstance(value, dict) else ():
            if isinstance(block, Block) and block.kind in ("pretext", "distiller", "loss"):
                yield name


def _check_settings(pieces: Pieces, block: Block) -> None:
    """Settings whose class has checks of its own (the names that timm knows) are built, so that these run now."""
    if any(problem.what.startswith(block.path) for problem in pieces.problems) or not _checks_itself(block):
        return
    try:
        block.build()
    except InputError as error:
        pieces.problems.append(error)


def _checks_itself(block: Block) -> bool:
    try:
        return any(from_source(block.entry.target, method) is None for method in ("__init__", "__post_init__"))
    except (Unsure, InputError):
        return True


def _has_layers(stage: Stage) -> bool:
    """Whether a part of the objective names stages, as every encoder does."""
    if any(kind == "encoder" for _, kind in walk.references(stage.objective)):
        return True
    return any(block.kind == "encoder" or _has_stages(block) for block in walk.blocks(stage.objective))


def _has_stages(block: Block) -> bool:
    module, _, name = block.entry.target.partition(":")
    try:
        return Text(lineage(source(module).named(name))).has("stages")
    except (Unsure, InputError):
        return True  # reported when it is built


# -- in words ------------------------------------------------------------------------------------------------------


def training_in_words(stage: Stage) -> str:
    """How a stage is trained, in a line."""
    optimizers, schedules = _turns(stage.optim), _turns(stage.schedule)
    if stage.fitted:
        return "fitted to features at once"
    said = [f"{turn}{_optimizer(block)}" for turn, block in optimizers.items()]
    said += [f"{turn}{_schedule(block, stage.epochs)}" for turn, block in schedules.items()]
    if stage.fraction is not None:
        said.append(f"{stage.fraction:g} of the patients of '{stage.train}'")
    if items := items_a_step(stage.batch, stage.accumulate):
        said.append(items)
    if isinstance(stage.clip, Block):
        said.append(f"gradients bound by {stage.clip.name}")
    elif stage.clip is not None:
        said.append(f"gradients up to norm {stage.clip:g}")
    if (stop := stage.early_stop) is not None:
        said.append(f"ends after {stop.patience} epochs without a better {stop.metric} on {stop.split}")
        if stage.epochs is not None and stop.patience >= stage.epochs:
            said[-1] += f" (never: the stage has {stage.epochs})"
    if told := never_opens(stage):
        said.append(told)
    if stage.divided:
        said.append(f"{' and '.join(stage.divided)} divided among the ranks")
    return ", ".join(said)


def items_a_step(batch: int, accumulate: int, ranks: int = 1) -> str:
    """How many items a step consists of, where that is more than ``batch``; else nothing."""
    factors = [f"{ranks} ranks"] if ranks > 1 else []
    factors += [f"{accumulate} batches per step"] if accumulate > 1 else []
    return (
        f"{batch * ranks * accumulate} items per step ({', '.join([f'{batch} per batch', *factors])})"
        if factors
        else ""
    )


def _turns(blocks: Block | dict[str, Block]) -> dict[str, Block]:
    return {f"{turn}: ": block for turn, block in blocks.items()} if isinstance(blocks, dict) else {"": blocks}


def _optimizer(block: Block) -> str:
    """``adamw 0.0001 (norms and biases do not decay, 0.75 a layer)``."""
    arguments = static_schema(block.entry).arguments
    rate = block.arguments.get("lr", arguments["lr"].default if "lr" in arguments else None)
    named = block.arguments.get("name")
    text = f"{block.entry.name}{f' {named}' if isinstance(named, str) else ''}"
    text += f" {rate:g}" if isinstance(rate, int | float) else ""
    notes = ["norms and biases do not decay"] if block.keys.get("no_decay") else []
    if (share := block.keys.get("layer_decay")) is not None:
        notes.append(f"{share:g} a layer")
    return f"{text} ({', '.join(notes)})" if notes else text


def _schedule(block: Block, epochs: int | None) -> str:
    """``cosine by step``; with a remark where the full rate is never reached."""
    if block.keys.get("by") == "step":
        return f"{block.entry.name} by step"
    told = warm_up_told(block, epochs)
    return f"{block.entry.name} ({told})" if told else block.entry.name
