"""What people type who come from other tools, and what it is called here."""

from __future__ import annotations

import difflib
from typing import Any

from typer.core import TyperGroup

_EPOCHS = "epochs belong to a stage of the recipe: --set stages.STAGE.epochs=N"
_RATE = "the rate belongs to a stage's optimizer: --set stages.STAGE.optim.lr=X"
_BATCH = "the batch belongs to a stage of the recipe: --set stages.STAGE.batch=N"
_RANKS = "processes that train together are --devices N"
_GPU = "the GPU is taken where there is one; --device cuda:1 takes the second"
_RECIPE = "the recipe is given without a flag: medkit run RECIPE"
_MIXED = "--precision bf16 trains in mixed precision"

SAID_HERE = {
    "--epochs": _EPOCHS,
    "--num-epochs": _EPOCHS,
    "--max-epochs": _EPOCHS,
    "--lr": _RATE,
    "--learning-rate": _RATE,
    "--batch": _BATCH,
    "--batch-size": _BATCH,
    "--gpu": _GPU,
    "--gpus": _RANKS,
    "--nproc": _RANKS,
    "--nproc-per-node": _RANKS,
    "--world-size": _RANKS,
    "--ranks": _RANKS,
    "--cuda": _GPU,
    "--cpu": "--device cpu",
    "--config": _RECIPE,
    "--recipe": _RECIPE,
    "--amp": _MIXED,
    "--fp16": _MIXED,
    "--bf16": _MIXED,
    "--num-workers": "processes that load training images are --workers N",
    "--output": "the folder that is written is --out DIR",
    "--output-dir": "the folder that is written is --out DIR",
    "--out": "the file or folder that is written is --output",
    "--dry-run": "--dry tries everything and keeps nothing",
    "--continue": "medkit resume DIR goes on with a run",
    "--checkpoint": "medkit resume DIR goes on with a run; weights of another one are 'weights:' in a recipe",
    "--verbose": "all that is said is in log.txt of the run; MEDKIT_TRACEBACK=1 shows where an error comes from",
}
"""What a flag is called here, or where it went; the first option of a pair like --out and --output that a command has
is offered by its likeness."""
LIKE = 0.75
"""Similarity from which on an option is taken to be what was meant: --output for --out, but not --link for --lr."""

_RUN, _EVALUATE, _PREDICT = (
    "'medkit run RECIPE' trains",
    "'medkit evaluate RUN --split NAME' tests a run; every run is also tested at its end",
    "'medkit predict RUN --input SCAN' applies one",
)
COMMANDS_SAID_HERE = {
    "train": _RUN,
    "fit": _RUN,
    "pretrain": _RUN,
    "finetune": _RUN,
    "test": _EVALUATE,
    "eval": _EVALUATE,
    "validate": _EVALUATE,
    "infer": _PREDICT,
    "inference": _PREDICT,
    "segment": _PREDICT,
    "init": "'medkit new recipe' and 'medkit new plugin' write the start of one",
    "create": "'medkit new recipe' and 'medkit new plugin' write the start of one",
    "ls": "'medkit runs' lists runs, 'medkit list' parts",
    "info": "'medkit show NAME' shows a part, 'medkit doctor' this installation",
    "restart": "'medkit resume DIR' goes on with a run",
    "version": "'medkit --version' prints it",
    "help": "'medkit --help' shows all, 'medkit COMMAND --help' one",
}
"""What a command of other tools is called here."""


class Commands(TyperGroup):
    """Commands that say what an unknown flag or command is called here, where no known one resembles it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            said = COMMANDS_SAID_HERE.get(args[0]) if args else None
            if said is not None and hasattr(error, "message"):
                error.message = f"No such command '{args[0]}'; {said}"
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            # Typer keeps click's NoSuchOption to itself.
            if type(error).__name__ == "NoSuchOption":
                _tell(error)
            raise


def _tell(error: Any) -> None:
    said = SAID_HERE.get(error.option_name.replace("_", "-"))
    if said is None or difflib.get_close_matches(error.option_name, error.possibilities or (), cutoff=LIKE):
        return
    error.message, error.possibilities = f"{error.message}; {said}", None
