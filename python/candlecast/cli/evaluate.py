"""`candlecast evaluate BUNDLE --data FILE…`: what a bundle or an ensemble is worth on later data. Knows no torch."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast import settings as configuration
from candlecast.cli.train import _positive, _time_ms, candles_of
from candlecast.errors import BundleError, CandlecastError, ConfigurationError

if TYPE_CHECKING:
    from candlecast.training.data import Samples
    from candlecast.training.subject import Subject
    from candlecast.values import F32

DESCRIPTION = """Evaluate a finished bundle, or what `candlecast ensemble` wrote, on candles that it was not trained on:
log-loss, Brier, calibration and the rest per horizon, beside the base rate and persistence, with intervals of a block
bootstrap. An ensemble answers as the server would: its members' calibrated probabilities, averaged by weight.

The base rate is the class frequencies of the evaluated labels themselves: no constant forecast scores better, so a
skill above 0 is never a drift of frequencies, and two bundles are measured against the same base. Persistence is fitted
on the evaluated labels, too. skill = 1 - log_loss / base_rate_log_loss. Calibration error: the likeliest class, 15 bins
of equal width. Windows come from the core that serves, candles without 48 candles after them are left out.
With a database (--database or DATABASE_URL) the numbers are on record, failures too: ml_model_performance and
ml_measurements."""
EPILOG = """examples:
  candlecast evaluate triton_models/patchtst/1 --data candles/*-15m.parquet --from 2024-08-01 --out report.html
  candlecast evaluate triton_models/patchtst/1 --data BTCUSDT-15m.csv ETHUSDT-15m.csv --symbols ETHUSDT --json
  candlecast evaluate triton_models/ensemble/1 --data database --from 2024-08-01"""


_JOINED = "calibrated before they are averaged, so that raw and scaled are the same here"


def register(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        help="measure a bundle on later candles",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="its folder, such as triton_models/patchtst/1; or an ensemble's")
    add(
        "--data",
        nargs="+",
        required=True,
        metavar="FILE",
        help="candle files (Parquet, CSV) of one interval; or `database`, or a postgresql:// URL: the table candles",
    )
    add("--symbols", nargs="+", metavar="SYMBOL", help="evaluate these symbols only (the reference is read anyway)")
    add("--from", dest="start", type=_time_ms, metavar="TIME", help="first candle's open, ISO 8601, UTC: the warm-up")
    add("--to", dest="end", type=_time_ms, metavar="TIME", help="candles that open before this, labels included")
    add("--interval-ms", type=_positive, default=900_000, metavar="MS", help="of a database's candles (default 900000)")
    add("--stride", type=_positive, default=4, help="every n-th candle of a symbol is evaluated (default 4)")
    add("--out", type=Path, metavar="REPORT.html", help="write a report with plots here, and its Markdown beside")
    add("--database", metavar="URL", help="keep the numbers on record there (default: DATABASE_URL)")
    add("--json", action="store_true", help="print the numbers as JSON on standard output")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print, write the report.

    Raises:
        ConfigurationError: the train extra is missing, or the data does not fit the bundle.
        BundleError: the bundle is damaged, of another feature set, no forecaster, or answers nothing finite.
    """
    if args.out and args.out.suffix != ".html":
        raise ConfigurationError(f"--out {args.out}: the report is HTML; name it {args.out.with_suffix('.html')}")
    if missing := [name for name in ("onnxruntime", "matplotlib") if find_spec(name) is None]:
        raise ConfigurationError(f"evaluating needs {', '.join(missing)}: run `make train-env` (uv sync --extra train)")
    from candlecast.training import measurements
    from candlecast.training.subject import Subject

    url = configuration.load(database_url=args.database).database_url
    asked = {"symbols": args.symbols, "from_ms": args.start, "to_ms": args.end, "stride": args.stride}
    with measurements.recorded(url, "evaluate", [args.bundle], asked) as record:
        subject = Subject.load(args.bundle)
        record.loaded([subject])
        document, report = _evaluate(args, subject, url)
        span = {"from": document["data"]["from"], "before": document["data"]["before"]}
        whole = document["metrics"] | {"spans": {"test": span}}
        said = {"verdict": document["verdict"], "warnings": document["warnings"]}
        record.measured(0, whole, **said)
        if args.out:
            from candlecast.training.report import write

            print(f"report written to {' and '.join(str(path) for path in write(args.out, report))}", file=sys.stderr)
        for warning in document["warnings"]:
            print(f"candlecast: {warning}", file=sys.stderr)
        if args.json:
            print(json.dumps(document, indent=2))
        else:
            _print_table(document)
    return 0


def _evaluate(args: argparse.Namespace, subject: Subject, url: str | None) -> tuple[dict[str, Any], Any]:
    """Ask it about all candles; return what `evaluated` says of the answers."""
    from candlecast.training import finished
    from candlecast.training.data import prepare
    from candlecast.training.progress import progress_bars

    data = candles_of(args, url, subject.features.reference_symbol)
    history = finished.history_for(subject, data, args.symbols, args.start, args.end)
    with tempfile.TemporaryDirectory(prefix="candlecast-evaluate-") as folder, progress_bars() as progress:
        task = progress.add_task("features", total=len(history.symbols), note="")
        try:
            samples = prepare(
                history, Path(folder), args.stride, lambda symbol: progress.update(task, advance=1, note=symbol)
            )
        except OSError as error:
            raise CandlecastError(
                f"{Path(folder).parent}: the feature rows cannot be written ({error.strerror}); make room there, or set"
                " TMPDIR to a folder with more"
            ) from error
        task = progress.add_task("model", total=len(samples), note="")
        answers = finished.answers(subject, samples, lambda rows: progress.update(task, advance=rows))
        progress.add_task("metrics", total=None, note="")
        return evaluated(subject, samples, answers)


def evaluated(subject: Subject, samples: Samples, answers: F32) -> tuple[dict[str, Any], Any]:
    """Return the numbers of all samples as a document, and as a report to be written.

    Args:
        answers: of each member [M, N, 20].
    """
    import numpy as np

    from candlecast.training import suspicion
    from candlecast.training.evaluate import measure_samples, simple_pnl, verdict
    from candlecast.training.report import Report, importance_note, importance_of
    from candlecast.training.sources import utc

    alone = _alone(subject, samples, answers)
    answers = subject.joined(list(answers))
    index = np.flatnonzero(np.isfinite(answers).all(axis=1)).astype(np.int64)
    if not len(index):
        raise BundleError(f"{subject.path}: no answer of its model is finite; the bundle cannot be used")
    measured = measure_samples(samples, index, answers[index], subject.temperatures, index, subject.thresholds)
    times, labels = samples.open_time_ms[index], samples.labels.take(index)
    warnings = suspicion.skills(measured)
    warnings += suspicion.columns(samples, index)
    warnings += subject.suspicions
    first, last = utc(int(times.min())), utc(int(times.max()))
    trained = subject.trained_on or {"from": "unknown", "to": "unknown"}
    overlaps = first <= trained["to"] and last >= trained["from"] if subject.trained_on else None
    if overlaps:
        warnings.append(
            f"the data overlaps what the bundle was trained on ({trained['from']} to {trained['to']}):"
            " this is no evaluation on unseen candles; give later data, or --from"
        )
    if len(index) < len(answers):
        warnings.append(f"{len(answers) - len(index)} answers of the model are not finite and were left out")
    horizons = {
        horizon: {
            "log_loss": numbers["log_loss"]["model"],
            "base_rate_log_loss": numbers["log_loss"]["base"],
            "skill": numbers["skill"]["model"],
            "skill_low": numbers["skill"].get("low"),
            "skill_high": numbers["skill"].get("high"),
            "persistence_log_loss": numbers["log_loss"]["persistence"],
            "brier": numbers["brier"]["model"],
            "calibration_error": numbers["calibration_error"]["model"],
            "balanced_accuracy": numbers["balanced_accuracy"]["model"],
            "rows": measured["rows"],
        }
        for horizon, numbers in measured["horizons"].items()
    }
    document = {
        "bundle": {"name": subject.name, "version": subject.version, "sha256": subject.sha256},
        "members": alone,
        "data": {
            "from": first,
            "to": last,
            "before": utc(int(times.max()) + samples.interval_ms),
            "overlaps_training": overlaps,
        },
        "verdict": verdict(measured),
        "warnings": warnings,
        "horizons": horizons,
        "metrics": measured,
    }
    report = Report(
        title=f"{subject.title}, evaluated",
        facts={
            "bundle": f"{subject.title}, manifest sha256 {subject.sha256[:16]}…",
            **({"members": f"{', '.join(alone)}: {_JOINED}"} if subject.is_ensemble else {}),
            "candles": f"{first} to {last}, {len(index):,} evaluated",
            "trained on": f"{trained['from']} to {trained['to']}" + (" (overlaps!)" if overlaps else ""),
            "base rate": "class frequencies and medians of the evaluated labels themselves",
        },
        measured=measured,
        members=alone if subject.is_ensemble else {},
        warnings=warnings,
        pnl=simple_pnl(answers[index], labels, subject.temperatures, times),
        importance=None if subject.is_ensemble else importance_of(subject.members[0].manifest),
        importance_note=importance_note(subject.members[0].manifest),
    )
    return document, report


def _alone(subject: Subject, samples: Samples, answers: F32) -> dict[str, dict[str, Any]]:
    """Return the weight and the log-loss at each horizon of every member by itself, over what it answers."""
    import numpy as np

    from candlecast.interpret import interpret
    from candlecast.outputs import HORIZONS
    from candlecast.training.temperature import log_loss

    told = {}
    for (name, weight), bundle, mine in zip(subject.described_members().items(), subject.members, answers, strict=True):
        finite = np.isfinite(mine).all(axis=1)
        p = interpret(mine[finite], np.array(bundle.manifest.temperatures)).probabilities
        losses = log_loss(p, samples.labels.directions[finite]).round(6).tolist() if finite.any() else [None] * 4
        told[name] = {"weight": weight, "log_loss": dict(zip(HORIZONS, losses, strict=True))}
    return told


def _print_table(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, title=document["verdict"], title_justify="left", title_style="bold")
    shown = {"log-loss": "log_loss", "base rate": "base_rate_log_loss", "persistence": "persistence_log_loss"}
    shown |= {"skill": "skill", "Brier": "brier", "calibration": "calibration_error", "balanced": "balanced_accuracy"}
    table.add_column("", no_wrap=True)
    for title in (*shown, "rows"):
        table.add_column(title, justify="right")
    for horizon, numbers in document["horizons"].items():
        cells = {name: f"{numbers[name]:.4f}" for name in shown.values()}
        if numbers["skill_low"] is not None:
            cells["skill"] += f" [{numbers['skill_low']:.4f}, {numbers['skill_high']:.4f}]"
        table.add_row(horizon, *cells.values(), str(numbers["rows"]))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
