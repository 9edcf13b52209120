"""What must hold after every fault: I1 to I7 of the reliability promise, asked of the database and the processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import numpy as np
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from candlecast.features import Features
from candlecast.server.app import features_for, newest_bundle
from candlecast.settings import CHECKOUT
from candlecast.values import Candles
from tests.faults.load import REFERENCE, Load
from tests.stack import Stack

BUNDLE = newest_bundle(CHECKOUT / "triton_models" / "patchtst")
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
            " volume, quote_volume, trades, taker_buy_volume, accepted_ns FROM candles WHERE symbol = ANY($1)"
            " ORDER BY accepted_ns, open_time, symbol",
            [*load.names, REFERENCE],
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
    for _, together in groupby(rows, lambda row: row["accepted_ns"]):
        part = list(together)
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


async def connected(stack: Stack) -> Any:
    """Return a connection, as soon as PostgreSQL gives one."""
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return await asyncpg.connect(stack.database_url, timeout=5)
            await asyncio.sleep(0.1)


class Health:
    """Watches readiness while it is entered: when it was false, and when true again (I6)."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._task: asyncio.Task[None] | None = None
        self.changes: list[tuple[float, bool]] = []

    async def __aenter__(self) -> Health:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: Any) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            ready = await serving(self._address)
            if not self.changes or self.changes[-1][1] != ready:
                self.changes.append((time.monotonic(), ready))
            await asyncio.sleep(0.05)

    async def until(self, ready: bool, since_s: float, timeout_s: float) -> float:
        """Return the seconds after `since_s` at which readiness was so."""
        async with asyncio.timeout(timeout_s):
            while True:
                for at_s, state in self.changes:
                    if at_s >= since_s and state == ready:
                        return at_s - since_s
                await asyncio.sleep(0.02)


async def serving(address: str) -> bool:
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@dataclass(frozen=True)
class Footprint:
    """What the server holds (I5)."""

    rss_mb: float
    files: int
    threads: int

    @classmethod
    def of(cls, process: psutil.Process) -> Footprint:
        return cls(process.memory_info().rss / 2**20, process.num_fds(), process.num_threads())

    def assert_not_above(self, other: Footprint) -> None:
        """Allow 5 % and a little more: an allocator rounds."""
        assert self.rss_mb <= other.rss_mb * 1.05 + 16, (self, other)
        assert self.files <= other.files * 1.05 + 4, (self, other)
        assert self.threads <= other.threads * 1.05 + 2, (self, other)


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


__all__ = [
    "BUNDLE",
    "Features",
    "Footprint",
    "Found",
    "Health",
    "connected",
    "recomputed",
    "serving",
    "size_of",
    "verify",
]
