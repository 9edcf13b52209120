"""The fits of a walk-forward, one after the other: each measured on its test part. Knows any family, and no bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import Progress

from candlecast import outputs
from candlecast.errors import ConfigurationError
from candlecast.interpret import interpret
from candlecast.training import suspicion
from candlecast.training.data import Samples
from candlecast.training.evaluate import by_day, measure_samples, simple_pnl
from candlecast.training.family import Family, Fitted, Model
from candlecast.training.labels import Labels
from candlecast.training.sources import utc
from candlecast.training.splits import Split
from candlecast.training.temperature import fit_temperatures, fit_thresholds
from candlecast.values import F64, I64

TOLD: Final = ("log_loss", "skill", "brier", "balanced_accuracy", "side_accuracy", "calibration_error", "return_mae")
"""Metrics of a fold that are shown when it ends."""
NOTE_STEPS: Final = 10
"""Steps between two notes of progress for whoever keeps a record."""

TOO_EARLY: Final = "interrupted before a first best step: no bundle was written"

Note = Callable[..., None]
"""Takes note of where the training is: phase, step, steps, loss, validation_loss; cheap."""


@dataclass(frozen=True, slots=True)
class Run:
    """One split, fitted and, where it has a test part, measured on it."""

    name: str
    split: Split
    model: Model  # at its best step
    temperatures: F64  # [4], of its validation part
    thresholds: F64  # [4] of a move, of its validation part
    measured: dict[str, Any] | None
    earlier_s: float = 0.0  # of the fit's seconds, those of a run before that was gone on from

    @property
    def fitted(self) -> Fitted:
        return self.model.fitted


@dataclass(frozen=True, slots=True)
class Shown:
    """Where progress goes: to people and to the record."""

    progress: Progress
    note: Note

    def say(self, line: str) -> None:
        self.progress.console.print(line)

    def steps(self, name: str) -> Callable[[int, int, float, float], None]:
        """Return what shows the steps of a fit by that name."""
        task = self.progress.add_task(name, total=None, note="")

        def on_step(step: int, steps: int, loss: float, best: float) -> None:
            text = f"loss {loss:.4f}, validation {best:.4f}"
            self.progress.update(task, completed=step, total=steps, note=text)
            if step % NOTE_STEPS == 0 or step == steps:
                self.note(phase=name, step=step, steps=steps, loss=loss, validation_loss=best)

        return on_step


def run_all(
    samples: Samples, splits: Sequence[Split], family: Family, seed: int, checkpoints: Path, shown: Shown
) -> list[Run]:
    """Fit every split; after Ctrl-C what has a best step is kept and the rest skipped. At least one run returns.

    Raises:
        KeyboardInterrupt: there was no best step yet; it says so.
        ConfigurationError: a part has too few samples, or one to be fitted on no two classes of a horizon.
        CandlecastError: a fit diverged.
    """
    runs: list[Run] = []
    try:
        for number, split in enumerate(splits, 1):
            name = f"fold {number}" if split.test else "last fit"
            kept = checkpoints / f"{name.replace(' ', '-')}.checkpoint"
            runs.append(_run(name, samples, split, family, seed, kept, shown))
            if runs[-1].fitted.interrupted:
                break
    except KeyboardInterrupt:
        if not runs:
            raise KeyboardInterrupt(TOO_EARLY) from None
    return runs


def settle(fit: str, fitted: Fitted, family: str, out: Path, checkpoints: Path | None, shown: Shown) -> None:
    """After Ctrl-C, say what becomes of the fit that is best so far: it is written to `out` only if nothing is there.

    Raises:
        KeyboardInterrupt: a bundle is at `out` and stays; it says so, and whether the fit can be gone on with.
    """
    is_kept = checkpoints is not None and any(checkpoints.glob("*.checkpoint"))
    if not out.is_dir() or not any(out.iterdir()):
        again = "--resume goes on" if is_kept else f"{family} has no checkpoints to resume"
        shown.say(f"Ctrl-C: kept {fit} at step {fitted.best_step}, its best; {again}")
        return
    rest = f"the fits are kept in {checkpoints}, and --resume goes on" if is_kept else f"{family} has no checkpoints"
    raise KeyboardInterrupt(f"interrupted: the bundle that was at {out} stays; {rest}")


def parts(name: str, samples: Samples, split: Split) -> tuple[I64, I64]:
    """Return the indices of a split's train and validation part.

    Raises:
        ConfigurationError: a part has too few samples, or knows one class only.
    """
    train, validation = split.train.of(samples.open_time_ms), split.validation.of(samples.open_time_ms)
    _check_length(name, train, validation)
    _check_classes(name, "train", samples.labels.take(train), "learn")
    _check_classes(name, "validation", samples.labels.take(validation), "choose the best step by")
    return train, validation


def spans(split: Split) -> dict[str, dict[str, str]]:
    """Return the parts of a split as times."""
    found = {"train": split.train, "validation": split.validation, "test": split.test}
    return {part: {"from": utc(span.start_ms), "before": utc(span.end_ms)} for part, span in found.items() if span}


def rounded(numbers: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers with at most six decimals."""
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in numbers.items()}


