"""Commands that only look around stay quick: they import neither torch nor what comes with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "albumentations", "kornia", "matplotlib", "pandas", "cv2")
PROGRAM = """
import sys
from medkit.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("\\nheavy:", [name for name in sys.argv[0].split(",") if name in sys.modules])
"""


def imported(*arguments: str) -> str:
    program = f"import sys\nsys.argv = {[','.join(HEAVY), *arguments]!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


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
