from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SymbolState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SYMBOL_STATE_UNSPECIFIED: _ClassVar[SymbolState]
    SYMBOL_STATE_COLD: _ClassVar[SymbolState]
    SYMBOL_STATE_WARMING: _ClassVar[SymbolState]
    SYMBOL_STATE_READY: _ClassVar[SymbolState]
    SYMBOL_STATE_STALE: _ClassVar[SymbolState]
    SYMBOL_STATE_QUARANTINED: _ClassVar[SymbolState]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_ACCEPTED: _ClassVar[Verdict]
    VERDICT_DUPLICATE: _ClassVar[Verdict]
    VERDICT_CONFLICT: _ClassVar[Verdict]
    VERDICT_LATE: _ClassVar[Verdict]
    VERDICT_REFUSED: _ClassVar[Verdict]
    VERDICT_PEEKED: _ClassVar[Verdict]

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_LONG: _ClassVar[Direction]
    DIRECTION_SHORT: _ClassVar[Direction]
    DIRECTION_NEUTRAL: _ClassVar[Direction]

class Strength(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRENGTH_UNSPECIFIED: _ClassVar[Strength]
    STRENGTH_WEAK: _ClassVar[Strength]
    STRENGTH_NORMAL: _ClassVar[Strength]
    STRENGTH_STRONG: _ClassVar[Strength]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_SPOOLED: _ClassVar[Durability]
    DURABILITY_STORED: _ClassVar[Durability]
    DURABILITY_PENDING: _ClassVar[Durability]

class Wait(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WAIT_UNSPECIFIED: _ClassVar[Wait]
    WAIT_DURABLE: _ClassVar[Wait]
    WAIT_FAST: _ClassVar[Wait]
SYMBOL_STATE_UNSPECIFIED: SymbolState
SYMBOL_STATE_COLD: SymbolState
SYMBOL_STATE_WARMING: SymbolState
SYMBOL_STATE_READY: SymbolState
SYMBOL_STATE_STALE: SymbolState
SYMBOL_STATE_QUARANTINED: SymbolState
VERDICT_UNSPECIFIED: Verdict
VERDICT_ACCEPTED: Verdict
VERDICT_DUPLICATE: Verdict
VERDICT_CONFLICT: Verdict
VERDICT_LATE: Verdict
VERDICT_REFUSED: Verdict
VERDICT_PEEKED: Verdict
DIRECTION_UNSPECIFIED: Direction
DIRECTION_LONG: Direction
DIRECTION_SHORT: Direction
DIRECTION_NEUTRAL: Direction
STRENGTH_UNSPECIFIED: Strength
STRENGTH_WEAK: Strength
STRENGTH_NORMAL: Strength
STRENGTH_STRONG: Strength
DURABILITY_UNSPECIFIED: Durability
DURABILITY_SPOOLED: Durability
DURABILITY_STORED: Durability
DURABILITY_PENDING: Durability
WAIT_UNSPECIFIED: Wait
WAIT_DURABLE: Wait
WAIT_FAST: Wait

class Candle(_message.Message):
    __slots__ = ("symbol", "interval_ms", "open_time_ms", "open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume", "forming")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    OPEN_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    QUOTE_VOLUME_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    TAKER_BUY_VOLUME_FIELD_NUMBER: _ClassVar[int]
    FORMING_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    interval_ms: int
    open_time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: float
    taker_buy_volume: float
    forming: bool
    def __init__(self, symbol: _Optional[str] = ..., interval_ms: _Optional[int] = ..., open_time_ms: _Optional[int] = ..., open: _Optional[float] = ..., high: _Optional[float] = ..., low: _Optional[float] = ..., close: _Optional[float] = ..., volume: _Optional[float] = ..., quote_volume: _Optional[float] = ..., trades: _Optional[float] = ..., taker_buy_volume: _Optional[float] = ..., forming: _Optional[bool] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("field", "reason")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    field: str
    reason: str
    def __init__(self, field: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SymbolStatus(_message.Message):
    __slots__ = ("state", "have", "need")
    STATE_FIELD_NUMBER: _ClassVar[int]
    HAVE_FIELD_NUMBER: _ClassVar[int]
    NEED_FIELD_NUMBER: _ClassVar[int]
    state: SymbolState
    have: int
    need: int
    def __init__(self, state: _Optional[_Union[SymbolState, str]] = ..., have: _Optional[int] = ..., need: _Optional[int] = ...) -> None: ...

class Horizon(_message.Message):
    __slots__ = ("expected_return", "p_long", "p_short", "p_neutral")
    EXPECTED_RETURN_FIELD_NUMBER: _ClassVar[int]
    P_LONG_FIELD_NUMBER: _ClassVar[int]
    P_SHORT_FIELD_NUMBER: _ClassVar[int]
    P_NEUTRAL_FIELD_NUMBER: _ClassVar[int]
    expected_return: float
    p_long: float
    p_short: float
    p_neutral: float
    def __init__(self, expected_return: _Optional[float] = ..., p_long: _Optional[float] = ..., p_short: _Optional[float] = ..., p_neutral: _Optional[float] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("name", "version", "bundle_sha256", "feature_set_hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_HASH_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    bundle_sha256: str
    feature_set_hash: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., bundle_sha256: _Optional[str] = ..., feature_set_hash: _Optional[int] = ...) -> None: ...

class StageTimes(_message.Message):
    __slots__ = ("decode_us", "features_us", "queue_us", "model_us", "interpret_us", "spool_us")
    DECODE_US_FIELD_NUMBER: _ClassVar[int]
    FEATURES_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    MODEL_US_FIELD_NUMBER: _ClassVar[int]
    INTERPRET_US_FIELD_NUMBER: _ClassVar[int]
    SPOOL_US_FIELD_NUMBER: _ClassVar[int]
    decode_us: int
    features_us: int
    queue_us: int
    model_us: int
    interpret_us: int
    spool_us: int
    def __init__(self, decode_us: _Optional[int] = ..., features_us: _Optional[int] = ..., queue_us: _Optional[int] = ..., model_us: _Optional[int] = ..., interpret_us: _Optional[int] = ..., spool_us: _Optional[int] = ...) -> None: ...

class Forecast(_message.Message):
    __slots__ = ("symbol", "interval_ms", "close_time_ms", "direction", "strength", "confidence", "quality", "agreement", "move", "edge", "horizons", "max_drawdown_1h", "max_rally_1h", "max_drawdown_4h", "max_rally_4h", "stop_loss", "take_profit", "reasons", "state", "gap_filled", "degraded", "model", "features_hash", "durability", "times", "forming", "gate_probability", "gate_approved", "already_stored", "model_agreement", "rule_score", "hybrid_score", "size_multiplier", "close")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    EDGE_FIELD_NUMBER: _ClassVar[int]
    HORIZONS_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAWDOWN_1H_FIELD_NUMBER: _ClassVar[int]
    MAX_RALLY_1H_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAWDOWN_4H_FIELD_NUMBER: _ClassVar[int]
    MAX_RALLY_4H_FIELD_NUMBER: _ClassVar[int]
    STOP_LOSS_FIELD_NUMBER: _ClassVar[int]
    TAKE_PROFIT_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GAP_FILLED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_HASH_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    FORMING_FIELD_NUMBER: _ClassVar[int]
    GATE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    GATE_APPROVED_FIELD_NUMBER: _ClassVar[int]
    ALREADY_STORED_FIELD_NUMBER: _ClassVar[int]
    MODEL_AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    RULE_SCORE_FIELD_NUMBER: _ClassVar[int]
    HYBRID_SCORE_FIELD_NUMBER: _ClassVar[int]
    SIZE_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    interval_ms: int
    close_time_ms: int
    direction: Direction
    strength: Strength
    confidence: float
    quality: float
    agreement: float
    move: float
    edge: float
    horizons: _containers.RepeatedCompositeFieldContainer[Horizon]
    max_drawdown_1h: float
    max_rally_1h: float
    max_drawdown_4h: float
    max_rally_4h: float
    stop_loss: float
    take_profit: float
    reasons: _containers.RepeatedScalarFieldContainer[str]
    state: SymbolState
    gap_filled: bool
    degraded: bool
    model: ModelVersion
    features_hash: int
    durability: Durability
    times: StageTimes
    forming: bool
    gate_probability: float
    gate_approved: bool
    already_stored: bool
    model_agreement: float
    rule_score: float
    hybrid_score: float
    size_multiplier: float
    close: float
    def __init__(self, symbol: _Optional[str] = ..., interval_ms: _Optional[int] = ..., close_time_ms: _Optional[int] = ..., direction: _Optional[_Union[Direction, str]] = ..., strength: _Optional[_Union[Strength, str]] = ..., confidence: _Optional[float] = ..., quality: _Optional[float] = ..., agreement: _Optional[float] = ..., move: _Optional[float] = ..., edge: _Optional[float] = ..., horizons: _Optional[_Iterable[_Union[Horizon, _Mapping]]] = ..., max_drawdown_1h: _Optional[float] = ..., max_rally_1h: _Optional[float] = ..., max_drawdown_4h: _Optional[float] = ..., max_rally_4h: _Optional[float] = ..., stop_loss: _Optional[float] = ..., take_profit: _Optional[float] = ..., reasons: _Optional[_Iterable[str]] = ..., state: _Optional[_Union[SymbolState, str]] = ..., gap_filled: _Optional[bool] = ..., degraded: _Optional[bool] = ..., model: _Optional[_Union[ModelVersion, _Mapping]] = ..., features_hash: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ..., forming: _Optional[bool] = ..., gate_probability: _Optional[float] = ..., gate_approved: _Optional[bool] = ..., already_stored: _Optional[bool] = ..., model_agreement: _Optional[float] = ..., rule_score: _Optional[float] = ..., hybrid_score: _Optional[float] = ..., size_multiplier: _Optional[float] = ..., close: _Optional[float] = ...) -> None: ...

class CandleResult(_message.Message):
    __slots__ = ("symbol", "interval_ms", "open_time_ms", "verdict", "refusal", "status", "forecast")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    OPEN_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FORECAST_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    interval_ms: int
    open_time_ms: int
    verdict: Verdict
    refusal: Refusal
    status: SymbolStatus
    forecast: Forecast
    def __init__(self, symbol: _Optional[str] = ..., interval_ms: _Optional[int] = ..., open_time_ms: _Optional[int] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., status: _Optional[_Union[SymbolStatus, _Mapping]] = ..., forecast: _Optional[_Union[Forecast, _Mapping]] = ...) -> None: ...

class PackedResults(_message.Message):
    __slots__ = ("records", "model", "times", "challenger", "layout")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    records: bytes
    model: ModelVersion
    times: StageTimes
    challenger: ModelVersion
    layout: int
    def __init__(self, records: _Optional[bytes] = ..., model: _Optional[_Union[ModelVersion, _Mapping]] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ..., challenger: _Optional[_Union[ModelVersion, _Mapping]] = ..., layout: _Optional[int] = ...) -> None: ...
