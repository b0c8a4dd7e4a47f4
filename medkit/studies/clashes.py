"""Values of a study that overwrite each other: one of the two would be in its file and have no effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medkit.errors import InputError
from medkit.recipe.yaml import SHORT, Mark, Node, steps


@dataclass(frozen=True)
class Said:
    """A value for a dotted ``key`` of the recipe, and who says so (``by``) at which place of the study's file."""

    by: str
    key: str
    value: Node
    mark: Mark


def refuse_overwritten(root: Node, said: Sequence[Said]) -> None:
    """Refuse values of which a later one overwrites an earlier one of somebody else.

    ``root`` is the recipe, whose lists are entered by name or number: ``stages.s.batch`` may be ``stages.0.batch``.

    Raises
    ------
    InputError
        at the place of the later one, with that of the earlier.
    """
    paths = [tuple(word for word, _ in steps(root, one.key.split("."))) for one in said]
    for i, later in enumerate(said):
        for earlier, path in zip(said[:i], paths[:i], strict=True):
            if earlier.by != later.by and _overwrites(earlier.value, path, paths[i]):
                what = f"{later.key}: {later.by} would overwrite what {earlier.by} gives"
                raise InputError(what, str(later.mark), f"leave out one of the two; the other is at {earlier.mark}")


def _overwrites(value: Node, path: Sequence[str], later: Sequence[str]) -> bool:
    """Whether setting ``later`` changes what ``value`` has put at ``path``; a key that it lacks is only added."""
    both = min(len(path), len(later))
    if path[:both] != later[:both]:
        return False
    below = later[both:]
    if not below:
        return True
    if not isinstance(value.value, dict | list):
        return below[0] == SHORT.get(path[-1], (None,))[0]
    return [found for _, found in steps(value, below)][-1] is not None


def entries_apart(one: Mapping[str, Node], other: Mapping[str, Node]) -> list[str]:
    """Keys for which two sets of changes, merged, give different values of which only one can be used."""
    return [key for key in one if key in other and _apart(one[key], other[key])]


def _apart(one: Node, other: Node) -> bool:
    if isinstance(one.value, dict) and isinstance(other.value, dict):
        return any(one.value[key].plain() != other.value[key].plain() for key in one.value if key in other.value)
    return bool(one.plain() != other.plain())
