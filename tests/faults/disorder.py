"""The row of disorder: shuffled histories through the real server, beside what the contract says of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import numpy as np

from candlecast.client import AsyncClient, messages, verdict
from candlecast.features import now_ms
from candlecast.server import convert
from candlecast.server.app import features_for
from candlecast.v1.types_pb2 import Candle
from tests.faults import oracle
from tests.faults.invariants import BUNDLE, connected
from tests.faults.load import INTERVAL_MS, NEED
from tests.faults.scene import Scene, Seen, drained, row

CALL_S = 20.0
AGO = 40_000
"""Bars before those of the load, where no reference is."""


@row(16, "duplicates, late, conflicts, malformed, out of order, gaps of 1, 4, 5 and 1000", 20, stays_ready=True)
async def disorder(scene: Scene) -> Seen:
    """Shuffled histories of three symbols: each verdict is the oracle's, each hash that of the accepted alone."""
    verdicts: Counter[str] = Counter()
    hashes = 0
    async with AsyncClient(scene.stack.grpc, timeout_s=CALL_S) as client:
        for _ in range(scene.times):
            names = [f"MIX{scene.dice.randrange(10**9)}.{i}" for i in range(3)]
            hashes += await _shuffle(scene, client, names, verdicts)
    return Seen(injections=scene.times, notes={"verdicts": dict(verdicts.most_common()), "hashes_compared": hashes})


async def _shuffle(scene: Scene, client: AsyncClient, names: list[str], verdicts: Counter[str]) -> int:
    """Play one shuffled history; return how many hashes were compared."""
    dice, makers = scene.dice, {name: maker(scene, name) for name in names}
    books = {name: oracle.Book() for name in names}
    told: dict[tuple[str, int], int] = {}  # (symbol, close time) → features hash
    past = {name: [make(bar) for bar in range(NEED)] for name, make in makers.items()}
    for name, history in past.items():
        done = await client.backfill(history)
        assert done.accepted == len(history), done
        assert all(books[name].take(candle, now_ms()) == "ACCEPTED" for candle in history)
    queues = {name: oracle.shuffled(make, dice, start=NEED, steps=25) for name, make in makers.items()}
    while queues:
        batch = []
        for _ in range(dice.randrange(1, 6)):
            if queues:
                name = dice.choice(list(queues))
                batch.append(queues[name].pop(0))
                if not queues[name]:
                    del queues[name]
        await _compare(client, books, batch, told, verdicts)
    for name, make in makers.items():  # until it is READY again, whatever happened
        first = (books[name].accepted[-1].open_time_ms - make(0).open_time_ms) // INTERVAL_MS + 1
        rest = [make(bar) for bar in range(first, first + NEED)]
        assert all(books[name].take(candle, now_ms()) == "ACCEPTED" for candle in rest[:-1])
        done = await client.backfill(rest[:-1])
        assert done.accepted == NEED - 1, done
        await _compare(client, books, rest[-1:], told, verdicts)
        assert (name, rest[-1].open_time_ms + INTERVAL_MS) in told, "no forecast of a symbol that is READY"
    for name, book in books.items():
        expected = _hashes(book.accepted)
        wrong = [close for (of, close), found in told.items() if of == name and expected[close] != found]
        assert not wrong, f"{name}: other features than of the accepted candles in order: {wrong[:3]} of {len(wrong)}"
    await _stored(scene, books)
    return len(told)


async def _compare(
    client: AsyncClient,
    books: dict[str, oracle.Book],
    batch: list[Candle],
    told: dict[tuple[str, int], int],
    verdicts: Counter[str],
) -> None:
    """Send a message and compare its answers with the oracle's."""
    for candle, result in zip(batch, await client.predict(batch), strict=True):
        book = books[candle.symbol]
        expected = book.take(candle, now_ms())
        verdicts[expected] += 1
        assert verdict(result) == expected, f"{verdict(result)}, and by the contract {expected}: {candle} {result}"
        if expected == "ACCEPTED":
            assert result.status.have == book.have, f"have {result.status.have}, and by the contract {book.have}"
            assert result.HasField("forecast") == (book.have >= result.status.need), result
            if result.HasField("forecast"):
                told[candle.symbol, result.forecast.close_time_ms] = result.forecast.features_hash
                assert result.forecast.gap_filled == book.is_gap_filled, result


def _hashes(accepted: list[Candle]) -> dict[int, int]:
    """Return the features hash by close time that a fresh core gives, told nothing but these candles in order."""
    fresh, hashes = features_for(BUNDLE, symbols_max=1, conflicts_max=1), dict[int, int]()
    for at in range(0, len(accepted), 100):
        some = accepted[at : at + 100]
        pushed = fresh.push(convert.candles(some)).pushed
        assert not pushed.verdict.any(), "the fresh core refuses what was accepted"
        for candle, one in zip(some, pushed.features_hash.tolist(), strict=True):
            hashes[candle.open_time_ms + INTERVAL_MS] = one
    return hashes


async def _stored(scene: Scene, books: dict[str, oracle.Book]) -> None:
    """Compare what is stored with what was accepted, once it is there."""
    await drained(scene, 30)  # the forecasts of the load; these candles may come later
    accepted = {(name, c.open_time_ms, c.volume) for name, book in books.items() for c in book.accepted}
    deadline, found = time.monotonic() + 30, list[tuple[Any, ...]]()
    connection = await connected(scene.stack)
    try:
        while len(found) < len(accepted) and time.monotonic() < deadline:
            rows = await connection.fetch(
                "SELECT symbol, (date_part('epoch', open_time) * 1000)::bigint AS ms, volume FROM candles"
                " WHERE symbol = ANY($1)",
                list(books),
            )
            found = [tuple(one) for one in rows]
            await asyncio.sleep(0.05)
    finally:
        await connection.close()
    assert len(found) == len(accepted) and set(found) == accepted, "stored is not what was accepted"


def maker(scene: Scene, name: str) -> oracle.Make:
    """Return what makes a symbol's candle of a bar, at a time when there is no reference."""
    bars, start = scene.load.bars, scene.load.first - AGO

    def make(bar: int) -> Candle:
        (message,) = messages(bars.take(np.array([bar % len(bars)])))
        message.symbol, message.open_time_ms = name, (start + bar) * INTERVAL_MS
        return message

    return make
