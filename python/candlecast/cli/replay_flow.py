"""`candlecast replay-flow FILE…`: stream recorded trades and books through a running server as if live."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from candlecast import client
from candlecast.client import AsyncClient, FlowBatch, OrderFlowResponse, ServerError
from candlecast.errors import CandlecastError

if TYPE_CHECKING:
    from candlecast.flow_files import FlowFile

_ROWS_MAX = 16_384
"""In one message."""
_IN_FLIGHT_MAX = 4
_KINDS = ("trades", "quotes")
_COUNTS = ("accepted", "duplicate", "late", "refused")
_DEPTH_COUNTS = ("applied", "known", "early", "gaps")


def register(commands: Any) -> None:
    command = commands.add_parser(
        "replay-flow",
        help="stream files of trades and books through a server as if live",
        description="Stream recorded trades, best bids and asks, and differences of books (Parquet or CSV) through a "
        "running server, by the times of their events. What a file holds is told by its columns, its symbol by its "
        "name, as in binance-spot-BTCUSDT-20240808-trades.parquet. Ends with a table, or with one JSON object.",
    )
    command.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="trades, and what there is of books beside"
    )
    command.add_argument("--symbol", help="of all files, instead of what their names say")
    command.add_argument(
        "--server", default=client.DEFAULT_SERVER, metavar="ADDR", help="HOST:PORT (default %(default)s)"
    )
    command.add_argument(
        "--batch", type=_positive, default=100, metavar="N", help="trades in one message (default %(default)s)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import uvloop

    from candlecast.flow_files import survey

    files = [survey(path, args.symbol) for path in args.files]
    try:
        tally = uvloop.run(_replay(files, args.server, args.batch))
    except ServerError as error:
        hint = "; `candlecast up` starts a server" if error.code is grpc.StatusCode.UNAVAILABLE else ""
        raise CandlecastError(f"{args.server}: {error}{hint}") from error
    if args.json:
        print(json.dumps(tally.summary()))
    else:
        _print_table(tally)
    return 0


def _no_counts(names: Iterable[str]) -> dict[str, int]:
    return dict.fromkeys(names, 0)


@dataclass(slots=True)
class Tally:
    """What came back."""

    trades: dict[str, int] = field(default_factory=lambda: _no_counts(_COUNTS))
    quotes: dict[str, int] = field(default_factory=lambda: _no_counts(_COUNTS))
    depth: dict[str, int] = field(default_factory=lambda: _no_counts(_DEPTH_COUNTS))
    messages: int = 0
    rows: int = 0  # of the files
    snapshots_wanted: int = 0  # times that a book was invalid after a message
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, response: OrderFlowResponse, rows: int) -> None:
        for ack in response.acks:
            for kind, names in (("trades", _COUNTS), ("quotes", _COUNTS), ("depth", _DEPTH_COUNTS)):
                counts, said = getattr(self, kind), getattr(ack, kind)
                for name in names:
                    counts[name] += getattr(said, name)
        for state in response.states:
            self.states[state.symbol] = {
                name.name: list(value) if name.name == "undefined" else value
                for name, value in state.ListFields()
                if name.name != "symbol"
            }
        self.messages += 1
        self.rows += rows
        self.snapshots_wanted += len(response.gaps)

    def summary(self) -> dict[str, Any]:
        trades = sum(self.trades.values())
        return {
            "messages": self.messages,
            "trades": self.trades,
            "quotes": self.quotes,
            "depth": self.depth,
            "snapshots_wanted": self.snapshots_wanted,
            "seconds": round(self.seconds, 3),
            "trades_per_s": round(trades / self.seconds, 1) if self.seconds else 0.0,
            "rows_per_s": round(self.rows / self.seconds, 1) if self.seconds else 0.0,
            "states": self.states,
        }


async def _replay(files: list[FlowFile], server: str, trades_max: int) -> Tally:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from candlecast.flow_files import stream

    tally, sent, room = Tally(), list[int](), asyncio.Semaphore(_IN_FLIGHT_MAX)
    bar = TextColumn("replay-flow"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")

    async def batches() -> AsyncIterator[FlowBatch]:
        for batch in stream(files, trades_max):
            for part in parts(FlowBatch(batch.symbol, batch.trades, batch.quotes, batch.depth)):
                await room.acquire()
                sent.append(_rows(part))
                yield part

    with Progress(
        *bar, TimeRemainingColumn(), console=Console(stderr=True), disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task("replay-flow", total=sum(file.rows for file in files), rate="")
        started = time.perf_counter()
        async with AsyncClient(server) as connection:
            async for response in connection.order_flow(batches()):
                room.release()
                tally.add(response, sent[tally.messages])
                trades = sum(tally.trades.values())
                rate = f"{trades / (time.perf_counter() - started):,.0f} trades/s"
                progress.update(task, completed=tally.rows, rate=rate)
        tally.seconds = time.perf_counter() - started
    return tally


def parts(batch: FlowBatch, rows_max: int = _ROWS_MAX) -> Iterator[FlowBatch]:
    """Cut a batch between two times until no part has more rows, or all of a part are of one time."""
    times = [kind[0] for kind in (batch.trades, batch.quotes, batch.depth) if kind is not None]
    ts = np.sort(np.concatenate(times)) if times else np.zeros(0, dtype=np.int64)
    if len(ts) <= rows_max or ts[0] == ts[-1]:
        yield batch
        return
    middle = ts[len(ts) // 2]
    until = middle if middle > ts[0] else ts[np.searchsorted(ts, middle, side="right")]
    first, second = ([_between(kind, *edge) for kind in (batch.trades, batch.quotes, batch.depth)]
                     for edge in ((ts[0], until), (until, ts[-1] + 1)))  # fmt: skip
    yield from parts(FlowBatch(batch.symbol, *first), rows_max)
    yield from parts(FlowBatch(batch.symbol, *second), rows_max)


def _between(columns: Any, start: int, stop: int) -> Any:
    if columns is None:
        return None
    at = slice(*np.searchsorted(columns[0], (start, stop)))
    return tuple(column[at] for column in columns) if at.start < at.stop else None


def _rows(batch: FlowBatch) -> int:
    return sum(len(kind[0]) for kind in (batch.trades, batch.quotes, batch.depth) if kind is not None)


def _print_table(tally: Tally) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for kind in ("trades", "quotes", "depth"):
        counts: dict[str, int] = getattr(tally, kind)
        if sum(counts.values()):
            table.add_row(kind if kind != "depth" else "depth events", f"{sum(counts.values()):,}")
            for name, count in counts.items():
                table.add_row(f"  {name}", f"{count:,}")
    if tally.snapshots_wanted:
        table.add_row("book invalid after", f"{tally.snapshots_wanted:,} messages")
    summary = tally.summary()
    table.add_row("messages", f"{tally.messages:,}")
    table.add_row("seconds", f"{tally.seconds:,.1f}")
    table.add_row("trades/s", f"{summary['trades_per_s']:,.0f}")
    for symbol, state in sorted(tally.states.items()):
        words = [f"{name} {state[name]:.4f}" for name in ("tick_ratio", "depth_ratio", "price_dist") if name in state]
        table.add_row(symbol, "  ".join([*words, *state.get("undefined", [])]))
    Console().print(table)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
