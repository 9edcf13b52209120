"""The training loop: one network, one split, the best checkpoint on validation. Knows no files and no metrics."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from candlecast import outputs
from candlecast.errors import ConfigurationError
from candlecast.training.data import Samples
from candlecast.training.labels import Labels
from candlecast.training.patchtst import PatchTST
from candlecast.values import F32, I64


def _fast_bfloat16() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and "avx512_bf16" in cpu.read_text()


@dataclass(frozen=True, slots=True)
class FitConfig:
    epochs: int = 2
    batch_rows: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warmup_share: float = 0.05  # of all steps
    clip_norm: float = 1.0
    checks_per_epoch: int = 4  # validations
    patience_checks: int = 6  # without a better one before stopping early
    return_weight: float = 0.5
    direction_weight: float = 1.0
    risk_weight: float = 0.5
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    bfloat16: bool = field(default_factory=_fast_bfloat16)  # matrix products while fitting; metrics are fp32

    def __post_init__(self) -> None:
        at_least_1 = ("epochs", "batch_rows", "checks_per_epoch", "patience_checks", "threads")
        if wrong := [name for name in at_least_1 if getattr(self, name) < 1]:
            raise ConfigurationError(f"{', '.join(wrong)} must be at least 1")


@dataclass(frozen=True, slots=True)
class Fitted:
    """How one fit went; the model holds the best checkpoint."""

    validation_loss: float
    start_loss: float  # validation loss of the constant base rates, where training starts
    best_step: int
    steps: int
    steps_planned: int
    seconds: float
    interrupted: bool


Progress = Callable[[int, int, float, float], None]
"""Called after each step with: step, steps in all, smoothed train loss, best validation loss so far."""


def loss(answers: Tensor, labels: tuple[Tensor, Tensor, Tensor], unit: Tensor, config: FitConfig) -> Tensor:
    """Return the mean loss of answers [B, 20]: cross-entropy, else Huber in the label's deviations."""
    returns, directions, risks = labels  # [B, 4] f32, [B, 4] i64, [B, 4] f32

    def huber(block: slice, target: Tensor) -> Tensor:
        return functional.smooth_l1_loss(answers[:, block] / unit[block], target / unit[block])

    entropy = functional.cross_entropy(answers[:, outputs.LOGITS].reshape(-1, 3), directions.reshape(-1))
    return (
        config.return_weight * huber(outputs.RETURNS, returns)
        + config.direction_weight * entropy
        + config.risk_weight * huber(outputs.RISKS, risks)
    )


def start(model: PatchTST, samples: Samples, train: I64) -> None:
    """Set the model's scaler, units and starting answer from the train part alone."""
    rows = samples.newest(train).astype(np.float64)
    std = rows.std(axis=0)
    labels = samples.labels.take(train)
    unit = np.ones(outputs.COUNT)
    unit[outputs.RETURNS] = np.maximum(labels.returns.std(axis=0), 1e-6)
    unit[outputs.RISKS] = np.maximum(labels.risks.std(axis=0), 1e-6)
    constant = np.zeros(outputs.COUNT)
    constant[outputs.LOGITS] = np.log(base_rates(labels)).reshape(-1)
    constant[outputs.RISKS] = np.median(labels.risks, axis=0)
    tensors = (rows.mean(axis=0), np.where(std > 1e-6, std, 1.0), unit, constant)
    model.start_from(*(torch.from_numpy(array.astype(np.float32)) for array in tensors))


def base_rates(labels: Labels) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the class frequencies [4, 3] of the labels; a class never seen counts as half a time."""
    counts = np.stack([(labels.directions == c).sum(axis=0) for c in range(3)], axis=1)
    counts = np.maximum(counts, 0.5)
    return counts / counts.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def fit(
    model: PatchTST, samples: Samples, train: I64, validation: I64, config: FitConfig, seed: int, on_step: Progress
) -> Fitted:
    """Train the model, from `start`, and leave it as the checkpoint with the least validation loss.

    Ctrl-C ends the fit with the best checkpoint so far. Before the first checkpoint it is raised.
    """
    torch.set_num_threads(config.threads)
    began = time.monotonic()
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    per_epoch = math.ceil(len(train) / config.batch_rows)
    planned = per_epoch * config.epochs
    warmup = max(1, round(planned * config.warmup_share))
    every = max(1, per_epoch // config.checks_per_epoch)
    best_loss = start_loss = _validate(model, samples, validation, config)
    best, best_step, step, waited, smooth = None, 0, 0, 0, math.nan
    interrupted = False
    try:
        for index in _batches(train, config, rng):
            lr = config.learning_rate * _rate(step, warmup, planned)
            for group in optimizer.param_groups:
                group["lr"] = lr
            model.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                answers = model(torch.from_numpy(samples.windows(index)))
            value = loss(answers.float(), _tensors(samples.labels, index), model.unit, config)
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            smooth = value.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * value.item()
            if step % every == 0 or step == planned:
                checked = _validate(model, samples, validation, config)
                waited += 1
                if checked < best_loss or best is None:
                    best, best_loss, best_step, waited = copy.deepcopy(model.state_dict()), checked, step, 0
            on_step(step, planned, smooth, best_loss)
            if waited >= config.patience_checks:
                break
    except KeyboardInterrupt:
        if best is None:
            raise
        interrupted = True
    assert best is not None
    model.load_state_dict(best)
    model.eval()
    return Fitted(best_loss, start_loss, best_step, step, planned, time.monotonic() - began, interrupted)


@torch.no_grad()
def predict(model: PatchTST, samples: Samples, index: I64, batch_rows: int = 512) -> F32:
    """Return the outputs [B, 20] of the samples at index [B], in fp32."""
    model.eval()
    parts = [index[k : k + batch_rows] for k in range(0, len(index), batch_rows)]
    return np.concatenate([model(torch.from_numpy(samples.windows(part))).numpy() for part in parts])


def _validate(model: PatchTST, samples: Samples, index: I64, config: FitConfig) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        answers = torch.from_numpy(predict(model, samples, index))
    return loss(answers, _tensors(samples.labels, index), model.unit, config).item()


def _batches(train: I64, config: FitConfig, rng: np.random.Generator) -> Iterator[I64]:
    for _ in range(config.epochs):
        order = rng.permutation(train)
        yield from (order[k : k + config.batch_rows] for k in range(0, len(order), config.batch_rows))


def _rate(step: int, warmup: int, planned: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, planned - warmup)))


def _tensors(labels: Labels, index: I64) -> tuple[Tensor, Tensor, Tensor]:
    directions = torch.from_numpy(labels.directions[index].astype(np.int64))
    return torch.from_numpy(labels.returns[index]), directions, torch.from_numpy(labels.risks[index])
