"""The training loop: one network, one split, the best step on validation. Knows no files but its own checkpoint."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from candlecast.errors import CandlecastError, ConfigurationError
from candlecast.training import loss
from candlecast.training.checkpoints import Checkpoint
from candlecast.training.data import Samples
from candlecast.training.family import Fitted, Progress
from candlecast.training.feed import Feed
from candlecast.training.labels import starting_point
from candlecast.training.scaled import Scaled
from candlecast.values import F32, I64


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _fast_bfloat16() -> bool:
    cpu = Path("/proc/cpuinfo")
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return cpu.exists() and "avx512_bf16" in cpu.read_text()


@dataclass(frozen=True, slots=True)
class FitConfig:
    epochs: int = 2
    batch_rows: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warmup_share: float = 0.05  # of all steps
    clip_norm: float = 1.0
    averaging: float = 0.98  # what is judged and kept is an exponential average of the weights; 0: the newest ones
    checks_per_epoch: int = 4  # validations
    patience_checks: int = 6  # without a better one before stopping early
    return_weight: float = 0.5
    direction_weight: float = 1.0
    risk_weight: float = 0.5
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    device: str = field(default_factory=_device)
    bfloat16: bool = field(default_factory=_fast_bfloat16)  # matrix products while fitting; metrics are fp32

    def __post_init__(self) -> None:
        at_least_1 = ("epochs", "batch_rows", "checks_per_epoch", "patience_checks", "threads")
        if wrong := [name for name in at_least_1 if getattr(self, name) < 1]:
            raise ConfigurationError(f"{', '.join(wrong)} must be at least 1")
        if not 0 <= self.averaging < 1:
            raise ConfigurationError(f"averaging is {self.averaging:g}; it must be in [0, 1)")
        if self.device not in ("cpu", "cuda"):
            raise ConfigurationError(f"device {self.device!r} is neither cpu nor cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigurationError("device is cuda, but torch finds no GPU here; leave it out to use the CPU")

    @property
    def weights(self) -> tuple[float, float, float]:
        """Of the losses of returns, directions and risks."""
        return self.return_weight, self.direction_weight, self.risk_weight


@dataclass(slots=True)
class _Standing:
    """Where a fit stands between two steps; all of it is in a checkpoint."""

    start_loss: float
    best_loss: float
    step: int = 0
    best_step: int = 0
    waited: int = 0  # checks since the best one
    smooth: float = math.nan  # train loss
    seconds: float = 0.0
    feeding: float = 0.0  # of the seconds


class _Average:
    """A model whose weights follow those of another: quickly at first, later as slowly as `decay` says."""

    def __init__(self, model: Scaled, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay

    def follow(self, model: Scaled, step: int) -> None:
        share = 1 - min(self._decay, step / (step + 10))
        for mine, its in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.lerp_(its.detach(), share)


def start(model: Scaled, samples: Samples, train: I64) -> None:
    """Set the model's scaler, units and starting answer from the train part alone."""
    mean, std = _moments(samples, train)
    constant, unit = starting_point(samples.labels.take(train))
    # A column that does not move here is only centred: what it may do later stays small.
    moves = std > 1e-6 * np.maximum(1.0, np.abs(mean))
    tensors = (mean, np.where(moves, std, 1.0), unit, constant)
    model.start_from(*(torch.from_numpy(array.astype(np.float32)) for array in tensors))


