"""Commands that only look around stay quick: they import neither torch nor what comes with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medkit.errors import InputError

HEAVY = ("torch", "timm", "albumentations", "kornia", "matplotlib", "pandas", "cv2")
PROGRAM = """
import sys
from medkit.cli.main import main
try:
    main()
except SystemExit as end:
    print(end.code or 0)
print("\\nheavy:", [name for name in sys.argv[0].split(",") if name in sys.modules])
"""


def imported(*arguments: str, code: int = 0) -> str:
    program = f"import sys\nsys.argv = {[','.join(HEAVY), *arguments]!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ended, _, heavy = done.stdout.splitlines()[-3:]
    assert ended == str(code), done.stderr
    return heavy


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("bench", "--help"),
        ("list",),
        ("list", "metric", "--json"),
        ("plugins",),
        ("plugins", "freeze"),
        ("show", "scse_unet"),
        ("check", "ich_seg"),
        ("check", "tiny_ich_cls"),
        ("schema",),
    ],
    ids=" ".join,
)
def test_a_command_that_looks_around_imports_nothing_heavy(arguments):
    assert imported(*arguments) == "heavy: []"


@pytest.mark.parametrize(
    "arguments",
    [
        ("study", "run", "tinyy"),
        ("study", "report", "there_is_none"),
        ("predict", "there_is_none", "--input", "a.nii", "--output", "b.nii"),
        ("evaluate", "there_is_none", "--split", "test"),
        ("resume", "there_is_none"),
        ("run", "tiny_ich_segg"),
    ],
    ids=" ".join,
)
def test_a_name_that_does_not_exist_is_refused_before_anything_heavy_is_imported(arguments):
    assert imported(*arguments, code=InputError.exit_code) == "heavy: []"
