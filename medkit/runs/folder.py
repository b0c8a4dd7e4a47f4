"""The run folder: one place from which a run is resumed, compared, reported and exported."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medkit.errors import InputError, RunError
from medkit.records import encoded, made_with, write_atomically

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "kornia",
    "albumentations",
    "numpy",
    "pydicom",
)


class RunFolder:
    """Paths and small files of one run.

    ======================  ==========================================================================
    ``recipe.yaml``         the resolved recipe, full names
    ``environment.json``    versions, plugins, device, seed
    ``state.json``          which stages are done, which failed and why
    ``metrics.jsonl``       one line an epoch
    ``results.json``        ``{stage: {split: {metric: {value, low, high, n, n_empty}}}}``
    ``cases.csv``           one row per stage, split and case
    ``checkpoints/STAGE/``  what a killed run is resumed from
    ``weights/``            ``STAGE.PART.safetensors``
    ``external/STAGE/``     what another program made and said, where one trains the stage
    ``resources.json``      time and memory of each stage
    ``examples/``           slices shown in the report
    ``embeddings/``         features of classified images, for the report's maps
    ``tables/``             the recipe's tables as Markdown and CSV
    ``report.html``         one self-contained file
    ``log.txt``             what was printed
    ======================  ==========================================================================
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new folder; one that holds anything already is an :class:`InputError`."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            hint = f"continue it with 'medkit resume {path}', or choose another --out"
            raise InputError("the output folder exists and is not empty", str(path), hint)
        try:
            for name in ("checkpoints", "weights", "examples"):
                (path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the output folder cannot be made: {error.strerror}", str(path)) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run folder."""
        if not (path / "recipe.yaml").is_file():
            raise InputError("this is not a run folder: it holds no recipe.yaml", str(path))
        return cls(path)

    def file(self, name: str) -> Path:
        return self.path / name

    def weights(self, stage: str, part: str) -> Path:
        return self.path / "weights" / f"{stage}.{part}.safetensors"

    def checkpoints(self, stage: str) -> Path:
        return self.path / "checkpoints" / stage

    def write_text(self, name: str, text: str) -> Path:
        """Write ``name`` whole or not at all."""
        target = self.path / name
        write_atomically(target, encoded(text))
        return target

    def write_json(self, name: str, content: Any) -> Path:
        return self.write_text(name, json.dumps(content, indent=1) + "\n")

    def read_json(self, name: str, default: Any = None) -> Any:
        path = self.path / name
        if not path.is_file():
            return default
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"not valid JSON ({error})", str(path), "restore it or start a new run") from error

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(line)) + "\n")

    def drop_metrics_after(self, stage: str, epoch: int) -> None:
        """Forget lines of epochs that a resumed run will train again, so that no epoch is told twice."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return
        texts = [text for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]
        lines = []
        for i, text in enumerate(texts, 1):
            try:
                lines.append(json.loads(text))
            except ValueError as error:
                # A killed run may leave half a last line, of an epoch that is trained again.
                if i < len(texts):
                    raise RunError(f"line {i} is not valid JSON ({error})", str(path)) from error
        kept = [line for line in lines if line.get("stage") != stage or line.get("epoch", 0) < epoch]
        if len(kept) != len(texts):
            self.write_text("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def log(self, text: str) -> None:
        # Under a locale of ASCII a path of other letters comes as escaped bytes; they are written as they were.
        with (self.path / "log.txt").open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def add_notice(self, text: str) -> None:
        """Something that readers of the results have to know, shown above them; told once."""
        found = self.read_json("environment.json", {})
        notices = found.get("notices", [])
        if text not in notices:
            self.write_json("environment.json", {**found, "notices": [*notices, text]})

    def done(self, stage: str) -> bool:
        return stage in self.read_json("state.json", {}).get("done", [])

    def mark_done(self, stage: str) -> None:
        state = self.read_json("state.json", {})
        state["done"] = [*state.get("done", []), stage]
        self.write_json("state.json", state)

    def keep_failed(self, failed: Mapping[str, str]) -> None:
        """Remember which stages failed and why; those of an earlier attempt are forgotten."""
        state = self.read_json("state.json", {})
        if state.get("failed", {}) != failed:
            self.write_json("state.json", {**state, "failed": dict(failed)})


def environment(device: str, precision: str, ranks: int, seed: int) -> dict[str, Any]:
    """What a reader needs to repeat a run: versions, plugins, device. No host or user names."""
    from medkit.plugin import plugins

    return {
        **made_with(LIBRARIES),
        "plugins": {info.name: info.version for info in plugins() if info.ok},
        "device": device,
        "precision": precision,
        "ranks": ranks,
        "seed": seed,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(Path(word).name if i == 0 else word for i, word in enumerate(sys.argv)),
    }
