"""A plugin for tests: a step of preparation that is another one in exported networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medkit.api import hookimpl


@dataclass(frozen=True)
class Halved:
    """Half of each value; in a graph, a third."""

    def apply(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return arrays | {"image": arrays["image"] / np.float32(2)}

    def restore(self, array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return array

    def graph(self, images):
        return images / 3

    def graph_restore(self, maps, shape):
        return maps


@hookimpl
def medkit_register(registry):
    registry.transform("halved", "unfaithful_plugin:Halved", "half of each value")
