"""A tabular model: boosted trees that answer one question about the hours after a candle. Knows no network.

They see the newest row of the window [F] alone, and answer with probabilities of BUY, SELL and HOLD (cross-entropy),
one probability (the same of two classes) or one volatility (Huber loss of its logarithm in deviations).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from candlecast.errors import ConfigurationError
from candlecast.training import boosters
from candlecast.training.boosters import Booster
from candlecast.training.data import Samples
from candlecast.training.family import Fitted, Progress
from candlecast.training.targets import Target
from candlecast.training.tree_graph import tree_graph
from candlecast.training.trees import Loss, Member, TreesConfig, entropy, huber
from candlecast.values import F32, F64, I64

KINDS: Final = {"xgboost": boosters.xgboost, "lightgbm": boosters.lightgbm}
LINK: Final = {"direction": "Softmax", "profitable": "Sigmoid", "volatility": "Exp"}
"""From margins to answers, in the words of ONNX."""
VOLATILITY_MIN: Final = 1e-6
"""A market that stands still has no logarithm."""
FLOOR: Final = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class TabularModel:
    """One fitted booster of K margins; without trees it answers its base rate."""

    kind: str
    target: Target
    fitted: Fitted
    booster: Booster
    base: F64  # [K] where margins start
    unit: F64  # [K] what a margin of 1 means

    def predict(self, samples: Samples, index: I64) -> F32:
        """Return the answers [B, K] of the samples at index [B]."""
        return self.answer(samples.newest(index))

    def answer(self, rows: F32) -> F32:
        """Return the answers [B, K] of newest rows [B, F]; NaN for one with a NaN or an infinity."""
        finite = np.isfinite(rows).all(axis=1)
        margins = np.full((len(rows), len(self.base)), np.nan)
        margins[finite] = self.base
        if self.fitted.best_step:
            margins[finite] += self.booster.margins(rows[finite])
        return _linked(self.target.name, margins * self.unit).astype(np.float32)

    def to_onnx(self) -> bytes:
        """Return `features` f32 [-1, 96, F] → `outputs` f32 [-1, K]."""
        trees = [(tree.column, tree) for tree in self.booster.trees()] if self.fitted.best_step else []
        base, unit, floor = (a.astype(np.float32) for a in (self.base, self.unit, np.full_like(self.base, FLOOR)))
        features = self.booster.features
        return tree_graph(trees, self.booster.less, base, unit, floor, features, link=LINK[self.target.name])

    def importance(self, samples: Samples, index: I64) -> F64:
        """Return each feature's share [F] of mean |SHAP| at index [B]; all alike without a tree."""
        rows = samples.newest(index)
        return self._shares(lambda: np.abs(self.booster.contributions(rows)).sum(axis=1).mean(axis=0))

    def gain(self) -> F64:
        """Return each feature's share [F] in the gain of the splits."""
        return self._shares(self.booster.gain)

    def described(self) -> dict[str, Any]:
        """Say what grew it, and how much."""
        return {"rounds": self.fitted.best_step, "weights": "fp32", self.kind: version(self.kind)}

    def _shares(self, of: Callable[[], F64]) -> F64:
        found = of() if self.fitted.best_step else np.zeros(self.booster.features)
        return found / found.sum() if found.sum() > 0 else np.full(self.booster.features, 1 / self.booster.features)