def _moments(samples: Samples, index: I64, chunk: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation [F] of the newest rows, in float64 and a chunk at a time."""
    parts = [index[k : k + chunk] for k in range(0, len(index), chunk)]
    mean = sum(samples.newest(part).sum(axis=0, dtype=np.float64) for part in parts) / len(index)
    square = sum(((samples.newest(part) - mean) ** 2).sum(axis=0) for part in parts) / len(index)
    return mean, np.sqrt(square)


def fit(
    model: Scaled,
    feed: Feed,
    train: I64,
    validation: I64,
    config: FitConfig,
    seed: int,
    on_step: Progress,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Train the model, from `start`, and leave it at the average of its steps with the least validation loss.

    A checkpoint is written at each validation; one that is there is gone on from, to the bit. Ctrl-C ends the fit with
    the best step so far. Before the first check it is raised.

    Raises:
        CandlecastError: the loss is no number any more, or the checkpoint cannot be written.
        ConfigurationError: the checkpoint is another fit's, or damaged.
    """
    torch.set_num_threads(config.threads)
    began, fed = time.monotonic(), feed.seconds
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    per_epoch = math.ceil(len(train) / config.batch_rows)
    planned = per_epoch * config.epochs
    warmup = max(1, round(planned * config.warmup_share))
    every = max(1, per_epoch // config.checks_per_epoch)
    best: dict[str, Tensor] | None = None
    average = _Average(model, config.averaging)
    if checkpoint and (saved := checkpoint.load()):
        at, best = _Standing(**saved["standing"]), saved["best"]
        model.load_state_dict(saved["model"])
        average.model.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
    else:
        constant = _validate(model, feed, validation, config)
        at = _Standing(start_loss=constant, best_loss=constant)
    before = at.seconds, at.feeding
    interrupted = False
    try:
        for index in _batches(train, config, seed, at.step):
            if at.waited >= config.patience_checks:
                break
            value = _step(model, feed, index, optimizer, config, config.learning_rate * _rate(at.step, warmup, planned))
            at.step += 1
            average.follow(model, at.step)
            _check_number(value, at.step, config)
            at.smooth = value if math.isnan(at.smooth) else 0.98 * at.smooth + 0.02 * value
            checking = at.step % every == 0 or at.step == planned
            if checking:
                checked = _validate(average.model, feed, validation, config)
                _check_number(checked, at.step, config)
                at.waited += 1
                if checked < at.best_loss or best is None:
                    at.best_loss, at.best_step, at.waited = checked, at.step, 0
                    best = copy.deepcopy(average.model.state_dict())
            at.seconds, at.feeding = before[0] + time.monotonic() - began, before[1] + feed.seconds - fed
            if checking and checkpoint:
                parts = {"model": model.state_dict(), "average": average.model.state_dict(), "best": best}
                checkpoint.save(parts | {"optimizer": optimizer.state_dict(), "standing": asdict(at)})
            on_step(at.step, planned, at.smooth, at.best_loss)
    except KeyboardInterrupt:
        if best is None:
            raise
        interrupted = True
    assert best is not None
    model.load_state_dict(best)
    model.eval()
    share = at.feeding / max(at.seconds, 1e-9)
    return Fitted(at.best_loss, at.start_loss, at.best_step, at.step, planned, at.seconds, interrupted, share)


@torch.no_grad()
def predict(model: Scaled, feed: Feed, index: I64, batch_rows: int = 512) -> F32:
    """Return the outputs [B, 20] of the samples at index [B], in fp32."""
    model.eval()
    parts = [index[k : k + batch_rows] for k in range(0, len(index), batch_rows)]
    return np.concatenate([model(feed.windows(part)).float().cpu().numpy() for part in parts])


def _step(
    model: Scaled, feed: Feed, index: I64, optimizer: torch.optim.Optimizer, config: FitConfig, rate: float
) -> float:
    """Move the weights once; return the loss before."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    model.train()
    windows = feed.windows(index)
    with torch.autocast(config.device, torch.bfloat16, enabled=config.bfloat16):
        answers = model(windows)
    value = loss.total(answers.float(), feed.labels(index), model.unit, config.weights)
    value.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return value.item()


def _validate(model: Scaled, feed: Feed, index: I64, config: FitConfig) -> float:
    with torch.autocast(config.device, torch.bfloat16, enabled=config.bfloat16):
        answers = torch.from_numpy(predict(model, feed, index)).to(feed.device)
    return loss.total(answers, feed.labels(index), model.unit, config.weights).item()


def _check_number(value: float, step: int, config: FitConfig) -> None:
    if not math.isfinite(value):
        raise CandlecastError(
            f"the loss is {value} at step {step}: the fit diverged; lower learning_rate (now {config.learning_rate:g})"
            f" or clip_norm (now {config.clip_norm:g}), or set bfloat16 = false, in [fit] of --config"
        )


def _batches(train: I64, config: FitConfig, seed: int, step: int) -> Iterator[I64]:
    """Yield the batches from `step` on; the order of an epoch follows from seed and epoch alone."""
    starts = range(0, len(train), config.batch_rows)
    first, done = divmod(step, len(starts))
    for epoch in range(first, config.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(train)
        yield from (order[k : k + config.batch_rows] for k in (starts[done:] if epoch == first else starts))


def _rate(step: int, warmup: int, planned: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, planned - warmup)))