def _run(name: str, samples: Samples, split: Split, family: Family, seed: int, checkpoint: Path, shown: Shown) -> Run:
    """Fit one split; measure it on its test part, if it has one, with temperatures of its validation part."""
    train, validation = parts(name, samples, split)
    began = time.monotonic()
    model = family.fit(samples, train, validation, seed, shown.steps(name), checkpoint)
    fitted = model.fitted
    earlier_s = max(0.0, fitted.seconds - (time.monotonic() - began))
    # What is kept of both is what they are measured with.
    chosen, came = model.predict(samples, validation), samples.labels.directions[validation]
    temperatures = fit_temperatures(chosen, came).round(4)
    thresholds = fit_thresholds(interpret(chosen, temperatures).probabilities, came).round(4)
    shown.say(
        f"{name}: {len(train)} windows, best at step {fitted.best_step} of {fitted.steps}, validation loss"
        f" {fitted.validation_loss:.4f} (constant {fitted.start_loss:.4f}), {fitted.seconds:.0f} s"
        + ("" if fitted.feeding_share is None else f", {fitted.feeding_share:.1%} of them feeding data")
    )
    if split.test is None:
        return Run(name, split, model, temperatures, thresholds, None, earlier_s)
    test = split.test.of(samples.open_time_ms)
    _check_length(name, test)
    answers = model.predict(samples, test)
    measured = measure_samples(samples, test, answers, temperatures, train, thresholds)
    for horizon, numbers in measured["horizons"].items():
        told = (f"{key} {numbers[key]['model']:.4f} (base {numbers[key]['base']:.4f})" for key in TOLD)
        shown.say(f"{name}: {horizon}: {', '.join(told)}")
    suspicions = suspicion.skills(measured) + suspicion.columns(samples, test)
    for warning in suspicions:
        shown.say(f"{name}: {warning.upper()}")
    described: dict[str, Any] = {"spans": spans(split), "train_rows": len(train), "fit": rounded(asdict(fitted))}
    described |= {"temperatures": temperatures.tolist(), "thresholds": thresholds.tolist()}
    times, pnl = simple_pnl(answers, samples.labels.take(test), temperatures, samples.open_time_ms[test])
    described |= {"suspicions": suspicions, "pnl": by_day(times, pnl)}
    return Run(name, split, model, temperatures, thresholds, described | measured, earlier_s)


def _check_length(name: str, *found: I64) -> None:
    if any(len(part) < 2 for part in found):
        raise ConfigurationError(f"{name} has a part without samples; give more data, fewer folds or a smaller stride")


def _check_classes(name: str, part: str, labels: Labels, use: str) -> None:
    for h, horizon in enumerate(outputs.HORIZONS):
        classes = np.unique(labels.directions[:, h])
        if len(classes) < 2:
            raise ConfigurationError(
                f"{name}: all {len(labels.at)} labels of its {part} part at {horizon} are"
                f" {outputs.CLASSES[int(classes[0])]}: there is nothing to {use}; give data that moves, or of a longer"
                " time"
            )
