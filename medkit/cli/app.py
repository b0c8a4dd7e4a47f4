"""The commands. Nothing here imports torch; commands that need it import it when they are called."""

from __future__ import annotations

from typing import Any

import typer

from medkit.cli import (
    bench,
    components,
    data,
    encoders,
    export,
    plugins,
    predict,
    prepare,
    results,
    runs,
    study,
    verdict,
    weights,
)
from medkit.cli.other_flags import Commands

app = typer.Typer(
    name="medkit",
    cls=Commands,
    help="Composable parts for medical-imaging representation learning.\n\n"
    "Start with 'medkit run ich_seg', look around with 'medkit list', check a recipe with 'medkit check'.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
COMMANDS: dict[str, Any] = {
    "run": runs.run,
    "resume": runs.resume,
    "prepare": prepare.prepare,
    "check": components.check,
    "list": components.list_,
    "show": components.show,
    "schema": components.schema,
    "plugins": plugins.plugins,
    "predict": predict.predict,
    "explain": predict.explain,
    "export": export.export,
    "embed": encoders.embed,
    "card": encoders.card,
    "convert-weights": weights.convert_weights,
    "runs": results.runs,
    "evaluate": results.evaluate,
    "report": results.report,
    "compare": results.compare,
    "verdict": verdict.verdict,
    "simulate-dose": data.simulate_dose,
    "bench": bench.bench,
    "doctor": plugins.doctor,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(plugins.new, name="new")
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")


@app.callback(invoke_without_command=True)
def top(context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        import medkit

        print(medkit.__version__)
        raise typer.Exit
