"""Whether runs that count as seeds of one method have trained and measured the same thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medkit.errors import InputError
from medkit.evaluation.metric_arguments import Plain, is_of
from medkit.recipe.difference import first_difference, shown

SPEED = ("workers", "cache")
"""Keys that no number depends on."""
MONITORS = ("keep_best", "early_stop")


def check_alike(
    method: str, folders: Sequence[Path], trained: Sequence[tuple[Plain, str]], metric: str, split: str
) -> list[str]:
    """Refuse runs of one method of which the recipes differ in more than seed, name and folders; of ``trained``, each
    is a run's recipe and the stage in it.

    Returns
    -------
    list
        what a reader has to know: where their files are in different folders.

    Raises
    ------
    InputError
        with the first difference.
    """
    found = [training(recipe, stage, metric, split) for recipe, stage in trained]
    bare = [_without_folders(one) for one in found]
    notes = []
    for folder, whole, short in zip(folders[1:], found[1:], bare[1:], strict=True):
        if (difference := first_difference(short, bare[0])) is not None:
            key, here, there = difference
            what = (
                f"'{method}' has another recipe than in {folders[0]}: {key} is {shown(here)} here, {shown(there)} there"
            )
            hint = "seeds of a method differ in nothing else; recipes with different names are different methods"
            raise InputError(what, str(folder), hint)
        if (difference := first_difference(whole, found[0])) is not None:
            key, here, there = difference
            notes.append(f"Runs of '{method}' have other files: {key} is {shown(there)} and {shown(here)}.")
    return notes[:1]


def training(recipe: Plain, stage: str, metric: str, split: str) -> dict[str, Any]:
    """What the numbers of a stage come from: its block, those of the stages it takes parts from, and their data; of
    metrics the one that is compared and those that a training looks at."""
    blocks = {block["name"]: block for block in recipe["stages"]}
    chain = list(dict.fromkeys(_chain(blocks, stage)))
    used: dict[str, set[str]] = {}
    for name in chain:
        splits = used.setdefault(blocks[name]["data"], set())
        splits |= {_split(blocks[name].get(key)) for key in ("train", "validate")}
        splits |= {split} if name == stage else set()
    data = {name: _data(recipe["data"][name], splits) for name, splits in used.items()}
    return {"data": data, "stages": [_stage(blocks[name], metric if name == stage else None) for name in chain]}


def _chain(blocks: Plain, stage: str) -> Iterator[str]:
    """A stage after those that it takes parts from; nothing if the recipe does not say."""
    if stage in blocks:
        for name in dict.fromkeys(_taken(blocks[stage])):
            yield from _chain(blocks, name)
        yield stage


def _taken(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("from"), str):
            yield value["from"].partition(".")[0]
        value = list(value.values())
    for child in value if isinstance(value, list) else ():
        yield from _taken(child)


def _split(said: Any) -> str:
    return str(said.get("split") if isinstance(said, Mapping) else said)


def _data(block: Plain, splits: set[str]) -> dict[str, Any]:
    kept = {name: said for name, said in block["splits"].items() if name in splits}
    return {key: value for key, value in block.items() if key not in SPEED} | {"splits": kept}


def _stage(block: Plain, compared: str | None) -> dict[str, Any]:
    """A stage's block without what its numbers do not depend on."""
    watched = [said["metric"] for key in MONITORS if (said := block.get(key))]
    wanted = [*watched, *([] if compared is None else [compared])]
    metrics = [one for one in block.get("metrics", []) if any(is_of(one["use"], name) for name in wanted)]
    return {key: value for key, value in block.items() if key not in (*SPEED, "evaluate")} | {"metrics": metrics}


def _without_folders(value: Any) -> Any:
    """Absolute paths by their last word: each seed may start from files of its own."""
    if isinstance(value, Mapping):
        return {key: _without_folders(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_without_folders(child) for child in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
