"""The recipe: candles → walk-forward metrics → the last fit → a bundle. Each step itself is elsewhere."""

from __future__ import annotations

import hashlib
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

from candlecast import _rust
from candlecast.errors import CandlecastError
from candlecast.features import NAMES, feature_set_hash
from candlecast.models import bundle
from candlecast.models.bundle import Bundle, FeatureSet, Manifest
from candlecast.models.reference import Reference
from candlecast.settings import CHECKOUT
from candlecast.training import export, importance, program, search
from candlecast.training.config import Config
from candlecast.training.data import Samples, prepare
from candlecast.training.evaluate import average
from candlecast.training.family import Model, families
from candlecast.training.folds import Note, Run, Shown, rounded, run_all, settle, spans
from candlecast.training.progress import progress_bars
from candlecast.training.reference import reference_of
from candlecast.training.sources import History, described, read_history
from candlecast.training.splits import EMBARGO_BARS, walk_forward
from candlecast.training.targets import Target
from candlecast.values import F32, Candles

PARITY_ROWS: Final = 1024
IMPORTANCE_ROWS: Final = 256
"""Windows of the shipped fit's validation part that its importance is taken over."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A model's files, checked against the model itself."""

    onnx: bytes
    program: bytes | None
    golden: F32  # [4, 96, F]
    answers: F32  # [4, 20], of the ONNX file
    errors: dict[str, Any]  # relative to the model, of each file


def train(
    kind: str,
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
    resume: bool = False,
    searched: search.Search | None = None,
    note: Note = lambda **where: None,
) -> Bundle:
    """Train a model of this kind (a name of `families`) and write its bundle to folder `out`; progress: standard error.

    Candles that open in [start_ms, end_ms) are used, labels included. Optional inputs that are not named are chosen by
    what the data carries (`read_history`); the reference is compared with even when `symbols` leaves it out. Ctrl-C
    ends the fit under way and skips later ones: its best step becomes the bundle, unless there is none yet, or `out`
    holds a bundle already, which stays. Beside `out`, in OUT.resume, lies what `resume` goes on from, until a training
    ends.

    Raises:
        ConfigurationError: the data or the configuration does not do.
        BundleError: `out` holds something else, or an exported file differs from the model.
        CandlecastError: a fit diverged, or a disk is full; what was at `out` stays.
        KeyboardInterrupt: Ctrl-C, and no bundle was written; it says what stays.
    """
    config = config or Config()
    began, commit = time.monotonic(), code_commit()
    bundle.check_place(out)
    kept = out.absolute().with_name(f"{out.absolute().name}.resume")
    history = read_history(
        data,
        symbols=symbols,
        start_ms=start_ms,
        end_ms=end_ms,
        optional_inputs=optional_inputs,
        reference_symbol=reference_symbol,
    )
    interval_ms = history.interval_ms
    with tempfile.TemporaryDirectory(prefix="candlecast-train-") as folder, progress_bars() as progress:
        shown = Shown(progress, note)
        samples = prepared(history, Path(folder), config, shown)
        times = samples.open_time_ms
        splits = walk_forward(
            int(times.min()),
            int(times.max()) + interval_ms,
            interval_ms,
            config.folds,
            rolling_bars=config.rolling_bars,
        )
        if not resume:
            _forget(kept, shown)
        found: dict[str, Any] = {}
        if searched is not None:
            config, found = search.run(kind, samples, splits[0], config, searched, _study(kind, history, config), shown)
        runs = run_all(samples, splits, families()[kind](config), config.seed, kept, shown)
        shipped, folds = runs[-1], [run.measured for run in runs if run.measured]
        is_whole = len(runs) == len(splits) and not shipped.fitted.interrupted
        if not is_whole:
            settle(shipped.name, shipped.fitted, kind, out, kept, shown)
        exported = _exported(shipped.model, samples)
        walked = _folds(runs, samples)
        looked_at = _importance(shipped, samples)
        temperatures = shipped.temperatures.tolist()
        held_to = reference_of(
            samples, shipped.split.train, shipped.split.validation, config.stride,
            lambda index: shipped.model.predict(samples, index), shipped.temperatures,
        )  # fmt: skip
    manifest = Manifest(
        name=kind,
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
            "config": asdict(config),
            "samples": len(samples),
            "embargo_bars": EMBARGO_BARS,
            "shipped": {"fit": shipped.name, "spans": spans(shipped.split), "thresholds": shipped.thresholds.tolist()}
            | rounded(asdict(shipped.fitted)),
            "feeding_share": _feeding_share(runs),
            "export": {"opset": export.OPSET, "rows": PARITY_ROWS} | exported.errors,
            "seconds": round(time.monotonic() - began + sum(run.earlier_s for run in runs), 1),
            "machine": f"{os.cpu_count()} CPU cores",
        }
        | ({"search": found} if found else {})
        | shipped.model.described(),
        metrics={
            "walk_forward": {"folds": folds} | ({"mean": average(folds)} if folds else {}),
            "importance": looked_at,
        },
        temperatures=temperatures,
    )
    written = _written(out, manifest, exported, walked, held_to, kept)
    if is_whole:
        _forget(kept)
    return written


