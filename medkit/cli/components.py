"""``medkit list``, ``show``, ``schema`` and ``check``: what is available, and what is wrong with a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medkit.cli.options import Jobs, Json, PluginFile, Set
from medkit.cli.output import show_json, show_table
from medkit.errors import InputError, did_you_mean
from medkit.paths import typed

SHOWN = 5  # cases with notes that a data block's check names


def load_files(files: list[str] | None) -> None:
    from medkit.registry.plugins import load_file

    for file in files or []:
        load_file(file)


def list_(
    kind: Annotated[str | None, typer.Argument(help="encoder, pretext, operator, ...")] = None,
    json: Json = False,
    plugin: PluginFile = None,
) -> None:
    """List the registered components, of one kind or all.

    Example: medkit list pretext
    """
    from medkit.protocols import KINDS
    from medkit.registry.plugins import registry

    load_files(plugin)
    if kind is not None and kind not in KINDS:
        raise InputError(
            f"'{kind}' is not a kind of component", hint=did_you_mean(kind, KINDS) or f"kinds: {', '.join(KINDS)}"
        )
    entries = [entry for k in KINDS if kind in (None, k) for entry in registry().of_kind(k)]
    if json:
        show_json([{"kind": e.kind, "name": e.full_name, "summary": e.summary} for e in entries])
    else:
        show_table(["kind", "name", "what it is"], [(e.kind, e.full_name, e.summary) for e in entries])


def show(
    name: Annotated[str, typer.Argument(help="Short or full name, such as smartnet:scse_unet.")],
    kind: Annotated[str | None, typer.Option(help="Needed if several kinds share the name.")] = None,
    json: Json = False,
    plugin: PluginFile = None,
) -> None:
    """Show a component: what it does, its arguments, and a block to paste into a recipe.

    Example: medkit show scse_unet
    """
    from medkit.registry.plugins import registry
    from medkit.registry.static import static_schema

    load_files(plugin)
    known = registry()
    found = [e for e in known.entries.values() if name in (e.name, e.full_name) and kind in (None, e.kind)]
    if not found:
        names = [e.full_name for e in known.entries.values()]
        raise InputError(f"nothing is named '{name}'", hint=did_you_mean(name, names) or "'medkit list' shows all")
    described = []
    for entry in found:
        schema = static_schema(entry)
        described.append((entry, schema))
    if json:
        show_json(
            [
                {"kind": e.kind, "name": e.full_name, "description": s.description, "arguments": s.json()}
                for e, s in described
            ]
        )
        return
    for entry, schema in described:
        print(f"{entry.kind} {entry.full_name}\n{schema.description or entry.summary}\n")
        rows = []
        for argument in schema.arguments.values():
            default = (
                "required"
                if argument.required
                else "given by the parts beside it"
                if argument.given
                else repr(argument.default)
            )
            rows.append(
                (argument.name, argument.type_name() if not argument.given else "-", default, argument.description)
            )
        if rows:
            show_table(["argument", "type", "default", "meaning"], rows)
        required = "".join(f", {a.name}: ..." for a in schema.writable.values() if a.required)
        print(f'{{use: "{entry.full_name}"{required}}}\n')


def schema(study: Annotated[bool, typer.Option("--study", help="The schema of studies.")] = False) -> None:
    """Print the JSON Schema of recipes, with every registered component, or of studies, for editors.

    Example: medkit schema > medkit.schema.json
    """
    from medkit.recipe import json_schema as recipes
    from medkit.registry.plugins import registry
    from medkit.studies import json_schema as studies

    show_json(studies.json_schema() if study else recipes.json_schema(registry()))


def check(
    recipe: Annotated[str, typer.Argument(help="Path, or name of a bundled recipe.")],
    set: Set = None,
    plugin: PluginFile = None,
    json: Json = False,
    data: Annotated[
        bool, typer.Option("--data", help="Read every image once, and list those that are broken.")
    ] = False,
    leave_out: Annotated[
        Path | None,
        typer.Option("--leave-out", metavar="MANIFEST", help="With --data: write a manifest without the broken cases."),
    ] = None,
    jobs: Jobs = None,
) -> None:
    """Check a recipe: names, types, ranges, splits, references. Prints each problem with its line.

    With --data, images are read and prepared by several processes, and prepared images are kept for the run; broken
    ones are listed, with exit code 1.

    Example: medkit check recipes/ich_seg.yaml --set stages.pretext.epochs=2
    """
    from medkit.recipe import load_recipe
    from medkit.recipe.seen import check_seen
    from medkit.recipe.training import training_in_words
    from medkit.recipe.views import views_in_words

    load_files(plugin)
    checked = load_recipe(recipe, set=set or [])
    check_seen(checked)
    if json:
        show_json(checked.resolved())
        return
    rows: list[tuple[Any, ...]] = [
        (s.name, s.objective.name, s.unit, s.data, s.epochs, s.batch) for s in checked.stages
    ]
    show_table(["stage", "objective", "unit", "data", "epochs", "batch"], rows, f"{checked.name} is well formed")
    for stage in checked.stages:
        print(f"{stage.name}: {training_in_words(stage)}")
    for name, block in checked.data.items():
        if told := views_in_words(block):
            print(f"data block {name}: {told} of each item, for stages that read them")
    for stage in checked.stages:
        if not checked.evaluated_splits(stage):
            print(f"note: stage '{stage.name}' is evaluated on nothing: all splits of '{stage.data}' train or validate")
    if data:
        _check_data(checked, leave_out, jobs)
    elif leave_out is not None:
        raise InputError("only images that were read can be left out", "--leave-out", "add --data")
    else:
        print(f"not looked at: files, patients, shapes, weights; 'medkit run {typed(recipe)} --dry' looks at them")


def _check_data(recipe: Any, leave_out: Path | None, jobs: int | None) -> None:
    from medkit.data.processes import default_jobs
    from medkit.engine.progress import Progress
    from medkit.runs.data_check import check_data, write_sound

    with Progress() as progress:
        found = check_data(recipe, jobs or default_jobs(), progress)
    broken = [(one.block.name, failure.case, str(failure.error)) for one in found for failure in one.failures]
    for one in found:
        sound, before = one.total - len(one.failures), f" ({one.before} were already prepared)" if one.before else ""
        print(f"data block {one.block.name}: {sound} of {one.total} cases can be read and prepared{before}")
        for text in one.block.dataset.about_table():
            print(f"note: {text}")
        remarks = one.remarks
        for case, told in list(remarks.items())[:SHOWN]:
            print(f"note: case '{case}': {'; '.join(told)}")
        if len(remarks) > SHOWN:
            print(f"note: and {len(remarks) - SHOWN} more cases with such notes")
    if broken:
        show_table(["data block", "case", "what is wrong"], broken)
    if leave_out is not None:
        left = write_sound(found, leave_out)
        print(f"{leave_out}: {left} cases; those left out are named in {leave_out.stem}.left_out.csv")
    elif broken:
        print("next: repair these, or add '--leave-out sound.csv' for a manifest without them")
    if broken:
        raise typer.Exit(1)
