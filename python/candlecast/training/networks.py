"""The family of networks: PatchTST or LSTM, fitted by the loop, exported as halves, explained by gradients."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from candlecast.training import attribution, export, program
from candlecast.training.checkpoints import Checkpoint
from candlecast.training.config import Config
from candlecast.training.data import Samples
from candlecast.training.family import Fitted, Progress
from candlecast.training.feed import Feed
from candlecast.training.fit import fit, predict, start
from candlecast.training.lstm import Lstm
from candlecast.training.patchtst import PatchTST
from candlecast.training.scaled import Scaled
from candlecast.training.temperature import fit_leans
from candlecast.values import F32, F64, I64


class Networks:
    """`patchtst` or `lstm`, as the configuration says."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.config = config
        self._feed: Feed | None = None

    def fit(
        self,
        samples: Samples,
        train: I64,
        validation: I64,
        seed: int,
        on_step: Progress,
        checkpoint: Path | None = None,
    ) -> Network:
        """Fit, as `family.Family` says."""
        torch.manual_seed(seed)
        network = self._build(samples.rows.shape[1])
        start(network, samples, train)
        network.to(self.config.fit.device)
        feed = self.feed(samples)
        kept = Checkpoint(checkpoint, self._key(samples, train, validation, seed)) if checkpoint else None
        fitted = fit(network, feed, train, validation, self.config.fit, seed, on_step, kept)
        leans = fit_leans(predict(network, feed, validation), samples.labels.directions[validation])
        network.lean(torch.from_numpy(leans))
        return Network(self, network, fitted, leans)

    def feed(self, samples: Samples) -> Feed:
        """Return the one feed of these samples: a GPU holds their rows once, for all folds."""
        if self._feed is None or self._feed.samples is not samples:
            self._feed = Feed(samples, self.config.fit.device)
        return self._feed

    def _build(self, features: int) -> Scaled:
        if self.name == "lstm":
            return Lstm(self.config.lstm, features)
        return PatchTST(self.config.network, features)

    def _key(self, samples: Samples, train: I64, validation: I64, seed: int) -> str:
        shape = self.config.lstm if self.name == "lstm" else self.config.network
        digest = hashlib.sha256(repr((self.name, shape, self.config.fit, seed)).encode())
        some = samples.newest(train[:: 1 + len(train) // 256])
        for array in (train, validation, samples.open_time_ms, samples.labels.returns, some):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Network:
    """One fitted network."""

    family: Networks
    network: Scaled
    fitted: Fitted
    leans: F64  # [4] that its head has taken over

    def predict(self, samples: Samples, index: I64) -> F32:
        """Return the outputs [B, 20] of the samples at index [B], in fp32."""
        return predict(self.network, self.family.feed(samples), index)

    def to_onnx(self) -> bytes:
        """Return the ONNX file, its weights in fp16."""
        return export.to_onnx(self.network)

    def to_program(self) -> bytes | None:
        """Return PatchTST's torch.export program, its weights in fp16; None for the LSTM.

        torch.export makes a loop of the recurrence that is traced anew wherever it runs: nothing to serve from.
        """
        return program.to_program(self.network) if isinstance(self.network, PatchTST) else None

    def importance(self, samples: Samples, index: I64) -> F64:
        """Return each feature's share [F] in moving the forecasts at index [B] away from an average window's."""
        return attribution.shares(self.network, self.family.feed(samples), index)

    def gain(self) -> None:
        """Networks have no splits."""

    def described(self) -> dict[str, Any]:
        """Say its size and what computed it."""
        config = self.family.config.fit
        arithmetic = "bfloat16" if config.bfloat16 else "float32"
        return {
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "weights": "fp16",
            "leans": self.leans.round(2).tolist(),
            "device": torch.cuda.get_device_name() if config.device == "cuda" else "cpu",
            "arithmetic": arithmetic,
            "torch": torch.__version__,
        }
