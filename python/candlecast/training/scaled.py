"""What every network is: features → scaler → trunk → units of the 20 outputs. Knows no data, no loss and no ONNX.

The scaler and the units are buffers, so the exported file needs nothing else. The trunk may be halved to fp16: scaling
before it and units after it stay fp32.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from candlecast import outputs

CLAMP: Final = 8.0
"""Standard deviations that a feature may reach: keeps fp16 finite and one wild print harmless."""


class Trunk(nn.Module):
    """Standardised windows [B, 96, F] → raw outputs [B, 20], in the type of its weights."""

    head: nn.Linear  # gives the raw outputs


class Scaled(nn.Module):
    """The whole model. A window with a NaN or an infinity anywhere gets 20 NaN; its neighbours are untouched."""

    mean: Tensor  # [F] of the features, train part only
    std: Tensor  # [F]
    unit: Tensor  # [20] what an output of 1 means: a standard deviation of its label; 1 for logits

    def __init__(self, trunk: Trunk, features: int, instance_norm: bool = False) -> None:
        super().__init__()
        self.instance_norm = instance_norm
        self.trunk = trunk
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.register_buffer("unit", torch.ones(outputs.COUNT))

    @torch.no_grad()
    def start_from(self, mean: Tensor, std: Tensor, unit: Tensor, constant: Tensor) -> None:
        """Set the buffers [F], [F], [20], and the head such that every answer is `constant` [20]."""
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.unit.copy_(unit)
        raw = constant / unit
        risks = raw[outputs.RISKS].clamp(min=1e-3)
        raw[outputs.RISKS] = risks + torch.log(-torch.expm1(-risks))  # softplus, backwards
        self.trunk.head.weight.zero_()
        self.trunk.head.bias.copy_(raw)

    @torch.no_grad()
    def lean(self, leans: Tensor) -> None:
        """Let the head keep this share [4] of each horizon's difference between LONG and SHORT."""
        for part in (self.trunk.head.weight, self.trunk.head.bias):  # [20, W], [20]
            logits = part[outputs.LOGITS].view(len(outputs.HORIZONS), len(outputs.CLASSES), -1)
            sides = logits[:, :2]  # a view
            middle = sides.mean(dim=1, keepdim=True)
            sides.copy_(middle + leans.to(part)[:, None, None] * (sides - middle))

    def forward(self, features: Tensor) -> Tensor:
        # 0 for a finite window, NaN for any other: clamping must not turn garbage into a forecast.
        poison = (features * 0).sum(dim=(1, 2))  # [B]
        x = ((features - self.mean) / self.std).clamp(-CLAMP, CLAMP)
        if self.instance_norm:
            x = x - x.mean(dim=1, keepdim=True)
            x = (x / (x.square().mean(dim=1, keepdim=True) + 1e-2).sqrt()).clamp(-CLAMP, CLAMP)
        raw = self.trunk(x.to(self.trunk.head.weight.dtype)).float()
        answers = torch.cat((raw[:, : outputs.RISKS.start], functional.softplus(raw[:, outputs.RISKS])), dim=1)
        return answers * self.unit + poison[:, None]
