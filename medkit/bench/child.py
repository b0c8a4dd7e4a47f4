"""``python -m medkit.bench.child SUITE CASE VARIANT``: print the peak memory in bytes of one call on a CPU."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

from medkit.bench.memory import on_cpu


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
    suite, name, variant = sys.argv[1:]
    case = next(case for case in load(Path(suite)).cases() if case.name == name)
    print(on_cpu(case.variant(variant).make(torch.device("cpu"))))


if __name__ == "__main__":
    main()
