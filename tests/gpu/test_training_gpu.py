"""Every objective trained on the device: in bf16, as on a CPU in single precision, and resumed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from gpu.stages import STAGES, Losses, Prepared, StopAt, Stopped
from torch import Tensor

from medkit.engine import checkpoint
from medkit.engine.runtime import Runtime
from medkit.engine.step import to_device

KINDS = list(STAGES)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_objective_trains_in_bf16(kind: str, device: torch.device, tmp_path: Path) -> None:
    stage, losses = Prepared(kind, device, "bf16"), Losses()
    before = {name: tensor.detach().cpu().clone() for name, tensor in stage.objective.named_parameters()}
    after = stage.train(tmp_path, [losses])
    assert len(losses.found) == 2 * 3
    assert all(math.isfinite(value) for found in losses.found for value in found.values())
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert {p.dtype for p in stage.objective.parameters()} == {torch.float32}
    assert {p.device.type for p in stage.objective.parameters()} == {device.type}


def losses_of(kind: str, device: torch.device, precision: str = "fp32") -> dict[str, float]:
    """Losses of the first batch by an objective that draws nothing: evaluation mode, as dropout draws by the device."""
    stage, found = Prepared(kind, torch.device("cpu")), {}
    objective, batch = stage.objective.cpu().train(), stage.batches.batches[0]
    with torch.no_grad():
        for _ in range(15 if kind == "adversarial" else 0):  # untrained vectors of spectral norms give no finite losses
            for turn in objective.turns():
                objective.losses(turn.name, batch)
    objective.to(device).eval()
    for turn in objective.turns():
        with Runtime(device, precision).autocast():
            losses = objective.losses(turn.name, to_device(batch, device))
        found |= {name: float(loss.detach()) for name, loss in losses.items()}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_a_cpu(kind: str, device: torch.device) -> None:
    assert losses_of(kind, device) == pytest.approx(losses_of(kind, torch.device("cpu")), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_in_bf16_are_those_in_single_precision_to_its_digits(kind: str, device: torch.device) -> None:
    assert losses_of(kind, device, "bf16") == pytest.approx(losses_of(kind, device), rel=0.1, abs=0.05)


@contextmanager
def reproducible() -> Iterator[list[str]]:
    """Kernels that add in one order, where there are such; yields what has none, as it turns up."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    missing: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield missing
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            missing += sorted(
                {str(one.message).split(" does not")[0] for one in told if "deterministic" in str(one.message)}
            )


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest difference of two sets of weights; 0 where they are equal to the bit."""
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one if one[name].numel())


@pytest.mark.parametrize("kind", ["multitask", "adversarial", "volume"])
def test_a_training_stopped_and_resumed_equals_a_straight_one(
    kind: str, device: torch.device, tmp_path: Path, explain: Callable[[str, object], None]
) -> None:
    """To the bit, wherever two straight ones are equal to the bit; else the kernel that adds in any order is named."""
    with reproducible() as missing:
        straight = Prepared(kind, device).train(tmp_path / "one")
        again = Prepared(kind, device).train(tmp_path / "two")
        with pytest.raises(Stopped):
            Prepared(kind, device).train(tmp_path / "broken", [StopAt(4)])
        resumed = Prepared(kind, device).train(tmp_path / "broken")
    noise, found = apart(straight, again), apart(straight, resumed)
    if noise == 0:
        explain("resumed", "equal to the bit" if found == 0 else f"off by {found:.1e}")
        assert found == 0
    else:
        explain("resumed", f"two straight trainings are {noise:.1e} apart, the resumed one {found:.1e}: {missing}")
        assert missing, "two straight trainings differ, and no kernel is known that adds in any order"
        assert found <= 100 * noise


def test_a_training_with_the_kernels_of_every_day(
    device: torch.device, tmp_path: Path, explain: Callable[[str, object], None]
) -> None:
    straight = Prepared("adversarial", device).train(tmp_path / "one")
    with pytest.raises(Stopped):
        Prepared("adversarial", device).train(tmp_path / "broken", [StopAt(4)])
    resumed = Prepared("adversarial", device).train(tmp_path / "broken")
    explain("resumed with the kernels of every day", f"off by {apart(straight, resumed):.1e}")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in resumed.values())


def test_a_checkpoint_of_the_device_goes_on_on_a_cpu(device: torch.device, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Prepared("adversarial", device).train(tmp_path, [StopAt(4)])
    kept = checkpoint.read_tensors(tmp_path / checkpoint.LAST)[0]
    assert {tensor.device.type for tensor in kept.values()} == {"cpu"}
    after = Prepared("adversarial", torch.device("cpu")).train(tmp_path)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values())


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_a_cpu(kind: str, device: torch.device) -> None:
    found = []
    for where in (device, torch.device("cpu")):
        stage = Prepared(kind, where)
        objective, batch = stage.objective.to(where).eval(), to_device(stage.batches.batches[0], where)
        with torch.inference_mode():
            found.append({name: value.float().cpu() for name, value in objective.predict(batch).items()})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-4)
