"""Checkpointed activations and compiled parts: the numbers of a plain run."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from helpers import train
from medkit_mtdgan.discriminator import MultiTaskDiscriminator
from torch import Tensor, nn

from medkit.engine.recompute import checkpoint_activations
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.parts.encoders import TimmEncoder
from medkit.recipe import load_recipe
from medkit.runs.workbench import Workbench


def trained(net: nn.Module, x: Tensor, steps: int = 2) -> dict[str, Tensor]:
    """The state after some steps of training."""
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for index in range(steps):
        torch.manual_seed(index)
        found = net(x)
        outputs = found.values() if isinstance(found, dict) else found
        optimizer.zero_grad()
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
        optimizer.step()
    return net.state_dict()


class Dropping(nn.Module):
    """A block that draws random numbers and keeps batch-norm statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(self.block(1 if i == 0 else 4) for i in range(2)))

    def block(self, inputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.blocks(x)]


def kept(net: nn.Module, x: Tensor) -> int:
    """Numbers that a forward pass keeps for gradients, outside of blocks that are computed again."""
    count = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal count
        count += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(x)
    return count


@pytest.mark.parametrize("training", [True, False])
def test_blocks_keep_their_inputs_only_wherever_gradients_may_be_asked_for(training: bool) -> None:
    """Losses on held-out cases are computed in evaluation mode, with gradients for those that need them."""
    plain = Dropping().train(training)
    saving = copy.deepcopy(plain)
    checkpoint_activations(saving)
    x = torch.randn(2, 1, 8, 8)
    assert kept(saving, x) < kept(plain, x) / 4


@pytest.mark.parametrize(
    "make",
    [Dropping, lambda: TimmEncoder("test_resnet", in_channels=1), lambda: MultiTaskDiscriminator(base=8)],
    ids=["dropout", "timm", "spectral norm"],
)
def test_training_with_checkpoints_ends_with_the_weights_and_buffers_of_plain_training(make) -> None:
    torch.manual_seed(0)
    plain = make()
    saving = copy.deepcopy(plain)
    names = checkpoint_activations(saving)
    x = torch.rand(1, 1, 64, 64)
    expected = trained(plain, x)
    found = trained(saving, x)
    assert names != [""]
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_checkpointed_blocks_keep_less() -> None:
    kept = []
    for checkpointing in (False, True):
        net = TimmEncoder("test_resnet", in_channels=1).train()
        if checkpointing:
            checkpoint_activations(net)
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(torch.rand(2, 1, 64, 64))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


def test_several_backward_passes_through_checkpointed_blocks() -> None:
    """As PCGrad makes them: one a task, through the same graph."""
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = Dropping()
        if checkpointing:
            checkpoint_activations(net)
        torch.manual_seed(1)
        output = net(torch.rand(2, 1, 8, 8))[0]
        gradients.append(
            [
                torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
                for loss in (output.square().mean(), output.sin().mean())
            ]
        )
    for plain, saving in zip(*gradients, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(plain, saving, strict=True))


def test_a_copy_of_a_checkpointed_part_is_its_own() -> None:
    net = Dropping()
    checkpoint_activations(net)
    copied = copy.deepcopy(net).eval()
    x = torch.rand(1, 1, 8, 8)
    before = copied(x)[0]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert torch.equal(copied(x)[0], before)


def weights(folder: Path, *settings: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    train("tiny_ldct", out=folder, set=["stages.denoise.epochs=1", *settings])
    return load_file(folder / "weights" / "denoise.generator.safetensors")


def test_a_recipe_with_checkpointing_trains_the_very_same_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    plain = weights(tmp_path / "plain")
    saving = weights(tmp_path / "saving", "stages.denoise.checkpointing=true")
    assert all(torch.equal(saving[name], plain[name]) for name in plain)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.nightly
def test_a_compiled_stage_has_the_gradients_of_a_plain_one_to_rounding(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path))
    gradients = []
    for setting in ("false", "true"):
        generator = "stages.denoise.objective.generator={use: 'mtdgan:conv_generator', width: 2, layers: 1}"
        recipe = load_recipe("tiny_ldct", set=[generator, f"stages.denoise.compile={setting}"])
        bench = Workbench(recipe, Runtime(torch.device("cpu")))
        objective = bench.objective(recipe.stages[0])
        batch = {"image": torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))}
        torch.stack(list(objective.losses("train", batch | {"target": batch["image"] / 2}).values())).sum().backward()
        gradients.append([p.grad for p in objective.parameters()])
    for plain, quick in zip(*gradients, strict=True):
        torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-6)


def test_checkpointing_and_compile_in_one_stage_are_refused() -> None:
    with pytest.raises(InputError, match="exclude each other"):
        load_recipe("tiny_ldct", set=["stages.denoise.compile=true", "stages.denoise.checkpointing=true"])
