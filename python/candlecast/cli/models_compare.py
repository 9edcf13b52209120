"""`candlecast models compare A B`: which of two versions is better, on the candles of which both spoke."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from candlecast import settings as configuration
from candlecast.errors import ConfigurationError

if TYPE_CHECKING:
    from candlecast.training.comparison import Comparison, Entry
    from candlecast.values import Heard

DAY_MS: Final = 86_400_000
DESCRIPTION = """Compare version B, such as a shadow or a challenger, with version A, such as the champion, on the
stored forecasts of the same candles: log-loss, Brier score and hit rate by horizon, what their signals bring after
costs, and the time in the model. Outcomes are computed from the table `candles` as the labels of a training are. Each
difference comes with an interval (95 %, blocks of 96 bars drawn again), and the verdict is one sentence: better, worse,
or not yet known. With less than 8 blocks (8 days of 15 minutes) nothing is known."""


def add(kinds: Any) -> None:
    """Add `compare` to the actions of `candlecast models`."""
    parser = kinds.add_parser(
        "compare",
        help="say which of two versions is better",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="candlecast models compare 3 4 --days 14       candlecast models compare patchtst:3 lstm:1 --json",
    )
    versions = {"type": _version, "metavar": "[NAME:]VERSION"}
    parser.add_argument("a", **versions, help="the champion; without a NAME the setting model")
    parser.add_argument("b", **versions, help="what is compared with it")
    parser.add_argument("--days", type=_days, default=30.0, help="how far back (default 30)")
    parser.add_argument(
        "--interval-ms", type=int, default=900_000, metavar="MS", help="of the candles (default 900000)"
    )
    parser.add_argument(
        "--costs", type=float, help="of a round trip, a fraction (default: as a backtest has it, 0.0012)"
    )
    parser.add_argument(
        "--margin", type=float, default=0.0, help="by how much the log-loss must be lower to be better (default 0)"
    )
    parser.add_argument("--database", metavar="URL", help="(default: DATABASE_URL)")
    parser.add_argument("--json", action="store_true", help="print one JSON value on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare and print.

    Raises:
        ConfigurationError: no database is known, or a version is compared with itself.
        StorageUnavailable: it does not answer.
    """
    settings = configuration.load(database_url=args.database)
    if settings.database_url is None:
        raise ConfigurationError("which database? Give --database URL or set DATABASE_URL")
    a, b = ((name or settings.model, version) for name, version in (args.a, args.b))
    if a == b:
        raise ConfigurationError(f"{_name(a)} is compared with itself: name two versions")
    found = compared(
        settings.database_url, a, b, days=args.days, interval_ms=args.interval_ms, costs=args.costs, margin=args.margin
    )
    if args.json:
        print(json.dumps(asdict(found)))
    else:
        _print(found)
    return 0


def compared(
    url: str,
    champion: tuple[str, int],
    challenger: tuple[str, int],
    *,
    days: float,
    interval_ms: int,
    costs: float | None = None,
    margin: float = 0.0,
) -> Comparison:
    """Compare two versions by what the database has of the last days.

    Raises:
        ConfigurationError, StorageUnavailable.
    """
    import numpy as np

    from candlecast.outputs import HORIZON_BARS
    from candlecast.store.history import read_candles
    from candlecast.training import comparison
    from candlecast.values import names

    until_ms = math.ceil(time.time() * 1000)
    since_ms = round(until_ms - days * DAY_MS)
    heard = asyncio.run(_heard(url, (champion, challenger), interval_ms, since_ms, until_ms))
    titles = _name(champion), _name(challenger)
    if not all(map(len, heard)):
        return comparison.Comparison.empty(titles, {})
    candles = read_candles(
        url,
        symbols=sorted({symbol for one in heard for symbol in names(np.unique(one.symbol))}),
        interval_ms=interval_ms,
        start_ms=min(int(one.close_time_ms.min()) for one in heard) - interval_ms,
        end_ms=max(int(one.close_time_ms.max()) for one in heard) + max(HORIZON_BARS) * interval_ms,
    )
    costs = comparison.round_trip() if costs is None else costs
    return comparison.compare_stored(*heard, candles, interval_ms, names=titles, costs=costs, margin=margin)


async def _heard(
    url: str, versions: Sequence[tuple[str, int]], interval_ms: int, since_ms: int, until_ms: int
) -> tuple[Heard, Heard]:
    from candlecast.store.pool import open_pool
    from candlecast.store.spoken import TIMEOUT_MS, spoken_by

    async with open_pool(url, connections_max=1, command_timeout_ms=TIMEOUT_MS) as pool:
        first, second = [
            await spoken_by(pool, *version, interval_ms=interval_ms, since_ms=since_ms, until_ms=until_ms)
            for version in versions
        ]
    return first, second


def _print(found: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    spoke = "the same candles" if found.paired else "each of its own candles, as of a split"
    title = f"{spoke}: {found.symbols} symbols, {found.bars:,} bars, {found.days:g} days"
    table = Table(box=None, title=title, title_justify="left")
    for column in ("", "", found.champion, found.challenger, "difference", "95 %"):
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for horizon, entries in {**found.horizons, "mean": found.mean}.items():
        for metric, entry in entries.items():
            table.add_row(horizon, metric.replace("_", " "), *_cells(entry, "+.4f"))
    if found.pnl:
        table.add_row("4h", "PnL a forecast, after costs", *_cells(found.pnl, "+.4%"))
    if found.latency_ms:
        table.add_row("", "ms in the model", *_cells(found.latency_ms, "+.2f"))
    if any(found.rows.values()):
        Console().print(table)
        for name, who in (("champion", found.champion), ("challenger", found.challenger)):
            p99 = f", p99 {found.latency_p99_ms[name]:g} ms in the model" if name in found.latency_p99_ms else ""
            print(f"{who}: {found.rows[name]:,} forecasts, {found.signals[name]:,} signals{p99}")
    for why, count in found.left_out.items():
        print(f"left out: {count:,} ({why})")
    print(found.sentence)


def _cells(entry: Entry, form: str) -> list[str]:
    plain = form.removeprefix("+")
    between = f"{entry['low']:{form}} to {entry['high']:{form}}" if "low" in entry else "too few bars"
    return [
        f"{entry['champion']:{plain}}", f"{entry['challenger']:{plain}}", f"{entry['difference']:{form}}", between
    ]  # fmt: skip


def _name(version: tuple[str, int]) -> str:
    return f"{version[0]} v{version[1]}"


def _version(text: str) -> tuple[str | None, int]:
    name, _, number = text.rpartition(":")
    digits = number.removeprefix("v")
    if not digits.isdigit() or int(digits) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no [NAME:]VERSION, such as 3, v3 or patchtst:3")
    return name or None, int(digits)


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days above 0")
    return days
