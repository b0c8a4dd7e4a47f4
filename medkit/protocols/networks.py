"""Networks and what is put on them: encoders, pretext heads, volume operators, generators, discriminators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


from medkit.protocols.cases import Batch
from medkit.protocols.defaults import with_default


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
