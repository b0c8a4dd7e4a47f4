"""The layers of an encoder in groups from input to output, for gradual unfreezing and rates that fall with depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from timm.models import group_parameters
from torch import nn

Stages = Sequence[tuple[str, nn.Module]]


def by_levels(net: Any) -> Stages:
    """A stage for each level of the pyramid, with the stem of its own where the first level ends behind it."""
    units: list[tuple[str, nn.Module]] = []
    for name, child in net.named_children():
        if isinstance(child, nn.Sequential) and name in ("blocks", "stages", "features"):
            units += [(f"{name}.{i}", block) for i, block in child.named_children()]
        else:
            units.append((name, child))
    ends = {str(m).replace("_", ".") for m in net.feature_info.module_name()}
    groups: list[list[tuple[str, nn.Module]]] = [[]]
    for unit in units:
        groups[-1].append(unit)
        if unit[0].replace("_", ".") in ends:
            groups.append([])
    if not any(list(m.parameters()) for _, m in groups[-1]) and len(groups) > 1:
        tail = groups.pop()
        groups[-1] += tail
    return [("stem" if i == 0 else g[-1][0], nn.ModuleList(m for _, m in g)) for i, g in enumerate(groups)]


def layers_of(model: Any) -> Mapping[str, int]:
    """The layer of each parameter of a timm model, from the stem (0) on, as timm lets rates fall with depth.

    What timm has in no layer lies with the classifier, unless it was made before the blocks, as embeddings are.
    """
    layers: dict[str, int] = group_parameters(model, model.group_matcher(), reverse=True)
    last = max(layers.values())
    for name, _ in model.named_parameters():
        if layers[name] == 1:
            break
        if layers[name] == last:
            layers[name] = 0
    return layers


def by_blocks(net: nn.Module, layer: Mapping[str, int]) -> Stages:
    """A stage for each layer: the stem, then each block, the last with the norm behind it.

    ``layer`` has the number of every parameter's.
    """
    held: dict[int, list[tuple[str, nn.Module]]] = {}
    for number, name, module in _pieces(net, "", layer):
        held.setdefault(number, []).append((name, module))
    stages: list[tuple[str, nn.Module]] = []
    for number in sorted(held):
        largest = max(held[number], key=lambda piece: sum(p.numel() for p in piece[1].parameters()))
        stages.append((largest[0] if stages else "stem", nn.ModuleList(module for _, module in held[number])))
    return stages


def _pieces(module: nn.Module, prefix: str, layer: Mapping[str, int]) -> Iterator[tuple[int, str, nn.Module]]:
    """The largest modules whose parameters are all of one layer, and lists of those that lie between them."""
    found = {layer[f"{prefix}{name}"] for name, _ in module.named_parameters()}
    if len(found) == 1:
        yield found.pop(), prefix[:-1], module
        return
    for name, parameter in module.named_parameters(recurse=False):
        yield layer[f"{prefix}{name}"], f"{prefix}{name}", nn.ParameterList([parameter])
    for name, child in module.named_children():
        yield from _pieces(child, f"{prefix}{name}.", layer)
