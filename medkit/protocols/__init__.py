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

from medkit.protocols.cases import Augmentation, Batch, Case, Record, Rows, Source, Transform
from medkit.protocols.defaults import offered, with_default
from medkit.protocols.metric import Metric
from medkit.protocols.networks import Discriminator, Encoder, Generator, PretextHead, TokenEncoder, VolumeOperator
from medkit.protocols.training import Clip, Objective, Optimizer, Schedule, Turn

__all__ = [
    "KINDS",
    "Augmentation",
    "Batch",
    "Case",
    "Clip",
    "Discriminator",
    "Encoder",
    "Generator",
    "Metric",
    "Objective",
    "Optimizer",
    "PretextHead",
    "Record",
    "Rows",
    "Schedule",
    "Source",
    "TokenEncoder",
    "Transform",
    "Turn",
    "VolumeOperator",
    "offered",
    "with_default",
]

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
