"""Commands that are started with closed streams or in a removed folder."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import contextlib, os, sys
from medkit.cli.main import main
sys.argv = ["medkit", "--version"]
with contextlib.suppress(SystemExit):
    main()
with open(sys.orig_argv[-1], "w") as file:
    file.write(str(file.fileno()))
"""


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path, closed: str) -> None:
    shell(f"exec {shlex.join([sys.executable, '-c', CODE, 'number'])} {closed}", tmp_path)
    assert int((tmp_path / "number").read_text()) > 2


def test_a_current_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = shlex.join([sys.executable, "-m", "medkit", "list"])
    found = shell(f"rmdir {shlex.quote(os.fspath(gone))}; exec {command}", gone)
    assert (found.returncode, found.stderr) == (
        2,
        "error: the current folder no longer exists; go to one that does (cd)\n",
    )
