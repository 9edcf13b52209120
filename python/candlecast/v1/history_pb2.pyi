from candlecast.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListPredictionsRequest(_message.Message):
    __slots__ = ("symbol", "page_size", "page_token")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    page_size: int
    page_token: str
    def __init__(self, symbol: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPredictionsResponse(_message.Message):
    __slots__ = ("predictions", "next_page_token")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[StoredPrediction]
    next_page_token: str
    def __init__(self, predictions: _Optional[_Iterable[_Union[StoredPrediction, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class StoredPrediction(_message.Message):
    __slots__ = ("forecast", "close", "volume", "features", "outcomes", "exit_reason", "exit_return", "exit_bars", "created_at_ms", "outputs")
    FORECAST_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    EXIT_REASON_FIELD_NUMBER: _ClassVar[int]
    EXIT_RETURN_FIELD_NUMBER: _ClassVar[int]
    EXIT_BARS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    forecast: _types_pb2.Forecast
    close: float
    volume: float
    features: FeatureSummary
    outcomes: _containers.RepeatedCompositeFieldContainer[HorizonOutcome]
    exit_reason: str
    exit_return: float
    exit_bars: int
    created_at_ms: int
    outputs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, forecast: _Optional[_Union[_types_pb2.Forecast, _Mapping]] = ..., close: _Optional[float] = ..., volume: _Optional[float] = ..., features: _Optional[_Union[FeatureSummary, _Mapping]] = ..., outcomes: _Optional[_Iterable[_Union[HorizonOutcome, _Mapping]]] = ..., exit_reason: _Optional[str] = ..., exit_return: _Optional[float] = ..., exit_bars: _Optional[int] = ..., created_at_ms: _Optional[int] = ..., outputs: _Optional[_Iterable[float]] = ...) -> None: ...

class FeatureSummary(_message.Message):
    __slots__ = ("count", "nan_count", "zero_variance_count", "mean", "std", "min", "max", "rsi", "macd", "bb_position", "atr_pct", "volume_ratio", "trend_strength")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NAN_COUNT_FIELD_NUMBER: _ClassVar[int]
    ZERO_VARIANCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    RSI_FIELD_NUMBER: _ClassVar[int]
    MACD_FIELD_NUMBER: _ClassVar[int]
    BB_POSITION_FIELD_NUMBER: _ClassVar[int]
    ATR_PCT_FIELD_NUMBER: _ClassVar[int]
    VOLUME_RATIO_FIELD_NUMBER: _ClassVar[int]
    TREND_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    count: int
    nan_count: int
    zero_variance_count: int
    mean: float
    std: float
    min: float
    max: float
    rsi: float
    macd: float
    bb_position: float
    atr_pct: float
    volume_ratio: float
    trend_strength: float
    def __init__(self, count: _Optional[int] = ..., nan_count: _Optional[int] = ..., zero_variance_count: _Optional[int] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., rsi: _Optional[float] = ..., macd: _Optional[float] = ..., bb_position: _Optional[float] = ..., atr_pct: _Optional[float] = ..., volume_ratio: _Optional[float] = ..., trend_strength: _Optional[float] = ...) -> None: ...

class HorizonOutcome(_message.Message):
    __slots__ = ("bars", "actual_return", "actual_direction", "hit", "error")
    BARS_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_RETURN_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_DIRECTION_FIELD_NUMBER: _ClassVar[int]
    HIT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    bars: int
    actual_return: float
    actual_direction: _types_pb2.Direction
    hit: bool
    error: float
    def __init__(self, bars: _Optional[int] = ..., actual_return: _Optional[float] = ..., actual_direction: _Optional[_Union[_types_pb2.Direction, str]] = ..., hit: _Optional[bool] = ..., error: _Optional[float] = ...) -> None: ...
