"""XGBoost and LightGBM as families: twelve members of boosted trees fill the 20 outputs. Knows no network.

They see the newest row of the window [F] alone: what came before is in its features. There is one member for each
return, one for the three logits of each horizon and one for each risk. Each minimises its own term of the networks'
loss, in the same units and from the same start: cross-entropy for directions, else Huber in the label's deviations; so
a risk is between the mean and the median of what may come, as a network's is, and floored at 0. All members grow by a
round in turn, each until its own validation loss has not fallen for a while, and keep their best round; it may be none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from candlecast import outputs
from candlecast.errors import ConfigurationError
from candlecast.training import boosters
from candlecast.training.boosters import Booster
from candlecast.training.data import Samples
from candlecast.training.family import Fitted, Progress
from candlecast.training.labels import I8, Labels, starting_point
from candlecast.values import F32, F64, I64

if TYPE_CHECKING:
    from candlecast.training.config import Config

MEMBERS: Final = (
    *((f"return_{name}", slice(h, h + 1)) for h, name in enumerate(outputs.HORIZONS)),
    *((f"direction_{name}", slice(4 + 3 * h, 7 + 3 * h)) for h, name in enumerate(outputs.HORIZONS)),
    *((name, slice(16 + k, 17 + k)) for k, name in enumerate(outputs.RISK_NAMES)),
)
"""The members and the outputs that each fills."""


@dataclass(frozen=True, slots=True)
class TreesConfig:
    rounds_max: int = 400
    learning_rate: float = 0.05
    depth: int = 6
    leaves: int = 31
    rows_min: int = 50  # in a leaf
    l2: float = 1.0
    subsample: float = 0.8  # of the rows, for each round
    colsample: float = 0.5  # of the features, for each tree
    patience_rounds: int = 30  # without a better one before a member stops
    bins: int = 63  # of each feature
    threads: int = 2

    def __post_init__(self) -> None:
        at_least_1 = ("rounds_max", "depth", "rows_min", "patience_rounds", "threads")
        if wrong := [name for name in at_least_1 if getattr(self, name) < 1]:
            raise ConfigurationError(f"{', '.join(wrong)} must be at least 1")
        if self.leaves < 2 or self.bins < 2:
            raise ConfigurationError("leaves and bins must be at least 2")
        shares = ("learning_rate", "subsample", "colsample")
        if wrong := [name for name in shares if not 0 < getattr(self, name) <= 1]:
            raise ConfigurationError(f"{', '.join(wrong)} must be above 0 and at most 1")


Loss = Callable[[F64], tuple[float, F64, F64]]
"""Margins [N, K] → mean loss, and the gradient and hessian [N, K] of each row's."""


def huber(target: F64, margins: F64) -> tuple[float, F64, F64]:
    """Return the loss of margins [N, 1] against targets [N, 1], both in deviations; the hessian is its upper bound."""
    error = margins - target
    gradient = np.clip(error, -1, 1)
    return float((gradient * (error - 0.5 * gradient)).mean()), gradient, np.ones_like(error)


