"""What is stored as records of PostgreSQL's binary COPY: N of a kind are one NumPy array. Knows no connection.

A record is the number of its fields, then for each field its length and its data, all big-endian and of fixed width:
so the bytes of an array travel into the journal and from there into COPY as they are. What has no fixed width gets one,
and `record` in queries.sql takes that back: symbols are padded with blanks, a number that is absent is NaN, words and
reasons are codes. What all forecasts of a message share (`Origin`) travels beside them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast import outputs as layout
from candlecast._rust import interleave
from candlecast.filters import reasons_of
from candlecast.gate import RECORD as FLOW_VALUES
from candlecast.gate import VERDICTS
from candlecast.packed import places
from candlecast.values import F32, SYMBOL_BYTES, Candles, FlowRecords, Forecasts, Model

Records = NDArray[np.void]
"""[N] of CANDLE, FLOW, or of `prediction(feature_count)`."""
DIRECTIONS: Final = ("SHORT", "NEUTRAL", "LONG")
"""Word of direction -1, 0, 1."""
STRENGTHS: Final = ("WEAK", "NORMAL", "STRONG")
INDICATORS: Final = {
    "rsi": "rsi_14",
    "macd": "macd_hist_12_26_9",
    "bb_position": "bb_pctb_20",
    "atr_pct": "natr_14",
    "volume_ratio": "volume_ratio_1_96",
    "trend_strength": "adx_14",
}
"""Columns for people, each a feature as the model saw it; NULL where the feature set lacks it."""

TYPES: Final = {
    "bpchar": f"S{SYMBOL_BYTES}",
    "bigint": ">i8",
    "integer": ">i4",
    "smallint": ">i2",
    "boolean": "?",
    "double precision": ">f8",
    "real": ">f4",
}
"""PostgreSQL's type and NumPy's; bytea is little-endian float32, as many as FLOATS says."""
CANDLE_COLUMNS: Final = {
    "symbol": "bpchar",
    "interval_ms": "bigint",
    "open_time_ms": "bigint",
    "open": "double precision",
    "high": "double precision",
    "low": "double precision",
    "close": "double precision",
    "volume": "double precision",
    "quote_volume": "double precision",
    "trades": "double precision",
    "taker_buy_volume": "double precision",
    "accepted_ns": "bigint",
}
VALUES: Final = tuple(CANDLE_COLUMNS)[3:11]
"""The columns of Candles.values."""
PREDICTION_COLUMNS: Final = {
    "symbol": "bpchar",
    "interval_ms": "bigint",
    "close_time_ms": "bigint",
    "close": "double precision",
    "volume": "double precision",
    "state": "smallint",
    "gap_filled": "boolean",
    "degraded": "boolean",
    "model_agreement": "real",
    "features": "bytea",
    "features_hash": "bigint",
    "nan_count": "smallint",
    "zero_variance_count": "smallint",
    "features_mean": "real",
    "features_std": "real",
    "features_min": "real",
    "features_max": "real",
    **dict.fromkeys(INDICATORS, "real"),
    "outputs": "bytea",
    "probabilities": "bytea",
    "direction": "smallint",
    "strength": "smallint",
    "confidence": "double precision",
    "quality": "double precision",
    "agreement": "double precision",
    "move": "double precision",
    "edge": "double precision",
    "stop_loss": "double precision",
    "take_profit": "double precision",
    "reasons": "integer",
    "rule_score": "double precision",
    "hybrid_score": "double precision",
    "size_multiplier": "double precision",
    "gate_probability": "double precision",
    "gate_verdict": "smallint",
    "decode_us": "integer",
    "features_us": "integer",
    "queue_us": "integer",
    "model_us": "integer",
    "interpret_us": "integer",
}
FLOW_COLUMNS: Final = {
    "symbol": "bpchar",
    "ts_ms": "bigint",
    "gate_asked": "boolean",
    **dict.fromkeys(FLOW_VALUES, "double precision"),
    "gate_probability": "double precision",
    "gate_verdict": "smallint",
    "degraded": "boolean",
}
SUMMARY: Final = ("nan_count", "features_mean", "features_std", "features_min", "features_max")
SUMMARY_ROWS: Final = 64
"""Summarised at a time: so much stays in the processor's cache."""
FLOATS: Final = {"outputs": layout.COUNT, "probabilities": len(layout.HORIZONS) * len(layout.CLASSES)}
"""Numbers in a bytea; in `features` as many as the model has."""
NUMBERS: Final = ("confidence", "quality", "agreement", "move", "edge", "stop_loss", "take_profit")
"""Columns that Interpretation calls alike."""
ALIKE: Final = (
    "symbol",
    "interval_ms",
    "close_time_ms",
    "close",
    "volume",
    "state",
    "gap_filled",
    "degraded",
    "model_agreement",
    "features_hash",
    "outputs",
    "direction",
    "strength",
    "reasons",
    "rule_score",
    "hybrid_score",
    "size_multiplier",
    "gate_probability",
    "gate_verdict",
)
"""Columns that Forecasts calls alike."""
FLOW_ALIKE: Final = ("gate_asked", "gate_probability", "gate_verdict", "degraded")
"""Columns that FlowRecords calls alike."""
STAGES: Final = ("decode_us", "features_us", "queue_us", "model_us", "interpret_us")
"""Columns that StageTimes calls alike."""
TIME_US_MAX: Final = 2**31 - 1

COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)  # no flags, no extension
COPY_TRAILER: Final = struct.pack(">h", -1)


class Origin(NamedTuple):
    """What all forecasts of a message share."""

    model: str
    version: int
    bundle_sha256: bytes
    feature_set_hash: int  # the unsigned 64 bits, as a signed number
    feature_count: int
    states: tuple[str, ...]  # names of the values of `state`
    shadow: bool = False  # nobody heard them

    @classmethod
    def of(cls, model: Model, feature_count: int, states: Sequence[str], shadow: bool = False) -> Origin:
        sha256, set_hash = bytes.fromhex(model.bundle_sha256), _signed(model.feature_set_hash)
        return cls(model.name, model.version, sha256, set_hash, feature_count, tuple(states), shadow)


LAYOUT: Final = zlib.crc32(
    repr((CANDLE_COLUMNS, PREDICTION_COLUMNS, FLOW_COLUMNS, TYPES, FLOATS, Origin._fields)).encode()
)
"""Changes with the layout, so that records of another are not taken for ours."""


def _record(columns: dict[str, str], floats: dict[str, int]) -> np.dtype[np.void]:
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, type_ in columns.items():
        fields += [(f"{name}.bytes", ">i4"), (name, TYPES.get(type_) or f"V{4 * floats[name]}")]
    return np.dtype(fields)


CANDLE: Final = _record(CANDLE_COLUMNS, {})
FLOW: Final = _record(FLOW_COLUMNS, {})


@cache
def prediction(feature_count: int) -> np.dtype[np.void]:
    """Return the record of a forecast from so many features."""
    return _record(PREDICTION_COLUMNS, FLOATS | {"features": feature_count})


@cache
def _empty(record: np.dtype[np.void]) -> bytes:
    """Return a record without data: every number that may be absent is."""
    empty = np.zeros(1, record)
    names = record.names or ()
    empty["fields"] = len(names) // 2
    for length, name in zip(names[1::2], names[2::2], strict=True):
        empty[length] = record[name].itemsize
        if record[name].kind == "f":
            empty[name] = np.nan
    return empty.tobytes()


@cache
def _places(record: np.dtype[np.void]) -> dict[str, tuple[int, str]]:
    bytea = dict.fromkeys((*FLOATS, "features"), "<f4")
    return places(record, bytea | {"symbol": "|blank"})


def _made(record: np.dtype[np.void], count: int, columns: Iterable[tuple[str, Any]]) -> Records:
    place = _places(record)
    placed = [(*place[name], column) for name, column in columns]
    return np.frombuffer(interleave(_empty(record), count, [(None, placed)]), record)


def candles(given: Candles, accepted_ns: int) -> Records:
    """Return the records of N candles that moved the state at `accepted_ns`, ns since 1970; forming ones included."""
    columns = (
        ("symbol", given.symbol),
        ("interval_ms", given.interval_ms),
        ("open_time_ms", given.open_time_ms),
        *zip(VALUES, given.values.T, strict=True),
        ("accepted_ns", accepted_ns),
    )
    return _made(CANDLE, len(given), columns)


