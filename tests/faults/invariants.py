"""What must hold after every fault, asked of the database and of what the user was told: I1 to I4 and I7.

I5 is in `holdings.py`, I6 in `readiness.py`; `run.py` asks for all of them after every row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np

from candlecast.server.app import features_for, newest_bundle
from candlecast.settings import CHECKOUT
from candlecast.values import Candles
from tests.faults.load import REFERENCE, Load
from tests.stack import Stack

BUNDLE = newest_bundle(CHECKOUT / "triton_models" / "patchtst")
ROWS_AT_ONCE = 1_000
DOUBTFUL = """
    SELECT count(*) FROM ml_predictions WHERE direction <> 'NEUTRAL'
    AND (state <> 'READY' OR gap_filled OR degraded OR nan_count > 0 OR confidence IS NULL)"""


@dataclass(frozen=True)
class Found:
    """What verification found; all but `forecasts` have to be 0."""

    forecasts: int
    lost: int
    duplicated: int
    failed_rows: int

    @classmethod
    def of(cls, parts: Sequence[Found]) -> Found:
        """Add up what users of one server found; the file of failed rows is the same."""
        sums = (sum(getattr(part, name) for part in parts) for name in ("forecasts", "lost", "duplicated"))
        return cls(*sums, max(part.failed_rows for part in parts))


async def verify(stack: Stack, load: Load, timeout_s: float = 60) -> Found:
    """Compare what was acknowledged with what is stored, once the journal has been drained (I1, I2, I3)."""
    connection = await connected(stack)
    try:
        stored: dict[tuple[str, int], int] = {}
        deadline = time.monotonic() + timeout_s
        while True:
            rows = await connection.fetch(
                "SELECT symbol, (date_part('epoch', close_time) * 1000)::bigint AS ms, features_hash"
                " FROM ml_predictions WHERE symbol = ANY($1)",
                load.names,
            )
            stored = {(row["symbol"], row["ms"]): row["features_hash"] for row in rows}
            missing = load.acknowledged.keys() - stored.keys()
            if not missing or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        candles = await connection.fetch(
            "SELECT symbol, interval_ms, (date_part('epoch', open_time) * 1000)::bigint AS ms, open, high, low, close,"
            " volume, quote_volume, trades, taker_buy_volume,"
            " max(accepted_ns) OVER (PARTITION BY symbol ORDER BY open_time) AS moved_ns"  # clocks jump back
            " FROM candles WHERE symbol = ANY($1) ORDER BY moved_ns, open_time, symbol <> $2, symbol",
            [*load.names, REFERENCE],
            REFERENCE,
        )
        doubtful = await connection.fetchval(DOUBTFUL)
    finally:
        await connection.close()
    assert not doubtful, f"{doubtful} signals from degraded input (I7)"
    silent = [key for key in load.failures if key[0] == key[1] != "UNAVAILABLE"]  # UNAVAILABLE: nobody was there to say
    assert not silent, f"failed without a reason (I4): {silent}"
    wrong = [key for key, value in load.acknowledged.items() if stored.get(key, value) != value]
    assert not wrong, f"stored with another features_hash than acknowledged: {wrong[:3]}"
    kept = {(row["symbol"], row["ms"]) for row in candles}
    lost_candles = load.candles - kept
    duplicated = len(rows) - len(stored) + len(candles) - len(kept)
    expected = recomputed(candles) if load.is_whole else stored
    differing = [key for key, value in stored.items() if expected.get(key) != value]
    assert not differing, f"features recomputed from stored candles differ: {differing[:3]} of {len(differing)}"
    refused = stack.state_dir / "journal" / "refused.jsonl"
    failed = len(refused.read_text().splitlines()) if refused.exists() else 0
    return Found(len(stored), len(missing) + len(lost_candles), duplicated, failed)


def recomputed(rows: list[Any]) -> dict[tuple[str, int], int]:
    """Return the features_hash of every forecast that the stored candles give, in the order they were accepted."""
    features = features_for(BUNDLE, symbols_max=1_000, conflicts_max=3)
    hashes: dict[tuple[str, int], int] = {}
    for part in _batches(rows):
        values = np.array([tuple(row)[3:11] for row in part], dtype=np.float64)
        candles = Candles(
            symbol=[row["symbol"] for row in part],
            interval_ms=np.array([row["interval_ms"] for row in part], dtype=np.int64),
            open_time_ms=np.array([row["ms"] for row in part], dtype=np.int64),
            values=values,
            forming=np.zeros(len(part), dtype=np.bool_),
        )
        pushed = features.push(candles).pushed
        names = candles.names
        for i in np.flatnonzero(pushed.window >= 0).tolist():
            close_ms = int(candles.open_time_ms[i] + candles.interval_ms[i])
            hashes[names[i], close_ms] = int(pushed.features_hash[i])
    return hashes


def _batches(rows: list[Any]) -> Iterator[list[Any]]:
    """Yield what moved the state together; of what a clock that jumped back has made one, parts."""
    for _, together in groupby(rows, lambda row: row["moved_ns"]):
        whole = list(together)
        for at in range(0, len(whole), ROWS_AT_ONCE):
            yield whole[at : at + ROWS_AT_ONCE]


async def connected(stack: Stack) -> Any:
    """Return a connection, as soon as PostgreSQL gives one."""
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return await asyncpg.connect(stack.database_url, timeout=5)
            await asyncio.sleep(0.1)


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
