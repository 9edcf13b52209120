"""Records of the journal that nobody has taken yet, before and after damage: what was destroyed may be lost."""

from __future__ import annotations

import random
from pathlib import Path

from candlecast._rust import crc32c
from candlecast.journal import HEADER, MAGIC
from candlecast.store.batch import Batch
from candlecast.store.records import Records

Keys = tuple[set[tuple[str, int]], set[tuple[str, int]]]
"""Of candles (symbol, open time) and of forecasts (symbol, close time)."""


def keys_in(journal: Path) -> Keys:
    """Return what whole records hold, found without the product's reader."""
    candles: set[tuple[str, int]] = set()
    forecasts: set[tuple[str, int]] = set()
    for path in journal.glob("*.journal"):
        data, at = path.read_bytes(), 0
        while (at := data.find(MAGIC, at)) >= 0:
            begin = at + HEADER.size
            if begin <= len(data):
                _, length, checksum = HEADER.unpack_from(data, at)
                payload = data[begin : begin + length]
                if len(payload) == length and crc32c(payload) == checksum:
                    batch = Batch.unpacked(payload)
                    candles |= _keys(batch.candle_records, "open_time_ms")
                    forecasts |= _keys(batch.prediction_records, "close_time_ms")
                    at = begin + length
                    continue
            at += 1
    return candles, forecasts


def _keys(records: Records, time: str) -> set[tuple[str, int]]:
    symbols = (symbol.decode().rstrip() for symbol in records["symbol"].tolist())
    return set(zip(symbols, records[time].tolist(), strict=True))


def hurt(path: Path, dice: random.Random) -> None:
    """Cut a file off somewhere, or flip some of its bytes."""
    if not (size := path.stat().st_size):
        return
    with path.open("r+b") as file:
        if dice.random() < 0.5:
            file.truncate(dice.randrange(size))
        else:
            file.seek(dice.randrange(size))
            file.write(dice.randbytes(16))
