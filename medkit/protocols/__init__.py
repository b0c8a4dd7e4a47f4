"""What each kind of component has to offer, with shapes and units.

Nothing here imports torch at run time: protocols are typing only, and the data records hold numpy arrays. A component
that lacks a member of its protocol is refused before anything is written (:mod:`medkit.registry.promises`); members
marked :func:`with_default` may be left out, the protocol's own body stands in (:func:`offered`). What losses are called
with depends on their place: :mod:`medkit.protocols.losses`.

A *batch* is a plain dictionary. Its keys by unit of training, images always float32:

===========  =================================================================================================
``slice``    ``image`` (N,C,H,W); ``label`` (N,); ``mask`` (N,1,H,W) and ``target`` (N,C,H,W) where the data has them;
             a mask of classes has their numbers, of overlapping ones it is (N,K,H,W); declared ``labels`` (N,):
             numbers of classes or measurements, of ``any_of`` (N,K) flags; nan where one is not known
``volume``   ``image`` (S,C,H,W): the slices of all volumes one after the other, never padded; ``lengths`` (B,)
             with ``sum(lengths) == S``; ``label``, ``labels`` (B,); ``mask``, ``target`` as above with S slices
``patch``    ``image`` and ``target`` (N,C,p,p), cut at the same places
``patch3d``  boxes out of volumes, cut at the same places: ``image`` (N,C,d,h,w); ``label`` (N,) of their cases;
             ``mask`` and ``target`` as of slices, with a depth before the height
===========  =================================================================================================

Where the data block makes ``views`` or ``crops`` and a stage reads them, its batches have ``views`` (N,V,C,H,W) and
``crops`` (N,K,C,h,w): V and K images made at random of each of the N, before ``augment`` (of a volume's slices, alike).

Every batch also carries ``ids`` (list of str, one an item) and a (N,) or (B,) tensor for each numeric case field
that the data block asks for (``fields: [age, sex]``).

A *prediction* is a dictionary of tensors under standard names, one entry an item unless said otherwise:
``probability`` (N,) in [0,1]; ``class_probability`` (N,K) of classes that exclude each other, ``label_probability``
(N,K) of those that do not; ``mask_probability`` (S,1,H,W) in [0,1], of masks with
classes (S,K,H,W), one a class;
``reconstruction`` (S,C,H,W); ``output`` (S,C,H,W), an image such as a denoised slice; ``value`` (N,), a regression.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from medkit.data.volume import Volume

KINDS = (
    "encoder",
    "pretext",
    "operator",
    "generator",
    "discriminator",
    "loss",
    "metric",
    "source",
    "transform",
    "objective",
    "optimizer",
    "schedule",
    "clip",
    "tracker",
    "distiller",
)
"""Kinds of component; the first, second, third, fifth, sixth and seventh are the public promise."""

Method = TypeVar("Method", bound=Callable[..., Any])


def with_default(method: Method) -> Method:
    """Marks a method that a component may leave out: what stands in the protocol is done then."""
    method.has_default = True  # type: ignore[attr-defined]
    return method


def offered(protocol: type, component: Any, name: str) -> Callable[..., Any]:
    """A component's own method, or the default that its protocol has for it."""
    own = getattr(component, name, None)
    return own if own is not None else functools.partial(getattr(protocol, name), component)


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


