"""What a kind of model is to the trainer: fitted, asked, exported, explained. Knows no framework until one is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from candlecast.training.data import Samples
from candlecast.values import F32, F64, I64

if TYPE_CHECKING:
    from candlecast.training.config import Config


@dataclass(frozen=True, slots=True)
class Fitted:
    """How one fit went; the model holds the best checkpoint."""

    validation_loss: float
    start_loss: float  # validation loss of the constant base rates, where training starts
    best_step: int
    steps: int
    planned: int
    seconds: float
    interrupted: bool
    feeding_share: float | None = None  # of the seconds, spent gathering windows; None: all rows are given at once


Progress = Callable[[int, int, float, float], None]
"""Called after each step with: step, steps in all, smoothed train loss, best validation loss so far."""


class Model(Protocol):
    """One fitted model, at its best checkpoint."""

    @property
    def fitted(self) -> Fitted: ...

    def predict(self, samples: Samples, index: I64) -> F32:
        """Return the outputs [B, 20] of the samples at index [B], in the layout of `candlecast.outputs`: logits."""

    def to_onnx(self) -> bytes:
        """Return one self-contained file: `features` f32 [-1, 96, F] → `outputs` f32 [-1, 20]."""

    def to_program(self) -> bytes | None:
        """Return the same as a torch.export program; None for what has none."""

    def importance(self, samples: Samples, index: I64) -> F64:
        """Return each feature's share [F] in the answers at index [B]: ≥ 0, they sum to 1."""

    def gain(self) -> F64 | None:
        """Return each feature's share [F] in the gain of the splits; None for networks."""

    def described(self) -> dict[str, Any]:
        """Say how large it is and what made it, for the manifest: parameters or trees, weights' type, versions."""


class Family(Protocol):
    """One kind of model and its configuration."""

    @property
    def name(self) -> str: ...

    def fit(
        self,
        samples: Samples,
        train: I64,
        validation: I64,
        seed: int,
        on_step: Progress,
        checkpoint: Path | None = None,
    ) -> Model:
        """Fit on the samples at `train`, choose the best step on those at `validation`.

        A `checkpoint` file is kept up to date while it runs, and gone on from when it is there. Ctrl-C ends the fit
        with the best step so far; before a first one KeyboardInterrupt is raised.
        """


def families() -> dict[str, Callable[[Config], Family]]:
    """Return how each kind of model is built, by name; its framework is imported when it is called."""
    return {"patchtst": _patchtst, "lstm": _lstm, "xgboost": _xgboost, "lightgbm": _lightgbm}


def _patchtst(config: Config) -> Family:
    from candlecast.training.networks import Networks

    return Networks("patchtst", config)


def _lstm(config: Config) -> Family:
    from candlecast.training.networks import Networks

    return Networks("lstm", config)


def _xgboost(config: Config) -> Family:
    from candlecast.training.trees import Trees

    return Trees("xgboost", config)


def _lightgbm(config: Config) -> Family:
    from candlecast.training.trees import Trees

    return Trees("lightgbm", config)
