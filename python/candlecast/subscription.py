"""A subscription that outlives its calls: where each new call begins, and what was delivered. Knows no transport."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1.types_pb2 import Forecast

DELIVERED_MAX: Final = 65_536
"""Forecasts that are known again."""
OVERLAP_INTERVALS: Final = 2
"""Before the newest close that a new call begins: a symbol's forecast may come later than others of its close."""

Key = tuple[str, int, int, str, int]


class Subscription:
    """Makes the requests of a subscription's calls and drops what an earlier call delivered.

    Args:
        symbols, directions: LONG, SHORT, NEUTRAL; of these only, none: of all.
        from_close_time_ms: the first call begins with what is stored since this close.
        every: a call that falls behind is ended and goes on out of storage, so that nothing is left out; else it
            is sent the newest forecast of each series, and `skipped` counts.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        min_confidence: float,
        directions: Sequence[str],
        from_close_time_ms: int | None,
        every: bool,
    ) -> None:
        self._request = pb.SubscribeRequest(
            symbols=symbols,
            min_confidence=min_confidence,
            directions=[f"DIRECTION_{name}" for name in directions],
            from_close_time_ms=from_close_time_ms,
            when_behind=pb.WHEN_BEHIND_END if every else pb.WHEN_BEHIND_LATEST,
        )
        self._delivered: dict[Key, None] = {}
        self._newest_ms: int | None = None
        self._interval_ms = 0
        self._began_ms: int | None = None
        self.skipped = 0

    def request(self) -> pb.SubscribeRequest:
        """Return the request of the next call."""
        request = pb.SubscribeRequest()
        request.CopyFrom(self._request)
        if self._newest_ms is not None:
            since = self._newest_ms - OVERLAP_INTERVALS * self._interval_ms
            request.from_close_time_ms = max(since, self._request.from_close_time_ms)
        elif self._began_ms is not None and not request.HasField("from_close_time_ms"):
            request.from_close_time_ms = self._began_ms  # the call before delivered nothing
        self._began_ms = self._began_ms or time.time_ns() // 1_000_000
        return request

    def fresh(self, response: pb.SubscribeResponse) -> Iterator[Forecast]:
        """Yield the forecasts of a response that were not delivered before."""
        self.skipped += response.skipped
        for forecast in response.forecasts:
            model = forecast.model
            key = forecast.symbol, forecast.interval_ms, forecast.close_time_ms, model.name, model.version
            if key in self._delivered:
                continue
            self._delivered[key] = None
            if len(self._delivered) > DELIVERED_MAX:
                del self._delivered[next(iter(self._delivered))]
            self._newest_ms = max(self._newest_ms or 0, forecast.close_time_ms)
            self._interval_ms = max(self._interval_ms, forecast.interval_ms)
            yield forecast
