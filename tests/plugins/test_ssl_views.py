"""Pretexts that compare views of an image: their losses by explicit loops over items, views and features."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from medkit_ssl.byol import BYOL
from medkit_ssl.dino import DINO
from medkit_ssl.moco import MoCo
from medkit_ssl.simclr import SimCLR
from medkit_ssl.vicreg import VICReg
from torch import Tensor

from medkit.errors import InputError
from medkit.testing import check_component

VIEWS = {"views": torch.rand(3, 2, 1, 32, 32, generator=torch.Generator().manual_seed(2))}
DISTILLERS: list[tuple[str, dict[str, Any]]] = [
    ("ssl:moco", {"hidden": 8, "width": 4}),
    ("ssl:byol", {"hidden": 8, "width": 4, "level": 1, "pool": "max"}),
    ("ssl:dino", {"hidden": 8, "prototypes": 12, "bottleneck": 4}),
]


@pytest.mark.parametrize(("name", "arguments"), [("ssl:simclr", {}), ("ssl:vicreg", {"width": 16})])
def test_a_head_of_views_keeps_every_promise_of_a_pretext(name, arguments):
    check_component("pretext", name, batch=VIEWS, **arguments)


@pytest.mark.parametrize(("name", "arguments"), DISTILLERS)
def test_a_distilling_head_keeps_every_promise_of_its_kind(name, arguments):
    check_component("distiller", name, **arguments)


@pytest.mark.parametrize("head", [SimCLR((2,)), VICReg((2,), width=2), MoCo((2,)), BYOL((2,)), DINO((2,))])
def test_a_single_view_is_refused_with_the_way_out(head):
    with pytest.raises(InputError, match="two views of each image are compared, and the data block makes 1") as found:
        head.view({"views": torch.rand(3, 1, 1, 8, 8)})
    assert "views: {count: 2" in found.value.hint


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> float:
    x, y = a.tolist(), b.tolist()
    dot = sum(p * q for p, q in zip(x, y, strict=True))
    return dot / math.sqrt(sum(p * p for p in x)) / math.sqrt(sum(q * q for q in y))


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


# -- SimCLR --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [2, 3])
def test_nt_xent_is_the_mean_surprise_at_the_other_views_among_all_others(views):
    z = rows(3, views, 4)
    flat = z.flatten(0, 1)
    surprises = []
    for i in range(3 * views):
        others = [math.exp(cosine(flat[i], flat[k]) / 0.2) for k in range(3 * views) if k != i]
        for j in range(3 * views):
            if j != i and j // views == i // views:
                surprises.append(-math.log(math.exp(cosine(flat[i], flat[j]) / 0.2) / sum(others)))
    loss = SimCLR((2,), temperature=0.2).double().loss(flat, z)["nt_xent"]
    assert loss.item() == pytest.approx(sum(surprises) / len(surprises), rel=1e-9)


def test_nt_xent_of_two_items_whose_views_agree_and_oppose_each_other():
    """Cosines of 1 to the other view and of -1 to both others: -log(e / (e + 2/e)), by hand."""
    z = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[-1.0, 0.0], [-3.0, 0.0]]])
    loss = SimCLR((2,), temperature=1.0).loss(z.flatten(0, 1), z)["nt_xent"]
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + 2 / math.e)), rel=1e-6)


# -- VICReg --------------------------------------------------------------------------------------------------------


def test_the_terms_of_vicreg_are_those_of_its_algorithm():
    z = rows(5, 2, 3)
    expected = {"invariance": 0.0, "variance": 0.0, "covariance": 0.0}
    for n in range(5):
        for d in range(3):
            expected["invariance"] += 25 * float(z[n, 0, d] - z[n, 1, d]) ** 2 / 15
    for view in range(2):
        x = z[:, view].tolist()
        mean = [sum(row[d] for row in x) / 5 for d in range(3)]
        for a in range(3):
            for b in range(3):
                covariance = sum((row[a] - mean[a]) * (row[b] - mean[b]) for row in x) / 4
                if a == b:
                    expected["variance"] += 25 * max(0.0, 1 - math.sqrt(covariance + 1e-4)) / 3
                else:
                    expected["covariance"] += covariance**2 / 3
    found = VICReg((2,), width=3).double().loss(z.flatten(0, 1), z)
    assert {name: term.item() for name, term in found.items()} == pytest.approx(expected, rel=1e-9)


def test_a_single_item_has_no_variance_that_could_be_lacking():
    z = rows(1, 2, 3)
    found = VICReg((2,), width=3).double().loss(z.flatten(0, 1), z)
    assert found["variance"] == found["covariance"] == 0


def test_three_views_are_refused_where_two_are_compared():
    with pytest.raises(InputError, match="two views of each image are compared, and the data block makes 3"):
        VICReg((2,), width=2).view({"views": torch.rand(3, 3, 1, 8, 8)})


# -- MoCo v3 -------------------------------------------------------------------------------------------------------


def test_the_loss_of_moco_is_info_nce_both_ways_times_twice_the_temperature():
    queries, keys = rows(4, 2, 3), rows(4, 2, 3, seed=1)
    expected = 0.0
    for a, b in ((0, 1), (1, 0)):
        for n in range(4):
            shares = softmax([cosine(queries[n, a], keys[k, b]) / 0.5 for k in range(4)])
            expected += 2 * 0.5 * -math.log(shares[n]) / 4
    loss = MoCo((2,), temperature=0.5, hidden=2, width=3).double().loss([queries], [keys], 0.0)["info_nce"]
    assert loss.item() == pytest.approx(expected, rel=1e-9)


# -- BYOL ----------------------------------------------------------------------------------------------------------


def test_the_loss_of_byol_is_the_squared_distance_of_unit_vectors_both_ways():
    predicted, wanted = rows(4, 2, 3), rows(4, 2, 3, seed=1)
    expected = sum(2 - 2 * cosine(predicted[n, a], wanted[n, 1 - a]) for a in (0, 1) for n in range(4)) / 4
    loss = BYOL((2,), hidden=2, width=3).double().loss([predicted], [wanted], 0.0)["distance"]
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("sign", "loss"), [(1.0, 0.0), (-1.0, 8.0)])
def test_byol_is_0_where_all_agree_and_8_where_all_oppose(sign, loss):
    z = rows(3, 1, 4).repeat(1, 2, 1)
    found = BYOL((2,), hidden=2, width=4).double().loss([z], [sign * 3 * z], 0.0)["distance"]
    assert found.item() == pytest.approx(loss, abs=1e-9)


# -- DINO ----------------------------------------------------------------------------------------------------------


def dino(**arguments: Any) -> DINO:
    return DINO((2,), prototypes=5, hidden=2, bottleneck=2, **arguments).double()


def test_the_loss_of_dino_is_cross_entropy_to_the_centred_teacher_of_every_other_view():
    head = dino()
    head.centre.copy_(rows(5, seed=3))
    views, crops, teacher = rows(3, 2, 5), rows(3, 4, 5, seed=1), rows(3, 2, 5, seed=2)
    terms = []
    for target in range(2):
        students = [views[:, v] for v in range(2) if v != target] + [crops[:, c] for c in range(4)]
        for student in students:
            for n in range(3):
                wanted = softmax([(teacher[n, target, p] - head.centre[p]).item() / 0.07 for p in range(5)])
                said = softmax([student[n, p].item() / 0.1 for p in range(5)])
                terms.append(-sum(w * math.log(s) for w, s in zip(wanted, said, strict=True)))
    loss = head.loss([views, crops], [teacher], 0.5)["cross_entropy"]
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_the_centre_follows_the_mean_of_what_the_teacher_says_and_rests_in_evaluation():
    head, teacher = dino(), rows(3, 2, 5)
    mean = [sum(teacher[n, v, p].item() for n in range(3) for v in range(2)) / 6 for p in range(5)]
    head.loss([teacher], [teacher], 0.0)
    assert head.centre.tolist() == pytest.approx([0.1 * m for m in mean])
    head.loss([teacher], [teacher], 0.0)
    assert head.centre.tolist() == pytest.approx([0.9 * 0.1 * m + 0.1 * m for m in mean])
    head.eval().loss([teacher], [teacher], 0.0)
    assert head.centre.tolist() == pytest.approx([0.19 * m for m in mean])


def test_the_teacher_of_dino_is_sharpest_at_first():
    head = dino(first_temperature=0.04, teacher_temperature=0.08, warmup=0.2)
    assert [head.temperature(p) for p in (0.0, 0.1, 0.2, 0.9)] == pytest.approx([0.04, 0.06, 0.08, 0.08])
    assert dino(warmup=0.0).temperature(0.0) == 0.07


def test_prototypes_and_rows_are_compared_by_their_cosine():
    last = dino().projector[-1]
    x = rows(3, 2)
    expected = [[cosine(x[n], last.weight[p]) for p in range(5)] for n in range(3)]
    assert last(x).tolist() == [pytest.approx(row) for row in expected]


def test_crops_are_seen_by_the_student_only_and_need_not_be_there():
    views, crops = torch.rand(2, 2, 1, 8, 8), torch.rand(2, 3, 1, 4, 4)
    student, teacher = dino().view({"views": views, "crops": crops})
    assert [x.shape[1] for x in student] == [2, 3]
    assert [x.shape[1] for x in teacher] == [2]
    student, teacher = dino().view({"views": views})
    assert [len(student), len(teacher)] == [1, 1]


# -- collapse ------------------------------------------------------------------------------------------------------


def test_the_spread_is_1_of_rows_that_point_anywhere_and_0_of_a_collapse():
    head = SimCLR((2,)).double()
    z = torch.tensor([[[1.0, 0.0], [-2.0, 0.0]], [[0.0, 3.0], [0.0, -4.0]]], dtype=torch.float64)
    head.loss(z.flatten(0, 1), z)
    assert head.epoch_numbers() == {"spread": pytest.approx(1.0)}
    head.loss(torch.ones(4, 2), z)
    assert head.epoch_numbers() == {"spread": pytest.approx(0.0, abs=1e-6)}
    head.eval().loss(z.flatten(0, 1), z)
    assert head.epoch_numbers() == {"spread": pytest.approx(0.0, abs=1e-6)}


# -- precision -----------------------------------------------------------------------------------------------------


def test_rows_in_bfloat16_are_compared_in_full_precision():
    z = rows(4, 2, 8).bfloat16()
    head = SimCLR((2,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head.loss(z.flatten(0, 1), z)["nt_xent"]
    assert found.dtype == torch.float32
    assert found == head.loss(z.float().flatten(0, 1), z)["nt_xent"]
