"""What one record of the journal holds: candles, forecasts of one model, missed ones, order flow.

Knows neither disk nor table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import msgpack
import numpy as np

from candlecast.store import records
from candlecast.store.records import CANDLE, FLOW, LAYOUT, Origin, Records

Row = tuple[Any, ...]
"""A missed forecast, as `ml_missed_input` has it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows, as bytes of records; `origin` is that of the forecasts and None without any.

    Raises:
        ValueError: the bytes are no whole number of records, or forecasts have no origin.
    """

    candles: bytes = b""
    predictions: bytes = b""
    missed: tuple[Row, ...] = ()
    origin: Origin | None = None
    flows: bytes = b""

    def __post_init__(self) -> None:
        if self.predictions and self.origin is None:
            raise ValueError("forecasts without an origin")
        widths = (self.candles, CANDLE.itemsize), (self.predictions, self._width), (self.flows, FLOW.itemsize)
        if any(len(data) % width for data, width in widths):
            raise ValueError("no whole number of records")

    @property
    def _width(self) -> int:
        return records.prediction(self.origin.feature_count if self.origin else 0).itemsize

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Return how many candles, forecasts, missed ones and states of order flow there are."""
        candles, predictions = len(self.candles) // CANDLE.itemsize, len(self.predictions) // self._width
        return candles, predictions, len(self.missed), len(self.flows) // FLOW.itemsize

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def candle_records(self) -> Records:
        return np.frombuffer(self.candles, CANDLE)

    @property
    def prediction_records(self) -> Records:
        return np.frombuffer(self.predictions, records.prediction(self.origin.feature_count if self.origin else 0))

    @property
    def flow_records(self) -> Records:
        return np.frombuffer(self.flows, FLOW)

    @property
    def series(self) -> set[tuple[str, int]]:
        """Return symbol and interval in ms of its candles."""
        given = self.candle_records
        pairs = set(zip(given["symbol"].tolist(), given["interval_ms"].tolist(), strict=True))
        return {(symbol.decode("latin-1").rstrip(" "), interval_ms) for symbol, interval_ms in pairs}

    def part(self, candles: slice, predictions: slice, missed: slice, flows: slice) -> Batch:
        """Return some of the rows, by number."""
        forecasts = _cut(self.predictions, self._width, predictions)
        return Batch(
            _cut(self.candles, CANDLE.itemsize, candles),
            forecasts,
            self.missed[missed],
            self.origin if forecasts else None,
            _cut(self.flows, FLOW.itemsize, flows),
        )

    def halves(self) -> list[Batch]:
        """Return the rows in parts: by kind, if there are several, else two halves."""
        none, whole = slice(0), slice(None)
        if sum(map(bool, self.counts)) > 1:
            kinds = ([whole if i == kind else none for i in range(4)] for kind in range(4))
            return [part for kind in kinds if (part := self.part(*kind))]
        middles = [(count + 1) // 2 for count in self.counts]
        return [self.part(*(slice(i) for i in middles)), self.part(*(slice(i, None) for i in middles))]

    def people(self) -> list[dict[str, Any]]:
        """Return the rows for people to read."""
        names = ("symbol", "interval_ms", "close_time_ms", "model", "version", "reason")
        return [
            *records.people(self.candle_records),
            *records.people(self.prediction_records, self.origin),
            *(dict(zip(names, row, strict=True)) for row in self.missed),
            *records.people(self.flow_records),
        ]

    def packed(self) -> bytes:
        """Return the batch as a record of the journal."""
        whole = (LAYOUT, self.candles, self.predictions, self.missed, self.origin, self.flows)
        data: bytes = msgpack.packb(whole, unicode_errors="surrogatepass")
        return data

    @classmethod
    def unpacked(cls, record: bytes) -> Self:
        """Return the batch of a record of the journal.

        Raises:
            ValueError, TypeError: it was written by another version.
        """
        found, candles, predictions, missed, origin, flows = msgpack.unpackb(
            record, use_list=False, unicode_errors="surrogatepass"
        )
        if found != LAYOUT:
            raise ValueError(f"its layout is {found}, ours {LAYOUT}")
        return cls(candles, predictions, missed, Origin(*origin) if origin else None, flows)

    @classmethod
    def joined(cls, batches: Iterable[Batch]) -> list[Batch]:
        """Return the rows of all batches, those without forecasts with the first: a batch for each origin."""
        given = [batch for batch in batches if batch]
        by_origin: dict[Origin | None, list[bytes]] = {}
        for batch in given:
            if batch.origin is not None:
                by_origin.setdefault(batch.origin, []).append(batch.predictions)
        candles, missed = b"".join([batch.candles for batch in given]), tuple(row for b in given for row in b.missed)
        flows = b"".join([batch.flows for batch in given])
        (first, parts), *others = by_origin.items() or [(None, [])]
        return [
            cls(candles, b"".join(parts), missed, first, flows),
            *(cls(predictions=b"".join(parts), origin=origin) for origin, parts in others),
        ]


def _cut(data: bytes, width: int, rows: slice) -> bytes:
    start, stop, _ = rows.indices(len(data) // width)
    return data[start * width : stop * width]
