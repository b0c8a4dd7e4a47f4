"""A head of ``__init__``, ``forward`` and ``loss`` trains, and is reported with nothing to evaluate."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import medkit
from medkit.errors import InputError, RunError
from medkit.recipe import recipe_from
from medkit.registry import Entry
from medkit.registry import plugins as plugin

HEADS = '''
import torch
import torch.nn.functional as F
from torch import nn
from medkit.api import Channels

class Brightness(nn.Module):
    """How bright is the slice?"""
    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.layer = nn.Linear(channels[-1], 1)
    def forward(self, features):
        return self.layer(features[-1].mean((2, 3)))[:, 0]
    def loss(self, output, target):
        return {"mse": F.mse_loss(output, target.mean((1, 2, 3)))}

class Turn(nn.Module):
    """By which quarter turn?"""
    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.layer = nn.Linear(channels[-1], 4)
    def view(self, batch):
        turns = torch.randint(4, (len(batch["image"]),))
        images = [x.rot90(int(k), (-2, -1)) for x, k in zip(batch["image"], turns, strict=True)]
        return torch.stack(images), turns
    def forward(self, features):
        return self.layer(features[-1].mean((2, 3)))
    def loss(self, output, target):
        return {"ce": F.cross_entropy(output, target)}

class Masked(Brightness):
    def view(self, batch):
        batch["image"][:, :, :8] = 0
        return batch["image"], batch["image"]

class Replaced(Brightness):
    def view(self, batch):
        batch["image"] = batch["image"].flip(-1)
        return batch["image"], batch["image"]

class Scalar(Brightness):
    def loss(self, output, target):
        return output.mean()

class Number(Brightness):
    def loss(self, output, target):
        return {"mse": 1.0}

class Vector(Brightness):
    def loss(self, output, target):
        return {"mse": output}

class Detached(Brightness):
    def loss(self, output, target):
        return {"mse": output.mean().detach()}

class Faulty(Brightness):
    def predict(self, output):
        raise ValueError("no idea")

class Unnamed(Brightness):
    def predict(self, output):
        return output
'''
NAMES = ("Brightness", "Turn", "Masked", "Replaced", "Scalar", "Number", "Vector", "Detached", "Faulty", "Unnamed")


@pytest.fixture
def heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "smallest_heads.py").write_text(HEADS)
    entries = plugin.registry().entries
    before = dict(entries)
    for name in NAMES:
        plugin.registry().add(Entry("pretext", "mine", name.lower(), f"smallest_heads:{name}", ""))
    yield
    entries.clear()
    entries.update(before)
    sys.modules.pop("smallest_heads", None)


def recipe(head: str, **stage):
    source = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4}
    splits = {name: {"fold": name} for name in ("train", "test")}
    encoder = {"use": "timm", "model": "test_resnet"}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"one": {"use": head}}}
    return recipe_from(
        {
            "medkit": 1,
            "name": "smallest",
            "data": {"d": {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}},
            "stages": [{"name": "pretext", "batch": 2, "objective": objective, **stage}],
        }
    )


@pytest.mark.parametrize("head", ["mine:brightness", "mine:turn"])
def test_the_smallest_head_trains_and_the_report_says_that_nothing_is_evaluated(heads, tmp_path, head, capsys):
    run = medkit.run(recipe(head), tmp_path / "run")
    assert "nothing to evaluate" in capsys.readouterr().err
    assert "Nothing to evaluate" in run.report.read_text()
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["train/one"] > 0


def test_the_image_is_input_and_target_where_a_head_has_no_view(heads):
    import torch

    from medkit.protocols import PretextHead, offered
    from medkit.recipe.blocks import Block

    class Encoder:
        channels, strides = (2,), (2,)

    block = Block(plugin.registry().resolve("pretext", "mine:brightness"))
    image = torch.rand(2, 1, 4, 4)
    view, target = offered(PretextHead, block.build(siblings={"encoder": Encoder()}), "view")({"image": image})
    assert view is image
    assert target is image


def test_metrics_of_heads_that_predict_nothing_are_refused_before_the_run(heads, tmp_path):
    with pytest.raises(InputError, match="no head of the stage has a method predict"):
        medkit.run(recipe("mine:turn", metrics=["auc"]), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("head", ["mine:masked", "mine:replaced"])
def test_a_view_that_changes_the_batch_is_refused_before_the_run(heads, tmp_path, head):
    with pytest.raises(InputError, match="head 'one' changes 'image' of the batch in its view"):
        medkit.run(recipe(head), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("mine:scalar", "the loss of head 'one' gives Tensor, not its terms by name"),
        ("mine:number", "loss 'one' is a float, not a scalar tensor"),
        ("mine:vector", r"loss 'one' is a tensor of \(2,\), not a scalar tensor"),
        ("mine:detached", "no loss of turn 'train' depends on weights: one"),
    ],
)
def test_a_loss_that_cannot_be_trained_by_is_named(heads, tmp_path, head, said):
    with pytest.raises(RunError, match=said):
        medkit.run(recipe(head), tmp_path / "run", quiet=True)


def test_predictions_without_names_are_refused_before_the_run(heads, tmp_path):
    with pytest.raises(InputError, match="predict of head 'one' gives Tensor"):
        medkit.run(recipe("mine:unnamed", metrics=["auc"]), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_head_that_raises_in_its_first_prediction_is_told_before_the_run(heads, tmp_path):
    with pytest.raises(
        InputError, match=r"stages\.pretext: .*ValueError: no idea \(smallest_heads\.py:\d+\); .*--skip"
    ):
        medkit.run(recipe("mine:faulty", metrics=["auc"]), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
