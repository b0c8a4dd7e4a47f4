"""The objective distillation: a student, its average as teacher, pretext heads on the same encoder."""

from __future__ import annotations

import copy
import importlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import fit
from medkit_ssl.byol import BYOL
from medkit_ssl.dino import DINO
from medkit_ssl.moco import MoCo
from medkit_ssl.rotation import Rotation
from medkit_ssl.simclr import SimCLR
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.objectives.distillation import Distillation, momentum_at
from medkit.objectives.multitask import Multitask
from medkit.parts.optimizers import SGD
from medkit.parts.schedules import Constant
from medkit.recipe.model import Unfreeze
from medkit.registry.marks import Placed
from medkit.testing import check_distiller, check_objective

CHANNELS = (3, 4)


class Small(nn.Module):
    """An encoder of two levels with batch norm, whose two stages can be frozen."""

    channels, strides = CHANNELS, (1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.second = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.BatchNorm2d(4))
        self.passes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> list[Tensor]:
        self.passes.append(tuple(x.shape))
        shallow = torch.relu(self.first(x))
        return [shallow, self.second(shallow)]

    def stages(self):
        return [("first", self.first), ("second", self.second)]


def placed(**heads: nn.Module) -> dict[str, Placed]:
    return {name: Placed(head, {"weight": 1.0}) for name, head in heads.items()}


def objective(**arguments: Any) -> Distillation:
    torch.manual_seed(0)
    given = {"encoder": Small(), "distil": placed(byol=BYOL(CHANNELS, hidden=5, width=3))}
    return Distillation(**given | arguments)


def batch(seed: int = 0) -> dict[str, Any]:
    made = torch.Generator().manual_seed(seed)
    views, crops = torch.rand(3, 2, 1, 6, 6, generator=made), torch.rand(3, 4, 1, 4, 4, generator=made)
    return {"image": views[:, 0], "views": views, "crops": crops, "ids": ["a", "b", "c"]}


class Loader:
    steps = 3

    def epoch(self, epoch: int, start: int = 0):
        return (batch(10 * epoch + step) for step in range(start, self.steps))


def train(student: Distillation, folder: Any, **settings: Any) -> None:
    how = {"optimizers": {"train": SGD(lr=0.1)}, "schedules": {"train": Constant()}}
    fit(student, Loader(), folder, **{"epochs": 2, **how, **settings})


@pytest.mark.parametrize("head", [BYOL, MoCo, DINO])
def test_it_keeps_every_promise_of_an_objective(head):
    small = {"hidden": 5, **({"prototypes": 6, "bottleneck": 3} if head is DINO else {"width": 3})}
    distil, heads = placed(one=head(CHANNELS, **small)), placed(turn=Rotation(CHANNELS))
    check_objective(Distillation, encoder=Small(), distil=distil, heads=heads, batch=batch())


def test_the_momentum_rises_along_half_a_cosine():
    assert momentum_at(0.0, 0.9, 1.0) == pytest.approx(0.9)
    assert momentum_at(0.5, 0.9, 1.0) == pytest.approx(0.95)
    assert momentum_at(0.25, 0.9, 1.0) == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)


def test_the_teacher_is_the_average_of_the_student_over_its_steps(tmp_path):
    student = objective(momentum=0.5, momentum_end=0.9)
    expected = [
        p.detach().clone() for p in (*student.encoder.parameters(), *student.distil["byol"].projector.parameters())
    ]
    steps: list[int] = []
    follow = student.after_step

    def followed(turn: str) -> None:
        """Before the teacher moves: the same, number by number."""
        newest = [*student.encoder.parameters(), *student.distil["byol"].projector.parameters()]
        share = 0.9 - 0.4 * (math.cos(math.pi * len(steps) / 6) + 1) / 2
        for kept, now in zip(expected, newest, strict=True):
            kept.copy_(share * kept + (1 - share) * now.detach())
        steps.append(len(steps))
        follow(turn)

    student.after_step = followed  # type: ignore[method-assign]
    train(student, tmp_path)
    assert len(steps) == 6
    mine = [*student.teacher.encoder.parameters(), *student.teacher.projectors["byol"].parameters()]
    for kept, teacher in zip(expected, mine, strict=True):
        assert torch.allclose(kept, teacher, atol=1e-6)
        assert not teacher.requires_grad


