"""`candlecast features FILE…`: feature rows of history, checks on one's own data, and the list of columns."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast import settings as configuration
from candlecast.cli import feature_tables
from candlecast.errors import ConfigurationError

if TYPE_CHECKING:
    from candlecast.feature_files import Advance, Recording

_COLUMNS = ("quote_volume", "trades", "taker_buy_volume")  # candle_files.OPTIONAL, without waiting for polars

_DESCRIPTION = """Compute the feature columns of recorded candles with the core that serves live: files are merged by
close time, the reference's candle first, and taken candle by candle.

Parquet rows: symbol, open_time and close_time (int64, milliseconds since 1970, UTC; a row is known at its close), then
every column of --list as float32, NaN before its warm-up. Each accepted candle gives one row; duplicates, conflicts,
late and malformed candles give none and are counted with their reasons. A gap of up to four candles is filled as live:
those bars move the state and give no row. After a longer gap the symbol starts anew, so columns are NaN again. Memory
does not grow with the history, unless a file is not sorted by time. Ctrl-C leaves no file behind."""

_EXAMPLE = """example:
  candlecast features BTCUSDT-15m.parquet ETHUSDT-15m.parquet --symbol ETHUSDT --out rows.parquet
      writes the rows of ETHUSDT, which is compared with BTCUSDT
  candlecast features --check-causality ETHUSDT-15m.parquet
      shows that no row of your data knows its future"""


def register(commands: Any) -> None:
    command = commands.add_parser(
        "features",
        help="compute the feature columns of candle files, check them, list them",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="candlecast features FILE [FILE …] --out ROWS.parquet [--symbol SYMBOL …] [--reference SYMBOL]\n"
        "       candlecast features FILE [FILE …] --check-causality | --check-recursion\n"
        "       candlecast features --list [--markdown]",
    )
    command.add_argument("files", nargs="*", type=Path, metavar="FILE", help="SYMBOL-INTERVAL.parquet or .csv")
    mode = command.add_mutually_exclusive_group(required=True)
    mode.add_argument("--out", type=Path, metavar="ROWS.parquet", help="write the rows here; a file there is replaced")
    mode.add_argument(
        "--check-causality",
        action="store_true",
        help="compare every row, bit by bit, with rows computed without its future: the history cut short, another"
        " future, one close at a time; exit code 1 when a column differs",
    )
    mode.add_argument(
        "--check-recursion",
        action="store_true",
        help="measure how far each column moves with less history, and after how many bars it is the same float32",
    )
    mode.add_argument("--list", action="store_true", help="list the columns: name, formula, warm-up, memory, range")
    command.add_argument("--symbol", nargs="+", metavar="SYMBOL", help="rows of these symbols only (default: all)")
    command.add_argument(
        "--reference",
        metavar="SYMBOL",
        help="compare the others with it, whether it gives rows or not; or none (default: the setting"
        " reference_symbol, BTCUSDT, if there are candles of it and of others)",
    )
    command.add_argument(
        "--optional-inputs",
        nargs="+",
        choices=(*_COLUMNS, "reference", "none"),
        metavar="NAME",
        help="quote_volume, trades, taker_buy_volume, reference; or none (default: the columns that every file has"
        " values of, and the reference as above). They are part of the feature set's hash: a model is served with those"
        " it was trained with",
    )
    command.add_argument("--markdown", action="store_true", help="with --list: print docs/features.md")
    command.add_argument("--json", action="store_true", help="print one JSON value on standard output")
    command.set_defaults(run=partial(run, wrong_usage=command.error))


def run(args: argparse.Namespace, wrong_usage: Callable[[str], Any]) -> int:
    """Do what the one mode says; return 1 when a check fails."""
    if args.list == bool(args.files):
        wrong_usage("--list takes no FILE" if args.list else "a FILE is missing")
    if args.markdown and (args.json or not args.list):
        wrong_usage("--markdown goes with --list alone")
    if args.optional_inputs and "none" in args.optional_inputs and len(args.optional_inputs) > 1:
        wrong_usage("--optional-inputs: none stands alone")
    if args.reference == "none" and "reference" in (args.optional_inputs or ()):
        wrong_usage("--reference none contradicts --optional-inputs reference")
    if args.out is not None and args.out.suffix != ".parquet":
        wrong_usage(f"--out: {args.out} does not end in .parquet")
    if args.list:
        return _list(as_json=args.json, as_markdown=args.markdown)
    if args.out is not None and not args.out.parent.is_dir():
        raise ConfigurationError(f"--out: there is no folder {args.out.parent}")
    recording = _recording(args)
    if args.check_causality:
        return _check_causality(recording, as_json=args.json)
    if args.check_recursion:
        return _check_recursion(recording, as_json=args.json)
    return _write(recording, args.out, as_json=args.json)


def _recording(args: argparse.Namespace) -> Recording:
    """Settle what is used of the files, and say so."""
    from candlecast.candle_files import survey
    from candlecast.feature_files import recording

    files = [survey(path) for path in args.files]
    for file in files:
        if not file.is_sorted:
            _say(f"{file.path} is not sorted by time: it is read as a whole, about 100 bytes a candle")
    default = configuration.load().reference_symbol
    used = recording(
        files,
        symbols=args.symbol,
        reference_symbol=None if args.reference == "none" else args.reference or default,
        is_reference_asked=args.reference not in (None, "none"),
        optional_inputs=[] if args.optional_inputs == ["none"] else args.optional_inputs,
    )
    _say_what_is_used(used, by_default=args.optional_inputs is None)
    return used


def _say_what_is_used(recording: Recording, *, by_default: bool) -> None:
    from candlecast.feature_files import carries

    carried = carries(recording.files, recording.symbols)
    for name in [name for name in _COLUMNS if any(carried[name]) and not all(carried[name])]:
        without = f"{carried[name].count(False)} of {len(carried[name])} files have no value of it"
        if name in recording.optional_inputs:
            _say(f"{name} is in use, but {without}")
        elif by_default:
            _say(f"{name} is not in use: {without}")
    if reference := recording.reference_symbol:
        known = {file.interval_ms for file in recording.files if reference in file.candles}
        for interval_ms in sorted({file.interval_ms for file in recording.files} - known):
            _say(f"{reference} has no candles of {interval_ms} ms: rows of that interval are without a reference")
    symbols = sorted(recording.symbols)
    _say(
        f"{recording.candles:,} candles; rows of {len(symbols)} symbol{'s' * (len(symbols) != 1)};"
        f" reference: {reference or 'none'};"
        f" optional inputs: {', '.join(recording.optional_inputs) or 'none'};"
        f" feature set {_feature_set()['feature_set']}, hash {recording.feature_set_hash}"
    )


def _write(recording: Recording, out: Path, *, as_json: bool) -> int:
    from candlecast.feature_files import write_rows

    with _progress("features", recording.candles) as advance:
        tally = write_rows(recording, out, advance)
    for reason, count in sorted(tally.not_accepted.items()):
        symbol, open_time_ms = tally.examples[reason]
        _say(f"{count:,} candles gave no row: {reason}, first {symbol} {feature_tables.utc(open_time_ms)}")
    if as_json:
        print(json.dumps(tally.summary() | {"out": str(out)} | _used(recording)))
    else:
        feature_tables.tally(tally.summary())
        print(f"{tally.rows:,} rows written to {out}")
    return 0


def _check_causality(recording: Recording, *, as_json: bool) -> int:
    from candlecast.feature_checks import check_causality

    with _progress("look-ahead", recording.candles) as advance:
        found = check_causality(recording, recording.core, advance)
    if as_json:
        ways = {name: {"rows": way.rows, "differs_at": way.differs_at_ms} for name, way in found.ways.items()}
        cuts = {"candles": found.candles, "cuts": found.cuts_ms, "ways": ways, "differing": found.differing}
        print(json.dumps(cuts | _used(recording)))
    else:
        feature_tables.causality(found)
    return 1 if found.differing else 0


def _check_recursion(recording: Recording, *, as_json: bool) -> int:
    from dataclasses import asdict

    from candlecast.feature_checks import check_recursion

    with _progress("recursion", recording.candles) as advance:
        found = check_recursion(recording, recording.core, advance)
    if as_json:
        about = {"candles": found.candles, "starts": found.starts_ms, "ready_bars": found.ready_bars}
        columns = [asdict(column) | {"is_windowed": column.is_windowed} for column in found.columns]
        print(json.dumps(about | {"observed_bars": found.observed_bars, "columns": columns} | _used(recording)))
    else:
        feature_tables.recursion(found)
    return 0


def _list(*, as_json: bool, as_markdown: bool) -> int:
    from candlecast import feature_page

    if as_markdown:
        print(feature_page.markdown(), end="")
        return 0
    records = feature_page.records()
    if as_json:
        print(json.dumps(records))
        return 0
    feature_tables.columns(records)
    return 0


def _used(recording: Recording) -> dict[str, Any]:
    return {
        "files": [file.path.name for file in recording.files],
        "symbols": sorted(recording.symbols),
        "reference_symbol": recording.reference_symbol,
        "optional_inputs": list(recording.optional_inputs),
        **_feature_set(),
        "feature_set_hash": recording.feature_set_hash,
    }


def _feature_set() -> dict[str, str]:
    from candlecast import _rust

    return {"feature_set": _rust.FEATURE_SET}


@contextmanager
def _progress(name: str, total: int) -> Iterator[Advance]:
    """Show on standard error, where that is a terminal, how many candles are taken, and how fast."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task, started, taken = progress.add_task(name, total=total, rate=""), time.perf_counter(), 0

        def advance(count: int) -> None:
            nonlocal taken
            taken += count
            rate = f"{taken / (time.perf_counter() - started):,.0f} candles/s"
            progress.update(task, completed=taken, rate=rate)

        yield advance


def _say(line: str) -> None:
    print(f"candlecast: {line}", file=sys.stderr)
