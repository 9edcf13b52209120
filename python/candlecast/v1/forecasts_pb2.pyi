from candlecast.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WhenBehind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WHEN_BEHIND_UNSPECIFIED: _ClassVar[WhenBehind]
    WHEN_BEHIND_LATEST: _ClassVar[WhenBehind]
    WHEN_BEHIND_END: _ClassVar[WhenBehind]
WHEN_BEHIND_UNSPECIFIED: WhenBehind
WHEN_BEHIND_LATEST: WhenBehind
WHEN_BEHIND_END: WhenBehind

class PredictRequest(_message.Message):
    __slots__ = ("candles", "symbols", "interval_ms", "wait", "packed", "packed_layout")
    CANDLES_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    PACKED_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    candles: _containers.RepeatedCompositeFieldContainer[_types_pb2.Candle]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    interval_ms: int
    wait: _types_pb2.Wait
    packed: bytes
    packed_layout: int
    def __init__(self, candles: _Optional[_Iterable[_Union[_types_pb2.Candle, _Mapping]]] = ..., symbols: _Optional[_Iterable[str]] = ..., interval_ms: _Optional[int] = ..., wait: _Optional[_Union[_types_pb2.Wait, str]] = ..., packed: _Optional[bytes] = ..., packed_layout: _Optional[int] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("results", "packed")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_types_pb2.CandleResult]
    packed: _types_pb2.PackedResults
    def __init__(self, results: _Optional[_Iterable[_Union[_types_pb2.CandleResult, _Mapping]]] = ..., packed: _Optional[_Union[_types_pb2.PackedResults, _Mapping]] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("candles", "wait", "packed", "packed_layout")
    CANDLES_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    PACKED_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    candles: _containers.RepeatedCompositeFieldContainer[_types_pb2.Candle]
    wait: _types_pb2.Wait
    packed: bytes
    packed_layout: int
    def __init__(self, candles: _Optional[_Iterable[_Union[_types_pb2.Candle, _Mapping]]] = ..., wait: _Optional[_Union[_types_pb2.Wait, str]] = ..., packed: _Optional[bytes] = ..., packed_layout: _Optional[int] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("results", "packed")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_types_pb2.CandleResult]
    packed: _types_pb2.PackedResults
    def __init__(self, results: _Optional[_Iterable[_Union[_types_pb2.CandleResult, _Mapping]]] = ..., packed: _Optional[_Union[_types_pb2.PackedResults, _Mapping]] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("symbols", "min_confidence", "directions", "from_close_time_ms", "when_behind")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    DIRECTIONS_FIELD_NUMBER: _ClassVar[int]
    FROM_CLOSE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    WHEN_BEHIND_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    min_confidence: float
    directions: _containers.RepeatedScalarFieldContainer[_types_pb2.Direction]
    from_close_time_ms: int
    when_behind: WhenBehind
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., min_confidence: _Optional[float] = ..., directions: _Optional[_Iterable[_Union[_types_pb2.Direction, str]]] = ..., from_close_time_ms: _Optional[int] = ..., when_behind: _Optional[_Union[WhenBehind, str]] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("forecasts", "skipped", "live")
    FORECASTS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    forecasts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Forecast]
    skipped: int
    live: bool
    def __init__(self, forecasts: _Optional[_Iterable[_Union[_types_pb2.Forecast, _Mapping]]] = ..., skipped: _Optional[int] = ..., live: _Optional[bool] = ...) -> None: ...

class BackfillRequest(_message.Message):
    __slots__ = ("candles", "packed")
    CANDLES_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    candles: _containers.RepeatedCompositeFieldContainer[_types_pb2.Candle]
    packed: bytes
    def __init__(self, candles: _Optional[_Iterable[_Union[_types_pb2.Candle, _Mapping]]] = ..., packed: _Optional[bytes] = ...) -> None: ...

class BackfillResponse(_message.Message):
    __slots__ = ("accepted", "duplicates", "refused", "refused_count", "symbols")
    class SymbolsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _types_pb2.SymbolStatus
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_types_pb2.SymbolStatus, _Mapping]] = ...) -> None: ...
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    duplicates: int
    refused: _containers.RepeatedCompositeFieldContainer[_types_pb2.CandleResult]
    refused_count: int
    symbols: _containers.MessageMap[str, _types_pb2.SymbolStatus]
    def __init__(self, accepted: _Optional[int] = ..., duplicates: _Optional[int] = ..., refused: _Optional[_Iterable[_Union[_types_pb2.CandleResult, _Mapping]]] = ..., refused_count: _Optional[int] = ..., symbols: _Optional[_Mapping[str, _types_pb2.SymbolStatus]] = ...) -> None: ...

class GetSymbolRequest(_message.Message):
    __slots__ = ("symbol", "interval_ms")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    interval_ms: int
    def __init__(self, symbol: _Optional[str] = ..., interval_ms: _Optional[int] = ...) -> None: ...

class GetSymbolResponse(_message.Message):
    __slots__ = ("symbol", "interval_ms", "status", "newest_open_time_ms", "gap_filled", "conflicts")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    NEWEST_OPEN_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    GAP_FILLED_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    interval_ms: int
    status: _types_pb2.SymbolStatus
    newest_open_time_ms: int
    gap_filled: bool
    conflicts: int
    def __init__(self, symbol: _Optional[str] = ..., interval_ms: _Optional[int] = ..., status: _Optional[_Union[_types_pb2.SymbolStatus, _Mapping]] = ..., newest_open_time_ms: _Optional[int] = ..., gap_filled: _Optional[bool] = ..., conflicts: _Optional[int] = ...) -> None: ...
