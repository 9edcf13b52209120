"""The state of all symbols as before the restart: from snapshots and stored candles. Knows neither model nor caller.

A symbol with a snapshot goes on bit by bit as if nothing had happened: the candles stored since move it again, in the
order in which they did. One without is rebuilt from its newest stored candles; features that never quite forget then
differ in the last digits from what they were.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import numpy as np

from candlecast.features import ACCEPTED, Features, now_ms
from candlecast.snapshots import Key, Snapshots
from candlecast.store.history import Accepted, accepted_after, before_the_newest, recent_symbols, unforecast
from candlecast.store.pool import Pool
from candlecast.values import I64, Model

Close = tuple[str, int, int]
"""Symbol, interval and time in ms of a candle's close."""
RESTARTED: Final = "RESTARTED"
REBUILT_AT_ONCE: Final = 256
"""Symbols whose candles are sorted together."""
REFERENCE_AHEAD_BARS: Final = 5
"""So much earlier the reference begins than those that are compared with it: to fill a gap it has to know its start."""
HOUR_MS: Final = 3_600_000
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Warmed:
    """What a start found."""

    restored: int  # symbols, from snapshots
    rebuilt: int  # symbols, from candles alone
    replayed: int  # candles that moved the state again, rebuilding included
    refused: int  # candles that did not, though they once had
    damaged: int  # snapshots, or files of them, that were not what had been written
    ms: int


async def warm_up(
    features: Features,
    snapshots: Snapshots,
    pool: Pool,
    empty: Callable[[], Features],
    *,
    rebuild_candles_max: int,
    rebuild_age_max_h: float,
    symbols_max: int,
) -> Warmed:
    """Bring an empty state to where it was, given that all candles it had taken are in PostgreSQL.

    Args:
        empty: makes a state like `features`.
        rebuild_candles_max: newest candles of a symbol that has no snapshot.
        rebuild_age_max_h: hours since the newest candle of such a symbol; without a newer one it stays unknown.

    Raises:
        StorageUnavailable.
    """
    started = time.monotonic()
    restored = await asyncio.to_thread(snapshots.restore)
    since_ms = int(now_ms() - rebuild_age_max_h * HOUR_MS)
    lost = [key for key in await recent_symbols(pool, since_ms, symbols_max) if key not in restored.keys]
    begin = dict(zip(lost, await before_the_newest(pool, lost, rebuild_candles_max), strict=True))
    # A reference that is lost is rebuilt among those that are restored: they need its closes as they came.
    reference = {key: after for key, after in begin.items() if key[0] == features.reference_symbol}
    newest = {key: _newest(features, key) for key in restored.keys}
    replayed, refused = await _replay(features, pool, newest | reference)
    others = [key for key in lost if key not in reference]
    for i in range(0, len(others), REBUILT_AT_ONCE):
        some = {key: begin[key] for key in others[i : i + REBUILT_AT_ONCE]}
        taken, not_taken = await _rebuild(features, pool, empty(), some)
        replayed, refused = replayed + taken, refused + not_taken
    ms = int((time.monotonic() - started) * 1000)
    warmed = Warmed(len(restored.keys), len(lost), replayed, refused, restored.damaged, ms)
    log.info(
        "warm restored=%d rebuilt=%d candles=%d refused=%d damaged=%d ms=%d",
        warmed.restored, warmed.rebuilt, warmed.replayed, warmed.refused, warmed.damaged, warmed.ms,
    )  # fmt: skip
    return warmed


def newest_closes(features: Features) -> list[Close]:
    """Return the newest close of each READY symbol."""
    closes: list[Close] = []
    for symbol, interval_ms in features.symbols():
        status = features.status(symbol, interval_ms)
        if status.have >= features.need and status.newest_open_time_ms is not None:
            closes.append((symbol, interval_ms, status.newest_open_time_ms + interval_ms))
    return closes


async def forecasts_of(features: Features, pool: Pool, model: Model) -> tuple[list[Close], list[Close]]:
    """Return the newest closes of READY symbols: those that the model has forecast, and those it owes a forecast.

    What another version has answered is not owed by this one. A symbol whose newest candle is older than its interval
    is owed none: it may have come by a backfill.

    Raises:
        StorageUnavailable.
    """
    closes = newest_closes(features)
    missing = set(await unforecast(pool, closes, model.name, model.version))
    made = [close for close in closes if close[:2] not in missing]
    now = now_ms()
    fresh = [close for close in closes if close[:2] in missing and now < close[2] + close[1]]
    unanswered = set(await unforecast(pool, fresh, model.name, None)) if fresh else set()
    owed = [close for close in fresh if close[:2] in unanswered]
    return made, owed


async def _rebuild(features: Features, pool: Pool, apart: Features, begin: dict[Key, int]) -> tuple[int, int]:
    """Rebuild symbols in an empty state apart, and bring them over: there they meet the reference as they first met it.

    In `features` it is ahead of them, and knows the closes that had come late.
    """
    reference: dict[Key, int] = {}
    if features.reference_symbol is not None:
        for (_, interval_ms), after in begin.items():
            key = features.reference_symbol, interval_ms
            ahead = max(-1, after - REFERENCE_AHEAD_BARS * interval_ms)
            reference[key] = min(ahead, reference.get(key, ahead))
    counts = await _replay(apart, pool, reference | begin)
    for i, key in enumerate(begin):
        snapshot = apart.snapshot(*key)
        if snapshot is not None:
            try:
                features.restore(snapshot)
            except ValueError as error:
                log.warning("not rebuilt symbol=%s and up to %d more error=%s", key[0], len(begin) - i - 1, error)
                break
    return counts


async def _replay(features: Features, pool: Pool, after: dict[Key, int]) -> tuple[int, int]:
    """Move the state by the stored candles after each symbol's open time; return how many it took and how many not."""
    taken, given = 0, 0
    async with aclosing(accepted_after(pool, after, features.reference_symbol)) as history:
        async for accepted in history:
            for part in _pushes(accepted, features.reference_symbol):
                verdict = features.push(accepted.candles.take(part), windows=False).pushed.verdict
                taken += int(np.count_nonzero(verdict == ACCEPTED))
                given += len(part)
            await asyncio.sleep(0)
    return taken, given - taken


def _pushes(accepted: Accepted, reference_symbol: str | None) -> Iterator[I64]:
    """Cut candles into as few pushes as give the same bits as one push for each batch that moved the state.

    Within a push the core takes a candle of the reference before the others of its bar. That is right within a batch,
    and wrong for those of a batch before: so a push ends where the reference follows others of an earlier batch.
    """
    is_reference = np.array([symbol == reference_symbol for symbol in accepted.candles.names], dtype=np.bool_)
    others, start = np.flatnonzero(~is_reference), 0
    for i in np.flatnonzero(is_reference).tolist():
        at = np.searchsorted(others, start)
        if at < len(others) and others[at] < i and accepted.moved_ns[others[at]] != accepted.moved_ns[i]:
            yield np.arange(start, i)
            start = i
    yield np.arange(start, len(is_reference))


def _newest(features: Features, key: Key) -> int:
    newest = features.status(*key).newest_open_time_ms
    assert newest is not None, "it was restored"
    return newest
