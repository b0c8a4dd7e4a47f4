"""A stage of a finished run as one file that runs without medkit: ONNX, or torch's own form.

``MODEL.onnx`` holds the network and the end of its preparation, as far as that is arithmetic on tensors. ``MODEL.json``
next to it says all that a program needs to use it: what goes in and comes out, the steps before, threshold, unit,
classes, and where it comes from. ``MODEL.md`` is a model card for people. Nothing is written unless the file gives the
run's own numbers on real slices.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.evaluation.files import read_lines
from medkit.evaluation.results import MetricValue, read_results
from medkit.recipe import Recipe, Stage
from medkit.records import encoded, write_error
from medkit.runs.checks import judged_number
from medkit.runs.export_about import interface, training
from medkit.runs.export_check import Cases, Checked, checked, compare
from medkit.runs.export_formats import OPSET, Format, file_of, format_of, runner, write
from medkit.runs.export_graph import Divided, Graph, traced
from medkit.runs.folder import RunFolder
from medkit.runs.ledgers import recorded_ledger
from medkit.runs.origin import ledger_in_short, now, origin
from medkit.runs.predictor import last_stage
from medkit.runs.reading import Reading
from medkit.runs.workbench import Workbench

Card = Callable[[Mapping[str, Any], Recipe, Stage, Mapping[str, Mapping[str, MetricValue]]], str]
EXAMPLE = 3
"""Slices of noise on which a graph is recorded; no patient's image becomes part of the file."""


@dataclass(frozen=True)
class ExportSettings:
    """How a stage is exported.

    Parameters
    ----------
    format:
        ``onnx`` (the extra ``export``) or ``torch``; default: by the name of the output.
    opset:
        Version of ONNX's operators.
    slices:
        How many slices, at least, the file is checked on; for networks on volumes, whole volumes.
    tolerance:
        The largest absolute difference from the run's numbers; for values above 1, as a share of the largest.
    """

    format: Format | None = None
    opset: int = OPSET
    slices: int = 16
    tolerance: float = 1e-4


DEFAULT = ExportSettings()
PLAIN = Reading()


def export(
    run: str | Path,
    output: str | Path,
    *,
    stage: str | None = None,
    settings: ExportSettings = DEFAULT,
    images: Sequence[str] = (),
    reading: Reading = PLAIN,
    card: Card,
) -> dict[str, Any]:
    """Write a stage's network as ``output``, with its ``.json`` and ``.md`` next to it; all three or none.

    Parameters
    ----------
    run:
        A run folder.
    stage:
        Default: the recipe's last one that is not a variant.
    images:
        What the file is checked on; default: the run's own cases, those it was tested on first.
    reading:
        How ``images`` are read, and what is known about them.
    card:
        Writes the ``.md``: from what the ``.json`` says, the recipe, the stage, and its results by split and metric.

    Returns
    -------
    dict
        What the ``.json`` says.

    Raises
    ------
    InputError
        if a file already exists, a library is missing, or there is nothing to check on.
    RunError
        if the network cannot be exported, or gives other numbers.
    """
    files = Files(Path(output))
    form = format_of(files.model, settings.format)
    files.check_new()
    folder = RunFolder.open(Path(run))
    recipe = folder.recipe()
    chosen = recipe.stage(stage) if stage else last_stage(recipe)
    bench = Workbench(recipe, Runtime.start(device="cpu"), folder)
    objective = bench.trained(chosen).eval()
    if getattr(objective, "external", False):
        what = f"stage '{chosen.name}' is trained by a separate program, which exports it"
        raise InputError(what, str(run), "nnU-Net: nnUNetv2_export_model_to_zip (docs/export.md)")
    if getattr(objective, "dimensions", 2) == 3:
        what = f"stage '{chosen.name}' blends logits of overlapping windows, and a file holds predictions of one pass"
        raise InputError(what, str(run), "'medkit predict' applies it, to many images at once too")
    steps = [step.build() for step in recipe.data[chosen.data].prepare]
    divided = Divided.of(steps, getattr(objective, "tile", None))
    cases = Cases(bench, chosen, images, reading)
    material = checked(cases, objective, divided, settings.slices)
    first = next(material, None)
    if first is None:
        raise InputError("there is no case to check the export on", str(run), "give images: --input IMAGE")
    example = _noise(first)
    graph = Graph(objective, divided, example)
    program = traced(graph, example)
    about = {**origin(folder, recipe, chosen, objective.parts()), "date": now()}
    with files.written() as made:
        write(program, made.model, form, opset=settings.opset, graph=graph, about=about)
        by_volume = chosen.unit == "volume"
        found = compare(runner(made.model, form), graph.outputs, itertools.chain([first], material), by_volume)
        found.check(settings.tolerance)
        checked_on = {"on": f"split {cases.split}" if cases.split else "given images", "tolerance": settings.tolerance}
        summary = {
            **about,
            "training": training(
                chosen,
                read_lines(folder.file("metrics.jsonl")),
                judged_number(chosen, bench.metrics(chosen), "keep_best"),
            ),
            "ledger": ledger_in_short(recorded_ledger(folder, chosen.name)),
            "file": file_of(made.model, form, settings.opset),
            **interface(recipe, chosen, graph, program, found.spacings),
            "check": checked_on | found.json(),
        }
        text = json.dumps(summary, indent=1)
        summary = json.loads(text)
        made.json.write_text(f"{text}\n", encoding="utf-8")
        results = read_results(folder.path).get(chosen.name, {}) if folder.file("results.json").is_file() else {}
        made.card.write_bytes(encoded(card(summary, recipe, chosen, results)))
    return summary


def _noise(first: Checked) -> list[Tensor]:
    """Inputs with the sizes of a case, but none of its content."""
    generator = torch.Generator().manual_seed(0)
    image, *fields = first.inputs
    made = torch.rand((EXAMPLE, *image.shape[1:]), generator=generator)
    return [made, *(torch.zeros(EXAMPLE) for _ in fields)]


@dataclass(frozen=True)
class Files:
    """The three files of an export."""

    model: Path

    @property
    def json(self) -> Path:
        return self.model.with_suffix(".json")

    @property
    def card(self) -> Path:
        return self.model.with_suffix(".md")

    def check_new(self) -> None:
        """Refuse names that are taken."""
        for path in self._all:
            if path.exists():
                raise InputError("the output exists", str(path), "name a new one: nothing is overwritten")

    @property
    def _all(self) -> tuple[Path, ...]:
        return self.json, self.card, self.model

    @contextmanager
    def written(self) -> Iterator[Files]:
        """Files in a folder alongside, which get their names when the block succeeds; the model last."""
        folder = self.model.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as scratch:
                made = Files(Path(scratch) / self.model.name)
                yield made
                self.check_new()
                for path, name in zip(made._all, self._all, strict=True):
                    path.rename(name)
        except OSError as error:
            raise write_error(error, self.model, folder) from error
