"""Volume classification: an LSTM over the slices' features."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medkit.api import CaseLabels, Channels
from medkit.parts.convblocks import initialise_head
from medkit.parts.label_losses import LabelLayer
from medkit.parts.recurrent import last_states

Count = Annotated[int, Field(gt=0)]


class LSTMClassifier(nn.Module):
    """Classify a volume by a bidirectional LSTM of variable length (thesis part B, Fig. 10b).

    Pooled slice features (B,D,C) to one logit per volume (B,); if the data block declares labels, to the outputs for
    these (B,outputs), for the loss ``labels``. The last layer's final states are joined backward first,
    as published in 2022.

    Parameters
    ----------
    hidden:
        Width of the LSTM, and of the layer after it.
    layers:
        Layers of the LSTM.
    dropout:
        Before the last layer.
    """

    task: ClassVar[str] = "classification"
    binary_label = True

    def __init__(
        self,
        channels: Channels,
        hidden: Count = 512,
        layers: Count = 2,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        labels: CaseLabels = None,
    ) -> None:
        super().__init__()
        self.labels = labels
        self.lstm = nn.LSTM(channels[-1], hidden, layers, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Module = nn.Linear(hidden, 1) if labels is None else LabelLayer(hidden, labels)
        initialise_head(self.fc)
        if isinstance(self.head, nn.Linear):
            initialise_head(self.head)

    def slices(self, features: list[Tensor]) -> Tensor:
        return features[-1].mean((2, 3))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        joined = last_states(self.lstm, features, lengths)
        found = self.head(self.dropout(F.relu(self.fc(joined))))
        return found[:, 0] if self.labels is None else found
