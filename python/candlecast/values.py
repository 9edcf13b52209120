"""The values that travel between the rooms: columns of B rows each. Knows no behaviour."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DEFAULT_INTERVAL_MS = 900_000
FAR_MS: Final = 32_503_680_000_000
"""The year 3000, a bound of what may be meant by ms since 1970."""
SYMBOL: Final = re.compile(r"[A-Z0-9._:/-]{1,32}")
"""What the whole name of a symbol looks like."""

SYMBOL_BYTES: Final = 32
"""Width of a symbol in columns: its ASCII characters, zeros behind them."""

Symbols = NDArray[np.bytes_]
"""[N] of dtype S32."""
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


def symbols(names: Sequence[str]) -> Symbols:
    """Return names as a column [N]. What cannot be a symbol becomes something else that is none: "?" and what fits."""
    whole = [name.encode("ascii", "replace") for name in names]
    fits = [b"?" if len(name) > SYMBOL_BYTES or b"\0" in name else b"" for name in whole]
    column: Symbols = np.array([mark + name for mark, name in zip(fits, whole, strict=True)], dtype=f"S{SYMBOL_BYTES}")
    return column


def names(symbols: Symbols) -> list[str]:
    """Return a column of symbols [N] as strings."""
    return [symbol.decode("latin-1") for symbol in symbols.tolist()]


@dataclass(frozen=True, slots=True)
class Candles:
    """N candles as columns, in the order they arrived; several of one symbol are in time order."""

    symbol: Symbols  # [N]; a list of names is taken, too
    interval_ms: I64  # [N]
    open_time_ms: I64  # [N]
    values: F64  # [N, 8] open, high, low, close, volume, quote_volume, trades, taker_buy_volume; NaN = absent
    forming: Bool  # [N] not closed yet: only peeked at

    def __post_init__(self) -> None:
        if not isinstance(self.symbol, np.ndarray):
            object.__setattr__(self, "symbol", symbols(self.symbol))

    def __len__(self) -> int:
        return len(self.interval_ms)

    @property
    def names(self) -> list[str]:
        """Return the symbols [N] as strings."""
        return names(self.symbol)

    def take(self, index: I64 | Bool) -> Candles:
        """Return the candles at index [K], or where a mask [N] is true."""
        return Candles(
            symbol=self.symbol[index],
            interval_ms=self.interval_ms[index],
            open_time_ms=self.open_time_ms[index],
            values=self.values[index],
            forming=self.forming[index],
        )

    @classmethod
    def joined(cls, parts: Sequence[Candles]) -> Candles:
        """Return the candles of all parts, one part behind the other."""
        return cls(
            symbol=np.concatenate([part.symbol for part in parts]),
            interval_ms=np.concatenate([part.interval_ms for part in parts]),
            open_time_ms=np.concatenate([part.open_time_ms for part in parts]),
            values=np.concatenate([part.values for part in parts]),
            forming=np.concatenate([part.forming for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """What happened with one symbol, each kind by the times of its events; None: nothing of that kind."""

    symbol: str
    trades: tuple[I64, I64, F64, F64] | None = None  # ts, id (below 0: none), price, qty
    quotes: tuple[I64, F64, F64, F64, F64] | None = None  # ts, bid, bid_size, ask, ask_size
    # ts, first, last and previous update id, side (1 bid, -1 ask), price, qty (0: gone), is_snapshot; one row a level
    depth: tuple[I64, I64, I64, I64, NDArray[np.int8], F64, F64, Bool] | None = None


@dataclass(frozen=True, slots=True)
class FlowStates:
    """The order flow of B symbols as of their times."""

    symbol: Symbols  # [B]
    ts_ms: I64  # [B] 0: nothing is known of the symbol
    rows: F64  # [B, 8] gate.RECORD; NaN: undefined
    undefined: NDArray[np.uint8]  # [B, 2] why price_dist and depth_ratio are: index into the core's FLOW_UNDEFINED

    def __len__(self) -> int:
        return len(self.ts_ms)


@dataclass(frozen=True, slots=True)
class FlowRecords:
    """N states of order flow to be stored: those of a cadence, and those that the gate was asked about."""

    symbol: Symbols  # [N]
    ts_ms: I64  # [N]
    rows: F64  # [N, 8] gate.RECORD; NaN: undefined
    gate_asked: Bool  # [N]
    gate_verdict: NDArray[np.uint8]  # [N] index into gate.VERDICTS
    gate_probability: F64  # [N] NaN: no model said so
    degraded: Bool  # [N] the heuristic decided

    def __len__(self) -> int:
        return len(self.ts_ms)

    def after(self, count: int) -> FlowRecords:
        """Return all records but the first ones; the columns are views."""
        return FlowRecords(**_cut(self, count, len(self)))

    @classmethod
    def joined(cls, parts: Iterable[FlowRecords]) -> FlowRecords:
        """Return the records of all parts, one part behind the other."""
        given = list(parts)
        return cls(*(np.concatenate([getattr(part, column.name) for part in given]) for column in fields(cls)))


class Known(Enum):
    """What storage knows of a candle."""

    NOT_STORED = 0
    SAME = 1
    OTHER_VALUES = 2


@dataclass(frozen=True, slots=True)
class Missed:
    """A forecast that was not made while it was worth something."""

    symbol: str
    interval_ms: int
    close_time_ms: int
    model: str
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of B forecasts."""

    new: Bool  # [B] was not recorded before; False for one that is not kept, because its candle is still forming
    stored: Bool  # [B] is in PostgreSQL already, not only on disk


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one version of a model said of N candles."""

    probabilities: F64  # [N, 4, 3] by horizon and class
    returns: F64  # [N, 4] expected
    risks: F64  # [N, 4]
    side: NDArray[np.int8]  # [N] 1 LONG, -1 SHORT, 0 NEUTRAL: after the filters
    model_us: F64  # [N] time in the model, of its batch; NaN: not measured

    @property
    def finite(self) -> Bool:
        """Return which of N it could say anything of."""
        every = np.column_stack([self.probabilities.reshape(-1, 12), self.returns, self.risks])
        finite: Bool = np.logical_and.reduce(np.isfinite(every), axis=1)
        return finite

    def take(self, index: I64) -> Spoken:
        """Return what it said of the candles at index [K]."""
        return Spoken(*(getattr(self, column.name)[index] for column in fields(self)))


@dataclass(frozen=True, slots=True)
class Heard:
    """What one version said, and of which N candles of one interval."""

    symbol: Symbols | I64  # [N]; any number that stands for it is taken, too
    close_time_ms: I64  # [N]
    spoken: Spoken

    def __len__(self) -> int:
        return len(self.close_time_ms)

    def take(self, index: I64) -> Heard:
        """Return what it said of the candles at index [K]."""
        return Heard(self.symbol[index], self.close_time_ms[index], self.spoken.take(index))


@dataclass(frozen=True, slots=True)
class Model:
    """Which model speaks."""

    name: str
    version: int
    bundle_sha256: str
    feature_set_hash: int  # 64 bits
    trained_ms: int = 0  # when that was, since 1970; 0: not known

    def age_ms(self, now_ms: float) -> float:
        """Return how long ago it was trained; 0 where that is not known."""
        return max(now_ms - self.trained_ms, 0.0) if self.trained_ms else 0.0


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Where the time of one batch went, in microseconds; storing is known to the reply alone."""

    decode_us: int
    features_us: int
    queue_us: int
    model_us: int
    interpret_us: int


