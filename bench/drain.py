"""Durable recording, sustained: forecasts through journal and drain, beside raw COPY of the same rows in the same run.

Each round records the same forecasts in messages of 1,000: as a server does (rows made, packed, on disk with fsync,
read back, checked, COPY into an inbox, INSERT … ON CONFLICT DO NOTHING, mark moved), and by asyncpg's COPY straight
into the same table over one connection: as many other rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from candlecast import features
from candlecast._rust import crc32c
from candlecast.journal import Journal
from candlecast.store import predictions
from candlecast.store.drain import Drain
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.migrate import migrate
from candlecast.store.pool import Pool, open_pool
from candlecast.store.recorder import Recorder
from candlecast.values import Forecasts
from tests.integration.conftest import forecasts

MESSAGE_ROWS = 1_000


def messages(rows: int, series: int) -> list[Forecasts]:
    """Return forecasts, each message of a symbol of its own."""
    rng = np.random.default_rng(series)
    whole = forecasts(MESSAGE_ROWS)
    values = rng.normal(0, 3, (MESSAGE_ROWS, len(features.NAMES))).astype(np.float32)
    names = [f"S{series}.{i}" for i in range(rows // MESSAGE_ROWS)]
    return [replace(whole, symbol=[name] * MESSAGE_ROWS, rows=values) for name in names]


async def recorded(pool: Pool, directory: Path, given: list[Forecasts]) -> tuple[float, float]:
    """Return seconds until all is on disk, and until all is in PostgreSQL."""
    async with Journal(directory, checksum=crc32c) as journal:
        drain = Drain(journal, pool, refused_path=directory / "refused", rows_max=4_000, stop_timeout_ms=60_000)
        recorder = Recorder(journal, drain, pool, feature_names=features.NAMES, states=features.STATES)
        async with drain, recorder:
            started = time.perf_counter()
            for message in given:
                with recorder.admit(len(message)) as place:
                    await place.record(None, message)
            on_disk = time.perf_counter() - started
            await drain.caught_up(journal.end)
            return on_disk, time.perf_counter() - started


async def copied(dsn: str, given: list[Forecasts]) -> float:
    """Return seconds of making the rows and copying them straight into the table."""
    connection = await asyncpg.connect(dsn)
    try:
        (columns,) = await connection.fetchrow(
            "SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute"
            " JOIN pg_type ON typrelid = attrelid WHERE typname = 'ml_prediction_input' AND NOT attisdropped"
        )
        columns[2] = "close_time"
        started = time.perf_counter()
        for message in given:
            rows = predictions.rows_of(message, features.NAMES, features.STATES)
            timed = [(*row[:2], datetime.fromtimestamp(row[2] / 1000, UTC), *row[3:]) for row in rows]
            await connection.copy_records_to_table("ml_predictions", columns=columns, records=timed)
        return time.perf_counter() - started
    finally:
        await connection.close()


async def measure(directory: Path, rows: int, rounds: int) -> dict[str, float]:
    """Return rows a second, medians of the rounds."""
    figures: dict[str, list[float]] = {"journal": [], "stored": [], "raw_copy": []}
    async with EmbeddedPostgres(directory / "pg" / "data", directory / "pg" / "log") as server:
        await migrate(server.dsn)
        async with open_pool(server.dsn, command_timeout_ms=60_000) as pool:
            for i in range(rounds):
                given = messages(rows, i)
                on_disk, stored = await recorded(pool, directory / f"journal{i}", given)
                figures["journal"].append(rows / on_disk)
                figures["stored"].append(rows / stored)
                figures["raw_copy"].append(rows / await copied(server.dsn, messages(rows, rounds + i)))
    return {name: statistics.median(values) for name, values in figures.items()}


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
        figures = asyncio.run(measure(directory, args.rows, args.rounds))
    figures["stored_over_raw_copy"] = figures["stored"] / figures["raw_copy"]
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:26} {value:10,.2f}")


if __name__ == "__main__":
    main()
