"""Several views of each image of a batch, as heads compare them."""

from __future__ import annotations

from torch import Tensor

from medkit.api import InputError


def compared(views: Tensor, most: int | None = None) -> Tensor:
    """(N,V,C,H,W) views, or those of patches of volumes (N,V,C,D,H,W), as they are.

    Raises
    ------
    InputError
        if there are fewer than two per image, or more than ``most``.
    """
    count = views.shape[1]
    if count < 2 or (most is not None and count > most):
        wanted = "two views" if most == 2 else "at least two views"
        what = f"{wanted} of each image are compared, and the data block makes {count}"
        raise InputError(what, hint="write 'views: {count: 2, augment: [...]}' there")
    return views


def pairs(student: Tensor, teacher: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each view's rows of (N,V,D), with those that the teacher has for each other view: V(V-1) pairs of (N,D)."""
    first, second = student.unbind(1), teacher.unbind(1)
    return [(a, b) for i, a in enumerate(first) for j, b in enumerate(second) if i != j]
