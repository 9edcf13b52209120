"""`candlecast replay FILE…`: stream recorded candles through a running server as if live, and say what came back."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from candlecast import client
from candlecast.client import AsyncClient, CandleResult, Candles, ServerError
from candlecast.errors import CandlecastError

_MESSAGE_CANDLES_MAX = 1_000


def register(commands: Any) -> None:
    command = commands.add_parser(
        "replay",
        help="stream candle files through a server as if live",
        description="Stream Parquet or CSV candles through a running server, all files merged in time order, one "
        "message per close time, as at a live bar close. Ends with a table, or with one JSON object.",
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="SYMBOL-INTERVAL.parquet or .csv")
    command.add_argument(
        "--server", default=client.DEFAULT_SERVER, metavar="ADDR", help="HOST:PORT (default %(default)s)"
    )
    command.add_argument("--limit", type=_positive, metavar="N", help="stop after N candles")
    command.add_argument(
        "--in-flight",
        type=_positive,
        metavar="N",
        help="close times under way at once (default 1 for one file, 2 for several; more is faster, each answer later)",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import uvloop

    in_flight = args.in_flight or min(len(args.files), 2)
    try:
        tally = uvloop.run(_replay(args.files, args.server, args.limit, in_flight))
    except ServerError as error:
        hint = "; `candlecast up` starts a server" if error.code is grpc.StatusCode.UNAVAILABLE else ""
        raise CandlecastError(f"{args.server}: {error}{hint}") from error
    if args.json:
        print(json.dumps(tally.summary()))
    else:
        _print_table(tally)
    return 0


@dataclass(slots=True)
class Tally:
    """What came back."""

    candles: int = 0
    forecasts: int = 0  # new rows in the table
    already_stored: int = 0  # forecasts whose rows were there before
    duplicates: int = 0
    refused: int = 0
    seconds: float = 0.0
    signals: dict[str, int] = field(default_factory=lambda: {"LONG": 0, "SHORT": 0, "NEUTRAL": 0})
    refusals: dict[str, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)

    def add(self, results: Sequence[CandleResult], latency_ms: float) -> None:
        forecasts = 0
        for result in results:
            verdict = client.verdict(result)
            if verdict == "DUPLICATE":
                self.duplicates += 1
            elif verdict != "ACCEPTED":
                self.refused += 1
                why = f"{result.refusal.field} {result.refusal.reason}" if verdict == "REFUSED" else verdict
                self.refusals[why] = self.refusals.get(why, 0) + 1
            if result.HasField("forecast") and result.forecast.already_stored:
                self.already_stored += 1
            elif result.HasField("forecast"):
                forecasts += 1
                self.signals[client.direction(result.forecast)] += 1
        self.candles += len(results)
        self.forecasts += forecasts
        if forecasts:
            self.latencies_ms.append(latency_ms)

    def summary(self) -> dict[str, Any]:
        latency: dict[str, float | None] = {"p50": None, "p99": None}
        if self.latencies_ms:
            latency = {f"p{q}": round(float(np.percentile(self.latencies_ms, q)), 3) for q in (50, 99)}
        return {
            "candles": self.candles,
            "forecasts": self.forecasts,
            "already_stored": self.already_stored,
            "signals": self.signals,
            "refused": self.refused,
            "duplicates": self.duplicates,
            "seconds": round(self.seconds, 3),
            "forecasts_per_s": round(self.forecasts / self.seconds, 1) if self.seconds else 0.0,
            "latency_ms": latency,
        }


async def _replay(files: list[Path], server: str, limit: int | None, in_flight: int) -> Tally:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from candlecast.candle_files import load, merged

    source = load(files)
    total = min(len(source), limit or len(source))
    tally, sent_s = Tally(), deque[float]()
    room = asyncio.Semaphore(in_flight)
    columns = (
        TextColumn("replay"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )

    async def batches() -> AsyncIterator[Candles]:
        for batch in merged(source, limit):
            for start in range(0, len(batch), _MESSAGE_CANDLES_MAX):
                await room.acquire()
                sent_s.append(time.perf_counter())
                yield batch.take(np.arange(start, min(start + _MESSAGE_CANDLES_MAX, len(batch))))

    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("replay", total=total, rate="")
        started = time.perf_counter()
        async with AsyncClient(server) as connection:
            async for results in connection.stream(batches()):
                room.release()
                now = time.perf_counter()
                tally.add(results, (now - sent_s.popleft()) * 1e3)
                rate = f"{tally.forecasts / (now - started):,.0f} forecasts/s"
                progress.update(bar, completed=tally.candles, rate=rate)
        tally.seconds = time.perf_counter() - started
    return tally


def _print_table(tally: Tally) -> None:
    from rich.console import Console
    from rich.table import Table

    summary = tally.summary()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name in ("candles", "forecasts", "already_stored", "duplicates", "refused"):
        table.add_row(name.replace("_", " "), f"{summary[name]:,}")
    for side, count in summary["signals"].items():
        table.add_row(f"  {side}", f"{count:,}")
    for why, count in sorted(tally.refusals.items()):
        table.add_row(f"  refused: {why}", f"{count:,}")
    table.add_row("seconds", f"{summary['seconds']:,.1f}")
    table.add_row("forecasts/s", f"{summary['forecasts_per_s']:,.0f}")
    for name, value in summary["latency_ms"].items():
        table.add_row(f"latency {name}", "–" if value is None else f"{value:.2f} ms")
    Console().print(table)
    if tally.candles and not tally.forecasts and (tally.duplicates or tally.already_stored):
        kept = "every candle was known" if tally.duplicates == tally.candles else "nothing new"
        print(f"No forecast was added: {kept}.")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
