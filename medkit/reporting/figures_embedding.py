"""A map of embedded images: similar features lie near each other."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from medkit.evaluation.embeddings import Embedding
from medkit.reporting.figures import drawn

FEWEST = 8  # images; t-SNE of fewer shows nothing
NAMED = 30  # classes that a legend can hold


def tsne(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Two coordinates for each of (N,C) features by t-SNE (van der Maaten and Hinton 2008), started from PCA.

    The perplexity is 30, or a quarter of N where that is less.
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, len(features) / 4)
    return TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(features)


def embedding_map(embedding: Embedding) -> str:
    """A panel per group (from coarsest to finest), else one coloured by class number; "" for too few images."""
    if len(embedding.features) < FEWEST or np.ptp(embedding.features, axis=0).max() == 0:
        return ""
    at = tsne(embedding.features)
    classes = ["unlabelled" if np.isnan(label) else f"{label:g}" for label in embedding.label]
    panels = embedding.groups or {"class": np.array(classes)}

    def draw() -> Figure:
        figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 4.2), squeeze=False)
        for ax, (name, values) in zip(axes[0], panels.items(), strict=True):
            names = _sorted(values)
            colours = plt.get_cmap("tab10" if len(names) <= 10 else "turbo")
            for i, one in enumerate(names):
                colour = colours(i) if len(names) <= 10 else colours(i / (len(names) - 1))
                ax.scatter(*at[values == one].T, s=9, color=colour, label=one, linewidths=0)
            ax.set_title(f"{name} ({len(names)})", loc="left", fontsize=9)
            ax.set_xticks([])
            ax.set_yticks([])
            if len(names) <= NAMED:
                columns = 1 + len(names) // 16
                ax.legend(frameon=False, fontsize=6, ncols=columns, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.tight_layout()
        return figure

    return drawn(draw, "png")


def _sorted(values: np.ndarray) -> list[str]:
    names = sorted(set(values.tolist()))
    numeric = all(name.lstrip("-").isdigit() for name in names)
    return sorted(names, key=int) if numeric else names
