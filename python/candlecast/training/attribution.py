"""Which features move a network's forecasts: integrated gradients. Knows no data beyond the windows it is given.

What is attributed is the distance of a window's probabilities from those of an average window, Σ over the horizons of
KL(p ‖ p of the baseline): zero at the baseline, larger for any forecast that says more, whichever way it points. The
baseline is a window whose every row is the scaler's mean, the path from it straight.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from candlecast import outputs
from candlecast.training.feed import Feed
from candlecast.training.scaled import Scaled
from candlecast.values import F64, I64

STEPS: Final = 32
"""Midpoints on the path."""


def shares(network: Scaled, feed: Feed, index: I64, batch_rows: int = 64) -> F64:
    """Return the share [F] of each feature: |attributions| summed over time and windows, divided by the whole."""
    sums = torch.zeros(len(network.mean), dtype=torch.float64)
    for start in range(0, len(index), batch_rows):
        found = attributions(network, feed.windows(index[start : start + batch_rows]))
        sums += found.abs().sum(dim=(0, 1)).double().cpu()
    even = torch.full_like(sums, 1 / len(sums))  # a network that answers a constant prefers none
    return (sums / sums.sum() if sums.sum() > 0 else even).numpy()


def attributions(network: Scaled, windows: Tensor, steps: int = STEPS) -> Tensor:
    """Return the attributions [B, 96, F] of windows [B, 96, F]; those of a window sum to its `distances`."""
    network.eval()
    baseline = network.mean.expand_as(windows)
    there = _log_probabilities(network, baseline[:1]).detach()
    gradients = torch.zeros_like(windows)
    for k in range(steps):
        at = (baseline + (k + 0.5) / steps * (windows - baseline)).requires_grad_(True)
        total = _distances(_log_probabilities(network, at), there).sum()
        gradients += torch.autograd.grad(total, at)[0]
    return (windows - baseline) * gradients / steps


@torch.no_grad()
def distances(network: Scaled, windows: Tensor) -> Tensor:
    """Return how far the probabilities of each window are from the baseline's [B], in nats."""
    network.eval()
    baseline = network.mean.expand_as(windows[:1])
    return _distances(_log_probabilities(network, windows), _log_probabilities(network, baseline))


def _log_probabilities(network: Scaled, windows: Tensor) -> Tensor:
    return functional.log_softmax(network(windows)[:, outputs.LOGITS].reshape(-1, 4, 3), dim=2)  # [B, 4, 3]


def _distances(here: Tensor, there: Tensor) -> Tensor:
    return (here.exp() * (here - there)).sum(dim=(1, 2))