def entropy(came: I8, margins: F64) -> tuple[float, F64, F64]:
    """Return the loss of logits [N, 3] against the classes [N] that came; the hessian is twice the diagonal."""
    margins = np.broadcast_to(margins, (len(came), 3))
    p = np.exp(margins - margins.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    row = np.arange(len(came))
    loss = -np.log(np.maximum(p[row, came], 1e-30)).mean()
    gradient = p.copy()
    gradient[row, came] -= 1
    return float(loss), gradient, np.maximum(2 * p * (1 - p), 1e-6)


class Member:
    """One booster while it grows: its loss on both parts, weighted, and its best round so far."""

    def __init__(self, base: F64, known: Loss, held: Loss, weight: float) -> None:
        self.base, self.known, self.held, self.weight = base[None], known, held, weight  # base: [1, K]
        self.loss, _, hessian = known(self.base)
        self.hessian = float(hessian.mean())
        self.start_loss = self.best_loss = held(self.base)[0]
        self.best_round = self.waited = 0

    def grow(self, booster: Booster) -> None:
        """Add a round to the booster and look at the held-out part."""

        def slope(margins: F64) -> tuple[F64, F64]:
            self.loss, gradient, hessian = self.known(margins + self.base)
            return gradient, hessian

        rounds = booster.grow(slope)
        loss, _, _ = self.held(booster.held() + self.base)
        self.waited += 1
        if loss < self.best_loss:
            self.best_loss, self.best_round, self.waited = loss, rounds, 0


class Trees:
    """The family of one library, "xgboost" or "lightgbm"."""

    def __init__(self, name: str, config: Config) -> None:
        self.name, self.config = name, config

    def fit(
        self,
        samples: Samples,
        train: I64,
        validation: I64,
        seed: int,
        on_step: Progress,
        checkpoint: Path | None = None,
    ) -> TreesModel:
        """Fit all members; a step is one round of each. Minutes at most, so no checkpoint is written or read.

        Raises:
            ConfigurationError: a row or a label is not finite.
            KeyboardInterrupt: before the first round was over. Later it ends the fit with what is best so far.
        """
        began = time.monotonic()
        config = self.config.trees
        rows, held_rows = samples.newest(train), samples.newest(validation)
        known, held = samples.labels.take(train), samples.labels.take(validation)
        _check_finite(rows, held_rows, known.returns, held.returns, known.risks, held.risks)
        constant, unit = starting_point(known)
        base = constant / unit
        make = {"xgboost": boosters.xgboost, "lightgbm": boosters.lightgbm}[self.name](rows, held_rows, config)
        del rows, held_rows
        members, grown = [], []
        for k, (_, place) in enumerate(MEMBERS):
            losses = _loss(place, known, unit), _loss(place, held, unit)
            members.append(Member(base[place], *losses, self._weight(place)))
            weight_min = config.rows_min * members[k].hessian
            grown.append(make(place.stop - place.start, weight_min, (seed * len(MEMBERS) + k) % 2**31))
        growing, step, smooth, interrupted = list(zip(members, grown, strict=True)), 0, math.nan, False
        try:
            while growing and step < config.rounds_max:
                for member, booster in growing:
                    member.grow(booster)
                growing = [pair for pair in growing if pair[0].waited < config.patience_rounds]
                step += 1
                loss = _total(members, "loss")
                smooth = loss if math.isnan(smooth) else 0.5 * smooth + 0.5 * loss
                on_step(step, config.rounds_max, smooth, _total(members, "best_loss"))
        except KeyboardInterrupt:
            if step == 0:
                raise
            interrupted = True
        for member, booster in zip(members, grown, strict=True):
            booster.keep(member.best_round)
        fitted = Fitted(
            validation_loss=_total(members, "best_loss"),
            start_loss=_total(members, "start_loss"),
            best_step=max(member.best_round for member in members),
            steps=step,
            planned=config.rounds_max,
            seconds=time.monotonic() - began,
            interrupted=interrupted,
        )
        return TreesModel(self.name, fitted, members, grown, base, unit)

    def _weight(self, place: slice) -> float:
        """Return what a member's loss counts in the whole: its block's weight, shared by the four of the block."""
        block = (place.start >= outputs.LOGITS.start) + (place.start >= outputs.RISKS.start)
        return self.config.fit.weights[block] / 4


@dataclass(frozen=True, slots=True)
class TreesModel:
    """Twelve fitted members; one without trees answers its base rate."""

    name: str
    fitted: Fitted
    members: list[Member]
    boosters: list[Booster]
    base: F64  # [20] where margins start
    unit: F64  # [20] what a margin of 1 means

    def predict(self, samples: Samples, index: I64) -> F32:
        """Return the outputs [B, 20] of the samples at index [B]."""
        return self.answer(samples.newest(index))

    def answer(self, rows: F32) -> F32:
        """Return the outputs [B, 20] of newest rows [B, F]; 20 NaN for one with a NaN or an infinity."""
        finite = np.isfinite(rows).all(axis=1)
        margins = np.full((len(rows), outputs.COUNT), np.nan)
        margins[finite] = self.base
        for place, booster in self._trees():
            margins[finite, place] += booster.margins(rows[finite])
        return np.maximum(margins * self.unit, _floor()).astype(np.float32)

    def to_onnx(self) -> bytes:
        """Return one graph of all members, fp32."""
        from candlecast.training.tree_graph import tree_graph

        trees = [(place.start + tree.column, tree) for place, booster in self._trees() for tree in booster.trees()]
        base, unit, floor = (array.astype(np.float32) for array in (self.base, self.unit, _floor()))
        return tree_graph(trees, self.boosters[0].less, base, unit, floor, self.features)

    def to_program(self) -> None:
        """Trees are no torch program."""

    def importance(self, samples: Samples, index: I64) -> F64:
        """Return each feature's share [F] of mean |SHAP| at index [B], by the library's own TreeSHAP; they sum to 1.

        Members answer in different units, so each is brought to a sum of 1 and then counts as much as it took from the
        validation loss. Without any tree nothing is known: all features share alike.
        """
        rows = samples.newest(index)
        return self._shares(lambda booster: np.abs(booster.contributions(rows)).sum(axis=1).mean(axis=0))

    def gain(self) -> F64:
        """Return each feature's share [F] in the gain of the splits, the members weighed as in `importance`."""
        return self._shares(lambda booster: booster.gain())

    def described(self) -> dict[str, Any]:
        """Say how many trees each member kept, and what grew them."""
        rounds = {name: member.best_round for (name, _), member in zip(MEMBERS, self.members, strict=True)}
        trees = sum(len(booster.trees()) for _, booster in self._trees())
        return {"rounds": rounds, "trees": trees, "weights": "fp32", self.name: version(self.name)}

    @property
    def features(self) -> int:
        """How many features a row has."""
        return self.boosters[0].features

    def _trees(self) -> list[tuple[slice, Booster]]:
        """Return the members that have trees."""
        whole = zip(MEMBERS, self.members, self.boosters, strict=True)
        return [(place, booster) for (_, place), member, booster in whole if member.best_round]

    def _shares(self, of: Callable[[Booster], F64]) -> F64:
        total = np.zeros(self.features)
        for member, booster in zip(self.members, self.boosters, strict=True):
            part = of(booster) if member.best_round else np.zeros(1)
            if part.sum() > 0:
                total += member.weight * (member.start_loss - member.best_loss) * part / part.sum()
        return total / total.sum() if total.sum() > 0 else np.full(self.features, 1 / self.features)


def _loss(place: slice, labels: Labels, unit: F64) -> Loss:
    """Return the loss of the member that fills `place`, on these labels."""
    if outputs.LOGITS.start <= place.start < outputs.LOGITS.stop:
        return partial(entropy, labels.directions[:, (place.start - outputs.LOGITS.start) // 3])
    block, came = (outputs.RETURNS, labels.returns) if place.start < 4 else (outputs.RISKS, labels.risks)
    target = came[:, place.start - block.start, None] / unit[place]
    return partial(huber, target)


def _floor() -> F64:
    """Return the least answers [20]: risks are magnitudes."""
    floor = np.full(outputs.COUNT, np.finfo(np.float32).min, dtype=np.float64)
    floor[outputs.RISKS] = 0
    return floor


def _total(members: Sequence[Member], name: str) -> float:
    """Return the members' losses of that name, weighted as in the networks' loss."""
    return float(sum(member.weight * getattr(member, name) for member in members))


def _check_finite(*parts: F32) -> None:
    if not all(np.isfinite(part).all() for part in parts):
        raise ConfigurationError("a row or a label of the samples is not finite; look for broken candles in the data")
