"""The layers of an encoder in groups from input to output, for gradual unfreezing and layer-wise learning rates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from timm.models import group_parameters
from torch import nn

from medkit.parts.encoder_models import names_in

Stages = Sequence[tuple[str, nn.Module]]


def stages_of(net: Any, whole: Any) -> Stages:
    """Groups of the layers of ``net``, a pyramid of the timm model ``whole``: by blocks if it attends, else by levels.

    If levels cannot be told apart (networks that timm does not take apart) it is by blocks too.
    """
    levels = by_levels(net)
    if not hasattr(whole, "group_matcher") or (len(levels) > 1 and not _attends(whole)):
        return levels
    names = names_in(net, whole)
    layers = {name: layer for name, layer in layers_of(whole).items() if name in names}
    return by_blocks(net, {id(net.get_parameter(names[name])): layer for name, layer in layers.items()})


def _attends(whole: nn.Module) -> bool:
    """Whether any layer has heads of attention."""
    return any(hasattr(module, "num_heads") for module in whole.modules())


def by_levels(net: Any) -> Stages:
    """A stage for each level of the pyramid, with a separate stem if the first level ends after it."""
    units: list[tuple[str, nn.Module]] = []
    for name, child in net.named_children():
        if isinstance(child, nn.Sequential) and name in ("blocks", "stages", "features"):
            units += [(f"{name}.{i}", block) for i, block in child.named_children()]
        else:
            units.append((name, child))
    info = getattr(net, "feature_info", None)
    ends = {str(m).replace("_", ".") for m in info.module_name()} if info is not None else set()
    groups: list[list[tuple[str, nn.Module]]] = [[]]
    for unit in units:
        groups[-1].append(unit)
        if unit[0].replace("_", ".") in ends:
            groups.append([])
    if not any(list(m.parameters()) for _, m in groups[-1]) and len(groups) > 1:
        tail = groups.pop()
        groups[-1] += tail
    return [("stem" if i == 0 else g[-1][0], nn.ModuleList(m for _, m in g)) for i, g in enumerate(groups)]


def layers_of(whole: Any) -> Mapping[str, int]:
    """The layer of each parameter of a timm model, from the stem (0) on, as in timm's layer-wise rate decay.

    What timm assigns to no layer belongs to the classifier, unless it was made before the blocks, as embeddings are.
    """
    layers: dict[str, int] = group_parameters(whole, whole.group_matcher(), reverse=True)
    last = max(layers.values())
    for name, _ in whole.named_parameters():
        if layers[name] == 1:
            break
        if layers[name] == last:
            layers[name] = 0
    return layers


def by_blocks(net: nn.Module, layers: Mapping[int, int]) -> Stages:
    """A stage for each layer, whose number ``layers`` has by the parameter's id: the stem, then each block.

    Norms after the last block are part of it, and what blocks share is part of the first of them.
    """
    held: dict[int, list[tuple[str, nn.Module]]] = {}
    for number, name, module in _pieces(net, "", layers, set()):
        held.setdefault(number, []).append((name, module))
    for number in sorted(held):
        if number and number - 1 not in held:  # the norm after blocks that are not built
            held.setdefault(max(n for n in held if n < number), []).extend(held.pop(number))
    stages: list[tuple[str, nn.Module]] = []
    for number in sorted(held):
        largest = max(held[number], key=lambda piece: sum(p.numel() for p in piece[1].parameters()))
        # As timm names it, not as the pyramid does: blocks.3, stages.0.
        name = re.sub(r"^(model|body)\.|(?<=[a-z])_(?=\d+(\.|$))", lambda m: "." if m[0] == "_" else "", largest[0])
        stages.append((name if stages else "stem", nn.ModuleList(module for _, module in held[number])))
    return stages


def _pieces(
    module: nn.Module, prefix: str, layers: Mapping[int, int], seen: set[int]
) -> Iterator[tuple[int, str, nn.Module]]:
    """The largest modules whose parameters are all in one layer, and lists of those in between."""
    inside = {id(p) for p in module.parameters()}
    numbers = {layers[p] for p in inside}
    if not inside - seen:
        return
    if len(numbers) == 1 and not inside & seen:
        seen |= inside
        yield numbers.pop(), prefix[:-1], module
        return
    for name, parameter in module.named_parameters(recurse=False):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            yield layers[id(parameter)], f"{prefix}{name}", nn.ParameterList([parameter])
    for name, child in module.named_children():
        yield from _pieces(child, f"{prefix}{name}.", layers, seen)
