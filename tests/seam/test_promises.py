"""A component keeps the protocol of its kind, or is refused with its name before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import medkit
from medkit.errors import InputError
from medkit.protocols import KINDS
from medkit.protocols.losses import CONTRACTS, DiscriminatorLoss, GeneratorLoss, Loss, RestorationLoss, TieLoss
from medkit.recipe import recipe_from
from medkit.recipe.blocks import Block
from medkit.registry import Entry, Registry
from medkit.registry import plugins as plugin
from medkit.registry.promises import PROMISED, check_promises, wanted

PARTS = '''
import torch
from dataclasses import dataclass
from torch import Tensor, nn
from medkit.api import Channels
from medkit.parts.losses import L1

class Part(nn.Module):
    """d"""
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

class HeadWithoutLoss(nn.Module):
    """d"""
    def __init__(self, channels: Channels) -> None:
        super().__init__()
    def forward(self, features): return features

class HeadWithoutForward(nn.Module):
    """d"""
    def __init__(self, channels: Channels) -> None:
        super().__init__()
    def loss(self, output, target): return {}

class HeadOfThree(HeadWithoutLoss):
    """d"""
    def forward(self, features, mask, more): return features
    def loss(self, output, target): return {}

class HeadWithNeeds(HeadWithoutLoss):
    """d"""
    needs = ("sex",)
    def loss(self, output, target): return {}

class PlainHead:
    """d"""
    def __init__(self, channels: Channels) -> None: ...
    def forward(self, features): return features
    def loss(self, output, target): return {}

class OperatorWithoutTask(nn.Module):
    """d"""
    def __init__(self, channels: Channels) -> None:
        super().__init__()
    def slices(self, features): return features
    def forward(self, features, lengths): return features

@dataclass
class OptimizerWithoutRate:
    """d"""
    momentum: float = 0.9
    def build(self, parameters): ...

@dataclass
class OptimizerWithoutBuild:
    """d"""
    lr: float = 0.1

class Unscheduled:
    """d"""
    def __init__(self) -> None: ...
    def rate(self, lr): return lr

class MetricWithoutRule:
    """d"""
    name, unit, higher_is_better = "m", "", True
    def per_case(self, case): return {}
    def compute(self, rows): return 0.0
    def score(self, row): return 0.0

class MetricOfNoName(MetricWithoutRule):
    """d"""
    name, empty = None, "none"

class SourceWithoutIdentity:
    """d"""
    def __init__(self) -> None: ...
    def cases(self): return []
    def load(self, case): ...

class NoStep:
    """d"""
    def __init__(self) -> None: ...
    def apply(self, arrays): return arrays

class Scores(L1):
    """d"""
    def forward(self, prediction, target, *, scores, **context): return prediction.mean()

class Strict(L1):
    """d"""
    def forward(self, prediction, target): return prediction.mean()

class Critic(nn.Module):
    """d"""
    def __init__(self) -> None: super().__init__()
    def forward(self, real, fake, **context): return real["cls"].mean()

class Late:
    """d"""
    def __init__(self) -> None: self.lr = 0.1
    def build(self, parameters): ...

class Dynamic:
    """d"""
    def __init__(self) -> None: self.__dict__.update(lr=0.1)
    def __getattr__(self, name):
        if name == "build": return lambda parameters: None
        raise AttributeError(name)

def factory(lr: float = 0.1) -> Late:
    """d"""
    return Late()
'''


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory):
    """``parts("loss", "Strict")`` is the block of a component written above."""
    import sys

    folder = tmp_path_factory.mktemp("promises")
    (folder / "promised_parts.py").write_text(PARTS)
    sys.path.insert(0, str(folder))
    yield lambda kind, name: Block(Entry(kind, "mine", name.lower(), f"promised_parts:{name}", ""))
    sys.path.remove(str(folder))


@pytest.mark.parametrize(
    ("kind", "name", "lacks"),
    [
        ("pretext", "HeadWithoutLoss", "has no method 'loss'"),
        ("pretext", "HeadWithoutForward", "has no method 'forward'"),
        ("pretext", "HeadOfThree", r"cannot be called as forward\(features\): missing a required argument: 'mask'"),
        ("pretext", "HeadWithNeeds", r"cannot be called as forward\(features, sex=...\)"),
        ("pretext", "PlainHead", "is not a torch.nn.Module"),
        ("operator", "OperatorWithoutTask", "has no attribute 'task'"),
        ("encoder", "Part", "has no attribute 'channels' and has no attribute 'strides' and has no method 'forward'"),
        ("generator", "Part", "has no method 'forward'"),
        ("discriminator", "Part", "has no method 'shared_parameters'"),
        ("objective", "Part", "has no method 'losses'"),
        ("optimizer", "OptimizerWithoutRate", "has no attribute 'lr'"),
        ("optimizer", "OptimizerWithoutBuild", "has no method 'build'"),
        ("schedule", "Unscheduled", r"cannot be called as rate\(lr, epoch, epochs\): too many positional arguments"),
        ("metric", "MetricWithoutRule", "has no attribute 'empty'"),
        ("metric", "MetricOfNoName", "has a 'name' that is None, not str"),
        ("source", "SourceWithoutIdentity", "has no method 'identity'"),
        ("transform", "NoStep", "has no method 'restore'"),
        ("transform", "Unscheduled", "none of the methods 'cpu' and 'device'.*Transform or Augmentation"),
        ("loss", "Part", "has no method 'forward'"),
    ],
)
def test_what_is_missing_is_named_with_class_file_and_docs(parts, kind, name, lacks):
    block = parts(kind, name)
    with pytest.raises(InputError, match=lacks) as told:
        block.build(siblings={"encoder": nn.Module()} if kind in ("optimizer",) else {"encoder": _Encoder()})
    assert f"'mine:{name.lower()}' (class {name}, " in str(told.value)
    assert "/promised_parts.py:" in str(told.value)
    assert f"docs/plugins.md#{kind}" in str(told.value)


class _Encoder:
    channels, strides = (2, 4), (2, 4)


@pytest.mark.parametrize("name", ["Late", "Dynamic", "factory"])
def test_members_made_in_a_constructor_or_by_a_factory_count(parts, name):
    assert parts("optimizer", name).build().lr == 0.1


def test_every_kind_has_a_protocol_that_asks_for_something():
    assert set(PROMISED) == set(KINDS)
    assert all(
        wanted(protocol)[1] for kind in PROMISED if kind not in ("transform", "tracker") for protocol in PROMISED[kind]
    )


@pytest.mark.parametrize(
    ("loss", "fits"),
    [
        ("medkit:l1", {Loss, TieLoss, RestorationLoss, GeneratorLoss}),
        ("smartnet:consistency", {TieLoss}),
        ("mtdgan:fool", {GeneratorLoss}),
        ("mtdgan:real_fake", {DiscriminatorLoss}),
        ("baselines:wgan_gp", {DiscriminatorLoss}),
    ],
)
def test_a_loss_goes_only_where_it_can_be_called(loss, fits):
    built = medkit.build("loss", loss)
    found = set()
    for contract in CONTRACTS:
        try:
            check_promises(built, "loss", loss, contract)
            found.add(contract)
        except InputError:
            pass
    assert found == fits


@pytest.mark.parametrize(
    ("name", "contract", "why"),
    [
        ("Scores", RestorationLoss, "missing a required argument: 'scores'.*it is a GeneratorLoss"),
        ("Strict", RestorationLoss, "unexpected keyword argument 'input'.*it is a Loss or a TieLoss"),
        ("Critic", GeneratorLoss, "compares 'real' with 'fake', as a DiscriminatorLoss does"),
    ],
)
def test_a_loss_in_another_s_place_is_told_what_the_place_hands_over(parts, name, contract, why):
    with pytest.raises(InputError, match=why):
        parts("loss", name).build(contract=contract)


def recipe(**stage: Any) -> dict[str, Any]:
    source = {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4}
    splits = {name: {"fold": name} for name in ("train", "val", "test")}
    return {
        "medkit": 1,
        "name": "promised",
        "data": {"d": {"source": source, "splits": splits, "prepare": [{"use": "window", "low": 0, "high": 80}]}},
        "stages": [{"name": "s", "batch": 4, **stage}],
        "report": {"maps": {"cases": 0}},
    }


def multitask(head: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"use": "multitask", "encoder": {"use": "timm", "model": "test_resnet"}, "heads": {"one": head}, **more}


@pytest.fixture
def registered(parts: Callable[..., Any]):
    """Registers the components above for one test."""
    entries = plugin.registry().entries
    before = dict(entries)

    def add(kind: str, name: str) -> str:
        entry = parts(kind, name).entry
        Registry.add(plugin.registry(), entry)
        return entry.full_name

    yield add
    entries.clear()
    entries.update(before)


def test_check_refuses_what_lacks_a_method_with_the_line(registered):
    name = registered("pretext", "HeadWithoutLoss")
    with pytest.raises(InputError, match=r"stages.s.objective.heads.one: 'mine:headwithoutloss' .*no method 'loss'"):
        recipe_from(recipe(objective=multitask({"use": name})))


def test_check_refuses_an_optimizer_without_a_learning_rate(registered):
    head = {"use": "smartnet:slice_class"}
    with pytest.raises(InputError, match=r"stages.s.optim: .*has no attribute 'lr'"):
        recipe_from(recipe(objective=multitask(head), optim=registered("optimizer", "OptimizerWithoutRate")))


@pytest.mark.parametrize("name", ["Late", "Dynamic", "factory"])
def test_check_leaves_to_the_run_what_only_a_built_object_tells(registered, name):
    head = {"use": "smartnet:slice_class"}
    recipe_from(recipe(objective=multitask(head), optim=registered("optimizer", name)))


def test_check_refuses_a_loss_of_another_place():
    losses = {"one": {"use": "mtdgan:fool"}}
    objective = {"use": "restoration", "generator": {"use": "baselines:red_cnn", "width": 8}, "losses": losses}
    with pytest.raises(InputError, match=r"losses.one: 'mtdgan:fool'.*this place takes a RestorationLoss"):
        recipe_from(recipe(unit="patch", objective=objective))


def test_check_refuses_a_tie_among_the_losses_of_a_volume():
    operator = {"use": "smartnet:conv3d_segmenter"}
    encoder = {"use": "timm", "model": "test_resnet"}
    objective = {"use": "volume", "encoder": encoder, "operator": operator, "losses": {"c": "smartnet:consistency"}}
    with pytest.raises(InputError, match=r"losses.c: .*this place takes a Loss, it is a TieLoss"):
        recipe_from(recipe(unit="volume", objective=objective))


def test_nothing_is_written_when_a_built_component_lacks_something(registered, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    name = registered("optimizer", "Late")
    made = recipe_from(recipe(objective=multitask({"use": "smartnet:slice_class"}), optim=name))
    import promised_parts

    monkeypatch.setattr(promised_parts.Late, "__init__", lambda self: None)
    with pytest.raises(InputError, match="has no attribute 'lr'"):
        medkit.run(made, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_docs_have_the_section_that_an_error_names():
    page = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"\n### {kind}\n" not in page] == []
    assert [contract.__name__ for contract in CONTRACTS if f"`{contract.__name__}`" not in page] == []
