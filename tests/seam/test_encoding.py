"""Text files are UTF-8 whatever the machine's locale is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [path for folder in ("medkit", "plugins", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]


def unsaid(tree: ast.AST) -> Iterator[int]:
    """Lines that read or write text and leave the encoding to the machine."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or any(keyword.arg == "encoding" for keyword in call.keywords):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        words = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
        plain = (name == "read_text" and not call.args) or (name == "write_text" and len(call.args) == 1)
        opened = name == "open" and any(isinstance(w, str) and w.strip("+") in ("r", "w", "a", "x") for w in words)
        if plain or opened or any(keyword.arg == "text" for keyword in call.keywords if name in ("run", "Popen")):
            yield call.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_file_is_opened_as_utf_8(path: Path) -> None:
    assert list(unsaid(ast.parse(path.read_text(encoding="utf-8")))) == []