def fit(
    kind: str,
    target: Target,
    samples: Samples,
    train: I64,
    validation: I64,
    config: TreesConfig,
    seed: int,
    on_step: Progress,
) -> TabularModel:
    """Grow until the validation loss has not fallen for a while, and keep the best round. Ctrl-C keeps it, too.

    Raises:
        ConfigurationError: there is nothing to learn, or a row is not finite.
        KeyboardInterrupt: before the first round was over.
    """
    began = time.monotonic()
    rows, held_rows = samples.newest(train), samples.newest(validation)
    if not (np.isfinite(rows).all() and np.isfinite(held_rows).all()):
        raise ConfigurationError("a row of the samples is not finite; look for broken candles in the data")
    known, held = came(samples, train), came(samples, validation)
    base, unit = _start(target, known)
    member = Member(base, _loss(target, known, unit), _loss(target, held, unit), 1.0)
    booster = KINDS[kind](rows, held_rows, config)(len(base), config.rows_min * member.hessian, seed % 2**31)
    del rows, held_rows
    step, smooth, interrupted = 0, math.nan, False
    try:
        while step < config.rounds_max and member.waited < config.patience_rounds:
            member.grow(booster)
            step += 1
            smooth = member.loss if math.isnan(smooth) else 0.5 * smooth + 0.5 * member.loss
            on_step(step, config.rounds_max, smooth, member.best_loss)
    except KeyboardInterrupt:
        if step == 0:
            raise
        interrupted = True
    booster.keep(member.best_round)
    fitted = Fitted(
        validation_loss=member.best_loss,
        start_loss=member.start_loss,
        best_step=member.best_round,
        steps=step,
        planned=config.rounds_max,
        seconds=time.monotonic() - began,
        interrupted=interrupted,
    )
    return TabularModel(kind, target, fitted, booster, base, unit)


def came(samples: Samples, index: I64) -> F64:
    """Return what came after the samples at index [B]."""
    assert samples.asked is not None, "prepared without a target"
    after: F64 = samples.asked[index, 0]
    return after


def had_come(samples: Samples, index: I64) -> F64:
    """Return what had come before the samples at index [B]."""
    assert samples.asked is not None, "prepared without a target"
    before: F64 = samples.asked[index, 1]
    return before


def rates(target: Target, known: F64) -> F64:
    """Return the frequencies [C] of the classes of a direction, or of no and yes; one never seen counts as half."""
    counts = np.maximum(np.bincount(known.astype(np.int64), minlength=max(target.outputs, 2)), 0.5)
    return counts / counts.sum()  # type: ignore[no-any-return]


def _start(target: Target, known: F64) -> tuple[F64, F64]:
    """Return where margins start [K] and what a margin of 1 means [K]."""
    if len(np.unique(known)) < 2:
        raise ConfigurationError(
            f"what came after {len(known)} candles is the same for all of them: there is nothing to learn about"
            f" {target.name} over {target.horizon}; give other data, or another --threshold or --hours"
        )
    match target.name:
        case "direction":
            return np.log(rates(target, known)), np.ones(3)
        case "profitable":
            no, yes = rates(target, known)
            return np.array([math.log(yes / no)]), np.ones(1)
        case "volatility":
            logs = _log(known)
            unit = max(float(logs.std()), 1e-6)
            return np.array([logs.mean() / unit]), np.array([unit])


def _loss(target: Target, known: F64, unit: F64) -> Loss:
    match target.name:
        case "direction":
            return partial(entropy, known.astype(np.int8))
        case "profitable":
            return partial(logistic, known[:, None])
        case "volatility":
            return partial(huber, _log(known)[:, None] / unit)


def logistic(came: F64, margins: F64) -> tuple[float, F64, F64]:
    """Return the loss of margins [N, 1] against no and yes [N, 1], and its gradient and hessian."""
    margins = np.broadcast_to(margins, came.shape)
    p = _linked("profitable", margins)
    loss = np.logaddexp(0, margins) - came * margins
    return float(loss.mean()), p - came, np.maximum(p * (1 - p), 1e-6)


def _log(volatility: F64) -> F64:
    return np.log(np.maximum(volatility, VOLATILITY_MIN))


def _linked(name: str, margins: F64) -> F64:
    match LINK[name]:
        case "Softmax":
            powers = np.exp(margins - margins.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]
        case "Sigmoid":
            return np.exp(-np.logaddexp(0, -margins))
        case _:
            return np.exp(margins)
