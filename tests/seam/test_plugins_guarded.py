"""A plugin that exits, prints or wanders off while it is loaded costs nothing but itself."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

from medkit.errors import InputError
from medkit.registry import Entry, Registry
from medkit.registry.plugins import load

REGISTER = "from medkit.api import hookimpl\n@hookimpl\ndef medkit_register(registry):\n    {body}\n"
GOOD = REGISTER.format(body="registry.pretext('turn', 'somewhere:Head', 'a head')")


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, text: str) -> metadata.EntryPoint:
        module = f"guarded_{tmp_path.name.replace('-', '_')}_{name}"
        (tmp_path / f"{module}.py").write_text(text)
        return metadata.EntryPoint(name, module, "medkit.plugins")

    return make


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys; sys.exit(3)\n" + GOOD, "it called sys.exit(3)"),
        (REGISTER.format(body="raise SystemExit"), "it called sys.exit()"),
        ("raise KeyboardInterrupt\n" + GOOD, "it raised KeyboardInterrupt"),
        ("raise GeneratorExit('gone')\n" + GOOD, "it raised GeneratorExit: gone"),
    ],
)
def test_a_plugin_that_ends_the_process_is_left_out_and_the_others_work(point, text, reason, capsys) -> None:
    found = load([point("bad", text), point("good", GOOD)], {})
    assert [info.name for info in found.infos if info.ok] == ["medkit", "good"]
    assert found.infos[1].reason == reason
    assert "plugin 'bad' was left out" in capsys.readouterr().err


def test_ctrl_c_while_plugins_are_loaded_is_still_ctrl_c(point) -> None:
    with pytest.raises(KeyboardInterrupt):
        load([point("slow", "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)")], {})


def test_what_a_plugin_prints_goes_to_stderr_whoever_writes_it(point, capfd: pytest.CaptureFixture[str]) -> None:
    text = "import os, sys\nprint('from python')\nsys.stdout.flush()\nos.system('echo from a program')\n" + GOOD
    assert load([point("loud", text)], {}).infos[1].ok
    out, err = capfd.readouterr()
    assert out == ""
    assert "from python" in err
    assert "from a program" in err


def test_a_plugin_leaves_the_current_folder_and_the_streams_alone(point) -> None:
    import sys

    folder, stream = os.getcwd(), sys.stdout
    assert load([point("mover", "import os, sys\nos.chdir('/')\nsys.stdout = open(os.devnull, 'w')\n" + GOOD)], {})
    assert (os.getcwd(), sys.stdout) == (folder, stream)


def test_a_plugin_cannot_register_a_component_under_another_plugin_s_name(point) -> None:
    text = REGISTER.format(body="registry.encoder('smartnet:unet', 'evil:Net', 'not what it seems')")
    found = load([point("evil", text)], {})
    assert "'smartnet:unet' is not a name for a component" in found.infos[1].reason
    assert not [entry for entry in found.registry.of_kind("encoder") if entry.plugin == "evil"]


def test_a_component_whose_module_fails_names_the_file_and_line(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fails_at_import.py").write_text("import sys\n\nvalue = [].missing\n")
    with pytest.raises(InputError, match=r"AttributeError: .*missing.*\(fails_at_import.py:3\)"):
        Entry("loss", "mine", "fails", "fails_at_import:Loss", "").load()


def test_a_misspelt_target_names_the_near_one() -> None:
    with pytest.raises(InputError, match="did you mean 'Dice'"):
        Entry("loss", "mine", "dice", "medkit.parts.losses:Dicee", "").load()


def test_names_of_components_hold_no_colon() -> None:
    with pytest.raises(InputError, match="not a name for a component"):
        Registry().add(Entry("loss", "mine", "yours:dice", "a:B", ""))
