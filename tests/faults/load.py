"""A careful user under fire: streams candles, sends again what was not answered, remembers what was acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import replace
from typing import Any

import grpc
import numpy as np

from candlecast.client import AsyncClient, Candle, ServerError, messages, verdict
from candlecast.features import Features, now_ms
from candlecast.values import Candles
from tests.market_simulator import INTERVAL_MS, candles

NEED = Features(symbols_max=1, conflicts_max=1).need
BARS_MAX = 12_000
REFERENCE = "BTCUSDT"
RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)


class Load:
    """One message per close of all symbols, `rate` of them a second, while it is entered."""

    def __init__(
        self, address: str, *, symbols: int = 24, rate: float = 20.0, seed: int = 0, reference: bool = False
    ) -> None:
        """Describe it; with `reference` its first symbol is the one that others are compared with."""
        self.address = address
        self.names = [f"F{seed}S{i}" for i in range(symbols)]
        if reference:
            self.names[0] = REFERENCE
        self.bars = candles(f"FAULTS{seed}", BARS_MAX)
        self.first = now_ms() // INTERVAL_MS - BARS_MAX - 1
        self.acknowledged: dict[tuple[str, int], int] = {}  # (symbol, close time) → features hash
        self.candles: set[tuple[str, int]] = set()  # (symbol, open time) that were accepted
        self.failures: Counter[tuple[str, str]] = Counter()  # (status, reason)
        self.latencies_ms: list[float] = []
        self.duplicates = 0
        """Candles that were known already: the server had them and its answer did not come."""
        self.unforecast = 0
        """Candles that moved the state, late enough for a forecast, and were answered without one."""
        self.is_whole = True
        """All candles that were accepted can be stored; false once some were destroyed."""
        self.answered_s = 0.0
        """When the newest answer came, monotonic."""
        self._pause_s = 1 / rate
        self._unanswered: deque[tuple[float, list[Candle]]] = deque()
        self._next = NEED
        self._call = 0
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def go_on(self) -> None:
        """Make ready to be entered again."""
        self._stopping = False

    async def __aenter__(self) -> Load:
        if self._task is None:
            await self._backfill()
        self._task = asyncio.create_task(self._run())
        await self.until_answered(1)
        return self

    async def _backfill(self) -> None:
        async with AsyncClient(self.address) as client:
            history = [candle for bar in range(NEED) for candle in self.batch(bar)]
            done = await client.backfill(history)
        assert done.accepted == len(history), done
        self.candles.update((candle.symbol, candle.open_time_ms) for candle in history)

    async def __aexit__(self, *_: Any) -> None:
        self._stopping = True
        async with asyncio.timeout(90):
            assert self._task is not None
            await self._task

    def columns(self, bar: int) -> Candles:
        """Return a bar of all symbols, each at a price of its own."""
        one = self.bars.take(np.array([bar]))
        values = np.repeat(one.values, len(self.names), axis=0)
        values[:, :4] *= 1 + np.arange(len(self.names))[:, None] / 100
        count = len(self.names)
        return replace(
            one,
            symbol=list(self.names),
            interval_ms=np.full(count, INTERVAL_MS, dtype=np.int64),
            open_time_ms=np.full(count, (self.first + bar) * INTERVAL_MS, dtype=np.int64),
            values=values,
            forming=np.zeros(count, dtype=np.bool_),
        )

    def batch(self, bar: int) -> list[Candle]:
        return messages(self.columns(bar))

    async def until_answered(self, count: int, timeout_s: float = 60) -> float:
        """Return the seconds until so many more messages were answered."""
        wanted, started = len(self.latencies_ms) + count, time.monotonic()
        async with asyncio.timeout(timeout_s):
            while len(self.latencies_ms) < wanted:
                await asyncio.sleep(0.005)
        return time.monotonic() - started

    async def _run(self) -> None:
        while not (self._stopping and not self._unanswered):
            try:
                async with AsyncClient(self.address, resume_s=0) as client:
                    async for results in client.stream(self._source()):
                        sent_s, batch = self._unanswered.popleft()
                        self._take(batch, results)
                        self.answered_s = time.monotonic()
                        self.latencies_ms.append((self.answered_s - sent_s) * 1e3)
            except ServerError as error:
                assert error.code in RETRYABLE or "Internal error from Core" in str(error), (
                    error
                )  # grpc, not the server
                self.failures[error.code.name, error.server_reason] += 1
                await asyncio.sleep(0.1)

    async def _source(self) -> Any:
        self._call += 1  # grpc may go on pulling from the source of a call that has ended
        mine = self._call
        for _, batch in list(self._unanswered):
            yield batch
        while not self._stopping and mine == self._call:
            if len(self._unanswered) < 8 and self._next < BARS_MAX:
                batch = self.batch(self._next)
                self._next += 1
                self._unanswered.append((time.monotonic(), batch))
                yield batch
            await asyncio.sleep(self._pause_s)

    def _take(self, batch: list[Candle], results: Any) -> None:
        for candle, result in zip(batch, results, strict=True):
            assert (candle.symbol, candle.open_time_ms) == (result.symbol, result.open_time_ms), "an answer to another"
            assert verdict(result) in ("ACCEPTED", "DUPLICATE"), result
            self.candles.add((candle.symbol, candle.open_time_ms))
            self.duplicates += verdict(result) == "DUPLICATE"
            self.unforecast += verdict(result) == "ACCEPTED" and not result.HasField("forecast")
            if result.HasField("forecast"):
                forecast = result.forecast
                assert forecast.durability in (1, 2), "SPOOLED or STORED"
                self.acknowledged[forecast.symbol, forecast.close_time_ms] = forecast.features_hash
