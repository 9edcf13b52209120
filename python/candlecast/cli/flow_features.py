"""`candlecast flow-features`: the gate's features of recorded trades and books."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast.errors import ConfigurationError

if TYPE_CHECKING:
    from candlecast.flow_rows import Advance

DESCRIPTION = """Compute the gate's record of recorded order flow with the core that serves live, by event time: one row
for each accepted trade, as of that trade.

Columns: ts (int64, ms since 1970, UTC), tick_ratio, depth_ratio, price_dist, price, vwap, std_dev, bid_vol, ask_vol
(float64, NaN where undefined: no two prices in the window, no book, or one that is too old). Late, duplicate and
malformed trades give no row and are counted. Memory does not grow with a file that is sorted by time."""
EXAMPLE = """files (Parquet or CSV), told apart by their columns:
  trades  ts, price, qty, optionally trade_id
  book    ts, bid, bid_sz, ask, ask_sz                         every change of the best bid and ask
          ts, bid_px_1, bid_sz_1, ask_px_1, ask_sz_1, …        levels: the best is used
          ts, U, u, pu, side, price, qty, is_snapshot          differences: the book is rebuilt, gaps are found
Without --book, depth_ratio is NaN.

example:
  candlecast flow-features --trades binance-spot-BTCUSDT-20240808-trades.parquet \\
      --book binance-spot-BTCUSDT-20240808-bbo.parquet --out flow.parquet"""


def register(commands: Any) -> None:
    command = commands.add_parser(
        "flow-features",
        help="compute the gate's features of recorded order flow",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--trades", type=Path, required=True, metavar="FILE", help="trades of one symbol")
    command.add_argument("--book", type=Path, metavar="FILE", help="its best bid and ask, levels, or differences")
    command.add_argument("--out", type=Path, required=True, metavar="OUT.parquet", help="a file there is replaced")
    command.add_argument("--symbol", metavar="SYMBOL", help="of the files (default: what their names say)")
    command.add_argument(
        "--stale-ms", type=_positive, default=5_000, metavar="MS", help="for how long a book speaks (default 5000)"
    )
    command.add_argument("--json", action="store_true", help="print the summary as JSON on standard output")
    command.set_defaults(run=partial(run, wrong_usage=command.error))


def run(args: argparse.Namespace, wrong_usage: Any) -> int:
    """Write the rows and say what became of the events.

    Raises:
        ConfigurationError: a file is not what it should be.
        CandlecastError: the rows cannot be written, or there is none.
    """
    if args.out.suffix != ".parquet":
        wrong_usage(f"--out: {args.out} does not end in .parquet")
    if not args.out.parent.is_dir():
        raise ConfigurationError(f"--out: there is no folder {args.out.parent}")
    from candlecast.flow_files import Kind, survey
    from candlecast.flow_rows import write_rows

    trades = survey(args.trades, args.symbol)
    if trades.kind is not Kind.TRADES:
        raise ConfigurationError(f"--trades: {trades.path} holds {trades.kind}")
    files = [trades]
    if args.book is not None:
        book = survey(args.book, args.symbol)
        if book.kind is Kind.TRADES:
            raise ConfigurationError(f"--book: {book.path} holds trades")
        if book.symbol != trades.symbol:
            raise ConfigurationError(
                f"--trades is of {trades.symbol}, --book of {book.symbol}; give files of one symbol, or --symbol"
            )
        files.append(book)
    with progress("flow features", sum(file.rows for file in files), "rows") as advance:
        tally = write_rows(files, args.out, args.stale_ms, advance)
    said = tally.summary()
    if args.json:
        print(json.dumps({"symbol": trades.symbol, "out": str(args.out)} | said))
    else:
        from candlecast.cli import feature_tables

        feature_tables.tally(said)
        print(f"{tally.rows:,} rows of {trades.symbol} written to {args.out}")
    return 0


@contextmanager
def progress(name: str, total: int, unit: str) -> Iterator[Advance]:
    """Show on standard error, where that is a terminal, how many are done, and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task(name, total=total)
        yield lambda count: bars.advance(task, count)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
