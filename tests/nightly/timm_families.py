"""The smallest model of each of timm's families, put through the conformance check of encoders, and a table of it.

``python tests/nightly/timm_families.py`` tries all families and writes ``timm_families.json`` and the table of
docs/encoders.md; names of families after it try those alone and leave the others as they stand. Nothing is downloaded.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import tempfile
import warnings
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from medkit.bench import table as markdown
from medkit.errors import InputError
from medkit.parts.encoder_models import outline, takes
from medkit.parts.encoders import TimmEncoder
from medkit.testing import check_encoder

HERE = Path(__file__).parent
RESULTS = HERE / "timm_families.json"
DOCS = HERE.parents[1] / "docs" / "encoders.md"
BEGIN, END = "<!-- families: begin -->\n", "<!-- families: end -->\n"
LARGEST = 90e6
"""Parameters of the largest model that is tried."""


@dataclass
class Row:
    """What a family's smallest model does.

    ``fault`` is why it does not keep the promises of an encoder, empty if it does; ``sizes`` what images it takes.
    """

    family: str
    model: str
    parameters: float
    strides: list[int]
    sizes: str = ""
    stages: int = 0
    tokens: bool = False
    fault: str = ""


def families() -> dict[str, str]:
    """The smallest model of each family, smallest first: each file of timm's is a family."""
    known = defaultdict(list)
    for model in timm.list_models():
        known[timm.models.model_entrypoint(model).__module__.rpartition(".")[2]].append(model)
    rows = kept()
    chosen = {family: row.model for family, row in rows.items() if row.model in known[family]}
    found = {family: chosen.get(family) or min(models, key=size) for family, models in known.items()}
    weights = {family: rows[family].parameters if family in chosen else size(model) for family, model in found.items()}
    return dict(sorted(found.items(), key=lambda pair: weights[pair[0]]))


def kept() -> dict[str, Row]:
    """What was found before, by family."""
    return {row["family"]: Row(**row) for row in json.loads(RESULTS.read_text("utf-8"))} if RESULTS.is_file() else {}


def size(model: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in timm.create_model(model).parameters())


def tried(family: str, model: str) -> Row:
    """The model at the size that it is made for, or 64 x 96 where it takes any."""
    row = Row(family, model, size(model), [])
    if row.parameters > LARGEST:
        row.fault = "not tried: larger than 90 million weights"
        return row
    try:
        with torch.device("meta"):
            encoder = TimmEncoder(model)
        row.strides, row.stages, row.tokens = list(encoder.strides), len(encoder.stages()), hasattr(encoder, "tokens")
        only = encoder.only_size
        own = " x ".join(map(str, encoder.design.own_size))
        row.sizes = (
            "any" if only is None else f"`image_size`, else {own}" if takes(model, "img_size") else f"{own} only"
        )
        if encoder.unpadded:
            row.sizes += "; maps smaller (no padding)"
        check_encoder(TimmEncoder, model=model)
        check_file(model)
    except (InputError, AssertionError, RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        row.fault = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    outline.cache_clear()
    gc.collect()
    return row


def check_file(model: str) -> None:
    """timm's own weights are read from a file, behind a prefix."""
    torch.manual_seed(3)
    whole = {f"module.{k}": v.contiguous().clone() for k, v in timm.create_model(model).state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        save_file(whole, Path(folder) / "w.safetensors")
        encoder = TimmEncoder(model, in_channels=3, weights=f"{folder}/w.safetensors")
    sums = {float(v.double().sum()) for v in whole.values()}
    strangers = [name for name, v in encoder.state_dict().items() if float(v.double().sum()) not in sums]
    assert not strangers, f"{len(strangers)} tensors are not those of the file ({strangers[0]})"


def table(rows: list[Row]) -> str:
    """The table of docs/encoders.md."""
    columns = ("family", "smallest model", "million weights", "strides", "images", "stages", "tokens", "holds")
    lines = []
    for row in rows:
        strides = ", ".join(map(str, row.strides))
        cells = [row.family, f"`{row.model}`", f"{row.parameters / 1e6:.1f}", strides, row.sizes, str(row.stages or "")]
        cells += ["yes" if row.tokens else "", f"no: {row.fault}" if row.fault else "yes"]
        lines.append([cell.replace("|", " ") for cell in cells])
    return "\n".join(markdown.table(columns, lines))


def write(rows: list[Row]) -> None:
    RESULTS.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")
    text = DOCS.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(f"{before}{BEGIN}{table(rows)}{END}{after}", "utf-8")


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows, known = kept(), families()
    for family in sys.argv[1:] or known:
        rows[family] = tried(family, known[family])
        print(rows[family], flush=True)
        write([rows[name] for name in sorted(rows)])


if __name__ == "__main__":
    main()
