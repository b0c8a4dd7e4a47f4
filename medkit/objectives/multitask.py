"""Several pretext heads on one shared encoder, with ties between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from medkit.errors import InputError, MedkitError
from medkit.objectives.common import Watched, in_chunks, modules
from medkit.protocols import Batch, PretextHead, Turn, offered
from medkit.protocols.losses import TieLoss
from medkit.registry.marks import Placed, Slot

PAGE = "docs/plugins.md#pretext"


class Multitask(nn.Module):
    """Pretext heads trained together on a shared encoder (thesis part B, section 2.2.1).

    Heads whose inputs are the same memory share one encoder pass, except those that have their own ``encode``.

    Parameters
    ----------
    encoder:
        The shared feature pyramid.
    heads:
        Pretext heads by name, each with the weight of its loss.
    ties:
        Losses between the raw outputs of two heads, such as SMART-Net's consistency.
    slices_at_once:
        Slices per forward pass in evaluation.
    combine:
        How the losses' gradients of the encoder become one: their ``sum``, or ``pcgrad``, without their conflicts.
    """

    unit = "slice"
    encoder: Any
    heads: Any

    def __init__(
        self,
        encoder: Annotated[nn.Module, Slot("encoder")],
        heads: Annotated[dict[str, Placed], Slot("pretext", weight=1.0)],
        ties: Annotated[list[Placed], Slot("loss", TieLoss, weight=1.0, between=[])] = [],  # noqa: B006
        slices_at_once: Annotated[int, Field(gt=0)] = 32,
        combine: Literal["sum", "pcgrad"] = "sum",
    ) -> None:
        super().__init__()
        self._check_heads(heads)
        self.encoder, self.combine = encoder, combine
        self.heads = modules(heads)
        self.weights = {name: float(item["weight"]) for name, item in heads.items()}
        self.ties = nn.ModuleList(tie.part for tie in ties)
        self.tied: list[tuple[str, str, str, float]] = []
        for tie in ties:
            pair = list(tie["between"])
            if len(pair) != 2 or not all(name in heads for name in pair):
                raise InputError(f"a tie is between two heads, not {pair}", hint=f"heads: {', '.join(heads)}")
            name = "-".join(pair)
            taken = [other for other, *_ in self.tied if other.split(":")[0] == name]
            name += f":{len(taken) + 1}" if taken else ""
            self.tied.append((name, pair[0], pair[1], float(tie["weight"])))
        self.slices_at_once = slices_at_once

    def _check_heads(self, heads: Mapping[str, Placed]) -> None:
        if not heads:
            raise InputError("a multitask objective needs at least one head")

    @property
    def needs(self) -> tuple[str, ...]:
        """Batch fields that the heads ask for."""
        return tuple(dict.fromkeys(name for head in self.heads.values() for name in _needs(head)))

    def reads(self, batch: Batch) -> set[str]:
        """Entries of ``batch`` that the heads take their inputs and targets from."""
        watched = Watched(batch)
        for view in self._views(watched):
            try:
                view()
            except MedkitError:
                raise
            except Exception:
                continue  # a fault of the head, reported when its stage is trained; what it has read by then counts
        return watched.read

    def _views(self, batch: Batch) -> Iterator[Callable[[], Any]]:
        """How each head picks its input from ``batch``."""
        for name, head in self.heads.items():
            yield partial(seen_by, PretextHead, name, head, batch)

    def turns(self) -> Sequence[Turn]:
        return [Turn("train", tuple(self._trained()), self.combine)]

    def parts(self) -> Mapping[str, Any]:
        return self._trained()

    def _trained(self) -> dict[str, Any]:
        ties = {f"ties.{i}": tie for i, tie in enumerate(self.ties) if any(True for _ in tie.parameters())}
        return {"encoder": self.encoder, **{f"heads.{n}": head for n, head in self.heads.items()}, **ties}

    def shared_parameters(self, turn: str) -> Sequence[nn.Parameter]:
        return list(self.encoder.parameters())

    def epoch_numbers(self) -> dict[str, float]:
        """What heads report about themselves, under their names."""
        return numbers_of(self.heads)

    def losses(self, turn: str, batch: Batch) -> dict[str, Tensor]:
        return self.head_losses(batch, Passes(self.encoder))

    def head_losses(self, batch: Batch, encode: Passes) -> dict[str, Tensor]:
        """The losses of heads and ties."""
        outputs: dict[str, Tensor] = {}
        found: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            inputs, target = seen_by(PretextHead, name, head, batch)
            features = head.encode(self.encoder, inputs) if hasattr(head, "encode") else encode(inputs)
            output = head(features, **self._fields(batch, _needs(head)))
            found[name] = self.weights[name] * total(name, head.loss(output, target))
            outputs[name] = output[0] if isinstance(output, list) else output
        for tie, (name, a, b, weight) in zip(self.ties, self.tied, strict=True):
            found[name] = weight * tie(outputs[a], outputs[b])
        return found

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        fields = self._fields(batch, self.needs)

        def one(images: Tensor, *values: Tensor) -> dict[str, Tensor]:
            features = self.encoder(images)
            given = dict(zip(fields, values, strict=True))
            merged: dict[str, Tensor] = {}
            for name, head in self.heads.items():
                if not hasattr(head, "predict"):
                    continue
                wanted = {key: given[key] for key in _needs(head)}
                merge(merged, name, head.predict(head(features, **wanted)))
            return merged

        return in_chunks(one, batch["image"], self.slices_at_once, *fields.values())

    def _fields(self, batch: Batch, names: Iterable[str]) -> dict[str, Tensor]:
        """Fields of a batch, one value per image: those of a volume hold for each of its slices."""
        missing = [name for name in names if name not in batch]
        if missing:
            raise InputError(
                f"a head needs the field '{missing[0]}', which is not given",
                hint=f"'fields: [{missing[0]}]' in the data block; --field {missing[0]}=VALUE for one image",
            )
        found = {name: batch[name] for name in names}
        if "lengths" in batch:
            found = {name: value.repeat_interleave(batch["lengths"]) for name, value in found.items()}
        return found


class Passes:
    """The passes of an encoder over the images of one batch: what is the same memory is encoded once."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.done: list[tuple[Tensor, list[Tensor]]] = []

    def __call__(self, images: Tensor) -> list[Tensor]:
        for seen, features in self.done:
            if seen is images or _place(seen) == _place(images):
                return features
        features = self.encoder(images)
        self.done.append((images, features))
        return features


