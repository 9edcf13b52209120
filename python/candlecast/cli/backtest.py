"""`candlecast backtest`: flags → replayed forecasts → trades, as a table, JSON or a page. Knows no simulation."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast import settings as configuration
from candlecast.cli.train import _positive, _time_ms, database_of
from candlecast.errors import ConfigurationError
from candlecast.strategies.columns import NAMES

if TYPE_CHECKING:
    from candlecast.candle_files import CandleFile
    from candlecast.feature_files import Advance
    from candlecast.filters import Thresholds
    from candlecast.portfolio import Limits
    from candlecast.training.backtest import Backtest, Trade
    from candlecast.training.measurements import Record
    from candlecast.training.replay import Said
    from candlecast.training.simulator import Bars, Outcome, Rules

THRESHOLDS = ("min_confidence", "strong_confidence", "min_agreement", "min_expected_return")
LIMITS = ("max_signals_per_minute", "max_correlation", "min_sharpe_ratio", "max_position_score")
FILTERS = (*THRESHOLDS, *LIMITS)

DESCRIPTION = """Replay candles through features, model, interpretation and filters as they serve; trade the signals.

A signal enters at the next bar's open and leaves at its stop_loss or take_profit, at an opposite signal (which opens
the other side), or at the close of its last bar. Within a bar the worse comes first: the stop when both were touched,
the open when it is past the stop; a take fills at its own price. One position per symbol; each stakes an equal share of
the equity, 1.5 times when the signal is STRONG. Fees on both fills; slippage against every order but a take. The
filters are those of serving, also the ones that remember: rate, correlation, realised Sharpe ratio, open positions.
For bars of the time that a bundle was trained on, the fits of its walk-forward speak, each where it had seen nothing.
With a database (--database or DATABASE_URL) the numbers are on record, failures too: ml_model_performance and
ml_measurements."""

EXAMPLE = """example:
  candlecast backtest --data candles/*-15m.parquet --from 2024-07-01 --out backtest.html
      the newest bundle of the model repository; candles before July warm the features up
  candlecast backtest --data candles/*-15m.parquet --from 2024-07-01 --strategy ensemble_ml
      the same forecasts, acted on as `python -m candlecast.strategies.ensemble_ml` does live
  candlecast backtest --data ETHUSDT-15m.parquet BTCUSDT-15m.parquet --symbols ETHUSDT \\
      --models triton_models/ensemble/1 bundles/xgboost --filters min_confidence=0.65 min_expected_return=0.003"""


def register(commands: Any) -> None:
    command = commands.add_parser(
        "backtest",
        help="trade a model's forecasts on candle files",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add(
        "--data",
        nargs="+",
        required=True,
        metavar="FILE",
        help="candle files (Parquet, CSV) of one interval; or `database`, or a postgresql:// URL: the table candles",
    )
    add("--interval-ms", type=_positive, default=900_000, metavar="MS", help="of a database's candles (default 900000)")
    add(
        "--models",
        nargs="+",
        type=Path,
        metavar="BUNDLE",
        help="folders of bundles or of ensembles, compared side by side (default: what the server would serve)",
    )
    add("--symbols", nargs="+", metavar="SYMBOL", help="trade these only (default: all); the reference is used anyway")
    add("--from", dest="start", type=_time_ms, metavar="TIME", help="first bar that may give a signal, ISO 8601, UTC")
    add("--to", dest="end", type=_time_ms, metavar="TIME", help="candles that open before this")
    add("--fees", type=_fraction, default=0.0004, metavar="X", help="of the value of each fill (default %(default)s)")
    add(
        "--slippage", type=_fraction, default=0.0002, metavar="X", help="of the price, against us (default %(default)s)"
    )
    add(
        "--funding",
        type=_signed_fraction,
        default=0.0,
        metavar="X",
        help="of a position's value each 8 h (00, 08, 16 UTC), longs pay it to shorts (default %(default)s)",
    )
    add(
        "--hold-bars",
        type=_positive,
        default=16,
        metavar="N",
        help="bars after which a position is closed (default 16)",
    )
    add(
        "--strategy",
        choices=NAMES,
        help="trade as this one of candlecast.strategies decides, not the bare signals",
    )
    add("--sentiment", type=Path, metavar="FILE.csv", help="scores for sentiment_ml: symbol, ts_ms, score, source")
    add(
        "--filters",
        nargs="+",
        metavar="NAME=X",
        help=f"filters in place of the settings: {', '.join(FILTERS)}; or none, which lets every side through",
    )
    add("--out", type=Path, metavar="REPORT.html", help="write tables and plots as one page, and as .md")
    add("--database", metavar="URL", help="keep the numbers on record there (default: DATABASE_URL)")
    add("--json", action="store_true", help="print one JSON object on standard output")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Backtest and print the comparison.

    Raises:
        ConfigurationError: the train extra is missing, or files, bundles or flags do not do.
    """
    needs = ["onnxruntime"] + (["matplotlib"] if args.out else [])
    if missing := [name for name in needs if find_spec(name) is None]:
        raise ConfigurationError(
            f"backtesting needs {', '.join(missing)}: run `make train-env` (uv sync --extra train)"
        )
    if args.out is not None and not args.out.parent.is_dir():
        raise ConfigurationError(f"--out: there is no folder {args.out.parent}")
    if args.start is not None and args.end is not None and args.start >= args.end:
        raise ConfigurationError("--from is not before --to")
    if (args.sentiment is not None) != (args.strategy == "sentiment_ml"):
        raise ConfigurationError("--sentiment FILE.csv goes with --strategy sentiment_ml, which needs it")
    from candlecast.filters import Thresholds
    from candlecast.portfolio import Limits
    from candlecast.training import measurements
    from candlecast.training.simulator import Rules

    settings = configuration.load(database_url=args.database, **_filters(args.filters))
    thresholds = Thresholds(**{name: getattr(settings, name) for name in THRESHOLDS})
    limits = None if args.filters == ["none"] else Limits(**{name: getattr(settings, name) for name in LIMITS})
    rules = Rules(fees=args.fees, slippage=args.slippage, funding=args.funding, hold_bars=args.hold_bars)
    paths = args.models or [_newest(settings)]
    asked = {"symbols": args.symbols, "from_ms": args.start, "to_ms": args.end}
    asked |= {"rules": asdict(rules), "filters": asdict(thresholds)}
    if args.strategy:
        asked["strategy"] = args.strategy
    with measurements.recorded(settings.database_url, "backtest", paths, asked) as record:
        tests, told = _backtest(args, paths, rules, thresholds, limits, record, settings.database_url)
        if args.out is not None:
            from candlecast.training.backtest_report import write

            write(args.out, tests, told)
            print(f"report: {args.out}", file=sys.stderr)
        if args.json:
            print(json.dumps(told, allow_nan=False))
        else:
            _print_table(tests, told)
    return 0


def _backtest(
    args: argparse.Namespace,
    paths: Sequence[Path],
    rules: Rules,
    thresholds: Thresholds,
    limits: Limits | None,
    record: Record,
    url: str | None,
) -> tuple[list[Backtest], dict[str, Any]]:
    """Trade, and take note of it; return the tests and all of them as one document."""
    from candlecast.models.ensemble import load
    from candlecast.training.backtest import as_metrics, as_signalled, backtest, document
    from candlecast.training.subject import Subject

    served = [load(path) for path in paths]
    record.loaded([Subject.of(one) for one in served])
    with _files(args, url) as files, _progress() as on_replay:
        tests = backtest(
            files,
            served,
            rules,
            thresholds,
            limits=limits,
            symbols=args.symbols,
            start_ms=args.start,
            end_ms=args.end,
            on_replay=on_replay,
            trade=_strategy(args.strategy, args.sentiment) if args.strategy else as_signalled,
            strategy=args.strategy or "",
        )
    for k, test in enumerate(tests):
        whole, *parts = as_metrics(test)
        record.measured(k, whole[1], parts, verdict=test.verdict, warnings=test.warnings)
    told = document(tests, rules, thresholds, limits)
    return tests, told | ({"strategy": args.strategy} if args.strategy else {})


def _strategy(name: str, sentiment: Path | None) -> Trade:
    """Return what trades as a strategy decides.

    Raises:
        ConfigurationError: there is no file of scores, or a line is none.
    """
    from candlecast.training import strategy

    decide = strategy.named(name)
    columns = None if sentiment is None else strategy.read_scores(sentiment)

    def trade(bars: Bars, said: Said, rules: Rules) -> Outcome:
        known = None if columns is None else strategy.as_of(bars, *columns)
        return strategy.Traded(bars, said, rules, known).whole(decide)

    return trade


@contextmanager
def _files(args: argparse.Namespace, url: str | None) -> Iterator[list[CandleFile]]:
    """Give the candle files; what a database has lies in one while the body runs."""
    from candlecast.candle_files import survey, write

    if (database := database_of(args.data, url)) is None:
        yield [survey(Path(name)) for name in args.data]
        return
    from candlecast.store.history import read_candles

    # Whole: symbols may be compared with one that --symbols leaves out, and candles before --from warm up.
    candles = read_candles(database, interval_ms=args.interval_ms, end_ms=args.end)
    with tempfile.TemporaryDirectory(prefix="candlecast-backtest-") as folder:
        path = Path(folder) / f"database-{args.interval_ms // 1000}s.parquet"
        write(path, candles)
        yield [survey(path)]


def _newest(settings: configuration.Settings) -> Path:
    """Return the folder of what the server would serve."""
    from candlecast.server.app import newest

    return newest(settings.model_repository / settings.model).path


def _filters(texts: Sequence[str] | None) -> dict[str, str]:
    if texts == ["none"]:
        return {name: "0" for name in THRESHOLDS if name.startswith("min_")}
    given = {name: value for name, _, value in (text.partition("=") for text in texts or ())}
    if unknown := [name for name in given if name not in FILTERS]:
        raise ConfigurationError(f"--filters: {', '.join(unknown)} is none of {', '.join(FILTERS)}; or none, alone")
    return given


def _print_table(tests: Sequence[Backtest], told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from candlecast.training.performance import COLUMNS, shown

    for line in (*told["warnings"], *told["verdicts"]):
        print(line)
    table = Table(box=None, padding=(0, 1, 0, 0))
    columns = {key: title for key, title in COLUMNS.items() if key not in ("sortino", "turnover_per_day")}
    for title in ("", *columns.values()):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for name, numbers in (*told["models"].items(), ("buy and hold", told["buy_and_hold"])):
        table.add_row(name, *(shown(key, numbers.get(key)) for key in columns))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@contextmanager
def _progress() -> Iterator[Callable[[int], Advance]]:
    """Show on standard error how many candles are replayed, how fast, and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:

        def on_replay(candles: int) -> Advance:
            task, started, taken = progress.add_task("replay", total=candles, rate=""), time.perf_counter(), 0

            def advance(count: int) -> None:
                nonlocal taken
                taken += count
                rate = f"{taken / (time.perf_counter() - started):,.0f} candles/s"
                progress.update(task, completed=taken, rate=rate)

            return advance

        yield on_replay


def _signed_fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 1.0
    if not -0.5 < value < 0.5:
        raise argparse.ArgumentTypeError(f"{text!r} is no fraction such as 0.0004 (0.04 %)")
    return value


def _fraction(text: str) -> float:
    if (value := _signed_fraction(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return value
