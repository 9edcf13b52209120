"""Outcomes written back: rows/s of a back-fill by itself, and beside a server what it does to the server's p99.

A row is a forecast that gets its outcomes (four horizons, an exit of LONG or SHORT) in a row of its own and is counted.

A PostgreSQL gets candles and forecasts of many symbols without any outcome. In each turn a follower, a process at the
lowest priority as the server's is, looks at them until nothing is left; then the outcomes are taken out again. Alone,
that is all. With --beside everything is started as users do (`candlecast up`), and lone candles go through
the server at an even pace, as many while a back-fill runs as while none does, in turns whose order alternates.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import psutil
import uvloop

# As the command line does; before anything imports grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from candlecast import features
from candlecast.bench.load import line, single_file, teach
from candlecast.bench.market import Market, simulated
from candlecast.bench.market import names as bench_names
from candlecast.bench.pace import percentiles
from candlecast.client import AsyncClient
from candlecast.lifecycle import give_way
from candlecast.store import records
from candlecast.store.batch import Batch
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.migrate import migrate
from candlecast.store.outcomes import Series
from candlecast.store.pool import open_pool
from candlecast.store.records import Origin
from candlecast.store.writer import Writer
from candlecast.tracking.outcomes import NICE, Tracking
from candlecast.values import Candles, symbols
from tests.integration.conftest import forecasts
from tests.stack import Stack

INTERVAL_MS = 900_000
START_MS = 1_700_000_100_000
FEES = 0.0004
START_S = 1.0
"""Until a follower has started, or nearly."""
PAUSE_S = 2.0
"""Between turns, until what the last one left to be done is done."""
FORGET = """
TRUNCATE ml_outcome_rows, ml_outcome_marks, ml_accuracy_counts, ml_accuracy_days, ml_exit_counts, ml_strategy_days,
    ml_strategy_stale, ml_strategy_signals CASCADE
"""


def series_of(symbol_count: int) -> list[Series]:
    return [(f"R{i:04}USDT", INTERVAL_MS) for i in range(symbol_count)]


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
            odds = np.exp(rng.normal(0, 0.4, (len(given), 4, 3)))  # a model that is seldom sure
            given.meaning.probabilities[:] = odds / odds.sum(axis=2, keepdims=True)
            given.meaning.stop_loss[:], given.meaning.take_profit[:] = 0.01, 0.02
            given = replace(
                given,
                symbol=candles.symbol,
                interval_ms=candles.interval_ms,
                close_time_ms=np.concatenate([times for times, _ in told]),
                close=np.concatenate([prices for _, prices in told]),
                rows=rng.normal(0, 3, (len(given), 240)).astype(np.float32),
                direction=np.where(rng.random(len(given)) < signals, rng.choice([-1, 1], len(given)), 0).astype(
                    np.int8
                ),
            )
            made = records.predictions(given, [f"f{i}" for i in range(240)])
            origin = Origin.of(given.model, 240, features.STATES)
            refused = await writer.write(Batch(records.candles(candles, 1).tobytes(), made.tobytes(), (), origin))
            assert not refused, refused[0][1]


async def back_fill(dsn: str, args: argparse.Namespace) -> None:
    """Write all outcomes in this process, the one at the lowest priority; print rows, seconds and CPU."""
    give_way(NICE)
    share = {} if args.share is None else {"share": args.share}
    async with Tracking(dsn, FEES, gather_s=0, workers=args.workers, finds_all=False, sure_s=0, **share) as tracking:
        await tracking.caught_up()
        cpu, own, started = postgres_cpu_s(dsn), time.process_time(), time.perf_counter()
        tracking.look_at(series_of(args.symbols))
        await tracking.caught_up()
        seconds, own = time.perf_counter() - started, time.process_time() - own
        found = {"rows": tracking.forecasts, "seconds": seconds, "own_cpu_s": own}
        print(json.dumps(found | {"cpu_s": postgres_cpu_s(dsn) - cpu}))


async def followed(dsn: str) -> dict[str, float]:
    """Let a process of its own do a back-fill."""
    command = [sys.executable, __file__, "--follow", dsn, *sys.argv[1:]]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, start_new_session=True)
    said, _ = await process.communicate()
    assert process.returncode == 0, f"the follower ended with {process.returncode}"
    found: dict[str, float] = json.loads(said)
    return found


async def forget(dsn: str) -> None:
    """Take the outcomes out again."""
    async with open_pool(dsn, command_timeout_ms=60_000) as pool:
        await pool.fetch(FORGET)


def postgres_cpu_s(dsn: str) -> float:
    """Return the CPU time of the processes that run of the PostgreSQL behind a socket."""
    directory = Path(unquote(parse_qs(urlsplit(dsn).query)["host"][0]))
    server = psutil.Process(int((directory / "postmaster.pid").read_text().split()[0]))
    return sum(sum(child.cpu_times()[:2]) for child in server.children())


async def alone(directory: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure back-fills by themselves."""
    async with EmbeddedPostgres(directory / "pg" / "data", directory / "pg" / "log") as server:
        await migrate(server.dsn)
        await fill(server.dsn, series_of(args.symbols), args.bars, signals=args.signals)
        done = []
        for _ in range(args.turns):
            done.append(await followed(server.dsn))
            await forget(server.dsn)
        return rates(done)


