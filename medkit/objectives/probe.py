"""A probe: how much of the target can be read from the features of an encoder that is no longer trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.objectives.common import in_chunks
from medkit.parts.depths import depths
from medkit.parts.encoder_volumes import Count, Triple
from medkit.parts.probes import PROBES, Choice, Items
from medkit.parts.window_means import OVERLAP, dimensions_of, how, mean_over_windows
from medkit.protocols import Batch, Turn
from medkit.registry.marks import Slot


class Probe(nn.Module):
    """A simple classifier on the features of a frozen encoder: k-NN, logistic, linear, or ridge regression of a value.

    The encoder is in evaluation mode throughout: batch norm uses its running statistics. Features of a slice are the
    mean over its deepest map; with ``unit: volume`` those of a volume are the mean over its slices, or, by an encoder
    of volumes, over the deepest maps of its windows. Images are not augmented. Settings of the classifier are chosen on
    the stage's validation split, never on a test split (:mod:`medkit.parts.probes`).

    Parameters
    ----------
    encoder:
        Feature pyramid of single slices, usually taken from a pretext stage.
    classifier:
        ``knn``, ``logistic`` (L-BFGS), ``linear`` (gradient descent), or ``ridge``, whose labels are values.
    target:
        ``label``: the class or value of a slice or volume; a slice that has a mask is positive where the mask is.
        ``mask``: a linear layer on the maps segments (``classifier: linear``).
    classes:
        Of labels: 0 and 1, or 0 to classes - 1.
    grid:
        Values to choose from by name, ``{C: [0.1, 1]}``: k of knn, C of logistic, lr and weight_decay of linear, alpha
        of ridge. What is left out has defaults.
    stride:
        For masks: maps of this stride or more are concatenated, resized to the largest of them.
    cells:
        For masks: the most cells of these maps that are fitted to. Up to half of them are positive, all if they fit.
    steps:
        Steps of ``linear``, of 256 items each.
    slices_at_once:
        Slices per encoder pass.
    window:
        Of an encoder of volumes: depth, height and width of the windows.
    overlap:
        Share of a window that its neighbour covers too, in [0, 1).
    """

    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    fitted: ClassVar[bool] = True
    unit = "slice"
    units = ("slice", "volume")
    encoder: Any
    head: Any

    def __init__(
        self,
        encoder: Annotated[Any, Slot("encoder")],
        classifier: Literal["knn", "logistic", "linear", "ridge"] = "logistic",
        target: Literal["label", "mask"] = "label",
        classes: Annotated[int, Gt(1)] = 2,
        grid: dict[str, list[float]] = {},  # noqa: B006
        stride: Annotated[int, Gt(0)] = 8,
        cells: Annotated[int, Gt(1)] = 200_000,
        steps: Annotated[int, Gt(0)] = 1000,
        slices_at_once: Annotated[int, Gt(0)] = 32,
        window: tuple[Count, Count, Count] | None = None,
        overlap: Annotated[float, Ge(0), Lt(1)] = OVERLAP,
    ) -> None:
        super().__init__()
        if target == "mask" and (classifier != "linear" or classes != 2):
            hint = "write 'classifier: linear', and no 'classes'"
            raise InputError("masks are segmented by a linear layer, positive or not", hint=hint)
        if classifier == "ridge" and classes != 2:
            raise InputError("ridge regresses a value and has no classes", hint="leave 'classes' out")
        self.target: str = target
        self.encoder, self.stride, self.cells = encoder, stride, cells
        self.slices_at_once = slices_at_once
        self.window, self.overlap = _windows(encoder, target, window), overlap
        self.levels = [i for i, s in enumerate(encoder.strides) if s >= stride] if target == "mask" else []
        if target == "mask" and not self.levels:
            have = ", ".join(map(str, encoder.strides))
            raise InputError(f"the encoder has no map of stride {stride} or more", hint=f"its strides: {have}")
        width = sum(encoder.channels[i] for i in self.levels) if self.levels else encoder.channels[-1]
        options = {"steps": steps} if classifier == "linear" else {}
        self.head = PROBES[classifier](width, 0 if classifier == "ridge" else classes, grid, **options)

    @property
    def how(self) -> str:
        """What is taken from the encoder's maps."""
        if self.window is not None:
            return how(self.window, self.overlap)
        return f"maps {self.levels}" if self.levels else "mean of the deepest map"

    def reads(self, batch: Batch) -> set[str]:
        return {"image", self.target}

    def turns(self) -> Sequence[Turn]:
        return ()

    def parts(self) -> Mapping[str, Any]:
        return {"encoder": self.encoder, "head": self.head}

    def losses(self, turn: str, batch: Batch) -> dict[str, Tensor]:
        raise InputError("a probe is fitted at once, not trained batch by batch")

    def encode(self, images: Tensor) -> Tensor:
        """(N,C,H,W) to features (N,F), or for masks maps (N,F,h,w); of an encoder of volumes (D,C,H,W) to (1,F)."""
        if self.window is not None:
            volume = images.transpose(0, 1)[None]
            return mean_over_windows(self.encoder.eval(), volume, self.window, self.overlap)
        maps = self.encoder.eval()(images)
        if not self.levels:
            return maps[-1].mean((2, 3))
        chosen = [maps[i] for i in self.levels]
        size = chosen[0].shape[2:]
        return torch.cat([chosen[0], *(_resized(one, size) for one in chosen[1:])], 1)

    def items(self, features: np.ndarray, label: np.ndarray) -> Items:
        """What a case contributes to the fit, for labels: its slices, or with ``unit: volume`` their mean.

        ``features`` (D,F); ``label`` (D,), nan if it is not known: such items are left out.
        """
        if self.unit == "volume":
            # A volume is positive if any slice is; otherwise all have its own label.
            features, label = features.mean(0, keepdims=True), label.max(keepdims=True)
        known = ~np.isnan(label)
        return Items(np.ascontiguousarray(features[known], np.float32), label[known])

    def cells_of(self, maps: np.ndarray, mask: np.ndarray, most: int, seed: Sequence[int]) -> Items:
        """What a case contributes to the fit, for masks: up to ``most`` cells of its maps (D,F,h,w).

        A cell's target is the share of it that ``mask`` (D,H,W) covers. Positive cells are taken first, up to a half;
        others are drawn, and each counts for as many as it stands for.
        """
        share = F.adaptive_avg_pool2d(torch.from_numpy(np.array(mask, np.float32))[:, None], maps.shape[2:])
        target = share.numpy().reshape(-1)
        rng = np.random.default_rng(seed)
        chosen: list[np.ndarray] = []
        weight: list[np.ndarray] = []
        positive = np.flatnonzero(target)
        for group, room in ((positive, most // 2), (np.flatnonzero(target == 0), most)):
            room -= sum(len(one) for one in chosen)
            taken = group if len(group) <= room else np.sort(rng.choice(group, room, replace=False))
            chosen.append(taken)
            weight.append(np.full(len(taken), len(group) / max(1, len(taken))))
        index = np.concatenate(chosen)
        flat = np.moveaxis(maps, 1, 3).reshape(-1, maps.shape[1])
        return Items(np.ascontiguousarray(flat[index], np.float32), target[index], np.concatenate(weight))

    def fit(self, train: Items, validate: Items | None, seed: int) -> Choice:
        """Fit the classifier to items of the training split, choosing its settings by those of the validation split."""
        found: Choice = self.head.fit(train, validate, seed)
        return found

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """From the batch's ``features`` if it has them, else from its images."""
        if self.levels:
            return self._masks(self._features(batch), batch)
        features = self._features(batch).float()
        if self.unit == "volume" and self.window is None:
            each = depths(batch["lengths"], features.shape[0])
            features = torch.stack([one.mean(0) for one in features.split(each)])
        return self.said(self.head(features))

    def _features(self, batch: Batch) -> Tensor:
        if "features" in batch:
            found: Tensor = batch["features"]
            return found
        images = batch["image"]
        if self.window is not None:
            return torch.cat([self.encode(one) for one in images.split(batch["lengths"].tolist())])
        made: Tensor = in_chunks(self.encode, images, self.slices_at_once)
        return made

    def said(self, found: Tensor) -> dict[str, Tensor]:
        """The standard prediction of what the classifier puts out."""
        if not self.head.classes:
            return {"value": found[:, 0]}
        return {"class_probability": found} if self.head.outputs > 1 else {"probability": found[:, 0]}

    def _masks(self, maps: Tensor, batch: Batch) -> dict[str, Tensor]:
        def one(part: Tensor) -> Tensor:
            found = self.head(part.permute(0, 2, 3, 1).reshape(-1, part.shape[1]))
            small = found.reshape(len(part), 1, *part.shape[2:])
            return _resized(small, batch["image"].shape[2:])

        probability = in_chunks(one, maps, self.slices_at_once)
        if self.unit == "volume" and "lengths" in batch:
            volumes = probability.split(depths(batch["lengths"], probability.shape[0]))
            each = torch.stack([volume.max() for volume in volumes])
        else:
            each = probability.amax((1, 2, 3))
        return {"mask_probability": probability, "probability": each}


def _windows(encoder: Any, target: str, window: Triple | None) -> Triple | None:
    """The windows in which an encoder of volumes is asked; None for one of slices."""
    if dimensions_of(encoder) == 2:
        if window is not None:
            raise InputError("an encoder of slices has no windows", "window", "leave it out")
        return None
    if target == "mask":
        raise InputError("an encoder of volumes has no probe of masks", "target", "its head 'unet3d' segments")
    if window is None:
        what = "an encoder of volumes is asked in windows, and how large they are is not known"
        raise InputError(what, "window", "write 'window: [DEPTH, HEIGHT, WIDTH]', such as its stage's patch_size")
    return window


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps.float(), size=tuple(size), mode="bilinear", align_corners=False)
