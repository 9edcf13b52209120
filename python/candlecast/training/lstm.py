"""An LSTM in one file: windows [B, 96, F] f32 → the 20 outputs [B, 20] f32. Knows no data, no loss and no ONNX.

A linear layer mixes every 4 rows into one token; two recurrent layers read the 24 tokens oldest first; one linear head
answers from the state after the newest. Exported, its weights are halves as PatchTST's are, but the recurrence itself
runs in fp32: ONNX Runtime has no fp16 LSTM for a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from candlecast import outputs
from candlecast.errors import ConfigurationError
from candlecast.models.bundle import WINDOW
from candlecast.training import scaled


@dataclass(frozen=True, slots=True)
class LstmConfig:
    patch: int = 4  # rows in one token
    width: int = 128
    layers: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.width < 1 or self.layers < 1 or not 0 <= self.dropout < 1:
            raise ConfigurationError("width and layers must be at least 1, dropout at least 0 and below 1")
        if self.patch < 1 or WINDOW % self.patch:
            raise ConfigurationError(f"{WINDOW} must be a multiple of patch")


class Trunk(scaled.Trunk):
    """Standardised windows [B, 96, F] → raw outputs [B, 20]; the recurrence is fp32 whatever its weights are."""

    def __init__(self, config: LstmConfig, features: int) -> None:
        super().__init__()
        between = config.dropout if config.layers > 1 else 0.0
        self.patch = config.patch
        self.embed = nn.Linear(features * config.patch, config.width)
        self.lstm = nn.LSTM(config.width, config.width, config.layers, batch_first=True, dropout=between)
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, outputs.COUNT)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.reshape(-1, WINDOW // self.patch, self.patch * x.shape[2]))  # [B, 24, width]
        halved = self.head.weight.dtype == torch.float16
        states = self._in_fp32(tokens) if halved else self.lstm(tokens)[0]  # [B, 24, width]
        raw: Tensor = self.head(self.dropout(self.norm(states[:, -1])))
        return raw

    def _in_fp32(self, x: Tensor) -> Tensor:
        """Return the states [B, 24, width] of halved weights, computed in fp32 and given in the type of x."""
        zero = torch.zeros(self.lstm.num_layers, x.shape[0], self.lstm.hidden_size, device=x.device)
        weights = [weight.float() for weight in self.lstm.parameters()]
        states: Tensor = torch.lstm(x.float(), [zero, zero], weights, True, len(zero), 0.0, False, False, True)[0]
        return states.to(x.dtype)


class Lstm(scaled.Scaled):
    """The whole model, its scaler included."""

    def __init__(self, config: LstmConfig, features: int) -> None:
        super().__init__(Trunk(config, features), features)