def rates(done: list[dict[str, float]]) -> dict[str, Any]:
    rows, seconds, cpu_s, own_s = (sum(one[name] for one in done) for name in ("rows", "seconds", "cpu_s", "own_cpu_s"))
    return {
        "rows": rows,
        "rows_per_s": rows / seconds,
        "rows_per_s_best_turn": max(one["rows"] / one["seconds"] for one in done),
        "postgres_cpu_us_per_row": cpu_s / rows * 1e6,
        "own_cpu_us_per_row": own_s / rows * 1e6,
    }


async def beside(stack: Stack, args: argparse.Namespace) -> dict[str, Any]:
    """Measure lone candles beside back-fills and without, in turns."""
    dsn, done = stack.database_url, []
    latencies_ms: dict[str, list[float]] = {"quiet": [], "busy": []}
    market, count = Market(bench_names(1), simulated()), 200
    await fill(dsn, series_of(args.symbols), args.bars, signals=args.signals)
    async with AsyncClient(stack.grpc) as client, line(client) as stream:
        await teach(client, market, np.array([0]))
        await single_file(stream, market, 0, args.hz, 100)

        async def busy() -> None:
            nonlocal count
            filling, sent = asyncio.create_task(followed(dsn)), 0
            await asyncio.sleep(START_S)
            while not filling.done():
                seen = await single_file(stream, market, 0, args.hz, 10)
                if not filling.done():  # none of them had the machine to itself
                    latencies_ms["busy"] += seen.latencies_ms
                    sent += 10
            count = sent or count
            done.append(await filling)
            await forget(dsn)

        async def quiet() -> None:
            latencies_ms["quiet"] += (await single_file(stream, market, 0, args.hz, count)).latencies_ms

        for turn in range(args.turns):
            for measure in (busy, quiet) if turn % 2 == 0 else (quiet, busy):
                await measure()
                await asyncio.sleep(PAUSE_S)
    figures = rates(done)
    for name, seen_ms in latencies_ms.items():
        p50, p99 = percentiles(seen_ms, 50, 99)
        figures |= {f"lone_{name}_p50_ms": p50, f"lone_{name}_p99_ms": p99, f"lone_{name}_candles": len(seen_ms)}
    return figures | {
        f"p{p}_busy_over_quiet": figures[f"lone_busy_p{p}_ms"] / figures[f"lone_quiet_p{p}_ms"] for p in (50, 99)
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--bars", type=int, default=600, help="of each symbol (default 600)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--signals", type=float, default=0.05, help="share of LONG and SHORT (default 0.05)")
    parser.add_argument("--workers", type=int, default=1, help="passes at once (default 1)")
    parser.add_argument("--share", type=float, help="of the time that is worked (default: as the server has it)")
    parser.add_argument("--hz", type=float, default=50.0, help="lone candles a second, --beside (default 50)")
    parser.add_argument("--follow", metavar="DSN", help=argparse.SUPPRESS)
    parser.add_argument("--beside", action="store_true", help="a server, and what it does to its p99")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    args = parser.parse_args()
    if args.follow:
        uvloop.run(back_fill(args.follow, args))
        return
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)  # PostgreSQL may run as another user
        if args.beside:
            stack = Stack(directory / "state")
            try:
                stack.start()
                figures = uvloop.run(beside(stack, args))
            finally:
                stack.stop()
        else:
            figures = uvloop.run(alone(directory, args))
    print(json.dumps(figures) if args.json else "\n".join(f"{k:26} {v:12,.2f}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
