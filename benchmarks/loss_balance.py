"""Size of a generator loss's gradient at an image, compared with that of a Wasserstein critic.

The gradient penalty keeps a critic's gradient at every image at a length of about 1 (Gulrajani et al. 2017). A feature
loss with weight w contributes w times the length of its own gradient. This measures that length where training starts, at
the low-dose images of a recipe, and the weight at which both are equal.

    python benchmarks/loss_balance.py tables/table9 denoise@wgan_vgg vgg
"""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import numpy as np
import torch
from medkit_benchmarks import script
from medkit_benchmarks.kept_table import keep

from medkit.engine.runtime import Runtime
from medkit.errors import MedkitError
from medkit.recipe import load_recipe
from medkit.runs.workbench import Workbench


def pull(loss: Any, low: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """(N,) lengths of the gradients of ``loss``, unweighted, at each of (N,1,H,W) low-dose images."""
    lengths = []
    for image, wanted in zip(low[:, None], target[:, None], strict=True):
        image = image.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(image, wanted, input=image), image)
        lengths.append(float(gradient.norm()))
    return np.array(lengths)


def pulls(recipe: str, stage: str, name: str, batches: int) -> tuple[np.ndarray, float]:
    """The lengths at training patches of a recipe, and the weight that it gives the loss."""
    bench = Workbench(load_recipe(recipe), Runtime.start(device="cpu"))
    objective = bench.fresh(bench.recipe.stage(stage))
    found = []
    with closing(bench.loader(bench.recipe.stage(stage))) as loader:
        for number, batch in zip(range(batches), loader.epoch(0), strict=False):
            del number
            found.append(pull(objective.generator_criteria[name], batch["image"], batch["target"]))
    return np.concatenate(found), objective.weights["generator"][name]


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("recipe")
    parser.add_argument("stage", help="an adversarial one")
    parser.add_argument("loss", help="the name of one of its generator_losses")
    parser.add_argument("--batches", type=int, default=4)
    said = parser.parse_args()
    try:
        found, weight = pulls(said.recipe, said.stage, said.loss, said.batches)
    except MedkitError as error:
        sys.exit(f"error: {error}")
    mean = float(found.mean())
    columns = {"stage": "", "loss": "", "patches": "d", **dict.fromkeys(("mean", "least", "most"), ".2g")}
    columns |= {"equal with weight": ".0f", "weight given": "g"}
    row = (said.stage, said.loss, len(found), mean, float(found.min()), float(found.max()), 1 / mean, weight)
    keep(
        "loss_balance", columns, [row], "Length of the unweighted loss's gradient at a low-dose patch; a critic's is 1."
    )


if __name__ == "__main__":
    main()
