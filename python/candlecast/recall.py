"""Which forecasts need not be computed: those that are remembered, and those that the model is asked for just now.

Knows neither who asks nor how a model is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from candlecast.cache import ForecastCache, Recalled
from candlecast.features import DUPLICATE, Moved
from candlecast.routing import Routes
from candlecast.signals import Signals
from candlecast.values import I64, Bool, Candles, Forecasts
from candlecast.work import Group, Work


@dataclass(frozen=True, slots=True)
class Parted:
    """Those who ask together, by what they need."""

    alone: list[Work] = field(default_factory=list)  # no model
    asking: list[Work] = field(default_factory=list)  # a model
    waiting: list[Work] = field(default_factory=list)  # what others ask it for
    others: AbstractSet[asyncio.Future[None]] = frozenset()
    """Done once those others know."""


class Recall:
    """Remembers forecasts, and who asks the model for which of them.

    Args:
        signals: says what a series' state means for a forecast made before.
        routes: whose forecasts count.
    """

    def __init__(self, cache: ForecastCache, signals: Signals, routes: Routes) -> None:
        self._cache, self._signals, self._routes = cache, signals, routes
        self._asking: dict[asyncio.Future[None], NDArray[np.uint64]] = {}

    def keep(self, series: I64, forecasts: Forecasts) -> None:
        """Remember forecasts [B]."""
        self._cache.keep(series, forecasts)

    def asks(self, moved: Moved, until: asyncio.Future[None]) -> None:
        """Take note that the model is asked about all windows, until that is done."""
        self._asking[until] = moved.pushed.features_hash[moved.of_windows]
        until.add_done_callback(self._asking.pop)

    async def of(self, group: Group) -> Recalled | None:
        """Return what is remembered of the wanted forecasts; None: nothing is, as of every new candle.

        What others ask the model for just now is waited for, once: if they fail, it is not known.
        """
        candles, moved = group.candles, group.moved
        of_window = moved.of_windows
        if not (moved.pushed.verdict[of_window] == DUPLICATE).any():
            return None
        recalled = self._remembered(candles, moved)
        wanted = of_window if recalled is None else of_window[recalled.fresh]
        if others := {} if group.is_asked else self._asked_by_others(moved, wanted):
            await asyncio.wait(set(others))
            recalled = self._remembered(candles, moved)
        return recalled

    def parted(self, group: Group) -> Parted:
        """Part those of a group who ask; who has waited for others once does so no more."""
        moved, rows = group.moved, len(group.candles)
        missing, asked = np.zeros(rows, dtype=np.bool_), np.zeros(rows, dtype=np.bool_)
        recalled = self._remembered(group.candles, moved)
        wanted = moved.of_windows if recalled is None else moved.of_windows[recalled.fresh]
        missing[wanted] = True
        others = self._asked_by_others(moved, wanted)
        for same in others.values():
            asked[wanted[same]] = True
        parted = Parted(others=set(others))
        for work in group.works:
            at = list(work.places)
            waits = asked[at].any() and not work.has_waited
            (parted.waiting if waits else parted.asking if missing[at].any() else parted.alone).append(work)
        return parted

    def _asked_by_others(self, moved: Moved, wanted: I64) -> dict[asyncio.Future[None], Bool]:
        """Return who asks the model just now about the same as these candles [K], and about which of them, [K] each."""
        if not self._cache.is_on:
            return {}
        hashes = moved.pushed.features_hash[wanted]
        found = {until: np.isin(hashes, asked) for until, asked in self._asking.items()}
        return {until: same for until, same in found.items() if same.any()}

    def _remembered(self, candles: Candles, moved: Moved) -> Recalled | None:
        if not self._cache.is_on:
            return None
        of_window = moved.of_windows
        source, state = candles.take(of_window), moved.pushed.state[of_window]
        series = self._signals.series.of(source.symbol, source.interval_ms)
        close_time_ms = source.open_time_ms + source.interval_ms
        serving = self._routes.answers(source.symbol, close_time_ms)
        recalled = self._cache.recall(series, close_time_ms, moved.pushed.features_hash[of_window], *serving)
        if (known := recalled.forecasts) is None:
            return None
        # The symbol may have become STALE or QUARANTINED since: that is said, and no signal leaves.
        state = state[recalled.known]
        reasons = self._signals.again(known.reasons, state)
        direction = np.where(reasons == 0, known.direction, 0).astype(np.int8)
        return replace(recalled, forecasts=replace(known, state=state, reasons=reasons, direction=direction))
