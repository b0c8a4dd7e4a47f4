"""A model card: what an exported network is, what it was trained on, what was measured, and what it is not for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medkit.evaluation.results import MetricValue
from medkit.recipe import Recipe, Stage
from medkit.recipe.blocks import Block
from medkit.reporting.paper_table_text import markdown_lines
from medkit.reporting.tables import SEEN_MARK, count_of, how_intervals_were_made, number

Json = Mapping[str, Any]
Results = Mapping[str, Mapping[str, MetricValue]]


def model_card(summary: Json, recipe: Recipe, stage: Stage, results: Results) -> str:
    """The card as Markdown.

    Parameters
    ----------
    summary:
        What :func:`medkit.runs.export.export` says about the network.
    results:
        Results of the stage, by split and metric.
    """
    parts = [_head(summary), _about(summary, recipe, stage), _training(summary, recipe, stage)]
    parts += [_measured(stage, results), _agreement(summary), _use(summary, stage, results)]
    return "\n".join(line for part in parts for line in part)


def _head(summary: Json) -> Iterator[str]:
    yield f"# {summary['recipe']}, stage {summary['stage']}"
    yield ""
    yield f"**{summary['use'][0].upper()}{summary['use'][1:]}.**"
    yield ""
    for text in summary["notices"]:
        yield f"> {text}"
        yield ">"
    yield ""


def _about(summary: Json, recipe: Recipe, stage: Stage) -> Iterator[str]:
    file = summary["file"]
    opset = f", opset {file['opset']}" if "opset" in file else ""
    yield "## The network"
    yield ""
    yield f"`{file['name']}` ({file['format']}{opset}, {file['bytes'] / 1e6:.1f} MB), written by medkit"
    yield f"{summary['medkit']} on {summary['date']} from run `{summary['run']}`: {_of_parts(stage.objective)}."
    yield ""
    rows = [
        [kind, f"`{one['name']}`", " x ".join(map(str, one["axes"])), one["holds"]]
        for kind in ("inputs", "outputs")
        for one in summary[kind]
    ]
    yield from markdown_lines(["", "name", "axes", "holds"], [[row[0][:-1], *row[1:]] for row in rows], numbers=False)
    yield ""
    yield f"Slices: {summary['slices']}. {_steps(summary)}"
    yield ""
    for name in ("threshold", "mask_classes", "label_classes", "unit", "tiles"):
        if name in summary:
            value = summary[name]
            said = ", ".join(value) if isinstance(value, list) else value
            yield f"- {name.replace('_', ' ')}: {said}"
    yield ""


def _of_parts(objective: Block) -> str:
    """The names of an objective's components, in words."""
    named = [f"`{objective.name}`"]
    for key, value in objective.arguments.items():
        blocks = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        for block in blocks:
            if isinstance(block, Block) and block.kind in ("encoder", "pretext", "operator", "generator"):
                model = block.arguments.get("model")
                named.append(f"{key} `{block.name}`" + (f" ({model})" if model else ""))
    return ", ".join(named)


def _steps(summary: Json) -> str:
    prepared = summary["preparation"]
    inside = ", ".join(step["use"] for step in prepared["inside"]) or "nothing"
    before = ", ".join(step["use"] for step in prepared["before"]) or "nothing"
    units = "HU" if prepared["units"] == "HU" else "the images' own units"
    return f"Preparation in the file: {inside}; to be done before: {before}. Voxels are in {units}."


def _training(summary: Json, recipe: Recipe, stage: Stage) -> Iterator[str]:
    block = recipe.data[stage.data]
    yield "## What it was trained on"
    yield ""
    share = "" if stage.fraction is None else f", a fraction of {stage.fraction:g} of its patients"
    start = ", ".join(f"`{name}`" for name in sorted(stage.takes_from()))
    after = f", with parts of stage {start}" if start else ""
    epochs = _epochs(summary["training"])
    yield f"Split `{stage.train}` of `{block.source.name}`{share}{epochs}, seed {recipe.seed}{after}."
    yield ""
    yield "Who was seen by this stage and everything it starts from (counts; the run keeps digests, no names):"
    yield ""
    ledger = summary["ledger"]
    if isinstance(ledger, str):
        yield "- not known"
    else:
        for words, counts in ledger.items():
            if words == "unknown_weights":
                yield f"- not known of these weights: {', '.join(counts)}"
            else:
                yield f"- {words}: {counts['patients']} patients"
    yield ""


def _epochs(training: Json) -> str:
    """The epochs that a stage was trained for, with those planned where it stopped early, and the one that was kept."""
    if not training:
        return ""
    planned = training["epochs_planned"]
    said = f", {count_of(training['epochs'], 'epoch')}"
    if training["epochs"] < planned:
        said += f" of {planned} planned"
    if "epoch_kept" in training:
        said += f" (the weights are those of epoch {training['epoch_kept']}, the best by {training['kept_by']})"
    return said


def _measured(stage: Stage, results: Results) -> Iterator[str]:
    yield "## What was measured"
    yield ""
    rows = [
        [split, metric, _value(value), _interval(value), value.counts]
        for split, metrics in results.items()
        for metric, value in metrics.items()
    ]
    if not rows:
        yield "Nothing: the stage was not evaluated."
        yield ""
        return
    yield from markdown_lines(["split", "metric", "value", "95 % interval", "of"], rows, numbers=False)
    yield ""
    yield how_intervals_were_made({stage.name: dict(results)}, [stage.name])
    if any(value.seen for metrics in results.values() for value in metrics.values()):
        yield f"{SEEN_MARK} Patients of this split were seen in training: this does not test new patients."
    yield ""


def _value(value: MetricValue) -> str:
    unit = f" {value.unit}" if value.unit else ""
    return f"{number(value.value)}{unit} {'↑' if value.higher_is_better else '↓'}{SEEN_MARK if value.seen else ''}"


def _interval(value: MetricValue) -> str:
    ends = number(value.low), number(value.high)
    return "–" if "–" in ends else f"{ends[0]} to {ends[1]}"


def _agreement(summary: Json) -> Iterator[str]:
    check = summary["check"]
    yield "## Whether the file gives the run's numbers"
    yield ""
    yield f"On {check['slices']} slices of {check['cases']} cases ({check['on']}), the largest absolute differences are"
    yield ", ".join(f"{value:.2g} (`{name}`)" for name, value in check["max_abs_difference"].items()) + "."
    yield f"Above {check['tolerance']:g} (for values above 1, relative to the largest) nothing would have been written."
    yield ""


def _use(summary: Json, stage: Stage, results: Results) -> Iterator[str]:
    yield "## Intended use and limits"
    yield ""
    yield f"It is {summary['use']}: it is not a medical device, and has not been shown to help any patient."
    yield f"Its numbers hold for images like those of {_splits(results)}, prepared as above; of other scanners,"
    yield "protocols, hospitals, ages and diseases nothing is known."
    span = summary["spacing_mm"]
    if isinstance(span, Mapping):
        said = ", ".join(f"{_ends(*ends)} mm {axis}" for axis, ends in span.items())
        yield f"Voxels of the cases that it was checked on are {said} apart."
    yield ""


def _ends(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _splits(results: Results) -> str:
    return ", ".join(f"`{split}`" for split in results) or "its training"
