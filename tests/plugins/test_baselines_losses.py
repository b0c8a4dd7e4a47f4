"""Losses of the compared methods: values by hand, gradients where they belong, draws that repeat."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from medkit_baselines.dugan import DualDomain, UNetDiscriminator
from medkit_baselines.losses_dugan import CutMix, FoolDomains, RealLowFake, box
from medkit_baselines.losses_wgan import WassersteinCritic, WassersteinGenerator
from medkit_baselines.sobel import SobelLoss, SobelMagnitude
from medkit_baselines.wgan_vgg import Critic
from torch import Tensor, nn

from medkit.engine.gradients import backward
from medkit.engine.recompute import checkpoint_activations
from medkit.engine.runtime import Runtime
from medkit.testing import check_loss

Scores = dict[str, Tensor]


def images(n: int = 3, size: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Low dose, normal dose and a generated image."""
    made = torch.Generator().manual_seed(1)
    low, full, output = torch.rand(3, n, 1, size, size, generator=made).unbind(0)
    return low, full, output


def context(discriminator: Callable[[Tensor], Scores], size: int = 16) -> dict:
    low, full, output = images(size=size)
    return {
        "real": discriminator(full),
        "fake": discriminator(output),
        "input": low,
        "target": full,
        "output": output,
        "discriminator": discriminator,
    }


