"""Forecasts that were not made when their candle closed: made later while they are worth something, else put on record.

While the model is away candles go on moving the state. Of each symbol only the newest candle is worth a forecast, so
that is what is remembered, not its window. Knows neither gRPC nor SQL nor Triton.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Protocol, Self

from candlecast.errors import Overloaded
from candlecast.features import Features, now_ms
from candlecast.values import Missed, Model

log = logging.getLogger(__name__)

CHECK_MS: Final = 500
SYMBOLS_MAX: Final = 64
"""Forecast at a time: what is under way holds windows."""
RECORDED_MAX: Final = 1_000
"""Put on record at a time: the recorder has limits."""
SUPERSEDED: Final = "SUPERSEDED"
TOO_OLD: Final = "TOO_OLD"


@dataclass(slots=True)
class Misses:
    """The newest candle of each symbol that has no forecast, and those that will never get one."""

    model: Model
    open: dict[tuple[str, int], tuple[int, str]] = field(
        default_factory=dict
    )  # (symbol, interval) → (close time, reason)
    lapsed: list[Missed] = field(default_factory=list)
    given_up: Counter[str] = field(default_factory=Counter)  # by why, since the start

    def add(self, symbol: str, interval_ms: int, close_time_ms: int, reason: str) -> None:
        """Take note of a candle without a forecast; an older one of the symbol is given up."""
        older = self.open.get((symbol, interval_ms))
        if older is not None and older[0] >= close_time_ms:
            return
        if older is not None:
            self.give_up(symbol, interval_ms, SUPERSEDED)
        self.open[symbol, interval_ms] = close_time_ms, reason

    def give_up(self, symbol: str, interval_ms: int, why: str) -> None:
        """Nobody needs this forecast any more; it is going to be recorded as missed."""
        close_time_ms, reason = self.open.pop((symbol, interval_ms))
        model = self.model
        self.given_up[why] += 1
        self.lapsed.append(Missed(symbol, interval_ms, close_time_ms, model.name, model.version, f"{reason} {why}"))


class Forecasts(Protocol):
    """What makes forecasts of symbols' newest candles, and records them."""

    def newest(self, symbols: list[str], interval_ms: int) -> Awaitable[Any]:
        """As Forecaster.newest; the answer has `forecasts`, and an `error` when the model did not answer."""


class CatchUp:
    """Works misses off while it is entered.

    Args:
        record: puts missed forecasts on record.
        fresh_intervals: a forecast is worth something until so many intervals after its candle closed.
    """

    def __init__(
        self,
        misses: Misses,
        features: Features,
        forecasts: Forecasts,
        record: Callable[[Sequence[Missed]], Awaitable[None]],
        *,
        fresh_intervals: float,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._misses = misses
        self._features = features
        self._forecasts = forecasts
        self._record = record
        self._fresh_intervals = fresh_intervals
        self._clock_ms = clock_ms
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(CHECK_MS / 1000)
            try:
                await self.check()
            except Exception as error:
                log.warning("not caught up open=%d error=%r", len(self._misses.open), error)

    async def check(self) -> None:
        """Give up what is too old, forecast what is not, put on record what was given up.

        Raises:
            Unavailable, Overloaded: not now; what is left is tried the next time.
        """
        misses = self._misses
        for (symbol, interval_ms), (close_time_ms, _) in list(misses.open.items()):
            newest = self._features.status(symbol, interval_ms).newest_open_time_ms
            if newest is None or newest + interval_ms != close_time_ms:
                misses.give_up(symbol, interval_ms, SUPERSEDED)
            elif self._clock_ms() > close_time_ms + self._fresh_intervals * interval_ms:
                misses.give_up(symbol, interval_ms, TOO_OLD)
        while misses.lapsed:
            lapsed = misses.lapsed[:RECORDED_MAX]
            await self._record(lapsed)
            del misses.lapsed[: len(lapsed)]  # others may have come behind them
            log.warning("forecasts missed rows=%d first=%s %s", len(lapsed), lapsed[0].symbol, lapsed[0].reason)
        by_interval: dict[int, list[str]] = {}
        for symbol, interval_ms in misses.open:
            by_interval.setdefault(interval_ms, []).append(symbol)
        for interval_ms, symbols in by_interval.items():
            for start in range(0, len(symbols), SYMBOLS_MAX):
                await self._forecast(symbols[start : start + SYMBOLS_MAX], interval_ms)

    async def _forecast(self, symbols: list[str], interval_ms: int) -> None:
        before = {symbol: self._misses.open[symbol, interval_ms] for symbol in symbols}
        answer = await self._forecasts.newest(symbols, interval_ms)
        if answer.error is not None:
            raise Overloaded(f"the model is still away: {answer.error}")
        made = answer.forecasts
        times = {} if made is None else dict(zip(made.names, made.close_time_ms.tolist(), strict=True))
        for symbol, miss in before.items():
            # Neither a newer one, missed meanwhile, nor one whose symbol went on: that is superseded.
            if self._misses.open.get((symbol, interval_ms)) == miss and times.get(symbol) == miss[0]:
                del self._misses.open[symbol, interval_ms]
        log.info("caught up forecasts=%d", len(times))
