"""``--help`` teaches: each command says what it does and shows one call."""

from __future__ import annotations

import pytest

COMMANDS = [
    ["run"],
    ["resume"],
    ["check"],
    ["list"],
    ["show"],
    ["schema"],
    ["plugins"],
    ["predict"],
    ["explain"],
    ["export"],
    ["runs"],
    ["evaluate"],
    ["report"],
    ["compare"],
    ["simulate-dose"],
    ["convert-weights"],
    ["bench"],
    ["doctor"],
    ["new", "plugin"],
    ["data", "ct-ich"],
    ["data", "rsna"],
    ["data", "pedxnet"],
    ["data", "nnunet"],
    ["data", "to-nnunet"],
]


def test_top_level_help_names_every_command(medkit):
    text = medkit("--help").stdout
    assert [c[0] for c in COMMANDS if f"\n  {c[0]} " not in text] == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_a_command_shows_an_example_of_it(medkit, command):
    done = medkit(*command, "--help")
    assert done.returncode == 0
    assert f"Example: medkit {' '.join(command)}" in " ".join(done.stdout.split())


def test_version_is_printed(medkit):
    import medkit as package

    assert medkit("--version").stdout.strip() == package.__version__