class Slope(nn.Module):
    """A critic whose gradient has the same length everywhere."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x: Tensor) -> Scores:
        return {"cls": self.slope * x.flatten(1).sum(1, keepdim=True)}


def test_the_critic_s_loss_is_the_difference_of_scores_and_the_penalty_of_its_slope() -> None:
    critic = Slope(0.5)
    _, full, output = images()
    loss = WassersteinCritic(penalty=10.0)(**context(critic))
    difference = 0.5 * (output.flatten(1).sum(1).mean() - full.flatten(1).sum(1).mean())
    # 256 pixels with slope 0.5 each: a gradient of length 8.
    torch.testing.assert_close(loss, difference + 10 * (8.0 - 1) ** 2)


def test_the_gradient_penalty_trains_the_critic_through_the_engine_s_backward() -> None:
    critic = Slope(0.5)
    low, full, _ = images()
    same = {"real": critic(full), "fake": critic(full), "target": full, "output": full, "input": low}
    loss = WassersteinCritic()(**same, discriminator=critic)
    backward({"critic": loss}, list(critic.parameters()), Runtime(torch.device("cpu")))
    # d/ds of 10 (16 s - 1)^2 at s = 0.5; equal images cancel in the difference.
    torch.testing.assert_close(critic.slope.grad, torch.tensor(10 * 2 * 7.0 * 16))


def test_the_gradient_penalty_reaches_every_weight_of_the_published_critic() -> None:
    torch.manual_seed(0)
    critic = Critic(width=2, hidden=4, size=16)
    low, full, _ = images()
    same = {"real": critic(full), "fake": critic(full), "target": full, "output": full, "input": low}
    WassersteinCritic()(**same, discriminator=critic).backward()
    idle = [n for n, p in critic.named_parameters() if n.endswith("weight") and not bool(p.grad.abs().sum() > 0)]
    assert not idle


def test_a_critic_that_forgets_its_activations_gets_the_same_gradients() -> None:
    torch.manual_seed(0)
    critic = Critic(width=2, hidden=4, size=16)
    forgetful = copy.deepcopy(critic)
    checkpoint_activations(forgetful)
    for model in (critic, forgetful):
        torch.manual_seed(1)
        WassersteinCritic()(**context(model)).backward()
    for one, other in zip(critic.parameters(), forgetful.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_a_compiled_critic_is_penalised_without_its_compiled_code() -> None:
    torch.manual_seed(0)
    critic = Critic(width=2, hidden=4, size=16)
    given = context(critic)
    critic.compile(backend=refuse_to_compile)
    WassersteinCritic()(**given).backward()
    assert critic.hidden.weight.grad.abs().sum() > 0


def refuse_to_compile(*given: object) -> None:
    raise AssertionError("compiled")


def test_without_a_penalty_the_critic_is_not_asked_again() -> None:
    def refuse(x: Tensor) -> Scores:
        raise AssertionError("asked again")

    given = context(Slope(0.5))
    WassersteinCritic(penalty=0)(**{**given, "discriminator": refuse})


def test_the_mixture_s_shares_come_from_torch_s_generator() -> None:
    torch.manual_seed(0)
    critic = Critic(width=2, hidden=4, size=16)
    found = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        found.append(WassersteinCritic()(**context(critic)).item())
    assert found[0] == found[1] != found[2]


def test_the_wasserstein_generator_raises_its_scores() -> None:
    scores = torch.tensor([[1.0], [3.0]], requires_grad=True)
    loss = WassersteinGenerator()(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4), scores={"cls": scores})
    loss.backward()
    assert loss.item() == -2
    assert scores.grad.tolist() == [[-0.5], [-0.5]]


def constant(value: Tensor | float) -> Callable[[Tensor], Scores]:
    return lambda x: {"cls": torch.full((len(x), 1), float(value)), "seg": torch.full_like(x, float(value))}


def test_low_dose_images_count_as_fake_as_generated_ones_do() -> None:
    given = context(constant(0.25))
    # For the whole and by pixel: (1/4 - 1)^2 + 2 (1/4)^2.
    torch.testing.assert_close(RealLowFake()(**given), torch.tensor(2 * (0.75**2 + 2 * 0.25**2)))


def test_low_dose_images_are_judged_in_both_domains() -> None:
    torch.manual_seed(0)
    # In evaluation, where spectral norms rest.
    model = DualDomain(base=2, levels=2).eval()
    given = context(model)
    one = RealLowFake()(**context(model.image))
    gradient = SobelMagnitude()
    low, full, output = (gradient(x) for x in images())
    other = RealLowFake()(
        model.gradient(full), model.gradient(output), input=low, discriminator=model.gradient, target=full
    )
    torch.testing.assert_close(RealLowFake()(**given), one + other)


def test_cut_mix_leaves_the_batch_alone_as_often_as_told() -> None:
    given = context(constant(0.5))
    torch.manual_seed(0)
    idle = sum(CutMix(p=0.25)(**given).item() == 0 for _ in range(200))
    assert 130 < idle < 170


def test_cut_mix_without_a_mixture_still_has_a_graph() -> None:
    torch.manual_seed(0)
    loss = CutMix(p=0.0)(**context(UNetDiscriminator(base=2, levels=2)))
    assert loss.item() == 0
    assert loss.requires_grad


def test_cut_mix_scores_the_whole_as_fake_and_pixels_by_where_they_were_cut() -> None:
    seen = []

    def judge(x: Tensor) -> Scores:
        """Knows each pixel's origin: real ones are all 1, generated ones all 0."""
        seen.append(x)
        return {"cls": torch.full((len(x), 1), 0.5), "seg": x}

    real, fake = torch.ones(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    torch.manual_seed(3)
    loss = CutMix(p=1.0)(judge(real), judge(fake), target=real, output=fake, discriminator=judge)
    assert 0 < float(seen[-1].mean()) < 1
    # Pixels and consistency are perfect; the whole is half believed.
    torch.testing.assert_close(loss, torch.tensor(0.25))


def test_cut_mix_mixes_gradients_instead_of_taking_those_of_a_mixture() -> None:
    torch.manual_seed(0)
    model, seen = DualDomain(base=2, levels=2), []
    given = context(model)
    model.gradient.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    torch.manual_seed(3)
    CutMix(p=1.0)(**given)
    torch.manual_seed(3)
    torch.rand(())
    kept = box(16, 16)
    magnitude = SobelMagnitude()
    expected = torch.where(kept > 0, magnitude(given["target"]), magnitude(given["output"]))
    torch.testing.assert_close(seen[-1], expected)


@pytest.mark.parametrize("size", [(16, 16), (7, 33), (1, 1)])
def test_the_box_is_a_box_inside_the_image(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    shares = []
    for _ in range(300):
        mask = box(*size)
        assert mask.shape == (1, 1, *size)
        rows, columns = (mask == 0).any(-1)[0, 0].nonzero(), (mask == 0).any(-2)[0, 0].nonzero()
        assert (mask == 0).sum() == len(rows) * len(columns)
        assert len(rows) == 0 or rows.max() - rows.min() + 1 == len(rows)
        shares.append(float(mask.mean()))
    assert size == (1, 1) or 0.5 < sum(shares) / 300 < 0.8


def test_the_generator_of_du_gan_is_pulled_by_each_domain_with_its_weight() -> None:
    scores = {name: torch.zeros(2, 1) for name in ("cls", "seg", "gradient_cls", "gradient_seg", "rec")}
    loss = FoolDomains(image=0.1, gradient=0.5)(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4), scores=scores)
    torch.testing.assert_close(loss, torch.tensor(2 * 0.1 + 2 * 0.5))


@pytest.mark.parametrize(("norm", "power"), [("l2", 2), ("l1", 1)])
def test_the_sobel_loss_compares_lengths_of_gradients(norm: str, power: int) -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) / 10
    # Along a ramp the kernels divided by 4 give twice the step; edges are cut off by comparing inside only.
    inside = (SobelMagnitude()(ramp) - SobelMagnitude()(0 * ramp))[..., 2:-2, 2:-2]
    torch.testing.assert_close(inside, torch.full_like(inside, (0.2**2 + 1e-4) ** 0.5 - 0.01))
    difference = SobelMagnitude()(ramp) - SobelMagnitude()(0 * ramp)
    torch.testing.assert_close(SobelLoss(norm)(ramp, 0 * ramp), difference.abs().pow(power).mean())


def test_the_slope_of_the_sobel_loss_is_finite_on_flat_images() -> None:
    flat = torch.zeros(1, 1, 8, 8, requires_grad=True)
    SobelLoss("l1")(flat, torch.rand(1, 1, 8, 8)).backward()
    assert torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_sobel_loss_keeps_every_promise(norm: str) -> None:
    check_loss(SobelLoss, norm=norm)


def test_gradients_are_measured_in_single_precision_under_autocast() -> None:
    full = images()[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = SobelMagnitude()(full)
    assert torch.equal(found, SobelMagnitude()(full))


def test_the_gradient_penalty_works_under_autocast() -> None:
    torch.manual_seed(0)
    critic = Critic(width=2, hidden=4, size=16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = WassersteinCritic()(**context(critic))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in critic.parameters())
