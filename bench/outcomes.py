"""Outcomes written back: rows/s of a back-fill by itself, and beside a server what it does to the server's p99.

A row is a forecast that gets its outcomes (four horizons, an exit of LONG or SHORT) by one UPDATE, and is counted.

Alone: a PostgreSQL of its own gets candles and forecasts of many symbols without any outcome; then a follower as the
server's looks at them until nothing is left. With --beside everything is started as users do (`candlecast up`); lone
candles of one symbol then go through the server at an even pace, while such a back-fill runs and while none does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from candlecast import features
from candlecast.bench.load import line, single_file, teach
from candlecast.bench.market import Market, simulated
from candlecast.bench.market import names as bench_names
from candlecast.bench.pace import percentiles
from candlecast.client import AsyncClient
from candlecast.store import records
from candlecast.store.batch import Batch
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.migrate import migrate
from candlecast.store.outcomes import Series
from candlecast.store.pool import open_pool
from candlecast.store.records import Origin
from candlecast.store.writer import Writer
from candlecast.tracking.outcomes import Tracking
from candlecast.values import Candles, symbols
from tests.integration.conftest import forecasts
from tests.stack import Stack

INTERVAL_MS = 900_000
START_MS = 1_700_000_100_000
FEES = 0.0004
LONE_HZ = 50.0


def series_of(turn: int, symbol_count: int) -> list[Series]:
    return [(f"R{turn}.{i:04}USDT", INTERVAL_MS) for i in range(symbol_count)]


async def fill(dsn: str, series: list[Series], bars: int, *, signals: float, burst: int = 8) -> None:
    """Store candles and a forecast for each, `burst` closes of all symbols at a time; a share of them LONG or SHORT."""
    rng = np.random.default_rng(1)
    symbol_count = len(series)
    symbol, close = symbols([name for name, _ in series]), np.full(symbol_count, 100.0)
    async with open_pool(dsn, command_timeout_ms=60_000) as pool, pool.connection() as connection:
        writer = await Writer.on(connection)
        for start in range(0, bars, burst):
            parts, told = [], []
            for bar in range(start, min(start + burst, bars)):
                before, close = close, close * np.exp(rng.normal(0, 0.003, symbol_count))
                high, low = np.maximum(before, close) * 1.001, np.minimum(before, close) * 0.999
                nan = np.full(symbol_count, np.nan)
                values = np.column_stack([before, high, low, close, np.ones(symbol_count), nan, nan, nan])
                times = np.full(symbol_count, START_MS + bar * INTERVAL_MS)
                intervals, forming = np.full(symbol_count, INTERVAL_MS), np.zeros(symbol_count, dtype=np.bool_)
                parts.append(Candles(symbol, intervals, times, values, forming))
                told.append((times + INTERVAL_MS, close))
            candles = Candles.joined(parts)
            given = forecasts(len(candles), seed=start)
            made = records.predictions(given, [f"f{i}" for i in range(given.rows.shape[1])])
            wide = np.frombuffer(
                bytearray(records._empty(records.prediction(240)) * len(made)), records.prediction(240)
            )
            for name in wide.dtype.names[2::2]:
                if name != "features":
                    wide[name] = made[name]
            wide["features"] = records._bytes(rng.normal(0, 3, (len(made), 240)).astype(np.float32))
            wide["symbol"] = records._padded(candles.symbol)
            odds = np.exp(rng.normal(0, 0.4, (len(made), 4, 3)))  # a model that is seldom sure
            wide["probabilities"] = records._bytes((odds / odds.sum(axis=2, keepdims=True)).reshape(-1, 12))
            wide["close_time_ms"] = np.concatenate([times for times, _ in told])
            wide["close"] = np.concatenate([prices for _, prices in told])
            wide["direction"] = np.where(rng.random(len(made)) < signals, rng.choice([-1, 1], len(made)), 0)
            wide["stop_loss"], wide["take_profit"] = 0.01, 0.02
            origin = Origin.of(given.model, 240, features.STATES)
            refused = await writer.write(Batch(records.candles(candles, 1).tobytes(), wide.tobytes(), (), origin))
            assert not refused, refused[0][1]


async def back_fill(tracking: Tracking, series: list[Series], dsn: str) -> dict[str, float]:
    """Write all outcomes of some series; return rows, seconds and the CPU of PostgreSQL's processes meanwhile."""
    rows, cpu, started = tracking.forecasts, postgres_cpu_s(dsn), time.perf_counter()
    tracking.look_at(series)
    await tracking.caught_up()
    seconds = time.perf_counter() - started
    return {"rows": tracking.forecasts - rows, "seconds": seconds, "cpu_s": postgres_cpu_s(dsn) - cpu}


