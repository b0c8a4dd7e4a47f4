"""``medkit new plugin NAME``: a package that installs, passes its own tests and trains, as it stands."""

from __future__ import annotations

import keyword
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import medkit
from medkit.data.whole import whole_folder
from medkit.errors import InputError
from medkit.registry.plugins import plugins

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
        if ``name`` is not a Python name in lower case, or the folder exists.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or name.startswith("_"):
        raise InputError(f"'{name:.100}' is not a Python name in lower case", hint="for example: turns")
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
