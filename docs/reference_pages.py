"""Pages of the site that are made from medkit itself: every part, every command, public modules, licences.

``conf.py`` writes them into ``docs/reference/`` when the site is built; none of them is kept. Parts and commands are
read without importing torch.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import GenericAlias
from typing import Any

import typer
from licences import page as licences

from medkit.cli.app import app
from medkit.protocols import KINDS
from medkit.registry.plugins import registry
from medkit.registry.schema import Argument
from medkit.registry.static import static_schema
from medkit.registry.table import Entry

MODULES = {
    "medkit": "What most scripts and notebooks need.",
    "medkit.api": "What plugins import.",
    "medkit.testing": "Checks of a plugin's parts, one function a kind.",
    "medkit.front": "Runs and exports from Python; ``medkit.run``, ``open`` and ``resume`` are these.",
    "medkit.runs.handle": "What ``medkit.run`` and ``medkit.open`` give back.",
    "medkit.runs.predictor": "What ``run.predict`` takes and gives back.",
    "medkit.data.volume": "An image or a mask with its grid.",
    "medkit.evaluation.verdict_result": "What ``medkit.verdict`` gives back.",
}
"""Modules whose docstrings are for users; of the first three everything in ``__all__``."""


ROOT = Path(__file__).parents[1]
BESIDE = ("CHANGELOG", "CONTRIBUTING", "SECURITY")
"""Pages that lie beside ``docs/``, and have copies in the site."""


def pages() -> Iterator[tuple[str, str]]:
    """Path below ``docs/reference/`` and text of every generated page."""
    kinds = [kind for kind in KINDS if any(registry().of_kind(kind))]
    yield "parts.md", _overview(kinds)
    for kind in kinds:
        yield f"parts/{kind}.md", part_page(kind, registry().of_kind(kind))
    yield "commands.md", command_page()
    yield "modules.rst", module_page()
    yield "licences.md", licences()
    for name in BESIDE:
        yield f"{name.lower()}.md", (ROOT / f"{name}.md").read_text(encoding="utf-8")


def inside(page: str, text: str) -> str:
    """A page's text with links to files of :data:`BESIDE` as links to their copies in the site."""
    up, names = "../" * page.count("/"), "|".join(BESIDE)
    return re.sub(rf"\]\((?:\.\./)*({names})\.md", lambda f: f"]({up}reference/{f[1].lower()}.md", text)


def write(folder: Path) -> None:
    """Write all pages; one that has not changed keeps its date, so that it is not read again."""
    for name, text in pages():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _overview(kinds: Sequence[str]) -> str:
    rows = [(f"[{kind}](parts/{kind}.md)", ", ".join(e.full_name for e in registry().of_kind(kind))) for kind in kinds]
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *(f"parts/{kind}" for kind in kinds), "```"])
    plugins = ", ".join(sorted({e.plugin for kind in kinds for e in registry().of_kind(kind)}))
    text = f"Every part that medkit and its bundled plugins ({plugins}) register; `medkit list` and `medkit show NAME`"
    return f"# Parts\n\n{text} print the same.\n\n{_table(['kind', 'parts'], rows)}\n\n{toctree}\n"


def part_page(kind: str, entries: Iterable[Entry]) -> str:
    """Parts of one kind, each with its arguments and a block for a recipe."""
    return f"# {kind}\n\n" + "\n".join(_part(entry) for entry in entries)


def _part(entry: Entry) -> str:
    schema = static_schema(entry)
    required = "".join(f", {a.name}: ..." for a in schema.writable.values() if a.required)
    text = [f"## {entry.full_name}", "", f"*{_prose(entry.summary)}.* {_prose(schema.description)}", ""]
    text += ["```yaml", f'{{use: "{entry.full_name}"{required}}}', "```", ""]
    if schema.arguments:
        rows = [(f"`{a.name}`", f"`{_type(a)}`", _default(a), _prose(a.description)) for a in schema.arguments.values()]
        text += [_table(["argument", "type", "default", "meaning"], rows), ""]
    return "\n".join(text)


def _type(argument: Argument) -> str:
    return argument.given.path if argument.given is not None else argument.type_name()


def _default(argument: Argument) -> str:
    if argument.given is not None:
        return "given by what stands beside it"
    return "required" if argument.required else f"`{argument.default!r}`"


def command_page() -> str:
    """``--help`` of every command."""
    text = "What `medkit COMMAND --help` prints. Exit codes: 0 done, 1 failed, 2 wrong input, 130 stopped."
    blocks = [f"# Commands\n\n{text}\n"]
    for words, help in helps():
        level = "##" if len(words) < 3 else "###"
        blocks.append(f"{level} {' '.join(words)}\n\n```text\n{help.strip()}\n```\n")
    return "\n".join(blocks)


def helps() -> Iterator[tuple[list[str], str]]:
    """The words of every command with its help, outer ones first."""
    root = typer.main.get_command(app)

    def walk(command: Any, words: list[str], parent: Any) -> Iterator[tuple[list[str], str]]:
        context = command.make_context(words[-1], [], parent=parent, resilient_parsing=True)
        context.terminal_width = context.max_content_width = 110
        yield words, command.get_help(context)
        for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
            yield from walk(command.get_command(context, name), [*words, name], context)

    return walk(root, ["medkit"], None)


def module_page() -> str:
    """A page that takes the docstrings of the public modules."""
    blocks = ["Python modules", "==============", "", "What may be imported, from the docstrings.", ""]
    for name, text in MODULES.items():
        blocks += [name, "-" * len(name), "", text, ""]
        module = importlib.import_module(name)
        named = sorted(one for one in getattr(module, "__all__", ()) if not one.startswith("_"))
        if not named:
            blocks += [f".. automodule:: {name}", "   :members:", ""]
        for one in named:
            blocks += [_directive(f"{name}.{one}", getattr(module, one)), ""]
    return "\n".join(blocks)


def _directive(name: str, value: Any) -> str:
    if isinstance(value, type) and not isinstance(value, GenericAlias):
        return f".. autoclass:: {name}\n   :members:\n   :no-index:"
    if inspect.isfunction(value):
        return f".. autofunction:: {name}\n   :no-index:"
    return f".. py:data:: {name}\n   :no-index:\n\n   ``{value!r}``"


def _prose(text: str) -> str:
    """Text of a docstring as Markdown in a table's cell: roles become code, marks outside of code are literal."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", " ".join(text.split())).replace("``", "`")
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*<\[\]_$])", r"\\\1", p) for p in pieces).replace("|", r"\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(str(cell).split()) for cell in row) + " |" for row in lines)
