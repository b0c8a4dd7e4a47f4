"""Plugins: one that breaks leaves the others alone, names never overwrite each other."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from medkit.errors import InputError
from medkit.registry import Entry, Registry
from medkit.registry.plugins import load
from medkit.registry.schema import schema_of
from medkit.registry.static import static_schema

GOOD = """
from medkit.api import hookimpl

@hookimpl
def medkit_register(registry):
    registry.pretext("turn", "{module}:Head", "a head")
"""


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes an entry point of a module with the given text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, text: str) -> metadata.EntryPoint:
        module = f"made_{tmp_path.name.replace('-', '_')}_{name}"
        (tmp_path / f"{module}.py").write_text(text.format(module=module))
        return metadata.EntryPoint(name, module, "medkit.plugins")

    return make


def test_a_plugin_that_raises_is_left_out_and_the_others_work(point, capsys: pytest.CaptureFixture[str]) -> None:
    found = load([point("bad", "raise RuntimeError('no luck')"), point("good", GOOD)], {})
    assert [info.name for info in found.infos if info.ok] == ["medkit", "good"]
    assert found.registry.resolve("pretext", "turn").plugin == "good"
    bad = next(info for info in found.infos if info.name == "bad")
    assert "no luck" in bad.traceback
    assert capsys.readouterr().err.count("\n") == 1


def test_a_misspelt_hook_argument_is_caught(point) -> None:
    found = load([point("odd", GOOD.replace("(registry)", "(registy)"))], {})
    assert not found.infos[1].ok
    assert "registy" in found.infos[1].reason


def test_a_plugin_that_fails_halfway_registers_nothing(point) -> None:
    found = load([point("half", GOOD + "    registry.pretext('turn', 'x:Y', 'twice')\n")], {})
    assert not [entry for entry in found.registry.of_kind("pretext") if entry.plugin == "half"]


def test_medkit_plugins_loads_only_those_named(point) -> None:
    points = [point("a", GOOD), point("b", GOOD)]
    assert [i.name for i in load(points, {"MEDKIT_PLUGINS": "b"}).infos] == ["medkit", "b"]
    assert [i.name for i in load(points, {"MEDKIT_PLUGINS": ""}).infos] == ["medkit"]


def test_strict_mode_raises(point) -> None:
    with pytest.raises(InputError, match="plugin 'bad' cannot be loaded"):
        load([point("bad", "1/0")], {"MEDKIT_STRICT": "1"})


def test_a_short_name_of_two_plugins_is_ambiguous_and_the_full_names_work(point) -> None:
    registry = load([point("a", GOOD), point("b", GOOD)], {}).registry
    with pytest.raises(InputError, match="'a:turn' and 'b:turn' both have that name"):
        registry.resolve("pretext", "turn")
    assert registry.resolve("pretext", "b:turn").plugin == "b"


def test_a_failed_plugin_is_named_when_its_component_is_missed(point) -> None:
    registry = load([point("bad", "1/0")], {}).registry
    with pytest.raises(InputError, match="plugins that failed to load: bad"):
        registry.resolve("pretext", "whatever")


def test_a_plugin_for_another_medkit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "old_plugin.py").write_text(GOOD.format(module="old_plugin"))
    info = tmp_path / "old_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: old-plugin\nVersion: 1\nRequires-Dist: medkit-imaging<0.0.5\n"
    )
    (info / "entry_points.txt").write_text("[medkit.plugins]\nold = old_plugin\n")
    points = [p for p in metadata.entry_points(group="medkit.plugins") if p.name == "old"]
    found = load(points, {})
    assert "needs medkit-imaging<0.0.5" in found.infos[1].reason


def test_every_component_of_this_package_reads_alike_from_source_and_from_the_class() -> None:
    registry: Registry = load().registry
    different = []
    for entry in registry.entries.values():
        static, true = static_schema(entry), schema_of(entry.load())
        mine = {n: (a.required, a.shape, a.slot is None, a.given) for n, a in static.arguments.items()}
        other = {n: (a.required, a.shape, a.slot is None, a.given) for n, a in true.arguments.items()}
        if mine != other or not true.description:
            different.append((entry.full_name, mine, other))
    assert not different


def test_a_kwargs_constructor_is_no_schema() -> None:
    class Loose:
        """Takes anything."""

        def __init__(self, **options: int) -> None: ...

    with pytest.raises(InputError, match="names all its arguments"):
        schema_of(Loose)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="not a kind"):
        Registry().add(Entry("widget", "p", "n", "m:A", ""))


@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["plugins"], ["check", "ich_seg"], ["show", "scse_unet"], ["schema"]]
)
def test_looking_around_imports_no_torch(words: list[str]) -> None:
    code = (
        "import sys; from medkit.cli.main import main\n"
        f"sys.argv = ['medkit', *{words!r}]\n"
        "try: main()\nexcept SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_component_without_a_constructor_takes_nothing_after_a_compilation_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Plain(torch.nn.Module):
        """A component that takes nothing."""

    def patched(self: torch.nn.Module, *args: object, **kwargs: object) -> None: ...

    monkeypatch.setattr(torch.nn.Module, "__init__", patched)
    assert schema_of(Plain).arguments == {}
