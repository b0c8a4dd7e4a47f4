"""Tokens of plain vision transformers, of all patches of an image or of some."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


def has_tokens(model: nn.Module) -> bool:
    """Whether a timm model attends globally to tokens that carry their own positions, so that some may be left out.

    Those are ViT, DeiT, CLIP, DINOv2 (``VisionTransformer``), EVA and DINOv3 (``Eva``). Windows and tables of relative
    positions (Swin, BEiT, SAM) need all patches.
    """
    kind: Any = type(model)
    return any(
        isinstance(model, known) and kind.forward_features is known.forward_features
        for known in (VisionTransformer, Eva)
    )


def tokens_of(model: Any, x: Tensor, keep: Tensor | None = None) -> Tensor:
    """The tokens of an image after the last block and its norm, prefix tokens first.

    Positions are added before patches are dropped, as in He et al. 2022 (MAE, section 3), and a rotary embedding
    is that of each patch's own position.

    Parameters
    ----------
    model:
        One for which :func:`has_tokens` is true.
    x:
        (N,C,H,W).
    keep:
        (N,K) indices of patches in row order, from 0; None: all.

    Returns
    -------
    Tensor
        (N,P+K,D): P prefix tokens (class, distillation, registers), and the patches in the order of ``keep``.
    """
    x, rope = model.patch_embed(x), None
    if isinstance(model, Eva):
        x, rope = model._pos_embed(x)
    else:
        x = model._pos_embed(x)
    if keep is not None:
        prefix, patches = x[:, : model.num_prefix_tokens], x[:, model.num_prefix_tokens :]
        x = torch.cat([prefix, patches.gather(1, keep[:, :, None].expand(-1, -1, x.shape[2]))], 1)
        if rope is not None:
            # (positions, angles), or with axes mixed (blocks, heads, positions, angles): to each image's own positions.
            rope = rope[:, :, keep].transpose(1, 2) if model.rope_mixed else rope[keep][:, None]
    x = model.norm_pre(x)
    for i, block in enumerate(model.blocks):
        x = block(x) if rope is None else block(x, rope=rope[i] if model.rope_mixed else rope)
    tokens: Tensor = model.norm(x)
    return tokens
