"""A forecast of made-up candles through everything that a real one passes, taken back before it is committed."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np

from candlecast.errors import StorageUnavailable
from candlecast.features import now_ms
from candlecast.forecaster import Forecaster
from candlecast.store.recorder import Recorder
from candlecast.values import DEFAULT_INTERVAL_MS, Candles, Forecasts, Known, Missed, Recorded, symbols

SYMBOL = "CANARY"


class Rehearsal:
    """A recorder whose rows PostgreSQL takes and gives back."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def admit(self, rows: int) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def record(
        self,
        candles: Candles | None,
        forecasts: Forecasts | None,
        missed: Sequence[Missed] = (),
        *,
        durable: bool = True,
    ) -> Recorded:
        return await self._recorder.rehearse(candles, forecasts)

    async def known(self, candles: Candles) -> list[Known]:
        return [Known.NOT_STORED] * len(candles)

    async def settled(self) -> None: ...


async def sing(forecaster: Forecaster, need: int) -> None:
    """Warm a symbol up and forecast it once; `forecaster` is over features and a rehearsal of its own.

    Raises:
        Unavailable, DeadlineExceeded: the part that keeps the forecast from being stored.
    """
    candles = _candles(need)
    warm, newest = np.arange(need - 1), np.array([need - 1])
    await forecaster.accept(candles.take(warm), forecast=False)
    answer = await forecaster.accept(candles.take(newest))
    if answer.error is not None:
        raise answer.error
    if answer.recorded.new.tolist() != [True]:
        raise StorageUnavailable("PostgreSQL did not take the canary's forecast")


def _candles(count: int) -> Candles:
    """Return `count` candles of a sine wave, the newest closed just now."""
    bars = now_ms() // DEFAULT_INTERVAL_MS - np.arange(count, 0, -1, dtype=np.int64)
    close = 100 + np.sin(np.arange(count) / 7)
    values = np.full((count, 8), np.nan)
    values[:, 0], values[:, 3], values[:, 4] = np.roll(close, 1), close, 1 + np.cos(np.arange(count) / 5) ** 2
    values[:, 1], values[:, 2] = values[:, [0, 3]].max(axis=1) + 0.01, values[:, [0, 3]].min(axis=1) - 0.01
    return Candles(
        symbol=symbols([SYMBOL] * count),
        interval_ms=np.full(count, DEFAULT_INTERVAL_MS, dtype=np.int64),
        open_time_ms=bars * DEFAULT_INTERVAL_MS,
        values=values,
        forming=np.zeros(count, dtype=np.bool_),
    )