def prepared(history: History, folder: Path, config: Config, shown: Shown, target: Target | None = None) -> Samples:
    """Compute features and labels, and tell of it.

    Raises:
        ConfigurationError: no candle has both a complete window and a complete future.
        CandlecastError: the disk is full.
    """
    used = ", ".join(history.optional_inputs) or "none"
    compared = f" ({history.reference_symbol})" if history.reference_symbol else ""
    shown.say(f"optional inputs: {used}{compared}; the model is served with these and no others")
    task = shown.progress.add_task("features", total=len(history.symbols), note="")
    began = time.monotonic()

    def on_symbol(symbol: str) -> None:
        shown.progress.update(task, advance=1, note=symbol)
        shown.note(phase="features")

    try:
        samples = prepare(history, folder, config.stride, on_symbol, target)
    except OSError as error:
        raise CandlecastError(
            f"{folder.parent}: the feature rows cannot be written ({error.strerror}); make room there, or set TMPDIR to"
            " a folder with more"
        ) from error
    shown.say(
        f"features: {sum(len(source.candles) for source in history.sources)} candles, {len(history.symbols)} symbols →"
        f" {len(samples)} samples in {time.monotonic() - began:.1f} s"
    )
    if constant := samples.constant_columns():
        names = ", ".join(NAMES[k] for k in constant[:8]) + (", …" if len(constant) > 8 else "")
        shown.say(f"features: {len(constant)} of {len(NAMES)} columns never move and tell the model nothing: {names}")
    return samples


def _exported(model: Model, samples: Samples) -> Exported:
    """Export the model and compare each file with it on windows of the whole time.

    Raises:
        BundleError: a file answers something else.
    """
    shown = np.linspace(0, len(samples) - 1, PARITY_ROWS).astype(np.int64)
    windows, right = samples.windows(shown), model.predict(samples, shown)
    onnx, executable = model.to_onnx(), model.to_program()
    errors = {
        "relative_error": export.check_parity("the ONNX file against the model", export.run(onnx, windows), right)
    }
    if executable is not None:
        answers = program.run(executable, windows)
        errors["program_relative_error"] = export.check_parity("the program against the model", answers, right)
    golden = windows[:: PARITY_ROWS // 4]
    return Exported(onnx, executable, golden, export.run(onnx, golden), errors)


def _folds(runs: Sequence[Run], samples: Samples) -> list[bytes]:
    """Return the ONNX files of the folds, each compared with its model on windows of the whole time.

    Raises:
        BundleError: a file answers something else.
    """
    shown = np.linspace(0, len(samples) - 1, PARITY_ROWS).astype(np.int64)
    windows, found = samples.windows(shown), list[bytes]()
    for run in runs:
        if run.measured:
            found.append(run.model.to_onnx())
            answers = export.run(found[-1], windows)
            export.check_parity(f"{run.name}: the ONNX file", answers, run.model.predict(samples, shown))
    return found


def _importance(shipped: Run, samples: Samples) -> dict[str, Any]:
    """Return which features the model looks at, and how they go with the returns of its train part."""
    validation = shipped.split.validation.of(samples.open_time_ms)
    some = validation[np.unique(np.linspace(0, len(validation) - 1, IMPORTANCE_ROWS).astype(np.int64))]
    gain = shipped.model.gain()
    method = "integrated_gradients" if gain is None else "shap"
    train = shipped.split.train.of(samples.open_time_ms)
    return importance.table(samples, train, shipped.model.importance(samples, some), method, gain)


def _written(
    out: Path, manifest: Manifest, exported: Exported, folds: Sequence[bytes], held_to: Reference, kept: Path
) -> Bundle:
    try:
        return bundle.write(
            out,
            manifest,
            exported.onnx,
            exported.golden,
            exported.answers,
            program=exported.program,
            reference=held_to,
            folds=folds,
        )
    except OSError as error:
        again = f" with --resume: the fits are kept in {kept.name}" if kept.is_dir() else ""
        raise CandlecastError(
            f"{out}: the bundle cannot be written ({error.strerror}); what was there stays. Make room and train"
            f" again{again}"
        ) from error


def _feeding_share(runs: Sequence[Run]) -> float | None:
    fits = [(run.fitted.feeding_share, run.fitted.seconds) for run in runs]
    fed = [share * seconds for share, seconds in fits if share is not None]
    return round(sum(fed) / max(sum(seconds for _, seconds in fits), 1e-9), 4) if fed else None


def _forget(kept: Path, shown: Shown | None = None) -> None:
    """Remove the checkpoints of a training, and nothing else."""
    files = list(kept.glob("*.checkpoint")) + list(kept.glob("*.new"))
    if files and shown:
        shown.say(f"{kept}: an interrupted training is given up; --resume would have gone on with it")
    for file in files:
        file.unlink()
    if kept.is_dir() and not any(kept.iterdir()):
        kept.rmdir()


def _study(kind: str, history: History, config: Config) -> str:
    """Return the name of a search: the same for the same kind, features and samples, whose losses can be compared."""
    told = (history.sha256, config.stride, config.folds, config.rolling_bars, config.fit.weights)
    digest = hashlib.sha256(repr(told).encode()).hexdigest()
    return f"{kind}-{feature_set_hash(history.optional_inputs):016x}-{digest[:16]}"


def code_commit() -> str:
    """Return the commit this code is at, with "+dirty" when files differ from it; "unknown" outside a checkout."""
    if not (CHECKOUT / ".git").exists():
        return "unknown"

    def git(*arguments: str) -> str:
        answer = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else ""

    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return (commit + ("+dirty" if changed else "")) if commit else "unknown"
