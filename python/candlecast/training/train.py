"""The recipe: candle files → walk-forward metrics → the last fit → a bundle. Each step itself is elsewhere."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from candlecast import _rust
from candlecast.errors import ConfigurationError
from candlecast.features import NAMES, feature_set_hash
from candlecast.models import bundle
from candlecast.models.bundle import FeatureSet, Manifest
from candlecast.settings import CHECKOUT
from candlecast.training import export, program
from candlecast.training.config import Config
from candlecast.training.data import Samples, prepare
from candlecast.training.evaluate import average, measure
from candlecast.training.fit import Fitted, base_rates, fit, predict, start
from candlecast.training.patchtst import PatchTST
from candlecast.training.sources import History, read_history, utc
from candlecast.training.splits import EMBARGO_BARS, Split, walk_forward
from candlecast.training.temperature import fit_temperatures
from candlecast.values import F64, I64

PARITY_ROWS: Final = 512


@dataclass(frozen=True, slots=True)
class Run:
    """One split, fitted and, where it has a test part, measured on it."""

    name: str
    split: Split
    model: PatchTST  # at its best checkpoint
    fitted: Fitted
    temperatures: F64  # [4], of its validation part
    measured: dict[str, Any] | None


def train_patchtst(
    data: Sequence[Path],
    out: Path,
    *,
    symbols: Sequence[str] | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    optional_inputs: Sequence[str] | None = None,
    reference_symbol: str | None = None,
    version: int = 1,
    config: Config | None = None,
) -> Manifest:
    """Train PatchTST on candle files and write the bundle to folder `out`; progress goes to standard error.

    Candles that open in [start_ms, end_ms) are used, labels included. Optional inputs that are not named are chosen by
    what the files carry (`read_history`); the reference is compared with even when `symbols` leaves it out. Ctrl-C ends
    the fit under way: its best checkpoint becomes the bundle and later fits are skipped; before a first checkpoint
    nothing is written.

    Raises:
        ConfigurationError: the data or the configuration does not do.
        BundleError: `out` holds something else, or the exported file differs from fp32.
    """
    config = config or Config()
    began, commit = time.monotonic(), _commit()
    bundle.check_place(out)
    history = read_history(
        data,
        symbols=symbols,
        start_ms=start_ms,
        end_ms=end_ms,
        optional_inputs=optional_inputs,
        reference_symbol=reference_symbol,
    )
    interval_ms = history.interval_ms
    with tempfile.TemporaryDirectory(prefix="candlecast-train-") as folder, _progress() as progress:
        samples = _prepared(history, Path(folder), config, progress)
        times = samples.open_time_ms
        splits = walk_forward(int(times.min()), int(times.max()) + interval_ms, interval_ms, config.folds)
        runs = _run_all(samples, splits, config, progress)
        shipped, folds = runs[-1], [run.measured for run in runs if run.measured]
        exported, executable = export.to_onnx(shipped.model), program.to_program(shipped.model)
        shown = np.linspace(0, len(samples) - 1, PARITY_ROWS).astype(np.int64)
        windows = samples.windows(shown)
        right = export.truth(shipped.model, windows)
        parity = export.check_parity("the fp16 ONNX file against fp32", export.run(exported, windows), right)
        program_parity = export.check_parity("the fp16 program against fp32", program.run(executable, windows), right)
        golden = samples.windows(shown[:: PARITY_ROWS // 4])
    manifest = Manifest(
        name="patchtst",
        version=version,
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        feature_set=FeatureSet(
            name=_rust.FEATURE_SET,
            hash=f"{feature_set_hash(history.optional_inputs):016x}",
            columns=list(NAMES),
            optional_inputs=history.optional_inputs,
            reference_symbol=history.reference_symbol,
        ),
        data=_described(history),
        code_commit=commit,
        training={
            "config": asdict(config),
            "samples": len(samples),
            "embargo_bars": EMBARGO_BARS,
            "shipped": {"fit": shipped.name, "spans": _spans(shipped.split)} | _rounded(asdict(shipped.fitted)),
            "export": {"opset": export.OPSET, "weights": "fp16", "rows": PARITY_ROWS, "relative_error": parity}
            | {"program_relative_error": program_parity},
            "parameters": sum(p.numel() for p in shipped.model.parameters()),
            "seconds": round(time.monotonic() - began, 1),
            "machine": f"{os.cpu_count()} CPU cores",
            "torch": torch.__version__,
        },
        metrics={"walk_forward": {"folds": folds} | ({"mean": average(folds)} if folds else {})},
        temperatures=[round(t, 4) for t in shipped.temperatures.tolist()],
    )
    written = bundle.write(out, manifest, exported, golden, export.run(exported, golden), program=executable)
    return written.manifest


def _prepared(history: History, folder: Path, config: Config, progress: Progress) -> Samples:
    used = ", ".join(history.optional_inputs) or "none"
    compared = f" ({history.reference_symbol})" if history.reference_symbol else ""
    progress.console.print(f"optional inputs: {used}{compared}; the model is served with these and no others")
    task = progress.add_task("features", total=len(history.symbols), note="")
    began = time.monotonic()

    def on_symbol(symbol: str) -> None:
        progress.update(task, advance=1, note=symbol)

    samples = prepare(history, folder, config.stride, on_symbol)
    progress.console.print(
        f"features: {sum(len(source.candles) for source in history.sources)} candles, {len(history.symbols)} symbols →"
        f" {len(samples)} samples in {time.monotonic() - began:.1f} s"
    )
    return samples


def _run_all(samples: Samples, splits: Sequence[Split], config: Config, progress: Progress) -> list[Run]:
    """Fit every split; after Ctrl-C what has a checkpoint is kept and the rest skipped. At least one run returns."""
    runs: list[Run] = []
    try:
        for number, split in enumerate(splits, 1):
            runs.append(_run(f"fold {number}" if split.test else "last fit", samples, split, config, progress))
            if runs[-1].fitted.interrupted:
                break
    except KeyboardInterrupt:
        if not runs:
            raise
    if len(runs) < len(splits) or runs[-1].fitted.interrupted:
        progress.console.print(f"Ctrl-C: kept {runs[-1].name} at step {runs[-1].fitted.best_step}, its best checkpoint")
    return runs


def _run(name: str, samples: Samples, split: Split, config: Config, progress: Progress) -> Run:
    """Fit one split; measure it on its test part, if it has one, with temperatures of its validation part."""
    train, validation = split.train.of(samples.open_time_ms), split.validation.of(samples.open_time_ms)
    _not_empty(name, train, validation)
    torch.manual_seed(config.seed)
    model = PatchTST(config.network, len(NAMES))
    start(model, samples, train)
    task = progress.add_task(name, total=None, note="")

    def on_step(step: int, steps: int, loss: float, best: float) -> None:
        progress.update(task, completed=step, total=steps, note=f"loss {loss:.4f}, validation {best:.4f}")

    fitted = fit(model, samples, train, validation, config.fit, config.seed, on_step)
    temperatures = fit_temperatures(predict(model, samples, validation), samples.labels.directions[validation])
    progress.console.print(
        f"{name}: {len(train)} windows, best at step {fitted.best_step} of {fitted.steps}, validation loss"
        f" {fitted.validation_loss:.4f} (constant {fitted.start_loss:.4f}), {fitted.seconds:.0f} s"
    )
    if split.test is None:
        return Run(name, split, model, fitted, temperatures, None)
    test = split.test.of(samples.open_time_ms)
    _not_empty(name, test)
    known = samples.labels.take(train)
    measured = measure(predict(model, samples, test), samples.labels.take(test), temperatures, base_rates(known), known)
    for horizon, numbers in measured["horizons"].items():
        shown = ", ".join(f"{key} {n['model']:.4f} (base {n['base']:.4f})" for key, n in numbers.items() if "base" in n)
        progress.console.print(f"{name}: {horizon}: {shown}")
    described = {"spans": _spans(split), "train_rows": len(train), "fit": _rounded(asdict(fitted))}
    return Run(name, split, model, fitted, temperatures, described | measured)


def _not_empty(name: str, *parts: I64) -> None:
    if any(len(part) < 2 for part in parts):
        raise ConfigurationError(f"{name} has a part without samples; give more data, fewer folds or a smaller stride")


def _described(history: History) -> dict[str, Any]:
    files = [source.described() for source in history.sources]
    span = {"from": min(file["from"] for file in files), "to": max(file["to"] for file in files)}
    return {"files": files, "symbols": history.symbols, "interval_ms": history.interval_ms} | span


def _spans(split: Split) -> dict[str, dict[str, str]]:
    spans = {"train": split.train, "validation": split.validation, "test": split.test}
    return {part: {"from": utc(span.start_ms), "before": utc(span.end_ms)} for part, span in spans.items() if span}


def _rounded(numbers: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in numbers.items()}


def _commit() -> str:
    """Return the commit this code is at, with "+dirty" when files differ from it; "unknown" outside a checkout."""
    if not (CHECKOUT / ".git").exists():
        return "unknown"

    def git(*arguments: str) -> str:
        answer = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else ""

    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return (commit + ("+dirty" if changed else "")) if commit else "unknown"


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True, soft_wrap=True))
