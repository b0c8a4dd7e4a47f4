"""Every ``medkit`` command line in the documentation is one that this medkit understands, and is run by some test."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from docs_pages import ROOT, Command, commands, pages

from medkit.cli.app import app
from medkit.recipe import bundled
from medkit.studies.reader import bundled as bundled_studies

SHELL = re.compile(r'"?\$(\{?\w+\}?|\d)"?')
"""A variable of a job script: what it holds is anything, and a number where one is wanted."""
REST = "${@:3}"
RUN_BY = {
    "bench": ("tests/bench/test_command.py", '"bench"'),
    "card": ("tests/runs/test_card.py", '"card"'),
    "check": ("tests/cli/test_cli_check_data.py", '"check"'),
    "compare": ("tests/cli/test_cli_runs.py", '"compare"'),
    "convert-weights": ("tests/parts/test_published_volumes.py", '"convert-weights"'),
    "data bhsd": ("tests/data/test_layouts.py", "bhsd(root)"),
    "data cq500": ("tests/data/test_layouts.py", "cq500(root"),
    "data ct-ich": ("tests/data/test_nifti_manifest.py", "physionet_ct_ich("),
    "data folder": ("tests/cli/test_cli_new_recipe.py", '"folder"'),
    "data fracatlas": ("tests/data/test_layouts.py", "fracatlas(atlas"),
    "data ldct-projection": ("tests/data/test_layouts_lowdose.py", "ldct_projection(tcia)"),
    "data mayo": ("tests/cli/test_cli_low_dose.py", '"mayo"'),
    "data pedxnet": ("tests/cli/test_cli_data.py", '"pedxnet"'),
    "data split": ("tests/cli/test_cli_new_recipe.py", '"split"'),
    "embed": ("tests/runs/test_embed.py", "embed("),
    "explain": ("tests/plugins/test_pedxnet_runs.py", "explain("),
    "evaluate": ("tests/runs/test_new_cases.py", '"evaluate"'),
    "export": ("tests/runs/test_export.py", "export("),
    "list": ("tests/cli/test_cli_look.py", '"list"'),
    "new plugin": ("tests/cli/test_cli_new.py", '"plugin"'),
    "new recipe": ("tests/cli/test_cli_new_recipe.py", '"recipe"'),
    "predict": ("tests/cli/test_cli_low_dose.py", '"predict"'),
    "prepare": ("tests/cli/test_cli_prepare.py", '"prepare"'),
    "report": ("tests/cli/test_cli_runs.py", '"report"'),
    "resume": ("tests/cli/test_cli_runs.py", '"resume"'),
    "run": ("tests/cli/test_cli_runs.py", '"run"'),
    "simulate-dose": ("tests/cli/test_cli_low_dose.py", '"simulate-dose"'),
    "study report": ("tests/studies/test_work.py", "write_study_report("),
    "study run": ("tests/studies/test_command.py", '"run"'),
    "study status": ("tests/studies/test_command.py", '"status"'),
    "verdict": ("tests/cli/test_cli_verdict.py", '"verdict"'),
}
"""Each command that a page shows: the test that runs it, or the function that is all of it, and a word of that test."""
BUNDLED = {"run": bundled, "check": bundled, "prepare": bundled, "study run": bundled_studies}
"""Commands whose first argument may be the name of something that comes with medkit."""
COMMANDS = list(dict.fromkeys(commands()))
ROOT_COMMAND = typer.main.get_command(app)


def child(command: Any, context: Any, name: str) -> Any:
    """A command below another one, those of plugins among them."""
    return command.get_command(context, name) if hasattr(command, "list_commands") else None


def understood(words: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """The command that a line calls, with its arguments as they were read; what is wrong with it is raised."""
    command: Any = ROOT_COMMAND
    context, names, rest = command.make_context("medkit", list(words)), [], list(words)
    while hasattr(command, "list_commands"):
        name, command, rest = command.resolve_command(context, rest)
        names.append(name)
        context = command.make_context(name, list(rest), parent=context)
    return " ".join(names), context.params


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_line_of_the_docs_is_understood(command: Command) -> None:
    words = tuple(SHELL.sub("7", word) for word in command.words if word != REST)
    name, given = understood(words)
    assert name in RUN_BY, f"{command}: no test is named that runs 'medkit {name}'"
    first = next((str(value) for key, value in given.items() if key in ("recipe", "study")), "7")
    if name in BUNDLED and first != "7" and not first.endswith(".yaml"):
        assert first in dict(BUNDLED[name]()), f"{command}: there is no bundled '{first}'"


def test_each_named_test_runs_its_command() -> None:
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path, _ in RUN_BY.values()}
    assert {name: word for name, (path, word) in RUN_BY.items() if word not in texts[path]} == {}


def test_commands_in_running_text_exist() -> None:
    context = ROOT_COMMAND.make_context("medkit", [], resilient_parsing=True)
    wrong = []
    for page in pages():
        for text in re.findall(r"`medkit ([a-z][^`]*)`", page.read_text(encoding="utf-8")):
            words, command = text.split(), ROOT_COMMAND
            while words and hasattr(command, "list_commands"):
                command = child(command, context, words.pop(0))
            flags = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
            known = {name for one in getattr(command, "params", []) for name in (*one.opts, *one.secondary_opts)}
            if command is None or flags - known - {"--help"}:
                wrong.append(f"{page.name}: medkit {text}")
    assert wrong == []