def predictions(given: Forecasts, feature_names: Sequence[str]) -> Records:
    """Return the records of B forecasts, forming ones included.

    Args:
        feature_names: [F] names of the columns of given.rows.
    """
    assert given.rows.shape[1] == len(feature_names), "one name for each feature"
    columns: list[tuple[str, Any]] = [(name, getattr(given, name)) for name in ALIKE]
    columns += [("features", given.rows), ("zero_variance_count", given.zero_variance), *_summaries(given.rows)]
    columns += [(name, given.rows[:, position]) for name, position in _indicators(tuple(feature_names))]
    columns += [("probabilities", given.meaning.probabilities.reshape(len(given), FLOATS["probabilities"]))]
    columns += [(name, getattr(given.meaning, name)) for name in NUMBERS]
    columns += [(name, min(getattr(given.times, name), TIME_US_MAX)) for name in STAGES]
    return _made(prediction(len(feature_names)), len(given), columns)


def flows(given: FlowRecords) -> Records:
    """Return the records of N states of order flow."""
    columns: list[tuple[str, Any]] = [("symbol", given.symbol), ("ts_ms", given.ts_ms)]
    columns += zip(FLOW_VALUES, given.rows.T, strict=True)
    columns += [(name, getattr(given, name)) for name in FLOW_ALIKE]
    return _made(FLOW, len(given), columns)


def rows(records: Records) -> list[tuple[Any, ...]]:
    """Return N records as rows, as asyncpg takes them for the types of the columns."""
    symbol, *others = (records[name].tolist() for name in (records.dtype.names or ())[2::2])
    return list(zip([padded.decode("latin-1").rstrip(" ") for padded in symbol], *others, strict=True))


def people(records: Records, origin: Origin | None = None) -> list[dict[str, Any]]:
    """Return N records with names and words, None for what is absent; of forecasts with their origin."""
    names = (records.dtype.names or ())[2::2]
    found = [dict(zip(names, row, strict=True)) for row in rows(records)]
    for row in found:
        row.update((name, None) for name, value in row.items() if value != value)
        if "gate_verdict" in row:
            row["gate_verdict"] = _word(VERDICTS, row["gate_verdict"])
        if origin is not None:
            shared = origin._asdict()
            row["state"] = _word(shared.pop("states"), row["state"])
            row["direction"] = _word(DIRECTIONS, row["direction"] + 1)
            row["strength"], row["reasons"] = _word(STRENGTHS, row["strength"]), reasons_of(row["reasons"])
            row.update(shared)
    return found


def _word(words: Sequence[str], code: int) -> str | int:
    return words[code] if 0 <= code < len(words) else code


@cache
def _indicators(feature_names: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return each indicator whose feature is there, and where."""
    position = {name: i for i, name in enumerate(feature_names)}
    return [(name, position[feature]) for name, feature in INDICATORS.items() if feature in position]


def _summaries(rows: F32) -> Iterator[tuple[str, NDArray[Any]]]:
    parts = [_summary(rows[start : start + SUMMARY_ROWS]) for start in range(0, max(1, len(rows)), SUMMARY_ROWS)]
    for name, *columns in zip(SUMMARY, *parts, strict=True):
        yield name, columns[0] if len(columns) == 1 else np.concatenate(columns)


def _summary(rows: F32) -> tuple[NDArray[Any], ...]:
    """Return the number of NaN [B], and mean, standard deviation, minimum and maximum of the finite features [B, F].

    They are NaN where no feature is finite.
    """
    wide = rows.astype(np.float64)
    count: Any = wide.shape[1]
    low, high, absent = rows, rows, np.zeros(len(rows), dtype=np.int64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        total = wide.sum(axis=1)
        if np.isfinite(total).all():  # not so if one feature is not
            mean = total / count
            wide -= mean[:, None]
        else:
            finite, absent = np.isfinite(rows), np.isnan(rows).sum(axis=1)
            count = finite.sum(axis=1)
            some = (count > 0)[:, None]
            low, high = (np.where(finite, rows, np.where(some, edge, np.nan)) for edge in (np.inf, -np.inf))
            mean = np.where(finite, wide, 0).sum(axis=1) / count
            wide = np.where(finite, wide - mean[:, None], 0)
        std = np.sqrt(np.einsum("ij,ij->i", wide, wide) / count)
        return absent, mean, std, low.min(axis=1), high.max(axis=1)


def _signed(unsigned: int) -> int:
    """Return the number with the same 64 bits that a bigint can hold."""
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned
