"""``medkit new plugin NAME``: a package that installs, passes its own tests and trains, as it stands."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import medkit
from medkit.data.whole import whole_folder
from medkit.errors import InputError
from medkit.registry.plugins import plugins

NAME = re.compile("[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""What is both a Python name and, with dashes, a distribution name that pip accepts."""
FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "medkit_NAME/__init__.py": "init.py.txt",
    "medkit_NAME/head.py": "head.py.txt",
    "recipes/NAME.yaml": "recipe.yaml.txt",
    "tests/test_NAME.py": "test.py.txt",
}


def write_plugin(name: str, out: Path) -> Path:
    """Write the package ``medkit-NAME`` into ``out`` and return its folder.

    Raises
    ------
    InputError
        if ``name`` is not a package name in lower case, or the folder exists.
    """
    if keyword.iskeyword(name):
        raise InputError(f"'{name}' is not a Python name but a keyword of the language", hint="choose another")
    if not NAME.fullmatch(name):
        near = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_0123456789")
        what = f"'{name:.100}' is not a Python name that pip accepts too: use a-z, 0-9 and single _ between them"
        raise InputError(what, hint=f"for example: {near if NAME.fullmatch(near) and len(near) > 2 else 'turns'}")
    if len(name) > 40:
        raise InputError(f"a name of {len(name)} characters is too long", hint="40 are enough")
    if name in sys.stdlib_module_names or name in {info.name for info in plugins()} or find_spec(name):
        raise InputError(f"'{name}' is the name of a module or plugin that already exists", hint="choose another")
    folder = Path(out) / f"medkit-{name.replace('_', '-')}"
    words = {"NAME": name, "CLASS": "".join(w.title() for w in name.split("_")), "VERSION": medkit.__version__}
    words["DISTRIBUTION"] = folder.name
    with whole_folder(folder) as temporary:
        for target, template in FILES.items():
            text = (files("medkit") / "template" / template).read_text(encoding="utf-8")
            for word, value in words.items():
                text = text.replace("{{" + word + "}}", value)
            path = temporary / target.replace("NAME", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return folder
