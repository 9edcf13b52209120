"""Messages to columns and back. Knows the wire and the values, decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from candlecast import _rust
from candlecast.features import LATE, REFUSED
from candlecast.filters import reasons_of
from candlecast.gate import APPROVE, REFUSE
from candlecast.packed import NUMBERS, RESULT, RESULT_LAYOUT, SCORES, places
from candlecast.v1 import types_pb2 as pb
from candlecast.values import DEFAULT_INTERVAL_MS, I64, Candles, Forecasts, Known, Model, Recorded, symbols
from candlecast.work import Answer, Part

_NAN = float("nan")
_RESULT_PLACES = places(RESULT)
_NO_RESULT = bytes(RESULT.itemsize)

# The core's codes, spelt alike on the wire.
_STATES: tuple[Any, ...] = tuple(pb.SymbolState.Value(f"SYMBOL_STATE_{name}") for name in _rust.STATES)
_VERDICTS: tuple[Any, ...] = tuple(pb.Verdict.Value(f"VERDICT_{name}") for name in _rust.VERDICTS)
_STRENGTHS = (pb.STRENGTH_WEAK, pb.STRENGTH_NORMAL, pb.STRENGTH_STRONG)
_STATE_CODES = np.array(_STATES, dtype=np.uint8)
_VERDICT_CODES = np.array(_VERDICTS, dtype=np.uint8)
_STRENGTH_CODES = np.array(_STRENGTHS, dtype=np.uint8)
_DIRECTION = {1: pb.DIRECTION_LONG, -1: pb.DIRECTION_SHORT, 0: pb.DIRECTION_NEUTRAL}
_DIRECTION_CODES = np.array([_DIRECTION[side] for side in (0, 1, -1)], dtype=np.uint8)  # -1 is the last
_OF_KNOWN: dict[Known, Any] = {
    Known.SAME: pb.VERDICT_DUPLICATE,
    Known.OTHER_VALUES: pb.VERDICT_CONFLICT,
    Known.NOT_STORED: pb.VERDICT_LATE,
}


def candles(messages: Sequence[pb.Candle]) -> Candles:
    """Read N candle messages into columns; an absent optional value becomes NaN."""
    values = [
        (
            c.open,
            c.high,
            c.low,
            c.close,
            c.volume,
            c.quote_volume if c.HasField("quote_volume") else _NAN,
            c.trades if c.HasField("trades") else _NAN,
            c.taker_buy_volume if c.HasField("taker_buy_volume") else _NAN,
        )
        for c in messages
    ]
    return Candles(
        symbol=symbols([c.symbol for c in messages]),
        interval_ms=np.array([c.interval_ms or DEFAULT_INTERVAL_MS for c in messages], dtype=np.int64),
        open_time_ms=np.array([c.open_time_ms for c in messages], dtype=np.int64),
        values=np.array(values, dtype=np.float64).reshape(-1, 8),
        forming=np.array([c.forming for c in messages], dtype=np.bool_),
    )


def status(status: _rust.Status) -> pb.SymbolStatus:
    return pb.SymbolStatus(state=_STATES[status.state], have=status.have, need=status.need)


def results(
    candles: Candles,
    answer: Answer | Part,
    need: int,
    *,
    names: Sequence[str] = (),
    asked: bool = False,
    only: Sequence[int] | None = None,
) -> Iterator[pb.CandleResult]:
    """Yield one result per candle, in order.

    Args:
        names: the symbols as they were given.
        asked: these symbols came without candles.
        only: the results of these candles.
    """
    pushed = answer.moved.pushed
    verdicts, fields, reasons = pushed.verdict.tolist(), pushed.field.tolist(), pushed.reason.tolist()
    states, have, windows = pushed.state.tolist(), pushed.have.tolist(), pushed.window.tolist()
    messages = list(forecasts(answer)) if answer.forecasts is not None else []
    intervals, opened = candles.interval_ms.tolist(), candles.open_time_ms.tolist()
    names = names or candles.names
    for i in range(len(candles)) if only is None else only:
        result = pb.CandleResult(
            symbol=names[i],
            interval_ms=intervals[i],
            open_time_ms=opened[i],
            status=pb.SymbolStatus(state=_STATES[states[i]], have=have[i], need=need),
        )
        if verdicts[i] == REFUSED or not asked:
            late = verdicts[i] == LATE
            result.verdict = _OF_KNOWN[answer.known.get(i, Known.NOT_STORED)] if late else _VERDICTS[verdicts[i]]
        if verdicts[i] == REFUSED:
            result.refusal.field = _rust.FIELDS[fields[i]]
            result.refusal.reason = _rust.REASONS[reasons[i]]
        if windows[i] >= 0 and messages:
            result.forecast.CopyFrom(messages[windows[i]])
        yield result


def results_of_asked(answer: Answer | Part, need: int) -> list[pb.CandleResult]:
    """Return one result per symbol of those who asked together, made once for all of them."""
    whole = answer.whole
    made: list[pb.CandleResult] | None = vars(whole).get("results")
    if made is None:
        made = vars(whole)["results"] = list(results(whole.candles, whole, need, asked=True))
    return made


class Spoken(Protocol):
    """What an answer knows of its forecasts."""

    @property
    def forecasts(self) -> Forecasts | None: ...

    @property
    def recorded(self) -> Recorded: ...

    @property
    def durable(self) -> bool: ...

    @property
    def spool_us(self) -> int: ...


def directions(sides: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return the codes of Direction of sides [B]: 1 LONG, -1 SHORT, 0 NEUTRAL."""
    codes: NDArray[np.uint8] = _DIRECTION_CODES[sides]
    return codes


