"""What a network is fitted to: one loss for each block of the 20 outputs, weighted and added. Knows no network."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from candlecast import outputs


def returns(answers: Tensor, came: Tensor, unit: Tensor) -> Tensor:
    """Return the Huber loss of expected returns [B, 4], counted in their labels' standard deviations."""
    return functional.smooth_l1_loss(answers / unit, came / unit)


def directions(logits: Tensor, came: Tensor) -> Tensor:
    """Return the cross-entropy of logits [B, 12], horizon-major, for the classes [B, 4] i64 that came."""
    return functional.cross_entropy(logits.reshape(-1, 3), came.reshape(-1))


def risks(answers: Tensor, came: Tensor, unit: Tensor) -> Tensor:
    """Return the Huber loss of drawdowns and rallies [B, 4], counted in their labels' standard deviations."""
    return functional.smooth_l1_loss(answers / unit, came / unit)


def total(
    answers: Tensor, labels: tuple[Tensor, Tensor, Tensor], unit: Tensor, weights: tuple[float, float, float]
) -> Tensor:
    """Return the weighted sum over the blocks of answers [B, 20].

    Args:
        labels: returns [B, 4] f32, directions [B, 4] i64, risks [B, 4] f32.
        unit: what an answer of 1 means [20].
        weights: of returns, directions and risks.
    """
    return (
        weights[0] * returns(answers[:, outputs.RETURNS], labels[0], unit[outputs.RETURNS])
        + weights[1] * directions(answers[:, outputs.LOGITS], labels[1])
        + weights[2] * risks(answers[:, outputs.RISKS], labels[2], unit[outputs.RISKS])
    )
