"""A stage as a graph of tensor operations: the end of its preparation, its network, and the way back."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from medkit.data.transforms import Step
from medkit.errors import RunError

AXES = ("slices", "channels", "height", "width")
"""Of images and maps."""
ONE_PASS = {"slices_at_once": sys.maxsize, "tile": None}
"""Settings of objectives that would have slices predicted piece by piece."""
RESTORED = ("mask_probability", "output")
"""Predictions that go back to the grid of the graph's input, as those of ``medkit predict`` do to the image's."""


@dataclass(frozen=True)
class Divided:
    """The steps of a preparation that stay outside the graph, and those after them, which are in it."""

    before: tuple[Any, ...]
    inside: tuple[Any, ...]

    @classmethod
    def of(cls, steps: Sequence[Any], tile: int | None) -> Divided:
        """All steps at the end that have torch operations go inside; with tiles only those that keep the size."""
        first = len(steps)
        while first and hasattr(step := steps[first - 1], "graph"):
            if tile is not None and type(step).graph_restore is not Step.graph_restore:
                break
            first -= 1
        return cls(tuple(steps[:first]), tuple(steps[first:]))


class Graph(nn.Module):
    """What is exported of a stage: from images (S,C,H,W) and fields (S,) to its predictions in order of ``outputs``.

    A network on slices takes any number of them, one on volumes those of one volume.

    Parameters
    ----------
    objective:
        With its trained weights.
    divided:
        The stage's preparation.
    example:
        Inputs of the sizes that images have.
    """

    def __init__(self, objective: Any, divided: Divided, example: Sequence[Tensor]) -> None:
        super().__init__()
        self.divided, self.fields = divided, tuple(getattr(objective, "needs", ()))
        self.objective: Any = copy.deepcopy(objective).eval().requires_grad_(False)
        self.tile: str | None = None
        if getattr(objective, "tile", None) is not None:
            side, overlap, blend = objective.tile, objective.overlap, objective.blend
            self.tile = f"{side} pixels a side, {overlap:g} of it shared with the next one, {blend} blending"
        for name, value in ONE_PASS.items():
            if hasattr(self.objective, name):
                setattr(self.objective, name, value)
        self.outputs: tuple[str, ...] = ()
        self._slim(example)

    def _slim(self, example: Sequence[Tensor]) -> None:
        """Remove what it does not predict with, such as losses and discriminators."""
        called: set[int] = set()
        modules = self.objective.modules()
        handles = [module.register_forward_pre_hook(lambda module, _: called.add(id(module))) for module in modules]
        with torch.no_grad():
            self.outputs = tuple(self.named(*example))
        for handle in handles:
            handle.remove()
        _without_idle(self.objective, called)

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("image", *self.fields)

    def named(self, image: Tensor, *fields: Tensor) -> dict[str, Tensor]:
        """The predictions by name."""
        shapes = []
        for step in self.divided.inside:
            shapes.append(image.shape[2:])
            image = step.graph(image)
        found = predicted(self.objective, image, dict(zip(self.fields, fields, strict=True)))
        for name in RESTORED:
            for step, shape in zip(reversed(self.divided.inside), reversed(shapes), strict=True):
                if name in found:
                    found[name] = step.graph_restore(found[name], shape)
        return found

    def forward(self, image: Tensor, *fields: Tensor) -> tuple[Tensor, ...]:
        found = self.named(image, *fields)
        return tuple(found[name].float() for name in self.outputs)


def predicted(objective: Any, image: Tensor, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The predictions of prepared slices (S,C,H,W): each on its own, or those of one volume."""
    batch = {"image": image, **fields}
    if objective.unit == "volume":
        batch["lengths"] = torch.full((1,), image.shape[0])
    return dict(objective.predict(batch))


def _without_idle(module: nn.Module, called: set[int]) -> None:
    """Remove what was not called; not inside what was, as a module may use another's weights without a call."""
    for name, child in list(module.named_children()):
        if id(child) in called:
            continue
        if any(id(other) in called for other in child.modules()):
            _without_idle(child, called)
        else:
            setattr(module, name, nn.Identity())


def traced(graph: Graph, example: Sequence[Tensor]) -> ExportedProgram:
    """The graph as torch records it on ``example``, with as many sizes left open as the network leaves.

    Raises
    ------
    RunError
        if it cannot be recorded, because what is done depends on values.
    """
    dynamic = {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}
    # torch does not count fields where there are none.
    shapes = (dynamic, *([tuple({0: Dim.AUTO} for _ in graph.fields)] if graph.fields else []))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(graph, tuple(example), dynamic_shapes=shapes, strict=False)
        except Exception as error:  # whatever a network's own code does with tensors without values
            raise RunError(f"the stage cannot be exported: {_first_line(error)}", hint=UNTRACED) from error
    if isinstance(sizes(program)["inputs"][0][0], int):
        what = "the stage cannot be exported: its code treats the number of slices as one that never changes"
        raise RunError(what, hint="in a plugin, x.shape[0] stays open where len(x) is a constant")
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # has folders of this machine
    return program


UNTRACED = "a network whose operations depend on values, not on shapes, cannot be recorded"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def sizes(program: ExportedProgram) -> dict[str, list[list[int | str]]]:
    """What each axis of inputs and outputs is, in order: a number, or a name that equal ones share."""
    known: dict[str, str] = {}

    def side(value: Any, axis: str) -> int | str:
        if isinstance(value, int):
            return value
        text = str(value)
        return known.setdefault(text, axis) if text.isidentifier() else known.get(text, text)

    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    signature = program.graph_signature
    found: dict[str, list[list[int | str]]] = {}
    for kind, names in (("inputs", signature.user_inputs), ("outputs", signature.user_outputs)):
        shapes = [values[name].shape for name in names]
        found[kind] = [[side(value, axis) for value, axis in zip(shape, AXES, strict=False)] for shape in shapes]
    return found
