"""Self-supervised pretexts: what an encoder learns from images without labels."""

from __future__ import annotations

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry):
    registry.pretext("rotation", "medkit_ssl.rotation:Rotation", "by which quarter turn was the slice rotated?")
    registry.pretext("jigsaw", "medkit_ssl.jigsaw:Jigsaw", "in which order are the nine tiles of the slice?")
    registry.pretext("simmim", "medkit_ssl.simmim:SimMIM", "what is behind masked patches, by any encoder?")
    registry.pretext("mae", "medkit_ssl.mae:MAE", "what is in patches that the encoder was not shown?")
    registry.pretext("simclr", "medkit_ssl.simclr:SimCLR", "which view is of the same slice? (NT-Xent)")
    registry.pretext("vicreg", "medkit_ssl.vicreg:VICReg", "views agree, features vary and differ")
    registry.distiller("moco", "medkit_ssl.moco:MoCo", "MoCo v3: which of the teacher's views is of the same slice?")
    registry.distiller("byol", "medkit_ssl.byol:BYOL", "predict what the teacher makes of another view")
    registry.distiller("dino", "medkit_ssl.dino:DINO", "agree with the teacher, from smaller crops too")
