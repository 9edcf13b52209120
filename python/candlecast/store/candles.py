"""Candles that are asked for in the table. Knows no forecast."""

from __future__ import annotations

from typing import Any

import numpy as np

from candlecast.store.pool import Pool
from candlecast.store.queries import STATEMENTS
from candlecast.values import Candles, Known

Row = tuple[Any, ...]
"""The first columns of a row are its key: symbol, interval, time."""


def rows_of(candles: Candles) -> list[Row]:
    """Return N rows as `candle_input` has them."""
    columns = (
        column.tolist() if not np.isnan(column).any() else _absent(column.tolist()) for column in candles.values.T
    )
    times, accepted = candles.open_time_ms.tolist(), [0] * len(candles)  # of no interest here
    return list(zip(candles.names, candles.interval_ms.tolist(), times, *columns, accepted, strict=True))


async def known(pool: Pool, candles: Candles) -> list[Known]:
    """Return for each of N candles whether it is stored, with the same or with other values; one round trip.

    Raises:
        StorageUnavailable, InvalidRequest.
    """
    found = await pool.fetch(STATEMENTS["known_candles"], rows_of(candles))
    meaning = {None: Known.NOT_STORED, True: Known.SAME, False: Known.OTHER_VALUES}
    return [meaning[row["same"]] for row in found]


def _absent(values: list[float]) -> list[float | None]:
    return [None if value != value else value for value in values]
