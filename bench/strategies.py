"""GetStrategy and ListStrategies over many signals: the time of a call, with all days counted and after one more close.

The signals are put into the table at once; then the days are counted, once, and calls go over gRPC one by one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import grpc
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from candlecast.bench.pace import percentiles
from candlecast.client import AsyncClient
from candlecast.server.performance_service import PerformanceService
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.migrate import migrate
from candlecast.store.performance import refresh
from candlecast.store.pool import open_pool
from candlecast.v1 import performance_pb2_grpc

LOAD = """
INSERT INTO ml_strategy_signals (
    key, strategy, symbol, side, status, entry_price, entry_time, size, closed_size, closed_value, fees, exit_price,
    exit_time, pnl, is_winner)
SELECT
    'k' || i, 'mine', 'S' || i % $2::integer, CASE i % 2 WHEN 0 THEN 'LONG' ELSE 'SHORT' END, 'CLOSED', 100, entry,
    1, 1, 100 + move, 0.1, 100 + move, entry + interval '1 hour',
    (1 - 2 * (i % 2)) * move - 0.1, (1 - 2 * (i % 2)) * move > 0.1
FROM (
    SELECT
        i, sin(i * 12.9898) * 3 AS move,
        timestamptz '2022-01-01 UTC' + i * ($3::integer * interval '1 day') / $1::integer AS entry
    FROM generate_series(1, $1::integer) AS i
) AS made
"""
STALE = """
INSERT INTO ml_strategy_stale (strategy, day)
SELECT DISTINCT 'mine', (t AT TIME ZONE 'UTC')::date
FROM ml_strategy_signals, LATERAL (VALUES (entry_time), (exit_time)) AS v (t)
ON CONFLICT DO NOTHING
"""


async def measure(directory: Path, signals: int, symbols: int, days: int, calls: int) -> dict[str, float]:
    """Return seconds of counting everything once, and percentiles of calls in ms."""
    async with EmbeddedPostgres(directory / "pg" / "data", directory / "pg" / "log") as server:
        await migrate(server.dsn)
        async with open_pool(server.dsn, command_timeout_ms=300_000) as pool:
            async with pool.connection() as connection:
                await connection.execute("SET statement_timeout = 0")
                await connection.execute(LOAD, signals, symbols, days)
                await connection.execute(STALE)
                await connection.execute("ANALYZE ml_strategy_signals")
            started = time.perf_counter()
            await refresh(pool)
            figures = {"signals": float(signals), "count_all_once_s": time.perf_counter() - started}
            door = grpc.aio.server()
            performance_pb2_grpc.add_PerformanceServicer_to_server(PerformanceService(pool), door)
            port = door.add_insecure_port("127.0.0.1:0")
            await door.start()
            async with AsyncClient(f"127.0.0.1:{port}") as client:
                assert (await client.get_strategy("mine")).closed == signals

                async def one_more(i: int) -> None:
                    await client.log_signal("mine", "S0", "long", 100.0, key=f"more{i}")
                    await client.close_signal(f"more{i}", 101.0)

                for name, ask, before in (
                    ("get_strategy", lambda: client.get_strategy("mine"), None),
                    ("get_strategy_of_symbol", lambda: client.get_strategy("mine", symbol="S1"), None),
                    ("get_strategy_after_a_close", lambda: client.get_strategy("mine"), one_more),
                    ("list_strategies", client.list_strategies, None),
                ):
                    taken = []
                    for i in range(calls):
                        if before is not None:
                            await before(i)
                        begin = time.perf_counter()
                        await ask()
                        taken.append((time.perf_counter() - begin) * 1e3)
                    for point in (50, 99):
                        (figures[f"{name}_p{point}_ms"],) = percentiles(taken, point)
            await door.stop(0)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=1_000_000)
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--days", type=int, default=1_095)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)  # PostgreSQL may run as another user
        figures = uvloop.run(measure(directory, args.signals, args.symbols, args.days, args.calls))
    print(json.dumps(figures) if args.json else "\n".join(f"{k:34} {v:14,.2f}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
