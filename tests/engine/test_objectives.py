"""The four objectives: which parts see what, which parameters learn, what is predicted under which name."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.objectives.adversarial import Adversarial
from medkit.objectives.multitask import Multitask
from medkit.objectives.restoration import Restoration
from medkit.objectives.volume import VolumeTask
from medkit.parts.losses import BCE, L1, MSE
from medkit.registry.marks import Placed


class Encoder(nn.Module):
    channels = (3,)
    strides = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.sizes: list[int] = []
        self.grad: list[bool] = []

    def forward(self, x: Tensor) -> list[Tensor]:
        self.sizes.append(len(x))
        features = self.conv(x)
        self.grad.append(features.requires_grad)
        return [features]

    def stages(self) -> list[tuple[str, nn.Module]]:
        return [("conv", self.conv)]


class Head(nn.Module):
    """Restores the image, or its mirror image."""

    def __init__(self, key: str = "reconstruction", mirrored: bool = False) -> None:
        super().__init__()
        self.key, self.mirrored = key, mirrored
        self.out = nn.Conv2d(3, 1, 1)

    def view(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        image = batch["image"]
        return (image.flip(-1), image) if self.mirrored else (image, image)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.out(features[-1])

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"far": (output - target).abs().mean(), "wide": output.square().mean()}

    def predict(self, output: Tensor) -> dict[str, Tensor]:
        return {self.key: output}


def placed(part: nn.Module, **keys: Any) -> Placed:
    return Placed(part, {"weight": 1.0, **keys})


def batch(n: int = 5) -> dict[str, Any]:
    made = torch.Generator().manual_seed(n)
    image = torch.rand(n, 1, 6, 6, generator=made)
    return {"image": image, "target": image.flip(-1), "mask": (image > 0.5).float(), "ids": [str(i) for i in range(n)]}


def test_heads_with_the_same_view_share_one_encoder_pass() -> None:
    encoder = Encoder()
    heads = {"a": placed(Head()), "b": placed(Head("output")), "c": placed(Head("mask_probability", mirrored=True))}
    Multitask(encoder, heads).losses("train", batch())
    assert encoder.sizes == [5, 5]


def test_a_head_s_terms_are_summed_and_weighted() -> None:
    torch.manual_seed(0)
    encoder, head = Encoder(), Head()
    found = Multitask(encoder, {"a": placed(head, weight=0.25)}).losses("train", batch())
    output = head(encoder(batch()["image"]))
    torch.testing.assert_close(found["a"], 0.25 * sum(head.loss(output, batch()["image"]).values()))


def test_two_ties_between_the_same_heads_both_count() -> None:
    ties = [placed(L1(), between=["a", "b"]), placed(MSE(), weight=2.0, between=["a", "b"])]
    task = Multitask(Encoder(), {"a": placed(Head()), "b": placed(Head("output"))}, ties)
    found = task.losses("train", batch())
    assert list(found) == ["a", "b", "a-b", "a-b:2"]
    features = task.encoder(batch()["image"])
    a, b = task.heads["a"](features), task.heads["b"](features)
    torch.testing.assert_close(found["a-b:2"], 2 * (a - b).square().mean())


def test_a_tie_to_a_head_that_is_not_there_lists_the_heads() -> None:
    with pytest.raises(InputError, match=r"not \['a', 'x'\]; heads: a, b"):
        Multitask(
            Encoder(),
            {"a": placed(Head()), "b": placed(Head())},
            [Placed(L1(), {"weight": 1.0, "between": ["a", "x"]})],
        )


def test_two_heads_that_predict_the_same_name_are_refused() -> None:
    task = Multitask(Encoder(), {"a": placed(Head()), "b": placed(Head())})
    with pytest.raises(InputError, match="two heads predict 'reconstruction'; the second is 'b'"):
        task.predict(batch())


def test_multitask_predicts_in_chunks_what_it_predicts_at_once() -> None:
    heads = {"a": placed(Head()), "b": placed(Head("output"))}
    encoder = Encoder()
    whole = Multitask(encoder, heads, slices_at_once=9).predict(batch())
    chunked = Multitask(encoder, heads, slices_at_once=2).predict(batch())
    assert encoder.sizes == [5, 2, 2, 1]
    assert chunked.keys() == {"reconstruction", "output"}
    for name, tensor in whole.items():
        torch.testing.assert_close(chunked[name], tensor)


class Operator(nn.Module):
    """Per slice one map, over depth a running mean of the volume's real slices."""

    task: ClassVar[str] = "segmentation"

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Conv2d(3, 1, 1)

    def slices(self, features: list[Tensor]) -> Tensor:
        return self.out(features[-1])[:, 0]

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        depth = torch.arange(features.shape[1])[None, :, None, None]
        kept = features * (depth < lengths[:, None, None, None])
        return kept.cumsum(1) / (depth + 1)


class Classifier(Operator):
    task: ClassVar[str] = "classification"

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return features.sum((1, 2, 3)) / lengths


def volumes(*depths: int) -> dict[str, Any]:
    made = batch(sum(depths))
    labels = torch.tensor([float(i % 2) for i in range(len(depths))])
    return {**made, "lengths": torch.tensor(depths), "label": labels}


@pytest.mark.parametrize("operator", [Operator, Classifier])
def test_a_volume_is_judged_as_if_it_were_alone(operator: type[nn.Module]) -> None:
    task = VolumeTask(Encoder(), operator(), {"bce": placed(BCE())}, slices_at_once=2)
    both = volumes(2, 4)
    second = {**both, "image": both["image"][2:], "lengths": both["lengths"][1:]}
    alone, together = task.predict(second), task.predict(both)
    torch.testing.assert_close(together["probability"][1:], alone["probability"])
    if operator is Operator:
        torch.testing.assert_close(together["mask_probability"][2:], alone["mask_probability"])


def test_a_segmented_volume_is_as_probable_as_its_most_probable_voxel() -> None:
    found = VolumeTask(Encoder(), Operator(), {"bce": placed(BCE())}).predict(volumes(2, 4))
    assert found["mask_probability"].shape == (6, 1, 6, 6)
    assert found["probability"].tolist() == [found["mask_probability"][:2].max(), found["mask_probability"][2:].max()]


def test_no_padded_slice_reaches_the_encoder() -> None:
    encoder = Encoder()
    VolumeTask(encoder, Classifier(), {"bce": placed(BCE())}, slices_at_once=4).losses("train", volumes(1, 6))
    assert encoder.sizes == [4, 3]


def test_a_frozen_encoder_keeps_no_graph_and_the_operator_still_learns() -> None:
    encoder, operator = Encoder(), Operator()
    task = VolumeTask(encoder, operator, {"bce": placed(BCE())})
    encoder.requires_grad_(False)
    task.losses("train", volumes(2, 3))["bce"].backward()
    assert encoder.grad == [False]
    assert operator.out.weight.grad.abs().sum() > 0


def test_an_operator_without_a_task_is_refused() -> None:
    with pytest.raises(InputError, match="'Linear' says neither classification nor segmentation"):
        VolumeTask(Encoder(), nn.Linear(1, 1), {"bce": placed(BCE())})


def test_restoration_weights_its_losses_and_predicts_inside_the_window() -> None:
    generator = nn.Conv2d(1, 1, 1)
    nn.init.constant_(generator.weight, 3.0)
    task = Restoration(generator, {"l1": placed(L1(), weight=2.0)}, slices_at_once=2)
    expected = 2 * (generator(batch()["image"]) - batch()["target"]).abs().mean()
    torch.testing.assert_close(task.losses("train", batch())["l1"], expected)
    output = task.predict(batch())["output"].detach()
    assert output.shape == (5, 1, 6, 6)
    assert (float(output.min()) >= 0, float(output.max())) == (True, 1.0)


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.cls = nn.Conv2d(1, 2, 3), nn.Linear(2, 1)
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.modes.append(self.training)
        return {"cls": self.cls(torch.relu(self.encoder(x)).mean((2, 3)))}

    def shared_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


class Tell(nn.Module):
    """Keeps what a loss is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, Any] = {}

    def forward(self, one: Any, other: Any, **context: Any) -> Tensor:
        self.given = {"one": one, "other": other, **context}
        scores = context.get("scores", other)
        return scores["cls"].square().mean()


def adversarial() -> tuple[Adversarial, Tell, Tell]:
    torch.manual_seed(0)
    of_generator, of_discriminator = Tell(), Tell()
    task = Adversarial(
        nn.Conv2d(1, 1, 3, padding=1), Discriminator(), {"g": placed(of_generator)}, {"d": placed(of_discriminator)}
    )
    return task, of_generator, of_discriminator


def test_the_discriminator_s_turn_leaves_the_generator_alone() -> None:
    task, _, tell = adversarial()
    task.losses("discriminator", batch())["d"].backward()
    assert all(p.grad is None for p in task.generator.parameters())
    assert all(p.grad is not None for p in task.discriminator.parameters())
    assert tell.given.keys() == {"one", "other", "input", "target", "output", "discriminator"}
    torch.testing.assert_close(tell.given["other"]["cls"], task.discriminator(tell.given["output"])["cls"])


def test_the_generator_s_turn_goes_through_a_training_discriminator_and_leaves_it_alone() -> None:
    task, tell, _ = adversarial()
    task.losses("generator", batch())["g"].backward()
    assert all(p.grad is None for p in task.discriminator.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in task.generator.parameters())
    assert task.discriminator.modes == [True]
    assert tell.given.keys() == {"one", "other", "scores", "input"}


def test_frozen_parameters_of_the_discriminator_stay_frozen_over_both_turns() -> None:
    task, _, _ = adversarial()
    task.discriminator.encoder.requires_grad_(False)
    task.losses("generator", batch())
    task.losses("discriminator", batch())
    flags = {name: p.requires_grad for name, p in task.discriminator.named_parameters()}
    assert flags == {"encoder.weight": False, "encoder.bias": False, "cls.weight": True, "cls.bias": True}


def test_each_turn_combines_as_told_and_the_discriminator_goes_first() -> None:
    task = Adversarial(
        nn.Identity(), Discriminator(), {"g": placed(Tell())}, {"d": placed(Tell())}, {"discriminator": "pcgrad"}
    )
    assert [(t.name, t.parts, t.combine) for t in task.turns()] == [
        ("discriminator", ("discriminator",), "pcgrad"),
        ("generator", ("generator",), "sum"),
    ]
    assert len(task.shared_parameters("discriminator")) == 2
