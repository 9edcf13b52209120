"""Measures a restart: saving all symbols beside a running loop, restoring them with 20 stored candles each, rebuilding.

Usage: python bench/warm_restart.py [SYMBOLS]. Prints milliseconds. The baseline of a restored symbol is one that is
rebuilt from its newest stored candles, which is what a start without snapshots does.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from candlecast.features import OPTIONAL_INPUTS, Features  # noqa: E402
from candlecast.server.warm import warm_up  # noqa: E402
from candlecast.snapshots import Snapshots  # noqa: E402
from candlecast.store.embedded import EmbeddedPostgres  # noqa: E402
from candlecast.store.migrate import migrate  # noqa: E402
from candlecast.store.pool import open_pool  # noqa: E402
from candlecast.values import Candles, symbols  # noqa: E402
from tests.market_simulator import INTERVAL_MS, candles  # noqa: E402

BARS, SINCE = 800, 20
"""Stored candles of each symbol, of which so many are newer than the snapshots."""


def empty() -> Features:
    return Features(
        symbols_max=20_000, conflicts_max=3, optional_inputs=OPTIONAL_INPUTS, reference_symbol="BTCUSDT", threads=2
    )


def bar_of(names: list[str], market: Candles, bar: int) -> Candles:
    """Return the candle of every symbol at one bar: all of them move alike."""
    return Candles(
        symbol=symbols(names),
        interval_ms=np.full(len(names), INTERVAL_MS, dtype=np.int64),
        open_time_ms=np.full(len(names), market.open_time_ms[bar]),
        values=np.ascontiguousarray(np.broadcast_to(market.values[bar], (len(names), 8))),
        forming=np.zeros(len(names), dtype=np.bool_),
    )


async def store(dsn: str, names: list[str], market: Candles) -> None:
    connection = await asyncpg.connect(dsn)
    opened = [datetime.fromtimestamp(ms / 1000, UTC) for ms in market.open_time_ms.tolist()]
    months = sorted({day.date().replace(day=1) for day in opened})
    await connection.execute("SELECT create_month_partitions('candles', $1)", months)
    columns = ["symbol", "interval_ms", "open_time", "open", "high", "low", "close", "volume", "quote_volume",
               "trades", "taker_buy_volume", "accepted_ns"]  # fmt: skip
    for bar, values in enumerate(market.values.tolist()):
        rows = [(name, INTERVAL_MS, opened[bar], *values, bar + 1) for name in names]
        await connection.copy_records_to_table("candles", records=rows, columns=columns)
    await connection.execute("ANALYZE candles")
    await connection.close()


async def settled() -> None:
    return None


async def slowest_turn(work: asyncio.Task[bool]) -> float:
    """Return the longest that the loop stood still while the work was under way, in ms."""
    worst = 0.0
    while not work.done():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - before - 0.001)
    return worst * 1000


async def save(live: Features, directory: Path) -> None:
    idle = await slowest_turn(asyncio.create_task(asyncio.sleep(1, True)))
    started = time.perf_counter()
    saving = asyncio.create_task(Snapshots(directory, live, settled, interval_s=1).save())
    worst = await slowest_turn(saving)
    assert await saving
    print(f"save: {(time.perf_counter() - started) * 1000:.0f} ms, loop held up {worst:.1f} ms (idle {idle:.1f})")


async def main(directory: Path, count: int) -> None:
    names = ["BTCUSDT", *(f"S{i:05}" for i in range(count - 1))]
    start_ms = (time.time_ns() // 1_000_000 // INTERVAL_MS - BARS) * INTERVAL_MS
    market = candles("S", BARS, start_ms=start_ms)
    async with EmbeddedPostgres(directory / "data", directory / "log") as postgres:
        await migrate(postgres.dsn)
        await store(postgres.dsn, names, market)
        live = empty()
        for bar in range(BARS - SINCE):
            live.push(bar_of(names, market, bar), windows=False)
        await save(live, directory / "snapshots")
        async with open_pool(postgres.dsn) as pool:
            took = []
            for what in ("snapshots", "none"):
                features = empty()
                snapshots = Snapshots(directory / what, features, settled, interval_s=1)
                limits = {"rebuild_candles_max": 2_000, "rebuild_age_max_h": 48, "symbols_max": 20_000}
                warmed = await warm_up(features, snapshots, pool, empty, **limits)
                took.append(warmed.ms)
                print(f"from {what}: {warmed}")
            print(f"restored / rebuilt: {took[0] / took[1]:.3f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user when we are root
        asyncio.run(main(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
