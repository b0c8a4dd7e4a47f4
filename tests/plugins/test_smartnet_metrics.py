"""Concurrence of the two slice heads (eq. 2): how a slice counts."""

from __future__ import annotations

import numpy as np
import pytest
from medkit_smartnet.concurrence import Concurrence


@pytest.mark.parametrize(
    ("said", "drawn", "agree"), [(0.5, 0.4, 1.0), (0.5, 0.51, 0.0), (0.51, 0.5, 0.0), (0.9, 0.6, 1.0)]
)
def test_a_probability_of_exactly_one_half_is_no(said: float, drawn: float, agree: float) -> None:
    mask = np.full((1, 2, 2), 0.1)
    mask[0, 0, 0] = drawn
    assert Concurrence().per_case({"label": 1.0, "probability": said, "mask_probability": mask}) == {"value": agree}