def test_heads_and_distilling_heads_share_the_passes_of_one_encoder():
    heads = placed(simclr=SimCLR(CHANNELS, hidden=4, width=3))
    distil = placed(byol=BYOL(CHANNELS, hidden=5, width=3), dino=DINO(CHANNELS, 6, 5, 3))
    student = objective(heads=heads, distil=distil)
    losses = student.losses("train", batch())
    assert list(losses) == ["simclr", "byol", "dino"]
    assert student.encoder.passes == [(6, 1, 6, 6), (12, 1, 4, 4)]
    assert student.teacher.encoder.passes == [(6, 1, 6, 6)]


def test_what_is_frozen_in_the_student_rests_in_the_teacher():
    student = objective()
    student.train()
    student.encoder.first.eval()
    before = copy.deepcopy(student.teacher.state_dict())
    student.losses("train", batch())
    now = student.teacher.state_dict()
    assert torch.equal(before["encoder.first.1.running_mean"], now["encoder.first.1.running_mean"])
    assert not torch.equal(before["encoder.second.1.running_mean"], now["encoder.second.1.running_mean"])


def test_a_frozen_encoder_leaves_its_teacher_as_it_is(tmp_path):
    student = objective(heads=placed(turn=Rotation(CHANNELS)))
    before = copy.deepcopy(student.encoder.state_dict())
    train(student, tmp_path, epochs=1, unfreeze=Unfreeze("encoder", after=1))
    assert all(torch.equal(before[name], p) for name, p in student.encoder.named_parameters())
    assert all(torch.equal(before[name], p) for name, p in student.teacher.encoder.named_parameters())


def test_pcgrad_projects_the_gradients_of_the_student_s_encoder(tmp_path):
    student = objective(heads=placed(turn=Rotation(CHANNELS)), combine="pcgrad")
    (turn,) = student.turns()
    assert turn.combine == "pcgrad"
    assert [id(p) for p in student.shared_parameters("train")] == [id(p) for p in student.encoder.parameters()]
    before = copy.deepcopy(student.state_dict())
    train(student, tmp_path, epochs=1)
    assert all(not torch.equal(before[n], p) for n, p in student.named_parameters() if "bias" not in n)


def test_student_and_teacher_are_parts_and_only_the_student_trains():
    student = objective(heads=placed(turn=Rotation(CHANNELS)))
    assert list(student.parts()) == ["encoder", "heads.turn", "distil.byol", "teacher.encoder", "teacher.distil.byol"]
    assert student.turns()[0].parts == ("encoder", "heads.turn", "distil.byol")
    assert student.parts()["encoder"] is student.encoder


def test_progress_is_known_again_after_a_resume(tmp_path):
    student = objective()
    train(student, tmp_path)
    assert student.progress == pytest.approx(5 / 6)
    other = objective()
    train(other, tmp_path)  # goes to the checkpoint of the end, and takes no step
    assert other.progress == student.progress


def test_one_momentum_has_to_do_for_all():
    distil = placed(byol=BYOL(CHANNELS, hidden=5, width=3), moco=MoCo(CHANNELS, hidden=5, width=3))
    with pytest.raises(InputError, match=r"different momenta: 0.996 \(byol\), 0.99 \(moco\)"):
        objective(distil=distil)
    assert objective(distil=distil, momentum=0.9).momentum == 0.9


def test_no_head_and_two_heads_of_one_name_are_refused():
    with pytest.raises(InputError, match="at least one distilling head"):
        objective(distil={})
    with pytest.raises(InputError, match="'byol' is the name of a head and of a distilling head"):
        objective(heads=placed(byol=Rotation(CHANNELS)))


def test_the_distilling_head_of_the_docs_keeps_every_promise(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text()
    section = page.split("### distiller")[1]
    (tmp_path / "agree.py").write_text(section.split("```python")[1].split("```")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    check_distiller(importlib.import_module("agree").Agree, width=4)


def test_views_of_equal_memory_are_encoded_once_by_multitask_too():
    heads = placed(one=SimCLR(CHANNELS, hidden=4, width=3), other=SimCLR(CHANNELS, hidden=4, width=3))
    encoder = Small()
    Multitask(encoder, heads).losses("train", batch())
    assert encoder.passes == [(6, 1, 6, 6)]
