"""PCGrad from the Gram matrix: published vectors, float64, and the partition of parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medkit.engine.gradients import backward, cosines, gram, project
from medkit.engine.runtime import Runtime
from medkit.errors import RunError

RUNTIME = Runtime(torch.device("cpu"))


def test_projection_equals_the_published_vectors(golden: Path) -> None:
    with np.load(golden / "pcgrad_vectors.npz") as file:
        gradients, orders, expected = file["grads"], file["orders"], file["merged_sum"]
    products = gram([[torch.from_numpy(g)] for g in gradients])
    for order, merged in zip(orders, expected, strict=True):
        weights = project(products, orders=order.tolist())
        np.testing.assert_allclose(np.array(weights) @ gradients, merged, rtol=1e-5, atol=1e-5)


def test_projection_of_many_parameters_is_within_1e_4_of_float64() -> None:
    made = torch.Generator().manual_seed(0)
    tasks = [[torch.randn(300, 1000, generator=made), torch.randn(70_000, generator=made)] for _ in range(3)]
    for a, b in ((1, 0), (2, 1)):
        tasks[a] = [x - 0.9 * y for x, y in zip(tasks[a], tasks[b], strict=True)]
    orders = [[1, 2, 0], [2, 0, 1], [0, 1, 2]]
    weights = project(gram(tasks), orders=orders)
    flat = torch.stack([torch.cat([t.reshape(-1) for t in task]).double() for task in tasks])
    reference = torch.zeros_like(flat[0])
    for i, order in enumerate(orders):
        g = flat[i].clone()
        for j in order:
            along = g @ flat[j]
            if j != i and along < 0:
                g -= along / (flat[j] @ flat[j]) * flat[j]
        reference += g
    found = sum(w * f for w, f in zip(weights, flat, strict=True))
    assert (found - reference).abs().max() <= 1e-4 * reference.abs().max()


def test_gradients_without_conflict_are_summed_and_specific_ones_are_plain() -> None:
    torch.manual_seed(0)
    shared, a, b = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
    parameters = [*shared.parameters(), *a.parameters(), *b.parameters()]
    x = torch.randn(5, 3)

    def losses() -> dict[str, torch.Tensor]:
        h = shared(x)
        return {"a": a(h).square().mean(), "again": 2 * a(h).square().mean(), "b": 0 * b(h).sum()}

    sum(losses().values()).backward()
    expected = [p.grad.clone() for p in parameters]
    for p in parameters:
        p.grad = None
    backward(losses(), parameters, RUNTIME, shared=list(shared.parameters()))
    for p, e in zip(parameters, expected, strict=True):
        torch.testing.assert_close(p.grad, e)


def test_conflicting_gradients_lose_their_opposed_part() -> None:
    w = nn.Parameter(torch.zeros(2))
    losses = {"right": (w * torch.tensor([1.0, 0.0])).sum(), "left": (w * torch.tensor([-1.0, 1.0])).sum()}
    backward(losses, [w], RUNTIME, shared=[w])
    # (1,0) less its part along (-1,1) is (.5,.5); (-1,1) less its part along (1,0) is (0,1).
    torch.testing.assert_close(w.grad, torch.tensor([0.5, 1.5]))


def test_a_shared_parameter_that_the_turn_does_not_train_is_an_error() -> None:
    a, stranger = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    losses = {"x": (a * stranger).sum(), "y": (a - stranger).sum()}
    with pytest.raises(RunError, match="1 shared parameters are not among those this turn trains"):
        backward(losses, [a], RUNTIME, shared=[a, stranger])


def test_the_cosines_of_task_gradients_are_those_of_their_gram_matrix() -> None:
    tasks = [[torch.tensor([1.0, 0.0])], [torch.tensor([-3.0, 4.0])], [torch.zeros(2)]]
    assert cosines(gram(tasks), ["a", "b", "idle"]) == {"cosine/a~b": pytest.approx(-0.6)}


def test_a_projected_step_returns_the_gram_matrix_of_what_was_there_before() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    losses = {"a": weight[0] + 0 * weight[1], "b": -weight[0] + weight[1]}
    products = backward(losses, [weight], RUNTIME, shared=[weight])
    assert products is not None
    assert products.tolist() == [[1, -1], [-1, 2]]
    assert backward({"a": weight.sum()}, [weight], RUNTIME, shared=[weight]) is None
