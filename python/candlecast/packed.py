"""Candles and results as fixed-width little-endian records: N of them are one NumPy array. Knows no wire and no server.

The layout of a candle is documented in proto/candlecast/v1/types.proto (PackedCandles), that of a result beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.values import SYMBOL_BYTES, Candles

SYMBOL: Final = f"S{SYMBOL_BYTES}"
Records = NDArray[np.void]
"""[N] of CANDLE or RESULT."""

CANDLE: Final = np.dtype(
    [
        ("symbol", SYMBOL),
        ("interval_ms", "<i8"),
        ("open_time_ms", "<i8"),
        ("values", "<f8", (8,)),
        ("forming", "u1"),
        ("reserved", "V7"),
    ]
)
RESULT: Final = np.dtype(
    [
        ("symbol", SYMBOL),
        ("interval_ms", "<i8"),
        ("open_time_ms", "<i8"),
        ("verdict", "u1"),
        ("state", "u1"),
        ("refusal_field", "u1"),
        ("refusal_reason", "u1"),
        ("have", "<u4"),
        ("need", "<u4"),
        ("has_forecast", "u1"),
        ("direction", "u1"),
        ("strength", "u1"),
        ("durability", "u1"),
        ("forecast_state", "u1"),
        ("gap_filled", "u1"),
        ("degraded", "u1"),
        ("forming", "u1"),
        ("already_stored", "u1"),
        ("gate", "u1"),
        ("model", "u1"),
        ("reserved", "V1"),
        ("reasons", "<u4"),
        ("model_agreement", "<f4"),
        ("close_time_ms", "<i8"),
        ("features_hash", "<u8"),
        ("confidence", "<f8"),
        ("quality", "<f8"),
        ("agreement", "<f8"),
        ("move", "<f8"),
        ("edge", "<f8"),
        ("stop_loss", "<f8"),
        ("take_profit", "<f8"),
        ("gate_probability", "<f8"),
        ("returns", "<f8", (4,)),
        ("probabilities", "<f8", (4, 3)),
        ("risks", "<f8", (4,)),
        ("rule_score", "<f8"),
        ("hybrid_score", "<f8"),
        ("size_multiplier", "<f8"),
    ]
)
RESULT_LAYOUT: Final = 2
"""Of RESULT. Who reads another is refused, because the bytes would look right to him."""
REFUSAL_FIELDS: Final = (
    "",
    "symbol",
    "interval_ms",
    "open_time_ms",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_buy_volume",
)
REFUSAL_REASONS: Final = (
    "",
    "BAD_SYMBOL",
    "BAD_INTERVAL",
    "UNALIGNED",
    "IN_FUTURE",
    "NOT_FINITE",
    "NOT_POSITIVE",
    "NEGATIVE",
    "OUT_OF_RANGE",
    "OUTSIDE_HIGH_LOW",
    "HIGH_BELOW_LOW",
    "SYMBOL_LIMIT",
)
REASONS: Final = (
    "OUTPUT_NOT_FINITE",
    "NO_EDGE",
    "NOT_READY",
    "STALE",
    "QUARANTINED",
    "GAP_FILLED",
    "LOW_CONFIDENCE",
    "LOW_AGREEMENT",
    "LOW_EXPECTED_RETURN",
    "GATE_REFUSED",
    "GATE_ABSENT",
    "RATE_LIMITED",
    "CORRELATED_POSITION",
    "LOW_SHARPE",
    "POSITION_LIMIT",
)
"""Bit i of `reasons` stands for REASONS[i]."""
GATE_VERDICTS: Final = ("ABSENT", "UNDECIDED", "REFUSE", "APPROVE")
"""By code."""
NUMBERS: Final = ("confidence", "quality", "agreement", "move", "edge", "stop_loss", "take_profit")
"""Numbers of a forecast that are called alike in a message."""
SCORES: Final = ("rule_score", "hybrid_score", "size_multiplier")
"""The same, of how it may be acted on."""


def pack_candles(candles: Candles) -> bytes:
    """Return N candles as records."""
    records = np.zeros(len(candles), CANDLE)
    records["symbol"], records["interval_ms"] = candles.symbol, candles.interval_ms
    records["open_time_ms"], records["values"] = candles.open_time_ms, candles.values
    records["forming"] = candles.forming
    return records.tobytes()


def unpack_candles(data: bytes, interval_ms: int) -> Candles:
    """Return the candles of records; an interval of 0 becomes interval_ms.

    Raises:
        ValueError: the bytes are no whole number of records.
    """
    records = unpack(data, CANDLE)
    intervals = records["interval_ms"].astype(np.int64)
    intervals[intervals == 0] = interval_ms
    return Candles(
        symbol=np.ascontiguousarray(records["symbol"]),
        interval_ms=intervals,
        open_time_ms=np.ascontiguousarray(records["open_time_ms"], np.int64),
        values=np.ascontiguousarray(records["values"], np.float64),
        forming=records["forming"] != 0,
    )


def unpack(data: bytes, dtype: np.dtype[Any]) -> Records:
    """Return records [N] of dtype, read-only.

    Raises:
        ValueError: the bytes are no whole number of records.
    """
    if len(data) % dtype.itemsize:
        raise ValueError(f"{len(data)} bytes are no whole number of records of {dtype.itemsize} bytes")
    return np.frombuffer(data, dtype)


def places(dtype: np.dtype[Any], types: Mapping[str, str] | None = None) -> dict[str, tuple[int, str]]:
    """Return of each field its offset and its type, of an array that of its numbers, or what `types` calls it."""
    called = types or {}
    return {name: (field[1], called.get(name, field[0].base.str)) for name, field in (dtype.fields or {}).items()}