def forecasts(answer: Spoken, *, closes: bool = False) -> Iterator[pb.Forecast]:
    """Yield the messages of an answer's forecasts, in the order of its windows; with the closes they speak from."""
    columns = answer.forecasts
    assert columns is not None
    m, spent = columns.meaning, _times(columns, answer)
    models = [_model(columns.model), *([_model(columns.challenger)] if columns.challenger else [])]
    by_challenger = columns.by_challenger.tolist() if columns.by_challenger is not None else [False] * len(columns)
    table, agreement = _table(columns), columns.model_agreement.tolist()
    verdicts, probabilities = columns.gate_verdict.tolist(), columns.gate_probability.tolist()
    for i, (symbol, reasons, numbers) in enumerate(zip(columns.names, columns.reasons.tolist(), table, strict=True)):
        forming = bool(columns.forming[i])
        forecast = pb.Forecast(
            symbol=symbol,
            interval_ms=int(columns.interval_ms[i]),
            close_time_ms=int(columns.close_time_ms[i]),
            direction=_DIRECTION[int(columns.direction[i])],
            strength=_STRENGTHS[columns.strength[i]],
            horizons=[
                pb.Horizon(expected_return=r, p_long=p[0], p_short=p[1], p_neutral=p[2])
                for r, p in zip(m.returns[i].tolist(), m.probabilities[i].tolist(), strict=True)
            ],
            reasons=reasons_of(reasons),
            state=_STATES[columns.state[i]],
            gap_filled=bool(columns.gap_filled[i]),
            degraded=bool(columns.degraded[i]),
            model=models[by_challenger[i]],
            features_hash=int(columns.features_hash[i]),
            durability=_durability(answer, i, forming),
            times=spent,
            forming=forming,
            already_stored=not forming and not answer.recorded.new[i],
        )
        for name, number in zip(_NUMBERS, numbers, strict=True):
            setattr(forecast, name, number)
        if agreement[i] == agreement[i]:  # NaN: a model alone
            forecast.model_agreement = agreement[i]
        if verdicts[i] >= REFUSE:
            forecast.gate_approved = verdicts[i] == APPROVE
        if probabilities[i] == probabilities[i]:  # NaN: no model said so
            forecast.gate_probability = probabilities[i]
        if closes:
            forecast.close = columns.close[i]
        yield forecast


def packed_results(answer: Answer | Part, need: int) -> pb.PackedResults:
    """Return the same as `results` as records, made by columns, once for all candles that went the same way."""
    whole = answer.whole
    packed: pb.PackedResults | None = vars(whole).get("packed")
    if packed is None:
        packed = vars(whole)["packed"] = _packed(whole, need)
    if answer is whole:
        return packed
    records = packed.records[answer.start * RESULT.itemsize : answer.stop * RESULT.itemsize]
    challenger = packed.challenger if packed.HasField("challenger") else None
    return pb.PackedResults(
        records=records, model=packed.model, challenger=challenger, times=packed.times, layout=RESULT_LAYOUT
    )


