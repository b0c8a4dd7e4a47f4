"""The only module a plugin needs."""

from medkit.errors import InputError, MedkitError, RunError
from medkit.hooks import hookimpl
from medkit.marks import Channels, Given, Placed, Slot, Strides
from medkit.protocols import (
    Augmentation,
    Batch,
    Case,
    Discriminator,
    Encoder,
    ExternalObjective,
    ExternalWork,
    Generator,
    Loss,
    Metric,
    Objective,
    PretextHead,
    Record,
    Source,
    Transform,
    Turn,
    VolumeOperator,
)

__all__ = [
    "Augmentation",
    "Batch",
    "Case",
    "Channels",
    "Discriminator",
    "Encoder",
    "ExternalObjective",
    "ExternalWork",
    "Generator",
    "Given",
    "InputError",
    "Loss",
    "MedkitError",
    "Metric",
    "Objective",
    "Placed",
    "PretextHead",
    "Record",
    "RunError",
    "Slot",
    "Source",
    "Strides",
    "Transform",
    "Turn",
    "VolumeOperator",
    "hookimpl",
]
