"""One probe for each of several classes that a case may have at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from medkit.errors import InputError
from medkit.parts.probes import Choice, FeatureProbe, Items


class PerClass(nn.Module):
    """Probes of two classes, one for each name; each is fitted to the items of which its class is known.

    Settings and errors are named after the classes, ``C_oedema``; the error of all is their mean.
    """

    classes = 2

    def __init__(self, names: Sequence[str], probes: Sequence[FeatureProbe]) -> None:
        super().__init__()
        self.names, self.probes = tuple(names), nn.ModuleList(probes)
        self.outputs = len(self.names)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([probe(features) for probe in self.probes], 1)

    @property
    def chooses(self) -> bool:
        return any(probe.chooses for probe in self._each())

    def make_room(self, weights: Mapping[str, Tensor]) -> None:
        """As :meth:`medkit.parts.probes.FeatureProbe.make_room`."""
        for number, probe in enumerate(self._each()):
            start = f"probes.{number}."
            probe.make_room({k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)})

    def fit(self, train: Items, validate: Items | None, seed: int) -> Choice:
        """Fit each class's probe to items whose targets are flags (n,K), nan where one is not known.

        Raises
        ------
        InputError
            as :meth:`medkit.parts.probes.FeatureProbe.fit`, naming the class.
        """
        found: list[Choice] = []
        for number, (name, probe) in enumerate(zip(self.names, self._each(), strict=True)):
            try:
                found.append(probe.fit(_of(train, number), None if validate is None else _of(validate, number), seed))
            except InputError as error:
                raise InputError(f"{name}: {error.what}", error.where, error.hint) from error
        settings = {f"{k}_{n}": v for n, one in zip(self.names, found, strict=True) for k, v in one.settings.items()}
        errors = [one.error for one in found if one.error is not None]
        tried = [self._row(rows) for rows in zip(*(one.tried for one in found), strict=False)]
        return Choice(settings, float(np.mean(errors)) if errors else None, tried)

    def _row(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """A setting that was tried, of all classes."""
        named = {f"{k}_{n}": v for n, row in zip(self.names, rows, strict=True) for k, v in row.items() if k != "error"}
        return {**named, "error": float(np.mean([row["error"] for row in rows]))}

    def _each(self) -> list[FeatureProbe]:
        return [probe for probe in self.probes if isinstance(probe, FeatureProbe)]


def _of(items: Items, number: int) -> Items:
    """The items of which a class is known, with its flags."""
    known = ~np.isnan(items.target[:, number])
    return replace(items, features=items.features[known], target=items.target[known, number])
