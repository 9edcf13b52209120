"""The load on a server: bursts, callers in a closed loop, single candles on a schedule. Knows the client alone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from candlecast.bench.market import Market
from candlecast.bench.pace import Schedule
from candlecast.client import AsyncClient, CandleResult, ServerError, messages
from candlecast.errors import CandlecastError
from candlecast.values import I64, Candles

MESSAGE_CANDLES_MAX = 1_000
ANSWER_TIMEOUT_S = 60.0
UNANSWERED_MAX = 4_000
"""Calls of an open loop under way, above which a moment is given up and counted."""


async def send(client: AsyncClient, batches: AsyncIterable[Candles]) -> AsyncIterator[int]:
    """Stream batches and yield the number of forecasts in each answer, in order.

    Here and in `ask` and `teach` is all that a bench knows of how candles travel.
    """
    async for results in client.stream(messages(batch) async for batch in batches):
        yield _forecasts(results)


async def ask(client: AsyncClient, candles: Candles) -> int:
    """Make one unary call and return the number of forecasts in its answer."""
    return _forecasts(await client.predict(messages(candles)))


async def teach(client: AsyncClient, market: Market, index: I64) -> int:
    """Send history to those symbols of index [K] that lack it, from where the server knows them; return the candles."""
    strangers: dict[int, list[int]] = {}
    for i in index.tolist():
        known = await client.get_symbol(market.names[i])
        if known.HasField("newest_open_time_ms"):
            market.bar[i] = market.bar_of(known.newest_open_time_ms) + 1
        if (lacking := known.status.need - known.status.have) > 0:
            strangers.setdefault(lacking, []).append(i)
    sent = 0
    for bars, some in strangers.items():
        chunks = market.history(np.array(some), bars)
        done = await client.backfill(candle for chunk in chunks for candle in messages(chunk))
        if done.refused_count:
            raise CandlecastError(f"{done.refused_count} candles of history were refused: {done.refused[0]}")
        sent += done.accepted
    return sent


def _forecasts(results: list[CandleResult]) -> int:
    return sum(result.HasField("forecast") for result in results)


class Line:
    """One stream held open: `put` batches in, `take` the number of forecasts of each answer out, in order."""

    def __init__(self, client: AsyncClient) -> None:
        self._batches: asyncio.Queue[Candles | None] = asyncio.Queue()
        self._answers = send(client, self._source())

    async def _source(self) -> AsyncGenerator[Candles, None]:
        while (batch := await self._batches.get()) is not None:
            yield batch

    def put(self, candles: Candles) -> int:
        """Send candles, in as many messages as it takes; return how many those are."""
        parts = range(0, len(candles), MESSAGE_CANDLES_MAX)
        for start in parts:
            stop = start + MESSAGE_CANDLES_MAX
            whole = len(candles) <= MESSAGE_CANDLES_MAX
            self._batches.put_nowait(candles if whole else candles.take(np.arange(start, min(stop, len(candles)))))
        return len(parts)

    async def take(self) -> int:
        """Return the number of forecasts in the next answer."""
        return await anext(self._answers)

    async def close(self) -> None:
        """End the stream once everything is answered."""
        self._batches.put_nowait(None)
        async for _ in self._answers:
            pass


@asynccontextmanager
async def line(client: AsyncClient) -> AsyncIterator[Line]:
    """Hold one stream open."""
    opened = Line(client)
    yield opened
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        await opened.close()


async def burst(stream: Line, market: Market, index: I64) -> float:
    """Send the next candle of each symbol of index [K] at once; return the seconds until the last forecast is there.

    Raises:
        CandlecastError: a candle was answered without a forecast.
    """
    candles = market.next(index)
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        started = time.perf_counter()
        got = 0
        for _ in range(stream.put(candles)):
            got += await stream.take()
        seconds = time.perf_counter() - started
    if got != len(index):
        raise CandlecastError(f"{len(index)} candles were answered with {got} forecasts")
    return seconds


async def closed(client: AsyncClient, market: Market, callers: int, seconds: float) -> float:
    """Return forecasts a second of so many callers, each with a symbol of its own and one unary call under way."""
    until = time.perf_counter() + seconds

    async def call(symbol: int) -> int:
        count = 0
        while time.perf_counter() < until:
            count += await ask(client, market.next(np.array([symbol])))
        return count

    started = time.perf_counter()
    counts = await asyncio.gather(*(call(symbol) for symbol in range(callers)))
    return sum(counts) / (time.perf_counter() - started)


@dataclass(slots=True)
class Open:
    """What an open loop saw."""

    offered_hz: float
    schedule: Schedule
    latencies_ms: list[float] = field(default_factory=list)  # from the scheduled moment, of those answered
    failures: Counter[str] = field(default_factory=Counter)  # by reason
    seconds: float = 0.0  # from the first moment to the last answer

    @property
    def answered_hz(self) -> float:
        """Forecasts a second until the last answer."""
        return len(self.latencies_ms) / self.seconds


async def single_file(stream: Line, market: Market, symbol: int, rate_hz: float, count: int) -> Open:
    """Send one symbol's candles over one stream, on a schedule."""
    seen = Open(rate_hz, Schedule(rate_hz, count))
    running = asyncio.create_task(seen.schedule.run(lambda _: _discard(stream.put(market.next(np.array([symbol]))))))
    try:
        async with asyncio.timeout(count / rate_hz + ANSWER_TIMEOUT_S):
            for i in range(count):
                if await stream.take() != 1:
                    raise CandlecastError("a candle was answered without a forecast")
                seen.latencies_ms.append(seen.schedule.since_due_s(i) * 1e3)
            await running
    finally:
        running.cancel()
    seen.seconds = seen.schedule.since_due_s(0)
    return seen


async def open_loop(client: AsyncClient, market: Market, index: I64, rate_hz: float, seconds: float) -> Open:
    """Make unary calls of one candle on a schedule, symbols of index [K] in turn; failures are counted, not raised."""
    count = max(1, int(rate_hz * seconds))
    seen = Open(rate_hz, Schedule(rate_hz, count))
    calls: set[asyncio.Task[None]] = set()

    async def call(i: int) -> None:
        try:
            if await ask(client, market.next(index[[i % len(index)]])) == 1:
                seen.latencies_ms.append(seen.schedule.since_due_s(i) * 1e3)
            else:
                seen.failures["NO_FORECAST"] += 1
        except ServerError as error:
            seen.failures[error.server_reason] += 1

    def fire(i: int) -> None:
        if len(calls) >= UNANSWERED_MAX:
            seen.failures["UNANSWERED_MAX"] += 1
            return
        task = asyncio.create_task(call(i))
        calls.add(task)
        task.add_done_callback(calls.discard)

    async with asyncio.timeout(seconds + ANSWER_TIMEOUT_S):
        await seen.schedule.run(fire)
        await asyncio.gather(*calls)
    seen.seconds = seen.schedule.since_due_s(0)
    return seen


def _discard(_: object) -> None:
    return None
