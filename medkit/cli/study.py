"""``medkit study``: one recipe, what varies in it, and the trials that result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkit.cli.components import load_files
from medkit.cli.options import Device, Json, PluginFile
from medkit.cli.output import show_json, show_table
from medkit.engine import interrupt
from medkit.errors import InputError, StoppedError
from medkit.paths import typed

app = typer.Typer(
    help="Studies: methods compared over seeds, label fractions and whatever else varies.", no_args_is_help=True
)
StudyDir = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Of each worker; other numbers round differently.")]
Precision = Annotated[str, typer.Option("--precision", help="fp32 or bf16.")]
Link = Annotated[
    list[Path] | None,
    typer.Option("--link", metavar="DIR", help="Folder of another study: take what it trained under the same key."),
]


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="Path, or name of a bundled study.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder; default runs/NAME.")] = None,
    on: Annotated[str, typer.Option("--on", metavar="local|slurm|ray", help="Where the trials run.")] = "local",
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Trials at a time; default on this machine: one per core.")
    ] = None,
    slurm: Annotated[
        list[str] | None, typer.Option("--slurm", metavar="OPTION", help="For sbatch, such as --slurm=--partition=cpu.")
    ] = None,
    threads: Threads = 1,
    device: Device = None,
    precision: Precision = "fp32",
    plugin: PluginFile = None,
    link: Link = None,
    dry: Annotated[bool, typer.Option("--dry", help="Print the plan and the time it will take; keep nothing.")] = False,
) -> None:
    """Run all trials of a study, and write its report; called again, it carries on.

    A stage that several trials share is trained once. Trials that fail are named at the end, with exit code 1; a trial
    whose worker was killed is continued.

    Example: medkit study run tiny --out runs/tiny --jobs 2
    """
    load_files(plugin)
    from medkit.studies.reader import load_study

    found = load_study(study)  # a wrong name is told before torch is imported
    from medkit.data.processes import default_jobs
    from medkit.engine.progress import Progress
    from medkit.studies.options import Options
    from medkit.studies.run import check_end, run_study

    out = out or Path("runs") / found.name
    others = tuple(map(str, link or []))
    options = Options(
        on, jobs or default_jobs(), threads, device, precision, tuple(slurm or []), tuple(plugin or []), others
    )
    if dry:
        from medkit.studies.dry import dry_study

        shown = dry_study(found, out, options)
        for table in shown.tables:
            show_table(table.columns, table.rows, table.title)
        print(shown.summary)
        return
    if jobs is None and on != "local":
        raise InputError(f"--on {on} does not know how many workers to start", "--jobs", "give a number")
    go_on = f"medkit study run {typed(study)} --out {typed(out)}" + (
        f" --on {on} --jobs {jobs}" if on != "local" else ""
    )
    go_on += "".join(f" --link {typed(other)}" for other in others)
    go_on += "".join(f" --plugin {typed(file)}" for file in plugin or [])
    interrupt.begin(f"interrupted at once; '{go_on}' continues")
    try:
        with Progress() as progress:
            folder = run_study(found, out, options, progress)
    except KeyboardInterrupt:
        if (out / "study.json").is_file():
            raise StoppedError("interrupted", hint=f"'{go_on}' continues") from None
        raise StoppedError("interrupted before anything was written") from None
    _show(folder.path)
    check_end(folder)


@app.command()
def status(folder: StudyDir, json: Json = False) -> None:
    """Show how far a study has got, which trials failed and why, and how long the rest will take.

    Example: medkit study status runs/tiny
    """
    from medkit.engine.progress import rough_duration
    from medkit.studies.folder import StudyFolder
    from medkit.studies.status import FAILED, FINISHED, RUNNING, WAITING, failures, standing

    found = StudyFolder.open(folder)
    now = standing(found)
    states = (FINISHED, FAILED, RUNNING, WAITING)
    if json:
        lines = failures(found, now.trials, now.outcomes)
        counts = {state: now.count(state) for state in states}
        show_json({"trials": now.trials, "counts": counts, "failures": lines, "seconds_left": now.seconds})
        return
    methods = dict.fromkeys(trial.method for trial in found.trials())
    rows = []
    for method in methods:
        mine = [now.trials[trial.name] for trial in found.trials() if trial.method == method]
        rows.append((method, *(mine.count(state) for state in states)))
    show_table(["method", *states], rows, found.about()["name"])
    for line in failures(found, now.trials, now.outcomes):
        print(f"failed: {line}")
    if now.seconds is not None and now.count(RUNNING) + now.count(WAITING):
        jobs = found.about().get("options", {}).get("jobs", 1)
        print(f"about {rough_duration(now.seconds / jobs)} left with {jobs} workers")


@app.command()
def report(folder: StudyDir) -> None:
    """Write the report of a study from what has been measured so far.

    Example: medkit study report runs/tiny
    """
    from medkit.studies.folder import StudyFolder

    _show(StudyFolder.open(folder).path)


@app.command(hidden=True)
def work(
    folder: StudyDir,
    threads: Threads = 1,
    device: Device = None,
    precision: Precision = "fp32",
    plugin: PluginFile = None,
    link: Link = None,
) -> None:
    """Run trials of a study until none is left; ``study run`` starts this."""
    load_files(plugin)
    from medkit.engine.memory import spare_imports
    from medkit.studies.folder import StudyFolder
    from medkit.studies.work import settings_of
    from medkit.studies.work import work as go_to_work

    found = StudyFolder.open(folder)
    settings = settings_of(found, device=device, precision=precision, threads=threads, link=link or [])
    interrupt.begin("interrupted at once")
    spare_imports()
    try:
        go_to_work(found, settings, lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        raise StoppedError("interrupted") from None


@app.command(hidden=True)
def see(folder: StudyDir) -> None:
    """Say that this machine sees the folder of a study; ``study run`` starts this."""
    from medkit.records import write_atomically

    token = folder / "token"
    if not token.is_file():
        hint = "workers need a folder that all machines share"
        raise InputError("the folder is not seen here", str(folder), hint)
    write_atomically(folder / "token.seen", token.read_bytes())


def _show(folder: Path) -> None:
    """Write the report, print its tables and its path."""
    from medkit.reporting.study_report import write_study_report

    written = write_study_report(folder)
    for table in written.tables:
        show_table(table.columns, table.rows, table.title)
    for sentence in written.sentences:
        print(sentence)
    print(written.path)