def _place(images: Tensor) -> tuple[Any, ...]:
    """Where images are in memory, and how they are read from there."""
    return images.device, images.data_ptr(), images.dtype, images.shape, images.stride()


def total(name: str, terms: Any) -> Tensor:
    """The sum of the terms that a head's loss has named."""
    if not isinstance(terms, Mapping) or not terms:
        what = f"the loss of head '{name}' gives {type(terms).__name__}, not its terms by name"
        raise InputError(what, hint=f"such as {{'mse': loss}}: {PAGE}")
    return next(iter(terms.values())) if len(terms) == 1 else sum(terms.values())  # type: ignore[return-value]


def seen_by(protocol: type, name: str, head: nn.Module, batch: Batch) -> tuple[Any, Any]:
    """What a head's ``view`` takes from the batch, which it must not change: the other heads get the same one."""
    before = {key: (value, value._version) for key, value in dict.items(batch) if isinstance(value, Tensor)}
    found: tuple[Any, Any] = offered(protocol, head, "view")(batch)
    for key, (value, version) in before.items():
        if dict.get(batch, key) is not value or value._version != version:
            what = f"head '{name}' changes '{key}' of the batch in its view, which other heads and targets see"
            raise InputError(what, hint=f"change a copy, batch['{key}'].clone(): {PAGE}")
    return found


def merge(merged: dict[str, Tensor], name: str, found: Any) -> None:
    """Add what head ``name`` predicts to the predictions of others."""
    if not isinstance(found, Mapping):
        what = f"predict of head '{name}' gives {type(found).__name__}, not predictions by name"
        raise InputError(what, hint=f"such as {{'probability': (N,)}}: {PAGE}")
    for key, value in found.items():
        if key in merged:
            raise InputError(f"two heads predict '{key}'; the second is '{name}'", hint="leave one out")
        merged[key] = value


def numbers_of(heads: Any) -> dict[str, float]:
    """What heads with a method ``epoch_numbers`` report: ``NAME_NUMBER``."""
    able = {name: head for name, head in heads.items() if hasattr(head, "epoch_numbers")}
    return {f"{name}_{key}": float(value) for name, head in able.items() for key, value in head.epoch_numbers().items()}


def _needs(head: nn.Module) -> tuple[str, ...]:
    return tuple(getattr(head, "needs", ()))
