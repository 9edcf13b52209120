"""Group time: the UTC close time of the bar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.features.naive.bars import Bars
from tests.features.naive.functions import Array

HOUR = 3_600_000
DAY = 24 * HOUR


def columns(b: Bars) -> dict[str, Array]:
    tc = b.open_time_ms + b.interval_ms
    day, week = tc % DAY, (tc + 3 * DAY) % (7 * DAY)

    def angle(time: NDArray[np.int64], period: int) -> Array:
        return 2 * np.pi * (time % period) / period

    def within(start: int, end: int) -> Array:
        return ((start * HOUR <= day) & (day < end * HOUR)).astype(float)

    return {
        "tod_sin": np.sin(angle(tc, DAY)),
        "tod_cos": np.cos(angle(tc, DAY)),
        "dow_sin": np.sin(angle(tc + 3 * DAY, 7 * DAY)),
        "dow_cos": np.cos(angle(tc + 3 * DAY, 7 * DAY)),
        "funding_sin": np.sin(angle(tc, 8 * HOUR)),
        "funding_cos": np.cos(angle(tc, 8 * HOUR)),
        "session_asia": within(0, 8),
        "session_europe": within(7, 16),
        "session_us": within(13, 22),
        "weekend": (week >= 5 * DAY).astype(float),
    }