def _packed(answer: Answer, need: int) -> pb.PackedResults:
    candles, pushed = answer.candles, answer.moved.pushed
    verdict = _VERDICT_CODES[pushed.verdict]
    for i, known in answer.known.items():
        verdict[i] = _OF_KNOWN[known]
    columns: list[tuple[str, Any]] = [
        ("symbol", candles.symbol),
        ("interval_ms", candles.interval_ms),
        ("open_time_ms", candles.open_time_ms),
        ("verdict", verdict),
        ("state", _STATE_CODES[pushed.state]),
        ("refusal_field", pushed.field),
        ("refusal_reason", pushed.reason),
        ("have", pushed.have),
        ("need", need),
    ]
    parts: list[tuple[I64 | None, list[tuple[int, str, Any]]]] = [(None, _placed(columns))]
    message = pb.PackedResults(layout=RESULT_LAYOUT)
    if (forecasts := answer.forecasts) is not None:
        has = pushed.window >= 0  # windows are in the order of the candles
        parts.append((None if has.all() else np.flatnonzero(has), _placed(_forecast_columns(forecasts, answer))))
        message.model.CopyFrom(_model(forecasts.model))
        if forecasts.challenger is not None:
            message.challenger.CopyFrom(_model(forecasts.challenger))
        message.times.CopyFrom(_times(forecasts, answer))
    message.records = _rust.interleave(_NO_RESULT, len(candles), parts)
    return message


def _placed(columns: Iterable[tuple[str, Any]]) -> list[tuple[int, str, Any]]:
    return [(*_RESULT_PLACES[name], column) for name, column in columns]


def _forecast_columns(columns: Forecasts, answer: Answer) -> Iterator[tuple[str, Any]]:
    """Yield each column [B] of the records that speaks of forecasts."""
    m, recorded, rows = columns.meaning, answer.recorded, len(columns)
    is_closed = not columns.forming.any()
    durability: Any = _not_stored(answer)
    if recorded.stored.any():
        durability = np.where(recorded.stored, pb.DURABILITY_STORED, durability)
    yield "has_forecast", 1
    yield "direction", directions(columns.direction)
    yield "strength", _STRENGTH_CODES[columns.strength]
    yield "durability", durability if is_closed else np.where(columns.forming, pb.DURABILITY_UNSPECIFIED, durability)
    yield "forecast_state", _STATE_CODES[columns.state]
    yield "gap_filled", columns.gap_filled
    yield "degraded", columns.degraded
    yield "model_agreement", columns.model_agreement
    if columns.by_challenger is not None:
        yield "model", columns.by_challenger
    yield "gate", columns.gate_verdict
    yield "gate_probability", columns.gate_probability
    yield "forming", columns.forming
    yield "already_stored", ~(columns.forming | recorded.new)
    yield "reasons", columns.reasons
    yield "close_time_ms", columns.close_time_ms
    yield "features_hash", columns.features_hash
    for name in NUMBERS:
        yield name, getattr(m, name)
    for name in SCORES:
        yield name, getattr(columns, name)
    yield "returns", m.returns
    yield "probabilities", m.probabilities.reshape(rows, -1)
    yield "risks", m.risks


def _not_stored(answer: Spoken) -> Any:
    return pb.DURABILITY_SPOOLED if answer.durable else pb.DURABILITY_PENDING


def _model(model: Model) -> pb.ModelVersion:
    return pb.ModelVersion(
        name=model.name,
        version=model.version,
        bundle_sha256=model.bundle_sha256,
        feature_set_hash=model.feature_set_hash,
    )


def _times(columns: Forecasts, answer: Spoken) -> pb.StageTimes:
    times = columns.times
    return pb.StageTimes(
        decode_us=times.decode_us,
        features_us=times.features_us,
        queue_us=times.queue_us,
        model_us=times.model_us,
        interpret_us=times.interpret_us,
        spool_us=answer.spool_us,
    )


def _durability(answer: Spoken, i: int, forming: bool) -> Any:
    if forming:
        return pb.DURABILITY_UNSPECIFIED
    if answer.recorded.stored[i]:
        return pb.DURABILITY_STORED
    return _not_stored(answer)


_NUMBERS = (
    *NUMBERS,
    *SCORES,
    "max_drawdown_1h",
    "max_rally_1h",
    "max_drawdown_4h",
    "max_rally_4h",
)


def _table(columns: Forecasts) -> list[list[float]]:
    m = columns.meaning
    numbers = (*(getattr(m, name) for name in NUMBERS), *(getattr(columns, name) for name in SCORES), *m.risks.T)
    table: list[list[float]] = np.column_stack(numbers).tolist()
    return table
