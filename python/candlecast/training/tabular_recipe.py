"""The recipe of a tabular model: candles → walk-forward metrics → the last fit → a bundle of another target."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from candlecast import _rust
from candlecast.errors import BundleError, CandlecastError, ConfigurationError
from candlecast.features import NAMES, WINDOW, feature_set_hash
from candlecast.models import bundle
from candlecast.models.bundle import Bundle, FeatureSet, Manifest
from candlecast.training import export, importance, suspicion, tabular, tabular_measures, tree_graph
from candlecast.training.config import Config
from candlecast.training.data import Samples
from candlecast.training.folds import TOO_EARLY, Note, Shown, rounded, settle, spans
from candlecast.training.labels import FUTURE_BARS
from candlecast.training.progress import progress_bars
from candlecast.training.sources import described, read_history
from candlecast.training.splits import Split, walk_forward
from candlecast.training.tabular import TabularModel
from candlecast.training.targets import Target
from candlecast.training.train import code_commit, prepared
from candlecast.values import F32, I64, Candles

PARITY_ROWS: Final = 1024
PARITY_MAX: Final = 1e-4
"""Largest difference of the ONNX file from the model, over the largest answer."""
IMPORTANCE_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class Run:
    """One split, fitted and, where it has a test part, measured on it."""

    name: str
    split: Split
    model: TabularModel
    measured: dict[str, Any] | None


def train_tabular(
    kind: str,
    target: Target,
    data: Sequence[Path] | Candles,
    out: Path,
    *,
    symbols: Sequence[str] | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    optional_inputs: Sequence[str] | None = None,
    reference_symbol: str | None = None,
    version: int = 1,
    config: Config | None = None,
    note: Note = lambda **where: None,
) -> Bundle:
    """Train boosted trees (a name of `tabular.KINDS`) on a target; arguments, progress and Ctrl-C as `train.train`.

    Raises:
        ConfigurationError: the data or the configuration does not do.
        BundleError: `out` holds something else, or the exported file differs from the model.
        CandlecastError: a disk is full; what was at `out` stays.
    """
    config = config or Config()
    began, commit = time.monotonic(), code_commit()
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
    bars = target.bars(interval_ms)
    embargo_bars = max(FUTURE_BARS, bars) + WINDOW
    with tempfile.TemporaryDirectory(prefix="candlecast-train-") as folder, progress_bars() as progress:
        shown = Shown(progress, note)
        samples = prepared(history, Path(folder), config, shown, target)
        times = samples.open_time_ms
        splits = walk_forward(
            int(times.min()),
            int(times.max()) + interval_ms,
            interval_ms,
            config.folds,
            embargo_bars,
            config.rolling_bars,
        )
        runs = _run_all(kind, target, samples, splits, config, shown)
        shipped, folds = runs[-1], [run.measured for run in runs if run.measured]
        if len(runs) < len(splits) or shipped.model.fitted.interrupted:
            settle(shipped.name, shipped.model.fitted, kind, out, None, shown)
        onnx, golden, answers, error = _exported(shipped.model, samples)
        looked_at = _importance(shipped, samples)
    manifest = Manifest(
        name=name_of(kind, target),
        version=version,
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        feature_set=FeatureSet(
            name=_rust.FEATURE_SET,
            hash=f"{feature_set_hash(history.optional_inputs):016x}",
            columns=list(NAMES),
            optional_inputs=history.optional_inputs,
            reference_symbol=history.reference_symbol,
        ),
        data=described(history),
        code_commit=commit,
        training={
            "target": asdict(target) | {"bars": bars},
            "config": {name: value for name, value in asdict(config).items() if not isinstance(value, dict)}
            | {"trees": asdict(config.trees)},
            "samples": len(samples),
            "embargo_bars": embargo_bars,
            "shipped": {"fit": shipped.name, "spans": spans(shipped.split)} | rounded(asdict(shipped.model.fitted)),
            "export": {"opset": tree_graph.OPSET, "rows": PARITY_ROWS, "relative_error": error},
            "seconds": round(time.monotonic() - began, 1),
            "machine": f"{os.cpu_count()} CPU cores",
        }
        | shipped.model.described(),
        metrics={
            "walk_forward": {"folds": folds} | ({"mean": tabular_measures.average(folds)} if folds else {}),
            "importance": looked_at,
        },
        temperatures=[],
        outputs={"count": target.outputs},
    )
    try:
        return bundle.write(out, manifest, onnx, golden, answers)
    except OSError as error_:
        raise CandlecastError(
            f"{out}: the bundle cannot be written ({error_.strerror}); what was there stays. Make room, train again"
        ) from error_


def name_of(kind: str, target: Target) -> str:
    """Return the name of a model: xgboost_direction_24h."""
    return f"{kind}_{target.name}_{target.horizon}"


def _run_all(
    kind: str, target: Target, samples: Samples, splits: Sequence[Split], config: Config, shown: Shown
) -> list[Run]:
    """Fit every split; after Ctrl-C what has a best round is kept and the rest skipped. At least one run returns."""
    runs: list[Run] = []
    try:
        for number, split in enumerate(splits, 1):
            name = f"fold {number}" if split.test else "last fit"
            runs.append(_run(name, kind, target, samples, split, config, shown))
            if runs[-1].model.fitted.interrupted:
                break
    except KeyboardInterrupt:
        if not runs:
            raise KeyboardInterrupt(TOO_EARLY) from None
    return runs


def _run(name: str, kind: str, target: Target, samples: Samples, split: Split, config: Config, shown: Shown) -> Run:
    parts = [part.of(samples.open_time_ms) for part in (split.train, split.validation, split.test) if part]
    if any(len(part) < 2 for part in parts):
        raise ConfigurationError(f"{name} has a part without samples; give more data, fewer folds or a smaller stride")
    train, validation, *tests = parts
    model = tabular.fit(kind, target, samples, train, validation, config.trees, config.seed, shown.steps(name))
    fitted = model.fitted
    shown.say(
        f"{name}: {len(train)} rows, best at round {fitted.best_step} of {fitted.steps}, validation loss"
        f" {fitted.validation_loss:.4f} (constant {fitted.start_loss:.4f}), {fitted.seconds:.0f} s"
    )
    if not tests:
        return Run(name, split, model, None)
    measured = tabular_measures.measure(target, model.predict(samples, tests[0]), samples, tests[0], train)
    for metric, numbers in measured["horizons"][target.horizon].items():
        if "base" in numbers:
            told = f"{numbers['model']:.4f} (base {numbers['base']:.4f}, persistence {numbers['persistence']:.4f})"
            shown.say(f"{name}: {metric} {told}")
    suspicions = suspicion.columns(samples, tests[0])
    for warning in suspicions:
        shown.say(f"{name}: {warning.upper()}")
    about: dict[str, Any] = {"spans": spans(split), "train_rows": len(train), "fit": rounded(asdict(fitted))}
    about["suspicions"] = suspicions
    return Run(name, split, model, about | measured)


def _exported(model: TabularModel, samples: Samples) -> tuple[bytes, F32, F32, float]:
    """Return the ONNX file, golden windows and answers, and how far the file is from the model.

    Raises:
        BundleError: it is further than PARITY_MAX, or an answer is not finite.
    """
    some = np.linspace(0, len(samples) - 1, PARITY_ROWS).astype(np.int64)
    windows, right, onnx = samples.windows(some), model.predict(samples, some), model.to_onnx()
    answers = export.run(onnx, windows)
    error = float(np.abs(answers - right).max() / np.abs(right).max())
    if not error <= PARITY_MAX:
        raise BundleError(
            f"the ONNX file differs from the model by {error:.1e} of the largest answer, over {PARITY_MAX}"
        )
    step = PARITY_ROWS // 4
    return onnx, windows[::step], answers[::step], round(error, 9)


def _importance(shipped: Run, samples: Samples) -> dict[str, Any]:
    """Return which features the model looks at, over rows of its validation part."""
    train, validation = (part.of(samples.open_time_ms) for part in (shipped.split.train, shipped.split.validation))
    some: I64 = validation[np.unique(np.linspace(0, len(validation) - 1, IMPORTANCE_ROWS).astype(np.int64))]
    return importance.table(samples, train, shipped.model.importance(samples, some), "shap", shipped.model.gain())
