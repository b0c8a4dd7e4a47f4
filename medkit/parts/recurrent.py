"""LSTMs over the slices of volumes, also in exported networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def last_states(lstm: nn.LSTM, features: Tensor, lengths: Tensor) -> Tensor:
    """(B,2*hidden) final states of a BiLSTM's last layer, backward first, for (B,D,C), padded at the end."""
    if torch.compiler.is_exporting():
        start = features.new_zeros(2 * lstm.num_layers, 1, lstm.hidden_size)
        states = final_states(features, start, lstm._flat_weights, lstm.num_layers)
    else:
        packed = nn.utils.rnn.pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (states, _) = lstm(packed)
    return torch.cat([states[-1], states[-2]], 1)


@torch.library.custom_op("medkit::final_states", mutates_args=())
def final_states(features: Tensor, start: Tensor, weights: list[Tensor], layers: int) -> Tensor:
    """(2*layers,B,hidden) the final states of a bidirectional LSTM, for (B,D,C).

    A separate operation because exporters unroll torch's LSTM into as many steps as their example has.
    """
    states: Tensor = torch.lstm(features, (start, start), weights, True, layers, 0.0, False, True, True)[1]
    return states


@final_states.register_fake
def _(features: Tensor, start: Tensor, weights: list[Tensor], layers: int) -> Tensor:
    return torch.empty_like(start)
