"""An LSTM in one file: windows [B, 96, F] f32 → the 20 outputs [B, 20] f32. Knows no data, no loss and no ONNX.

Two layers read the 96 rows oldest first; one linear head answers from the state after the newest. Exported, its weights
are halves as PatchTST's are, but the recurrence itself runs in fp32: ONNX Runtime has no fp16 LSTM for a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from candlecast import outputs
from candlecast.errors import ConfigurationError
from candlecast.training import scaled


@dataclass(frozen=True, slots=True)
class LstmConfig:
    width: int = 128
    layers: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.width < 1 or self.layers < 1 or not 0 <= self.dropout < 1:
            raise ConfigurationError("width and layers must be at least 1, dropout in 0..1")


class Trunk(scaled.Trunk):
    """Standardised windows [B, 96, F] → raw outputs [B, 20]; the recurrence is fp32 whatever its weights are."""

    def __init__(self, config: LstmConfig, features: int) -> None:
        super().__init__()
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(features, config.width, config.layers, batch_first=True, dropout=between)
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, outputs.COUNT)

    def forward(self, x: Tensor) -> Tensor:
        states = self.lstm(x)[0] if x.dtype == torch.float32 else self._in_fp32(x)  # [B, 96, width]
        raw: Tensor = self.head(self.dropout(self.norm(states[:, -1])))
        return raw

    def _in_fp32(self, x: Tensor) -> Tensor:
        """Return the states [B, 96, width] of halved weights, computed in fp32 and given in the type of x."""
        zero = torch.zeros(self.lstm.num_layers, x.shape[0], self.lstm.hidden_size, device=x.device)
        weights = [weight.float() for weight in self.lstm.parameters()]
        states: Tensor = torch.lstm(x.float(), [zero, zero], weights, True, len(zero), 0.0, False, False, True)[0]
        return states.to(x.dtype)


class Lstm(scaled.Scaled):
    """The whole model, its scaler included."""

    def __init__(self, config: LstmConfig, features: int) -> None:
        super().__init__(Trunk(config, features), features)
