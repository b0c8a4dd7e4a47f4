"""What tests of the documentation share: its pages, and the commands and blocks in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^( *)(```+|~~~+) *([\w{}+-]*)[^\n]*\n(.*?)^\1\2 *$", re.S | re.M)
OTHER = {"python", "yaml", "json", "toml", "{toctree}", "{eval-rst}", "text", "bibtex"}
"""Languages of blocks that hold no commands."""
JOINTS = {"&&", "||", ";", "|", "&"}


def pages() -> list[Path]:
    """README, CONTRIBUTING and every page that is kept under ``docs/``."""
    made = ROOT / "docs" / "reference"
    own = [
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if made not in path.parents and "_build" not in path.parts
    ]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *own]


@dataclass(frozen=True)
class Command:
    """A ``medkit`` command of a page."""

    page: str
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: medkit {' '.join(self.words)}"


def blocks(page: Path, language: str | None = None) -> Iterator[tuple[int, str]]:
    """Line and text of the fenced blocks of a page, of one language; None: of those that hold commands."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found[3] == language or (language is None and found[3] not in OTHER):
            yield text.count("\n", 0, found.start(4)) + 1, found[4]


def commands() -> Iterator[Command]:
    """Every ``medkit`` command of the pages' blocks."""
    for page in pages():
        for first, text in blocks(page):
            for number, line in _lines(text):
                for words in _commands(line):
                    yield Command(page.relative_to(ROOT).as_posix(), first + number, words)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines, those that end in a backslash joined with the next."""
    held, begun = "", 0
    for number, line in enumerate(text.splitlines()):
        begun = begun if held else number
        if line.rstrip().endswith("\\"):
            held += line.rstrip()[:-1] + " "
            continue
        yield begun, held + line
        held = ""


def _commands(line: str) -> Iterator[tuple[str, ...]]:
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return  # no line of a shell
    current: list[str] = []
    for word in [*words, ";"]:
        if word not in JOINTS:
            current.append(word)
            continue
        yield from _medkit(current)
        current = []


def _medkit(words: list[str]) -> Iterator[tuple[str, ...]]:
    """The words behind ``medkit``, which may stand behind variables, ``srun`` and a path."""
    while words and ("=" in words[0].split("/")[0] or words[0] in ("srun", "time")):
        words = words[1:]
        while words and words[0].startswith("-"):
            words = words[1:]
    if words and words[0].split("/")[-1] == "medkit":
        kept = []
        for word in words[1:]:
            if set(word) <= set("<>") or word.startswith(">"):
                break
            kept.append(word)
        yield tuple(kept)