@runtime_checkable
class Encoder(Protocol):
    """An ``nn.Module`` from (N,C,H,W) to a feature pyramid, shallow to deep.

    ``channels[i]`` and ``strides[i]`` describe the i-th feature map, ceil(H / stride) by ceil(W / stride); an encoder
    whose convolutions are not padded says so by an attribute ``unpadded = True``, and its maps are smaller. One that
    takes images of a single size has that in an attribute ``only_size`` (height, width), and refuses others. One of
    volumes has a class attribute ``dimensions = 3``: it takes (N,C,D,H,W), and each of its strides is a triple for
    depth, height and width.
    ``stages()`` lists named submodules from input to output, together holding every parameter, for gradual unfreezing;
    an encoder without parameters (``medkit:identity``) lists none.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...] | tuple[tuple[int, int, int], ...]

    def forward(self, x: Tensor) -> list[Tensor]: ...

    @with_default
    def stages(self) -> Sequence[tuple[str, Any]]:
        """Default: the encoder is one stage, opened as a whole."""
        return [("encoder", self)]


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that also gives tokens of some of an image's patches, as plain vision transformers do.

    ``tokens(x, keep)`` goes from (N,C,H,W) to (N,P+K,D): ``prefix_tokens`` = P tokens that stand for no patch, then
    those of the K patches that ``keep`` (N,K) names by their indices in row order; without ``keep``, of all. ``patch``
    is their height and width, and the image has ceil(H / height) by ceil(W / width) of them; ``width`` is D. An encoder
    without tokens has none of these attributes, so a head asks for one of them as it asks for channels
    (``Annotated[int, Given("encoder.width")]``) and is refused beside any other encoder.
    """

    patch: tuple[int, int]
    prefix_tokens: int
    width: int

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class PretextHead(Protocol):
    """A task on top of the shared encoder.

    ``view`` picks the encoder's input and the target from a batch, which it leaves as it is; heads whose inputs are the
    same memory share one encoder pass. ``loss`` names its terms; they are summed into one task loss. ``predict``
    maps the raw output for whole images (``encoder(image)``) to standard prediction names (module docstring); a head
    without it is not asked in evaluation. ``forward`` and ``loss`` are the least.

    A head that can tell more of its training than its loss has a method ``epoch_numbers()``, from names to numbers,
    which are asked for at the end of every epoch and told as ``train/HEAD_NAME``.

    A head that wants more of the encoder than ``encoder(images)`` has an ``encode`` of its own: a learned token at
    masked places, tokens that are dropped. It is given what ``view`` returned as input, which may then be a tuple of
    tensors, and ``forward`` gets what it returns.

    What ``view`` takes from the batch also decides which slices are drawn where the recipe leaves it open (``draw``):
    a head that takes ``mask`` or ``label`` gets slices with positive voxels, any other gets them as they lie in the
    data. One that compares views takes ``batch["views"].flatten(0, 1)``: the V views of the first image, those of the
    next one, and so on; the data block has to make them. State that training changes belongs into parameters and
    buffers; nothing else is there after a resume.

    A head of volumes says so by a class attribute ``dimensions = 3``: its features come from an encoder of volumes, and
    its predictions have (N,K,D,H,W) where those of others have (N,K,H,W). ``dimensions = (2, 3)`` says that it takes
    maps of either, as heads do that pool them. In training ``forward`` may give a list of maps, the finest first (deep
    supervision): ``loss`` gets all of them, ties the first.

    A head that wants more of an item than its image names batch fields in a class attribute, ``needs = ("sex",)``, and
    ``forward`` gets each as a keyword argument, an (N,) float tensor. The data block has to ask for them
    (``fields: [sex]``). A head that predicts a ``value`` may name its ``unit`` in a class attribute (``"months"``).
    """

    @with_default
    def view(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Default: the image itself, as input and as target."""
        return batch["image"], batch["image"]

    @with_default
    def encode(self, encoder: Callable[..., Any], inputs: Any) -> Any:
        """The features that ``forward`` gets. Default: the pyramid of the images, shared with other heads."""
        return encoder(inputs)

    def forward(self, features: list[Tensor]) -> Tensor: ...

    def loss(self, output: Tensor, target: Tensor) -> dict[str, Tensor]: ...

    @with_default
    def predict(self, output: Tensor) -> dict[str, Tensor]:
        """Default: there is nothing to evaluate."""
        return {}


@runtime_checkable
class VolumeOperator(Protocol):
    """From per-slice features of whole volumes to logits.

    An operator has a 2-D part, ``slices``, that the objective calls on chunks of slices (features of the encoder,
    a list of (s,C_i,H_i,W_i)) and whose result (s,...) it concatenates and pads to ``features`` (B,D,...); and a
    part over depth, ``forward(features, lengths)``, that never looks at padded slices.
    Logits: (B,) for ``task = "classification"``; (B,D,H,W) for ``task = "segmentation"``, or of masks with classes
    (B,D,C,H,W); meaningless where padded. An operator that asks :func:`medkit.parts.depths.depths` for the values of
    ``lengths`` can be exported.
    """

    task: ClassVar[str]

    def slices(self, features: list[Tensor]) -> Tensor: ...

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor: ...


@runtime_checkable
class Generator(Protocol):
    """An ``nn.Module`` from an image (N,C,H,W) to an image of the same shape."""

    def forward(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Discriminator(Protocol):
    """An ``nn.Module`` from (N,C,H,W) to raw scores, one entry a task: ``cls`` (N,1), ``seg``/``rec`` (N,1,H,W).

    ``shared_parameters()`` lists those that several tasks train; all others are specific to one task.
    """

    def forward(self, x: Tensor) -> dict[str, Tensor]: ...

    def shared_parameters(self) -> Iterable[Any]: ...


@runtime_checkable
class Metric(Protocol):
    """A number with a declared rule for empty cases and a value per case.

    The evaluator hands ``per_case`` one dictionary a case, or one a slice in slice-wise stages (a volume of one slice,
    D = 1). It must not be changed. Its keys:

    ===================== ================ =========================================================================
    ``id``                str              of the case, ``CASE#3`` for its fourth slice
    ``patient center``    str              whose it is, and from where
    ``label``             float            1 where the mask has a positive voxel, else the case's own; nan if unknown
    ``image``             (D,H,W) float32  on the *prepared* grid, in the window; (D,C,H,W) of several channels
    ``target``            (D,H,W) float32  as ``image``, where the data has targets
    ``mask``              (D,h,w) uint8    on the *source* grid, where the data has masks
    ``mask_probability``  (D,h,w) float32  a prediction brought back to the *source* grid, in [0,1]
    ``class_masks``       (K,D,h,w) bool   of masks with classes: where each is, on the *source* grid; ``mask`` and
                                           ``mask_probability`` are of any class then
    ``class_masks_said``  (K,D,h,w) bool   where each is predicted: the likeliest, of overlapping ones above 0.5
    ``classes``           tuple of str     their names
    ``output``            (D,H,W) float32  a predicted image, as ``image``; so is ``reconstruction``
    ``probability``       float            in [0,1]; of a volume's slices the largest
    ``value``             float            a regression; of a volume's slices the mean
    ``class_probability`` (K,) float32     of a volume's slices the mean
    ``label_probability`` (K,) float32     of classes that do not exclude each other; of a volume's slices the largest
    ``labels``            () or (K,)       declared labels: number of the class, measurement or flags; nan if unknown
    ``declared``          Labels           what they are, with the names of classes (:mod:`medkit.protocols.labels`)
    ``spacing``           (3,) float64     mm of the source: from slice to slice, down a column, along a row
    ``voxel_volume``      float            mm^3 (= microlitres) of a source voxel, the mean over slices
    ``slice_volumes``     (D,) float64     mm^3 of a source voxel in each slice: use these for volumes
    ``positions``         (D,3) float64    mm, LPS: where each slice's first source voxel lies
    ``affine``            (4,4) float64    mm, LPS, from (slice, row, column, 1) of the source
    ===================== ================ =========================================================================

    and every further field of the case's manifest under its own name. Predictions are there if the stage makes them;
    all are finite. Where the source does not say how large its voxels are (a PNG), all five sizes and places are nan:
    a metric in mm or mL is then nan too, never a number of pixels.

    A case whose label is nan, or that has no mask, is unlabelled: a metric that reads what is not known gets no row of
    it, and the case is counted as empty.

    ``per_case`` returns the row to keep (the same keys for every case, numbers or text), or None when the case is empty
    for this metric (``empty`` says the rule in words). None takes the case out of the mean, so it is for what the
    *truth* leaves undefined. What a network brings about itself should cost it: a distance to a lesion that was not
    found is no None but the worst there is, such as the diagonal of the volume.

    ``compute`` turns the stacked rows into the number, nan where it is undefined (never 0). ``score`` is the per-case
    value shown in ``cases.csv`` and used by paired tests, nan if the metric has none (AUC). On several ranks each
    measures a part of the cases, and one computes the number: what that takes stands in the rows, not in the metric.

    A metric may also have

    - ``needs``, a tuple of keys that ``per_case`` reads (checked before training; all keys are anyway tried on a case);
    - ``extras(rows)``, numbers by name that go with its own into ``results.json``, by names not taken there;
    - ``interval(rows, patients)``, a 95 % interval (low, high) in the place of the bootstrap's, or None to keep that,
      with ``interval_method``, how it was made in a word; it is not asked with fewer than six patients;
    - ``terms(rows)`` and ``of_sums(sums)`` (:class:`medkit.parts.metrics_sums.SumMetric`), or ``weighted(rows)``, a
      function of how often each row counts, for a bootstrap that takes a hundredth of the time;
    - ``of_labels(labels)``, the metrics that stand for it in a stage that reads the declared labels of its data block;
    - ``of_classes(names)``, the metrics that stand for it where masks have classes, its own summary first;
    - ``to(device)``, told before an evaluation where a network of the metric's should compute.
    """

    name: str
    unit: str
    higher_is_better: bool
    empty: str

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None: ...

    def compute(self, rows: Rows) -> float: ...

    def score(self, row: Mapping[str, Any]) -> float: ...


@dataclass(frozen=True)
class Turn:
    """One optimizer step of a batch: which parts it trains, and how its task gradients become one.

    ``combine`` is ``"sum"`` (one backward of the weighted sum) or ``"pcgrad"`` over ``shared`` parameters.
    ``steps`` says how often the turn is taken on each batch; its losses are asked for anew each time.
    """

    name: str
    parts: tuple[str, ...]
    combine: str = "sum"
    steps: int = 1


@runtime_checkable
class Objective(Protocol):
    """A stage's task: an ``nn.Module`` whose direct children are the named parts (``encoder``, ``heads.seg``...).

    ``unit`` is the batch unit it trains on, and the only one unless a tuple ``units`` names several; then ``unit``
    becomes that of the stage. For every batch
    the engine goes through ``turns`` in order, asks ``losses(turn, batch)`` for the named task losses (weights already
    applied, each a scalar with a graph), turns them into gradients as the turn says and steps that turn's optimizer.
    ``predict`` takes a batch of either unit in eval mode. One whose parts are of volumes has a class attribute
    ``dimensions = 3``.
    ``parts()`` names what is saved as ``weights/STAGE.PART.safetensors``, what ``unfreeze`` may name and what a later
    stage may take by ``from: stage.part``. One that makes copies of parts names them in a class constant
    ``copied_parts`` (copy to part), so that recipes may name them too.
    """

    unit: str

    def turns(self) -> Sequence[Turn]: ...

    def losses(self, turn: str, batch: Batch) -> dict[str, Tensor]: ...

    def predict(self, batch: Batch) -> dict[str, Tensor]: ...

    def parts(self) -> Mapping[str, Any]: ...

    @with_default
    def reads(self, batch: Batch) -> set[str] | None:
        """The entries of a batch that losses take, from an example: it decides which slices are drawn (``draw``) and
        whether views are made. Default: it is not known; slices are drawn evenly, and all views made."""
        return None

    @with_default
    def shared_parameters(self, turn: str) -> Sequence[Any]:
        """The parameters that several tasks of ``turn`` train, for PCGrad. Default: there are none."""
        return ()

    @with_default
    def before_step(self, turn: str, step: int, steps: int) -> None:
        """Told of an optimizer step of ``turn`` before its losses: it is the ``step``-th, from 0, of ``steps`` in the
        whole training. For what changes with time: what is kept of it belongs into a buffer. Default: nothing is done.
        """

    @with_default
    def after_step(self, turn: str) -> None:
        """Told of every optimizer step of ``turn``. Default: nothing is done."""

    @with_default
    def epoch_numbers(self) -> Mapping[str, float]:
        """Numbers that say how the training goes beside its losses, asked for at the end of every epoch and told as
        ``train/NAME``. What they are made from belongs into buffers. Default: there are none."""
        return {}


@runtime_checkable
class Optimizer(Protocol):
    """Settings of an optimizer; the optimizer itself is made once the parameters are known.

    ``lr`` is the learning rate that the schedule multiplies or lowers; the engine sets it anew before every epoch or
    step, times the ``lr_scale`` of each group.
    """

    lr: float

    def build(self, parameters: Iterable[Any]) -> Any:
        """A ``torch.optim.Optimizer`` over ``parameters``: a flat list; with ``no_decay`` or ``layer_decay`` in the
        recipe, groups as torch takes them (``params``, ``weight_decay``, ``lr_scale``), to be handed on."""
        ...


@runtime_checkable
class Schedule(Protocol):
    """The learning rate of each epoch, a pure function of its number, so that a resumed run needs no state of it.

    With ``by: step`` in the recipe, optimizer steps are counted in the place of epochs.
    """

    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        """Learning rate of ``epoch`` (from 0) of ``epochs``, where ``lr`` is the optimizer's own."""
        ...


@runtime_checkable
class Clip(Protocol):
    """A bound on the gradient of an optimizer step.

    It is asked right before the optimizer has the gradient, which is whole then: accumulated over batches, combined
    over tasks and averaged over ranks, so the same on all of them.
    """

    def clip(self, parameters: Sequence[Any]) -> None:
        """Change the ``grad`` of these parameters in place: those of the turn that have one, at least one of them."""
        ...
