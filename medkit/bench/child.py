"""A process that measures one variant of a case on a CPU.

``python -m medkit.bench.child SUITE CASE VARIANT`` prints the peak memory of one call in bytes; with ``serve`` after
it, the process calls the variant whenever its standard input says so.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

from medkit.bench.memory import on_cpu
from medkit.bench.remote import serve


def load(path: Path) -> ModuleType:
    """The module in the file ``path``."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    suite, name, wanted, *serving = sys.argv[1:]
    case = next(case for case in load(Path(suite)).cases() if case.name == name)
    make = case.variant(wanted).make
    if serving:
        serve(lambda: make(torch.device("cpu")))
    else:
        print(on_cpu(make(torch.device("cpu"))))


if __name__ == "__main__":
    main()
