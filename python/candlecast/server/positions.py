"""Open positions, rate and Sharpe ratios as before the restart: from stored signals, candles and trades.

A position is what a signal and the candles since it make of it, so those are gone through once more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import numpy as np

from candlecast.features import Features
from candlecast.filters import bits_of
from candlecast.server.warm import Close
from candlecast.signals import Signals
from candlecast.store.history import accepted_after
from candlecast.store.pool import Pool
from candlecast.store.signals import closed_trades, reasons_of, recent_signals
from candlecast.values import Candles, symbols

WINDOWS_AT_ONCE: Final = 256
"""92 KB each."""
log = logging.getLogger(__name__)


async def restore_portfolio(
    signals: Signals, features: Features, pool: Pool, *, bars_max: int, closes: Sequence[Close]
) -> None:
    """Bring an empty portfolio to where it was; the features have been warmed up.

    Args:
        closes: the newest: those that were answered are not judged again.

    Raises:
        StorageUnavailable.
    """
    assert signals.portfolio is not None, "there is something to restore"
    started, portfolio = time.monotonic(), signals.portfolio.core
    given = await recent_signals(pool, bars_max)
    after: dict[tuple[str, int], int] = {}
    for row in given:  # in the order of their closes: the first of a series stays
        after.setdefault((row["symbol"], row["interval_ms"]), row["close_time_ms"] - row["interval_ms"])
    parts = list[Candles]()
    async with aclosing(accepted_after(pool, after, None)) as history:
        async for accepted in history:
            parts.append(accepted.candles)
    candles = Candles.joined(parts) if parts else None
    closed_ms = np.zeros(0, dtype=np.int64) if candles is None else candles.open_time_ms + candles.interval_ms
    for close in np.unique(np.append(closed_ms, [row["close_time_ms"] for row in given])).astype(np.int64).tolist():
        if candles is not None:
            signals.follow(candles.take(np.flatnonzero(closed_ms == close)))
        for row in (row for row in given if row["close_time_ms"] == close):
            series = _series(signals, row["symbol"], row["interval_ms"])
            portfolio.reopen(
                series, row["side"], row["quality"], close, row["interval_ms"], row["close"], row["stop_loss"],
                row["take_profit"],
            )  # fmt: skip
    portfolio.forget_trades()
    trades = 0
    for row in await closed_trades(pool):
        series = _series(signals, row["symbol"], row["interval_ms"])
        portfolio.count(series, *(row[name] for name in ("trades", "total", "squares", "first_ms", "last_ms")))
        trades += row["trades"]
    judged = await reasons_of(pool, closes)
    if judged:
        column = symbols([row["symbol"] for row in judged])
        intervals, close_ms = (np.array([row[name] for row in judged]) for name in ("interval_ms", "close_time_ms"))
        bits = np.array([bits_of(row["reasons"]) for row in judged], dtype=np.uint32)
        portfolio.remember(signals.series.of(column, intervals), close_ms, bits)
    held = set(portfolio.open.series.tolist())
    _take_returns(signals, features, [key for key in after if _series(signals, *key) in held])
    ms = int((time.monotonic() - started) * 1000)
    log.info("positions open=%d signals=%d trades=%d ms=%d", len(held), len(given), trades, ms)


def _series(signals: Signals, symbol: str, interval_ms: int) -> int:
    return int(signals.series.of(symbols([symbol]), np.array([interval_ms]))[0])


def _take_returns(signals: Signals, features: Features, keys: list[tuple[str, int]]) -> None:
    """Have the returns of series, so that others are compared with them before their next candle."""
    for interval_ms in {interval_ms for _, interval_ms in keys}:
        whole = symbols([symbol for symbol, interval in keys if interval == interval_ms])
        for start in range(0, len(whole), WINDOWS_AT_ONCE):
            column = whole[start : start + WINDOWS_AT_ONCE]
            moved = features.newest(column, interval_ms)
            at = moved.of_windows
            opened = moved.pushed.open_time_ms[at]
            signals.take_returns(column[at], np.full(len(at), interval_ms), opened, moved.windows)