@dataclass(frozen=True, slots=True)
class Interpretation:
    """B forecasts read from the outputs, before any filter; every fraction is a fraction, never a percent."""

    side: NDArray[np.int8]  # [B] 1 LONG, -1 SHORT, 0 when the edge is exactly 0 or the outputs are not finite
    finite: NDArray[np.bool_]  # [B] all 20 outputs finite
    confidence: F64  # [B] 0..1, weighted probability of the side given a move
    agreement: F64  # [B] 0..1, weight of the horizons on the side
    move: F64  # [B] 0..1, weighted probability of any move
    edge: F64  # [B] -1..1, weighted p_long - p_short
    quality: F64  # [B] 0..1
    returns: F64  # [B, 4] expected simple returns
    probabilities: F64  # [B, 4, 3] by horizon and class
    risks: F64  # [B, 4] drawdown and rally at 1h, then at 4h
    stop_loss: F64  # [B] fraction of price
    take_profit: F64  # [B] fraction of price


@dataclass(frozen=True, slots=True)
class Forecasts:
    """B forecasts as columns, filtered and ready to store."""

    symbol: Symbols  # [B]
    interval_ms: I64  # [B]
    close_time_ms: I64  # [B]
    close: F64  # [B] close of the newest candle
    volume: F64  # [B]; NaN when the forecast was asked for without a candle
    forming: Bool  # [B] from a candle that is not closed: answered, never stored
    state: NDArray[np.uint8]  # [B] index into STATES
    gap_filled: Bool  # [B]
    degraded: Bool  # [B] a member of the ensemble is missing, or the gate's model was, or the model is too old
    model_agreement: F32  # [B] 0..1, weight of the members on the ensemble's side; NaN of a model alone
    features_hash: NDArray[np.uint64]  # [B] low 56 bits of xxh3 over the newest row
    rows: F32  # [B, F] newest feature row
    zero_variance: NDArray[np.int32]  # [B] columns that did not move within the window
    outputs: F32  # [B, 20]
    meaning: Interpretation
    direction: NDArray[np.int8]  # [B] 1 LONG, -1 SHORT, 0 NEUTRAL: the side after the filters
    strength: NDArray[np.uint8]  # [B] 0 WEAK, 1 NORMAL, 2 STRONG
    reasons: NDArray[np.uint32]  # [B] why NEUTRAL, a bit for each of REASONS of the filters; 0 for LONG and SHORT
    rule_score: F64  # [B] -1..1, mean vote of old indicators
    hybrid_score: F64  # [B] -1..1, weighted mean of edge and rule score
    size_multiplier: F64  # [B] 1..1.5, suggested
    gate_verdict: NDArray[np.uint8]  # [B] index into gate.VERDICTS
    gate_probability: F64  # [B] that the price reverts; NaN: no model said so
    model: Model
    times: StageTimes
    challenger: Model | None = None  # that speaks in some of the rows
    by_challenger: Bool | None = None  # [B], with a challenger: in which
    shadow: bool = False  # of a version that nobody hears: no answers

    def __post_init__(self) -> None:
        if not isinstance(self.symbol, np.ndarray):
            object.__setattr__(self, "symbol", symbols(self.symbol))

    def __len__(self) -> int:
        return len(self.interval_ms)

    @property
    def names(self) -> list[str]:
        """Return the symbols [B] as strings."""
        return names(self.symbol)

    def part(self, start: int, stop: int) -> Forecasts:
        """Return the forecasts from start to stop; the columns are views."""
        return self._at(slice(start, stop))

    def take(self, index: I64 | Bool) -> Forecasts:
        """Return the forecasts at index [K], or where a mask [B] is true."""
        return self._at(index)

    def by_model(self) -> list[tuple[I64 | slice, Forecasts]]:
        """Return the forecasts of each model that speaks here, and where they are."""
        if self.challenger is None or self.by_challenger is None:
            return [(slice(None), self)]
        whole = replace(self, challenger=None, by_challenger=None)
        places = (
            (whole, np.flatnonzero(~self.by_challenger)),
            (
                replace(whole, model=self.challenger),
                np.flatnonzero(self.by_challenger),
            ),
        )
        return [(at, of.take(at)) for of, at in places if len(at)]

    def _at(self, index: I64 | Bool | slice) -> Forecasts:
        meaning: Any = replace(self.meaning, **_rows(self.meaning, index))
        some: Forecasts = replace(self, meaning=meaning, **_rows(self, index))
        return some

    @classmethod
    def joined(cls, parts: Sequence[Forecasts]) -> Forecasts:
        """Return the forecasts of all parts, one part behind the other; model and times are those of the first.

        Raises:
            ValueError: more than two models speak.
        """
        if len(parts) == 1:
            return parts[0]
        first, *others = dict.fromkeys(m for part in parts for m in (part.model, part.challenger) if m is not None)
        if len(others) > 1:
            raise ValueError("forecasts of more than two models do not go together")
        whole = [replace(part, challenger=None, by_challenger=None) for part in parts]
        meaning: Any = replace(whole[0].meaning, **_behind([part.meaning for part in whole]))
        joined: Forecasts = replace(whole[0], meaning=meaning, model=first, **_behind(whole))
        if not others:
            return joined
        by = [
            np.full(len(part), part.model != first)
            if part.by_challenger is None
            else part.by_challenger ^ (part.model != first)
            for part in parts
        ]
        return replace(joined, challenger=others[0], by_challenger=np.concatenate(by))


def _behind(parts: Sequence[Any]) -> dict[str, Any]:
    """Return the arrays of dataclasses of one kind, each part behind the other."""
    names = [field.name for field in fields(parts[0]) if isinstance(getattr(parts[0], field.name), np.ndarray)]
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}


def _cut(columns: Any, start: int, stop: int) -> dict[str, Any]:
    """Return the rows from start to stop of each array of a dataclass."""
    return _rows(columns, slice(start, stop))


def _rows(columns: Any, index: Any) -> dict[str, Any]:
    """Return some rows of each array of a dataclass."""
    named = ((field.name, getattr(columns, field.name)) for field in fields(columns))
    return {name: column[index] for name, column in named if isinstance(column, np.ndarray)}
