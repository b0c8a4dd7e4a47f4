"""Generated pages of the site have every part with its arguments, every command, every dependency."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from types import ModuleType

import pytest
from docs_pages import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medkit.protocols import KINDS
from medkit.registry.plugins import registry
from medkit.registry.static import static_schema


@pytest.fixture(scope="module")
def made() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        yield importlib.import_module("reference_pages")


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_of_a_kind_has_a_section_with_its_line_and_arguments(kind: str, made: ModuleType) -> None:
    text = made.part_page(kind, registry().of_kind(kind))
    sections = {part.splitlines()[0]: part for part in text.split("\n## ")[1:]}
    entries = list(registry().of_kind(kind))
    assert list(sections) == [entry.full_name for entry in entries]
    for entry in entries:
        section = sections[entry.full_name]
        assert made._prose(entry.summary) in section
        rows = re.findall(r"^\| `(\w+)` \| `", section, re.M)
        assert rows == list(static_schema(entry).arguments), entry.full_name


def test_every_command_has_its_help(made: ModuleType) -> None:
    from medkit.cli.app import COMMANDS

    text = made.command_page()
    for name in [*COMMANDS, "new plugin", "new recipe", "data folder", "study run"]:
        section = text.split(f"# medkit {name}\n", 1)[1]
        assert f"Usage: medkit {name} " in section[:200]


def test_direct_dependencies_are_listed_with_a_licence_that_is_allowed(made: ModuleType) -> None:
    licences = importlib.import_module("licences")
    found = {canonicalize_name(one.name): one for one in licences.packages()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    assert wanted <= {name for name, one in found.items() if not one.extra}
    assert [f"{one.name}: {one.licence}" for one in found.values() if not one.extra and not one.allowed] == []
