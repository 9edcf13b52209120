"""Durable recording, sustained: forecasts through journal and drain, beside raw COPY of the same rows in the same run.

Each round records the same forecasts in bursts of 1,000 symbols: as a server does (records made, on disk with fsync,
read back, checked, COPY into an inbox, INSERT … ON CONFLICT DO NOTHING, mark moved), and by asyncpg's COPY of rows
straight into the same table over one connection: as many other rows, made before the clock starts.

Beside rows/s it prints µs of CPU a forecast: of this process and of PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import numpy as np
import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from candlecast import features
from candlecast._rust import crc32c
from candlecast.journal import Journal
from candlecast.store import records
from candlecast.store.drain import Drain
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.migrate import migrate
from candlecast.store.pool import Pool, open_pool
from candlecast.store.recorder import Recorder
from candlecast.store.records import Origin
from candlecast.values import Forecasts, symbols
from tests.integration.conftest import forecasts

BURST_ROWS = 1_000


def bursts(rows: int, number: int) -> list[Forecasts]:
    """Return forecasts, each burst one close of BURST_ROWS symbols."""
    rng = np.random.default_rng(number)
    whole = forecasts(BURST_ROWS, symbol=f"R{number}")
    values = rng.normal(0, 3, (BURST_ROWS, len(features.NAMES))).astype(np.float32)
    symbol = symbols([f"R{number}.{i:04}USDT" for i in range(BURST_ROWS)])
    times = whole.close_time_ms[: rows // BURST_ROWS].tolist()
    return [replace(whole, symbol=symbol, close_time_ms=np.full(BURST_ROWS, t), rows=values) for t in times]


def server_cpu_s(server: EmbeddedPostgres) -> float:
    """Return the CPU time of PostgreSQL's processes that run."""
    assert server.pid is not None, "it runs"
    times = [process.cpu_times() for process in psutil.Process(server.pid).children(recursive=True)]
    return sum(time.user + time.system for time in times)


async def recorded(
    server: EmbeddedPostgres, pool: Pool, directory: Path, given: list[Forecasts], *, first: bool
) -> dict[str, float]:
    """Return seconds until all is in PostgreSQL; if all is recorded first, of recording and of draining, and of CPU."""
    async with Journal(directory, checksum=crc32c) as journal:
        drain = Drain(journal, pool, refused_path=directory / "refused", rows_max=4_000, stop_timeout_ms=60_000)
        recorder = Recorder(journal, drain, pool, feature_names=features.NAMES, states=features.STATES)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(recorder)
            if not first:
                await stack.enter_async_context(drain)
            started, cpu = time.perf_counter(), time.process_time()
            for message in given:
                with recorder.admit(len(message)) as place:
                    assert (await place.record(None, message)).new.all()
            recorded, cpu_recorded = time.perf_counter() - started, time.process_time() - cpu
            if first:
                started, cpu, server_cpu = time.perf_counter(), time.process_time(), server_cpu_s(server)
                await stack.enter_async_context(drain)
            await drain.caught_up(journal.end)
            drained = time.perf_counter() - started
            assert drain.refused_rows == 0
            if not first:
                return {"stored": drained}
            return {
                "recorded": recorded,
                "drained": drained,
                "cpu_record": cpu_recorded,
                "cpu_drain": time.process_time() - cpu,
                "cpu_drain_postgres": server_cpu_s(server) - server_cpu,
            }


async def copied(server: EmbeddedPostgres, given: list[Forecasts]) -> dict[str, float]:
    """Return seconds of copying rows straight into the table, and those with making them."""
    connection = await asyncpg.connect(server.dsn)
    try:
        started = time.perf_counter()
        columns, rows = as_rows(given)
        making = time.perf_counter() - started
        server_cpu = server_cpu_s(server)
        started, cpu = time.perf_counter(), time.process_time()
        for some in rows:
            await connection.copy_records_to_table("ml_prediction_rows", columns=columns, records=some)
        seconds = time.perf_counter() - started
        return {
            "raw_copy": seconds,
            "raw_copy_rows_made": seconds + making,
            "cpu_raw_copy": time.process_time() - cpu,
            "cpu_raw_copy_postgres": server_cpu_s(server) - server_cpu,
        }
    finally:
        await connection.close()


def as_rows(given: list[Forecasts]) -> tuple[list[str], list[list[tuple[object, ...]]]]:
    """Return the names of the table's columns, and the rows of each burst as asyncpg takes them."""
    names: list[str] = []
    made = []
    for message in given:
        origin = Origin.of(message.model, len(features.NAMES), features.STATES)
        rows = records.people(records.predictions(message, features.NAMES), origin)
        for row in rows:
            row["gate_approved"] = {"APPROVE": True, "REFUSE": False}.get(row.pop("gate_verdict"))
            row["close_time"] = datetime.fromtimestamp(row.pop("close_time_ms") / 1000, UTC)
        names = list(rows[0])
        made.append([tuple(row.values()) for row in rows])
    return names, made


async def measure(directory: Path, rows: int, rounds: int) -> dict[str, float]:
    """Return medians of the rounds: rows a second, and µs of CPU a forecast."""
    taken: list[dict[str, float]] = []
    async with EmbeddedPostgres(directory / "pg" / "data", directory / "pg" / "log") as server:
        await migrate(server.dsn)
        async with open_pool(server.dsn, command_timeout_ms=60_000) as pool:
            for i in range(rounds):
                parts = [bursts(rows, 3 * i + part) for part in range(3)]
                figures = await recorded(server, pool, directory / f"apart{i}", parts[0], first=True)
                figures |= await recorded(server, pool, directory / f"together{i}", parts[1], first=False)
                taken.append(figures | await copied(server, parts[2]))
    medians = {name: statistics.median(seconds[name] for seconds in taken) for name in taken[0]}
    return {
        name if name.startswith("cpu") else f"{name}_rows_per_s": seconds / rows * 1e6
        if name.startswith("cpu")
        else rows / seconds
        for name, seconds in medians.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="forecasts in a round (default 20,000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)  # PostgreSQL may run as another user
        figures = uvloop.run(measure(directory, args.rows, args.rounds))
    figures["stored_over_raw_copy"] = figures["stored_rows_per_s"] / figures["raw_copy_rows_per_s"]
    figures["stored_over_raw_copy_rows_made"] = figures["stored_rows_per_s"] / figures["raw_copy_rows_made_rows_per_s"]
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value:10,.2f}")


if __name__ == "__main__":
    main()
