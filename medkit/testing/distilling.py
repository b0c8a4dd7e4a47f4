"""The conformance check of distilling heads (:mod:`medkit.testing`)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medkit.protocols import offered
from medkit.protocols.distilling import Distiller
from medkit.testing.common import (
    build,
    check_construction,
    check_devices,
    check_dtype,
    check_gradients,
    check_resumes,
    check_state,
    example_features,
    generators_rest,
    same,
    told,
)
from medkit.testing.heads import example_batch


def check_distiller(
    constructor: Callable[..., Any], *, batch: Mapping[str, Any] | None = None, **arguments: Any
) -> None:
    """``view``, projector, predictor and ``loss`` fit together; gradients reach every parameter; buffers do not change
    in evaluation mode; odd sizes work.

    ``batch`` replaces entries of the example, which has two views and three crops of each of three images.
    """
    head = build(constructor, arguments, "distiller")
    check_construction(constructor, arguments)
    for size in ((32, 32), (33, 33)):
        given = _batch(size, batch or {})
        kept = copy.deepcopy(given)
        torch.manual_seed(4)
        with generators_rest("view()"):
            seen, taught = offered(Distiller, head, "view")(given)
        same(kept, given, "view() changes the batch, which the other heads see too: make a new tensor")
        torch.manual_seed(4)
        again = offered(Distiller, head, "view")(given)
        same([list(seen), list(taught)], [list(x) for x in again], "view() differs under the same seed")
        for images in (*seen, *taught):
            assert images.dim() == 5, f"view() must return images (N,V,C,H,W), not {tuple(images.shape)}"
            assert not images.requires_grad, "view() returns images with a graph: detach them"
        for progress in (0.0, 0.5, 0.99):
            terms = _loss(head, seen, taught, progress)
            assert isinstance(terms, Mapping), f"loss() must return a dictionary, not a {type(terms).__name__}"
            assert terms, "loss() must name at least one term"
            for name, term in terms.items():
                assert term.dim() == 0, f"loss term '{name}' is not a scalar: {tuple(term.shape)}"
                assert torch.isfinite(term), f"loss term '{name}' is not finite after {progress:g} of the training"
            check_gradients(head, torch.stack(list(terms.values())).sum())
        head.eval()
        before = copy.deepcopy(dict(head.named_buffers()))
        with torch.no_grad():
            _loss(head, seen, taught, 0.5)
        same(before, dict(head.named_buffers()), "loss() changes a buffer in evaluation mode: validation would train")
        head.train()

    def output(head: Any, dtype: torch.dtype = torch.float32, device: Any = None) -> Any:
        moved = [[images.to(device, dtype) for images in side] for side in (seen, taught)]
        return _loss(head, moved[0], moved[1], 0.5)

    check_state(head, output, lambda: build(constructor, arguments, seed=9))
    check_resumes(head, output, lambda: build(constructor, arguments, seed=9))
    check_dtype(head, lambda m: output(m, torch.float64))
    check_devices(head, lambda m, d: output(m, device=d))


def _batch(size: tuple[int, int], more: Mapping[str, Any]) -> dict[str, Any]:
    made = torch.Generator().manual_seed(6)
    views = {"views": torch.rand(3, 2, 1, *size, generator=made), "crops": torch.rand(3, 3, 1, 16, 16, generator=made)}
    return example_batch(size, {}, {**views, **more})


def _loss(head: Any, seen: Sequence[Tensor], taught: Sequence[Tensor], progress: float) -> Any:
    with told("the projector fails on a pyramid of the channels it was given"), generators_rest("the projector"):
        said = [_rows(head.projector, images, 1) for images in seen]
        with torch.no_grad():
            wanted = [_rows(head.projector, images, 2) for images in taught]
    predictor = getattr(head, "predictor", None)
    if predictor is not None:
        with generators_rest("the predictor"):
            said = [predictor(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]) for rows in said]
    with generators_rest("loss()"):
        return head.loss(said, wanted, progress)


def _rows(projector: Any, images: Tensor, scale: int) -> Tensor:
    """Rows for an example pyramid of the images' size, different for student and teacher."""
    flat = images.flatten(0, 1)
    features = example_features((flat.shape[2], flat.shape[3]), len(flat), flat.dtype)
    rows: Tensor = projector([scale * maps.to(flat.device) for maps in features])
    assert rows.dim() == 2, f"the projector must return rows (n,D), not {tuple(rows.shape)}"
    assert len(rows) == len(flat), f"the projector returns {len(rows)} rows for {len(flat)} images"
    return rows.unflatten(0, images.shape[:2])
