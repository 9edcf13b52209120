"""Outcomes written back: rows/s of a back-fill by itself, and beside a server what it does to the server's p99.

Alone: a PostgreSQL of its own gets candles and forecasts of many symbols without any outcome; then passes run until
nothing is left. A row is a forecast that gets its outcomes (four horizons, an exit of LONG or SHORT) by one UPDATE.
"""

from __future__ import annotations

import argparse
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
from candlecast.store import records
from candlecast.store.batch import Batch
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.migrate import migrate
from candlecast.store.outcomes import Costs
from candlecast.store.pool import open_pool
from candlecast.store.records import Origin
from candlecast.store.writer import Writer
from candlecast.tracking.outcomes import Tracking
from candlecast.values import Candles, symbols
from tests.integration.conftest import forecasts

INTERVAL_MS = 900_000
START_MS = 1_700_000_100_000


def names(symbol_count: int) -> list[str]:
    return [f"R{i:04}USDT" for i in range(symbol_count)]


async def fill(dsn: str, symbol_count: int, bars: int, *, signals: float, burst: int = 8) -> None:
    """Store candles and a forecast for each, `burst` closes of all symbols at a time; a share of them LONG or SHORT."""
    rng = np.random.default_rng(1)
    symbol, close = symbols(names(symbol_count)), np.full(symbol_count, 100.0)
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
            wide["close_time_ms"] = np.concatenate([times for times, _ in told])
            wide["close"] = np.concatenate([prices for _, prices in told])
            wide["direction"] = np.where(rng.random(len(made)) < signals, rng.choice([-1, 1], len(made)), 0)
            wide["stop_loss"], wide["take_profit"] = 0.01, 0.02
            origin = Origin.of(given.model, 240, features.STATES)
            refused = await writer.write(Batch(records.candles(candles, 1).tobytes(), wide.tobytes(), (), origin))
            assert not refused, refused[0][1]


async def back_fill(dsn: str) -> dict[str, float]:
    """Write all outcomes as a server does that finds them at its start; return rows, seconds and PostgreSQL's CPU."""
    before = {child.pid for child in backends(dsn)}
    async with Tracking(dsn, Costs(0.0004, 1.5)) as tracking:
        started = time.perf_counter()
        await tracking.caught_up()
        seconds = time.perf_counter() - started
        spent = sum(sum(child.cpu_times()[:2]) for child in backends(dsn) if child.pid not in before)
    return {"rows": tracking.forecasts, "seconds": seconds, "backend_cpu_s": spent}


def backends(dsn: str) -> list[psutil.Process]:
    """Return the processes of the PostgreSQL behind a socket."""
    directory = Path(unquote(parse_qs(urlsplit(dsn).query)["host"][0]))
    return psutil.Process(int((directory / "postmaster.pid").read_text().split()[0])).children()


async def alone(directory: Path, args: argparse.Namespace) -> dict[str, Any]:
    async with EmbeddedPostgres(directory / "pg" / "data", directory / "pg" / "log") as server:
        await migrate(server.dsn)
        await fill(server.dsn, args.symbols, args.bars, signals=args.signals)
        done = await back_fill(server.dsn)
    return done | {
        "rows_per_s": done["rows"] / done["seconds"],
        "backend_us_per_row": done["backend_cpu_s"] / done["rows"] * 1e6,
        "rows_per_core_s": done["rows"] / done["backend_cpu_s"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--bars", type=int, default=500)
    parser.add_argument("--signals", type=float, default=0.05, help="share of LONG and SHORT (default 0.05)")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)  # PostgreSQL may run as another user
        figures = uvloop.run(alone(directory, args))
    print(json.dumps(figures) if args.json else "\n".join(f"{k:22} {v:12,.2f}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
