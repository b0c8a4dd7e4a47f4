"""Cases, where they come from, and what becomes of their images before a network gets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from medkit.data.volume import Volume

from medkit.protocols.defaults import with_default

Batch = dict[str, Any]
Rows = Mapping[str, "np.ndarray"]


@dataclass(frozen=True)
class Case:
    """One row of a manifest: what is known of a case before any voxel is read.

    ``label`` is None when it follows from the mask (any positive voxel) or there is none.
    """

    id: str
    patient: str
    center: str = ""
    fold: str = ""
    label: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Record:
    """The voxels of one case on the source grid: HU for CT, stored units otherwise.

    ``mask`` holds 0 and 1, or the classes of the data block (:class:`medkit.protocols.classes.Classes`), and is None
    where none was drawn; ``target`` is the paired image of a denoising case;
    ``channels`` are further images of the case, such as other sequences, channels of it after ``image``. All lie on the
    image's grid.
    """

    image: Volume
    mask: Volume | None = None
    target: Volume | None = None
    channels: Sequence[Volume] = ()


@runtime_checkable
class Source(Protocol):
    """Where cases come from. ``cases`` reads no voxels; ``load`` reads those of one case.

    A source whose images are not what a reader would take them for (phantoms, simulated noise) says so in an attribute
    ``notice`` (str), which heads the report. One that wraps another source keeps it in an attribute ``source``.
    Fields that say what an image shows, from coarse to fine, may be named in an attribute ``groups`` (tuple of str):
    the report colours its map of embedded images by them.

    One whose records have ``channels`` says how many images make a case in an attribute ``channels`` (int), so that it
    is known before any is read; every case has as many.

    One that looks at the values of its masks has an attribute ``classes`` (:class:`medkit.protocols.classes.Classes` or
    None), which a data set fills with those of its data block.

    A case without a mask is unlabelled, not normal: ``Record.mask`` of a normal one is empty. A source that knows
    without reading voxels which cases have a mask says so by a method ``have_masks(cases)``, (n,) booleans.

    No patient may be trained on and tested on, in the whole chain of a recipe. Equal patients of all sources are taken
    for one, unless the sources have another attribute ``space`` (str): the hospital, the public set, a phantom's seed.
    One whose cases are listed in a file says where by a method ``where(case)`` (str, file and row), for errors.
    Where the patient of a case is only a unit to count (blocks of one scan), a method ``person(case)`` (str) says whom
    it shows.
    """

    def cases(self) -> Sequence[Case]: ...

    def load(self, case: Case) -> Record: ...

    def identity(self, case: Case) -> str:
        """A string that changes whenever ``load`` would return other voxels; the key of the preparation cache."""
        ...


@runtime_checkable
class Transform(Protocol):
    """One deterministic step of preparation, over all slices of a case.

    ``arrays`` maps ``image``, ``mask``, ``target`` (those the case has) to (D,H,W) arrays; the result has the same
    keys and the same D. A step that changes H or W undoes it in ``restore`` for one (D,H,W) float array.
    Images of several channels are handed over channel by channel. A step that makes channels has a method
    ``channels(count)``, how many it makes of ``count``: it gets images of several as (D,C,H,W), and gives that.
    Results are kept on disk by the step's class, source code and arguments, which are plain data, arrays, paths or data
    classes. What the code takes from elsewhere (another installed package) is not seen: a class attribute ``version``
    (int), raised when the step's numbers change, has them made again.
    Random steps for training implement :class:`Augmentation` instead.

    A step may be part of exported networks (:mod:`medkit.runs.export`), which is what its two further methods are for:
    ``graph(images)`` does with torch operations to (N,C,H,W) what ``apply`` does to images, and
    ``graph_restore(maps, shape)`` what ``restore`` does, to (N,K,H,W).
    """

    def apply(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]: ...

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Bring ``array`` back to the in-plane ``shape`` (H,W) it had before this step."""
        ...


@runtime_checkable
class Augmentation(Protocol):
    """A random change for training, the same on all slices of one item.

    ``cpu`` returns an albumentations transform, ``device`` a kornia module; an augmentation that has no form for
    one of them raises ``NotImplementedError`` with the reason.
    """

    @with_default
    def cpu(self) -> Any:
        raise NotImplementedError("it has no form for the CPU")

    @with_default
    def device(self) -> Any:
        raise NotImplementedError("it has no form for the training device")
