"""Any timm backbone as a feature pyramid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from timm.models import adapt_input_conv
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.encoder_models import Blocks, create, outline, takes
from medkit.parts.encoder_stages import by_blocks, by_levels, layers_of
from medkit.parts.encoder_tokens import has_tokens, tokens_of
from medkit.registry.marks import Weights


class TimmEncoder(nn.Module):
    """A timm backbone as a feature pyramid, shallow to deep.

    Shapes: (N,C,H,W) to a list of (N,channels[i],H/strides[i],W/strides[i]). Nothing is ever downloaded unless
    ``weights`` says ``hub:``.

    Parameters
    ----------
    model:
        Name of a timm model that can return features, such as ``resnet50``.
    in_channels:
        Channels of the input; pretrained weights of colour images are summed over colours for 1.
    weights:
        null: drawn at random; ``PATH.safetensors``: a file with this model's weights; ``hub:TAG``: downloaded by timm
        (``hub:`` alone takes the model's default tag).
    stem_stride:
        1 keeps the first convolution at full resolution, as the published SMART-Net does; null is timm's own.
    depth:
        Levels of the pyramid to keep, from the shallowest; deeper layers are not built. null keeps all. Small images
        gain nothing from a deepest map of 2x2.
    """

    net: Any
    patch: tuple[int, int]
    """Height and width of a patch; a plain vision transformer has it, and with it ``tokens``."""
    prefix_tokens: int
    """Tokens before those of the patches: class, distillation, registers."""
    width: int
    """Channels of a token."""

    def __init__(
        self,
        model: str = "resnet18",
        in_channels: Annotated[int, Field(gt=0)] = 1,
        weights: Weights | None = None,
        stem_stride: Literal[1, 2] | None = None,
        depth: Annotated[int, Field(gt=0)] | None = None,
    ) -> None:
        super().__init__()
        outline(model)
        hub = weights is not None and weights.startswith("hub:")
        name = f"{model}.{weights[4:]}" if hub and weights is not None and weights[4:] else model
        options = {key: True for key in ("dynamic_img_size", "dynamic_img_pad") if takes(model, key)}
        try:
            self.net = create(model, name, in_channels, pretrained=hub, depth=depth, options=options)
        except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
            raise InputError(f"timm's '{model}' cannot return a feature pyramid: {error}") from error
        except IndexError as error:
            raise InputError(f"timm's '{model}' has fewer than {depth} levels, the 'depth' asked for") from error
        except (OSError, ValueError) as error:
            raise InputError(
                f"weights '{weights}' cannot be fetched: {str(error).splitlines()[0]}",
                hint="without a network, give the path of a safetensors file",
            ) from error
        if isinstance(self.net, Blocks):
            self.channels, self.strides = self.net.channels, self.net.strides
        else:
            self.channels = tuple(int(c) for c in self.net.feature_info.channels())
            self.strides = tuple(int(s) for s in self.net.feature_info.reduction())
        self._layers = layers_of(outline(model)) if isinstance(self.net, Blocks) else None
        if isinstance(self.net, Blocks) and has_tokens(self.net.model):
            self.patch = tuple(self.net.model.patch_embed.patch_size)
            self.prefix_tokens = self.net.model.num_prefix_tokens
            self.width = self.net.model.embed_dim
        if stem_stride is not None:
            self._set_stem(stem_stride)
        if weights is not None and not hub:
            load_backbone(self.net, Path(weights))

    def _set_stem(self, stride: int) -> None:
        first = next(m for m in self.net.modules() if isinstance(m, nn.Conv2d))
        if first.stride[0] == stride:
            return
        if first.stride[0] != 2 or stride != 1:
            raise InputError(f"the first convolution has stride {first.stride[0]}, which cannot become {stride}")
        first.stride = (1, 1)
        self.strides = tuple(s // 2 for s in self.strides)

    def forward(self, x: Tensor, *, as_tokens: bool = False, keep: Tensor | None = None) -> Any:
        """The pyramid; ``as_tokens`` and ``keep`` are for :attr:`tokens`."""
        if as_tokens:
            return tokens_of(self.net.model, x, keep)
        maps = self.net(x)
        last = getattr(self.net, "output_fmt", None) == "NHWC"
        return [m.permute(0, 3, 1, 2) for m in maps] if last else list(maps)

    @property
    def tokens(self) -> Callable[..., Tensor]:
        """``tokens(x, keep=None)``: (N,C,H,W) to (N,P+K,D), which plain vision transformers alone have.

        P tokens stand before the K patches that ``keep`` (N,K) names, by their indices in row order; null keeps all.
        D is :attr:`width`, P :attr:`prefix_tokens`, and patches are of the size :attr:`patch`. The last level of the
        pyramid is that of all patches.
        """
        if "patch" not in self.__dict__:
            raise AttributeError("tokens")
        return self._tokens

    def _tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        # A call of the module, so that what is wrapped around it (divided weights, compilation) is there for this too.
        tokens: Tensor = self(x, as_tokens=True, keep=keep)
        return tokens

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        """Named groups of layers from input to output, together every parameter once: levels, or blocks."""
        if self._layers is None:
            return by_levels(self.net)
        return by_blocks(self.net.model, self._layers)


def _pyramid_name(name: str, own: Mapping[str, Tensor]) -> str:
    """timm's name of a whole model's tensor as its pyramid has it: ``stages.0.x`` is ``stages_0.x`` there."""
    flat = name.replace(".", "_", 1)
    return flat if flat in own and name not in own else name


def load_backbone(net: nn.Module, path: Path) -> None:
    """Load a backbone's safetensors file; a classifier that the pyramid has not is left out, nothing else.

    Colour weights of the first convolution are summed for one channel, or spread over others, as timm does.
    """
    from medkit.parts.weights import read_safetensors

    tensors = read_safetensors(path)
    own = net.state_dict()
    tensors = {_pyramid_name(name, own): tensor for name, tensor in tensors.items()}
    missing = [name for name in own if name not in tensors]
    if missing:
        # A file written from an encoder of ours carries the attribute's name.
        tensors = {name.removeprefix("net."): tensor for name, tensor in tensors.items()}
        missing = [name for name in own if name not in tensors]
    first = next(name for name, tensor in own.items() if tensor.dim() == 4)
    if first in tensors and tensors[first].dim() == 4 and tensors[first].shape[1] == 3 != own[first].shape[1]:
        tensors[first] = adapt_input_conv(own[first].shape[1], tensors[first])
    wrong = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
    if missing or wrong:
        names = ", ".join((missing or wrong)[:3])
        what = "lacks" if missing else "has another shape for"
        raise InputError(f"the file {what} {len(missing or wrong)} tensors of this backbone ({names})", str(path))
    kept: dict[str, Any] = {name: tensors[name] for name in own}
    net.load_state_dict(kept)
