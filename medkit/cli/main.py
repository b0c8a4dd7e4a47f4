"""The ``medkit`` command. Nothing here imports torch; commands that need it import it when they are called."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from typing import Any

import typer

from medkit.cli import bench, components, data, plugins, predict, results, runs
from medkit.errors import MedkitError

app = typer.Typer(
    name="medkit",
    help="Composable parts for medical-imaging representation learning.\n\n"
    "Start with 'medkit run ich_seg', look around with 'medkit list', check a recipe with 'medkit check'.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
COMMANDS: dict[str, Any] = {
    "run": runs.run,
    "resume": runs.resume,
    "check": components.check,
    "list": components.list_,
    "show": components.show,
    "schema": components.schema,
    "plugins": plugins.plugins,
    "predict": predict.predict,
    "explain": predict.explain,
    "evaluate": results.evaluate,
    "report": results.report,
    "compare": results.compare,
    "simulate-dose": data.simulate_dose,
    "bench": bench.bench,
    "doctor": plugins.doctor,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(plugins.new, name="new")
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def top(context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        import medkit

        print(medkit.__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; every error a user can cause is one line and an exit code, without a traceback."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ? for what it lacks
    try:
        app()
    except MedkitError as error:
        if os.environ.get("MEDKIT_TRACEBACK"):
            traceback.print_exception(error)
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
            sys.exit(1)
        _unexpected(error)
    except Exception as error:
        _unexpected(error)


def _unexpected(error: Exception) -> None:
    """A bug of ours (or of a plugin): say so, and how to see all of it."""
    if os.environ.get("MEDKIT_TRACEBACK"):
        traceback.print_exception(error)
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename}:{frame.lineno}"
        print(f"error: unexpected {type(error).__name__} at {place}: {error}", file=sys.stderr)
        print("this is a bug; MEDKIT_TRACEBACK=1 shows the whole traceback", file=sys.stderr)
    sys.exit(1)
