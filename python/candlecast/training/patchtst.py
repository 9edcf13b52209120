"""PatchTST in one file: windows [B, 96, F] f32 → the 20 outputs [B, 20] f32. Knows no data, no loss and no ONNX.

Patches of 16 rows, every 8, mix all channels into one token each; a small pre-norm transformer reads the 11 tokens; one
linear head answers. The feature scaler before it and the units of the outputs behind it are those of every network.
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
class NetworkConfig:
    patch: int = 16
    stride: int = 8
    width: int = 256
    layers: int = 3
    heads: int = 4
    feedforward: int = 512
    dropout: float = 0.1
    feature_dropout: float = 0.0  # whole columns of a window are left out
    instance_norm: bool = False  # standardise each feature within its window, too

    def __post_init__(self) -> None:
        if self.width % self.heads or self.patch % self.stride or WINDOW % self.stride:
            raise ConfigurationError("width must be a multiple of heads; 96 and patch must be multiples of stride")

    @property
    def tokens(self) -> int:
        return (WINDOW - self.patch) // self.stride + 1


class Attention(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = x.shape[1], x.shape[2]
        size = width // self.heads
        qkv = self.qkv(x).view(-1, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4)  # [3, B, heads, tokens, size]
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = (q * size**-0.5 @ k.transpose(-1, -2)).softmax(dim=-1)  # [B, heads, tokens, tokens]
        mixed: Tensor = self.out((self.dropout(weights) @ v).transpose(1, 2).reshape(-1, tokens, width))
        return mixed


class Block(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.feedforward_norm = nn.LayerNorm(config.width)
        self.feedforward = nn.Sequential(
            nn.Linear(config.width, config.feedforward),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feedforward, config.width),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        fed: Tensor = x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        return fed


class Trunk(scaled.Trunk):
    """Standardised windows [B, 96, F] → raw outputs [B, 20], in the type of its weights."""

    def __init__(self, config: NetworkConfig, features: int) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(features * config.patch, config.width)
        self.position = nn.Parameter(torch.randn(config.tokens, config.width) * 0.02)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)
        self.feature_dropout = nn.Dropout1d(config.feature_dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.tokens * config.width, outputs.COUNT)

    def forward(self, x: Tensor) -> Tensor:
        count, stride = self.config.tokens, self.config.stride
        x = self.feature_dropout(x.transpose(1, 2)).transpose(1, 2)
        steps = x.reshape(-1, WINDOW // stride, stride * x.shape[2])  # [B, 12, 8 · F]
        patches = torch.cat([steps[:, k : k + count] for k in range(self.config.patch // stride)], dim=2)
        tokens = self.blocks(self.embed(patches) + self.position)  # [B, tokens, width]
        raw: Tensor = self.head(self.dropout(self.norm(tokens).flatten(1)))
        return raw


class PatchTST(scaled.Scaled):
    """The whole model, its scaler included."""

    def __init__(self, config: NetworkConfig, features: int) -> None:
        super().__init__(Trunk(config, features), features, config.instance_norm)
