"""Candles and results as messages and as columns, whichever the user has and wants. Knows the wire, no call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from candlecast import packed
from candlecast.v1.types_pb2 import Candle, CandleResult, Forecast, Horizon, SymbolStatus
from candlecast.values import SYMBOL_BYTES, Candles, symbols

_REQUIRED = ("open", "high", "low", "close", "volume")
_OPTIONAL = ("quote_volume", "trades", "taker_buy_volume")
_PACKED_MIN = 16
"""Candle messages from which on they are packed: fewer are read as fast as they are."""

Batch = Sequence[Candle] | Candles
"""Candles of one message: messages, or columns."""


class Results(Sequence[CandleResult]):
    """The results of one message, in its order; those that came packed become messages when they are looked at."""

    def __init__(self, response: Any) -> None:
        self._messages: Sequence[CandleResult] = response.results
        self._packed = response.packed if response.HasField("packed") else None
        if self._packed is not None and self._packed.layout != packed.RESULT_LAYOUT:
            raise ValueError(
                f"packed results have layout {self._packed.layout}, this client reads {packed.RESULT_LAYOUT}: use the"
                " client of the server's version"
            )
        self._columns = None if self._packed is None else packed.unpack(self._packed.records, packed.RESULT)

    def part(self, start: int, stop: int) -> Results:
        """Return some of them, by place."""
        part = Results.__new__(Results)
        part._messages, part._packed = self._messages[start:stop], self._packed
        part._columns = None if self._columns is None else self._columns[start:stop]
        return part

    @property
    def columns(self) -> packed.Records:
        """Return the results as records [N] of `candlecast.packed.RESULT`.

        Raises:
            ValueError: the candles were sent as messages, and so were their results.
        """
        if self._columns is None:
            raise ValueError("these results came as messages: send candles as columns to get columns")
        return self._columns

    @property
    def forecasts(self) -> int:
        """Return how many of them have a forecast."""
        if self._columns is None:
            return sum(result.HasField("forecast") for result in self._messages)
        return int(self._columns["has_forecast"].sum())

    def __len__(self) -> int:
        return len(self._messages) if self._columns is None else len(self._columns)

    @overload
    def __getitem__(self, index: int) -> CandleResult: ...

    @overload
    def __getitem__(self, index: slice) -> list[CandleResult]: ...

    def __getitem__(self, index: int | slice) -> CandleResult | list[CandleResult]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._messages[index] if self._columns is None else self._message(self._columns[index])

    def _message(self, record: Any) -> CandleResult:
        assert self._packed is not None, "a record came packed"
        result = CandleResult(
            symbol=record["symbol"].decode("latin-1"),
            interval_ms=int(record["interval_ms"]),
            open_time_ms=int(record["open_time_ms"]),
            verdict=int(record["verdict"]),  # type: ignore[arg-type]
            status=SymbolStatus(state=int(record["state"]), have=int(record["have"]), need=int(record["need"])),  # type: ignore[arg-type]
        )
        if record["refusal_reason"]:
            result.refusal.field = packed.REFUSAL_FIELDS[record["refusal_field"]]
            result.refusal.reason = packed.REFUSAL_REASONS[record["refusal_reason"]]
        if record["has_forecast"]:
            result.forecast.CopyFrom(self._forecast(record))
        return result

    def _forecast(self, record: Any) -> Forecast:
        assert self._packed is not None, "a record came packed"
        drawdown_1h, rally_1h, drawdown_4h, rally_4h = record["risks"].tolist()
        bits = int(record["reasons"])
        forecast = Forecast(
            symbol=record["symbol"].decode("latin-1"),
            interval_ms=int(record["interval_ms"]),
            close_time_ms=int(record["close_time_ms"]),
            direction=int(record["direction"]),  # type: ignore[arg-type]
            strength=int(record["strength"]),  # type: ignore[arg-type]
            horizons=[
                Horizon(expected_return=expected, p_long=p_long, p_short=p_short, p_neutral=p_neutral)
                for expected, (p_long, p_short, p_neutral) in zip(
                    record["returns"].tolist(), record["probabilities"].tolist(), strict=True
                )
            ],
            max_drawdown_1h=drawdown_1h,
            max_rally_1h=rally_1h,
            max_drawdown_4h=drawdown_4h,
            max_rally_4h=rally_4h,
            reasons=[name for i, name in enumerate(packed.REASONS) if bits >> i & 1],
            state=int(record["forecast_state"]),  # type: ignore[arg-type]
            gap_filled=bool(record["gap_filled"]),
            degraded=bool(record["degraded"]),
            model=self._packed.challenger if record["model"] else self._packed.model,
            features_hash=int(record["features_hash"]),
            durability=int(record["durability"]),  # type: ignore[arg-type]
            times=self._packed.times,
            forming=bool(record["forming"]),
            already_stored=bool(record["already_stored"]),
        )
        for name in (*packed.NUMBERS, *packed.SCORES):
            setattr(forecast, name, float(record[name]))
        if not math.isnan(record["model_agreement"]):
            forecast.model_agreement = float(record["model_agreement"])
        if (verdict := packed.GATE_VERDICTS[record["gate"]]) in ("REFUSE", "APPROVE"):
            forecast.gate_approved = verdict == "APPROVE"
        if not math.isnan(record["gate_probability"]):
            forecast.gate_probability = float(record["gate_probability"])
        return forecast


def messages(batch: Candles) -> list[Candle]:
    """Turn columns into messages; NaN in an optional column means absent."""
    messages = []
    times, rows = batch.open_time_ms.tolist(), batch.values.tolist()
    for symbol, interval_ms, open_time_ms, row, forming in zip(
        batch.names, batch.interval_ms.tolist(), times, rows, batch.forming.tolist(), strict=True
    ):
        optional = {name: value for name, value in zip(_OPTIONAL, row[5:], strict=True) if not math.isnan(value)}
        messages.append(
            Candle(
                symbol=symbol,
                interval_ms=interval_ms,
                open_time_ms=open_time_ms,
                open=row[0],
                high=row[1],
                low=row[2],
                close=row[3],
                volume=row[4],
                forming=forming,
                **optional,
            )
        )
    return messages


def columns(candles: Sequence[Candle]) -> Candles | None:
    """Return candle messages as columns; None when a symbol has no room there, which only a message can say."""
    names = [candle.symbol for candle in candles]
    if not all(name.isascii() and len(name) <= SYMBOL_BYTES and "\0" not in name for name in names):
        return None
    values = [[getattr(c, name) for name in _REQUIRED] for c in candles]
    optional = [[getattr(c, name) if c.HasField(name) else math.nan for name in _OPTIONAL] for c in candles]
    return Candles(
        symbol=symbols(names),
        interval_ms=np.array([c.interval_ms for c in candles], dtype=np.int64),
        open_time_ms=np.array([c.open_time_ms for c in candles], dtype=np.int64),
        values=np.hstack([np.array(values, dtype=np.float64), np.array(optional, dtype=np.float64)]),
        forming=np.array([c.forming for c in candles], dtype=np.bool_),
    )


def carried(batch: Batch) -> dict[str, Any]:
    """Return what a request carries of a batch: columns packed, as are many messages; a few as they are."""
    if isinstance(batch, Candles):
        return {"packed": packed.pack_candles(batch)}
    if len(batch) >= _PACKED_MIN and (as_columns := columns(batch)) is not None:
        return {"packed": packed.pack_candles(as_columns)}
    return {"candles": batch}


def asking(batch: Batch) -> dict[str, Any]:
    """Return what a request carries of a batch whose results are wanted."""
    return carried(batch) | {"packed_layout": packed.RESULT_LAYOUT}