def postgres_cpu_s(dsn: str) -> float:
    """Return the CPU time of the processes that run of the PostgreSQL behind a socket."""
    directory = Path(unquote(parse_qs(urlsplit(dsn).query)["host"][0]))
    server = psutil.Process(int((directory / "postmaster.pid").read_text().split()[0]))
    return sum(sum(child.cpu_times()[:2]) for child in server.children())


async def alone(directory: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure back-fills by themselves."""
    done = []
    async with EmbeddedPostgres(directory / "pg" / "data", directory / "pg" / "log") as server:
        await migrate(server.dsn)
        async with Tracking(server.dsn, FEES, gather_s=0, workers=args.workers, finds_all=False, sure_s=0) as tracking:
            await tracking.caught_up()
            for turn in range(args.turns):
                await fill(server.dsn, series_of(turn, args.symbols), args.bars, signals=args.signals)
                done.append(await back_fill(tracking, series_of(turn, args.symbols), server.dsn))
    return rates(done)


def rates(done: list[dict[str, float]]) -> dict[str, Any]:
    rows, seconds, cpu_s = (sum(one[name] for one in done) for name in ("rows", "seconds", "cpu_s"))
    return {
        "rows": rows,
        "rows_per_s": rows / seconds,
        "rows_per_s_best_turn": max(one["rows"] / one["seconds"] for one in done),
        "postgres_cpu_us_per_row": cpu_s / rows * 1e6,
    }


async def beside(stack: Stack, args: argparse.Namespace) -> dict[str, Any]:
    """Measure lone candles beside back-fills and without, in turns."""
    dsn, done = stack.database_url, []
    latencies_ms: dict[str, list[float]] = {"quiet": [], "busy": []}
    market = Market(bench_names(1), simulated())
    for turn in range(args.turns):
        await fill(dsn, series_of(turn, args.symbols), args.bars, signals=args.signals)
    async with (
        AsyncClient(stack.grpc) as client,
        line(client) as stream,
        Tracking(dsn, FEES, gather_s=0, workers=args.workers, finds_all=False, sure_s=0) as tracking,
    ):
        await teach(client, market, np.array([0]))
        await tracking.caught_up()
        await single_file(stream, market, 0, LONE_HZ, 100)
        for turn in range(args.turns):
            sent = 0
            filling = asyncio.create_task(back_fill(tracking, series_of(turn, args.symbols), dsn))
            while not filling.done():
                seen = await single_file(stream, market, 0, LONE_HZ, 25)
                latencies_ms["busy"] += seen.latencies_ms
                sent += 25
            done.append(await filling)
            await asyncio.sleep(2)
            latencies_ms["quiet"] += (await single_file(stream, market, 0, LONE_HZ, sent)).latencies_ms
    figures = rates(done)
    for name, seen_ms in latencies_ms.items():
        p50, p99 = percentiles(seen_ms, 50, 99)
        figures |= {f"lone_{name}_p50_ms": p50, f"lone_{name}_p99_ms": p99, f"lone_{name}_candles": len(seen_ms)}
    return figures | {"p99_busy_over_quiet": figures["lone_busy_p99_ms"] / figures["lone_quiet_p99_ms"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--bars", type=int, default=600, help="of each symbol in a turn (default 600)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--signals", type=float, default=0.05, help="share of LONG and SHORT (default 0.05)")
    parser.add_argument("--workers", type=int, default=1, help="passes at once (default 1)")
    parser.add_argument("--beside", action="store_true", help="a server, and what it does to its p99")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)  # PostgreSQL may run as another user
        if args.beside:
            stack = Stack(directory / "state")
            stack.start()
            try:
                figures = uvloop.run(beside(stack, args))
            finally:
                stack.stop()
        else:
            figures = uvloop.run(alone(directory, args))
    print(json.dumps(figures) if args.json else "\n".join(f"{k:26} {v:12,.2f}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
