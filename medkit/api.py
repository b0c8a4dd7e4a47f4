"""The only module a plugin needs."""

from medkit.errors import InputError, MedkitError, RunError
from medkit.protocols import (
    Augmentation,
    Batch,
    Case,
    Discriminator,
    Encoder,
    Generator,
    Metric,
    Objective,
    Optimizer,
    PretextHead,
    Record,
    Schedule,
    Source,
    Transform,
    Turn,
    VolumeOperator,
)
from medkit.protocols.external import ExternalObjective, ExternalWork
from medkit.protocols.losses import DiscriminatorLoss, GeneratorLoss, Loss, RestorationLoss, TieLoss
from medkit.registry.hooks import hookimpl
from medkit.registry.marks import Channels, File, Given, Placed, Slot, Strides, Weights

__all__ = [
    "Augmentation",
    "Batch",
    "Case",
    "Channels",
    "Discriminator",
    "DiscriminatorLoss",
    "Encoder",
    "ExternalObjective",
    "ExternalWork",
    "File",
    "Generator",
    "GeneratorLoss",
    "Given",
    "InputError",
    "Loss",
    "MedkitError",
    "Metric",
    "Objective",
    "Optimizer",
    "Placed",
    "PretextHead",
    "Record",
    "RestorationLoss",
    "RunError",
    "Schedule",
    "Slot",
    "Source",
    "Strides",
    "TieLoss",
    "Transform",
    "Turn",
    "VolumeOperator",
    "Weights",
    "hookimpl",
]
