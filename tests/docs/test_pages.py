"""Links, examples and quotations of the documentation hold."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
import yaml
from docs_pages import ROOT, blocks, pages

import medkit
from medkit import testing

LINK = re.compile(r"(?<!\!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^( *)(```+)[^\n]*\n.*?^\1\2 *$|`[^`\n]*`", re.S | re.M)
KINDS = {
    "Pretext": ("pretext", "Edges", {}),
    "Encoder": ("encoder", "Plain", {"width": 4}),
    "Operator": ("operator", "Middle", {}),
    "Generator": ("generator", "Residual", {"width": 4}),
    "Discriminator": ("discriminator", "Judge", {}),
    "Loss": ("loss", "Charbonnier", {}),
    "Source": ("source", "Discs", {"patients": 6}),
    "Transform": ("transform", "Halve", {}),
    "Augmentation": ("transform", "UpsideDown", {}),
    "Optimizer": ("optimizer", "Adagrad", {"lr": 0.1}),
    "Schedule": ("schedule", "Halving", {"every": 2}),
}
KINDS_PAGE = ROOT / "docs" / "tutorials" / "plugin_kinds.md"


def anchors(page: Path) -> set[str]:
    """Headings of a page as forges name them in links."""
    text = CODE.sub(
        lambda found: found[0].strip("`") if found[0][:3] != "```" and "\n" not in found[0] else "", page.read_text()
    )
    made: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", text, re.M):
        made.add(re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-"))
    return made


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for found in LINK.finditer(CODE.sub("", page.read_text(encoding="utf-8"))):
        target = found[1] or found[2]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_python_blocks_are_python_and_import_what_there_is(page: Path) -> None:
    for line, text in blocks(page, "python"):
        tree = ast.parse(text, f"{page.name}:{line}")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medkit":
                module = importlib.import_module(str(node.module))
                assert [a.name for a in node.names if not hasattr(module, a.name)] == [], f"{page.name}:{line}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_calls_of_medkit_in_sentences_need_no_import_but_medkit(page: Path) -> None:
    called = re.findall(r"`medkit\.([\w.]+)\(", page.read_text(encoding="utf-8"))
    assert [name for name in called if name not in dir(medkit)] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_yaml_blocks_are_yaml(page: Path) -> None:
    for _, text in blocks(page, "yaml"):
        yaml.safe_load(text)


@pytest.mark.parametrize("title", KINDS)
def test_the_example_of_a_kind_keeps_every_promise_of_it(title: str, tmp_path: Path, monkeypatch) -> None:
    kind, name, arguments = KINDS[title]
    section = KINDS_PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    code = re.search(r"```python\n# (\w+)\.py\n(.*?)```", section, re.S)
    assert code is not None
    (tmp_path / f"{code[1]}.py").write_text(code[2], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module(code[1])
    testing.check_component(kind, getattr(module, name), **arguments)
    asked: list[tuple[str, str]] = []
    recorder = type("Recorder", (), {kind: lambda self, name, target, summary: asked.append((name, target))})()
    module.medkit_register(recorder)
    assert [target for _, target in asked] == [f"{code[1]}:{name}"]


def test_quoted_messages_are_messages_of_medkit() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "medkit").rglob("*.py"))
    quoted = re.findall(r"^### `([^`]+)`$", (ROOT / "docs" / "faq.md").read_text(encoding="utf-8"), re.M)
    assert len(quoted) > 10
    assert [text for text in quoted if text not in source] == []
