"""Self-supervised pretexts: what an encoder learns from images without labels."""

from __future__ import annotations

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry):
    registry.pretext("rotation", "medkit_ssl.rotation:Rotation", "by which quarter turn was the slice rotated?")
    registry.pretext("jigsaw", "medkit_ssl.jigsaw:Jigsaw", "in which order do the nine tiles of the slice lie?")
    registry.pretext("simmim", "medkit_ssl.simmim:SimMIM", "what is behind masked patches, by any encoder?")
    registry.pretext("mae", "medkit_ssl.mae:MAE", "what is in patches that the encoder was not shown?")
