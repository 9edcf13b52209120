from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SentimentScore(_message.Message):
    __slots__ = ("symbol", "ts_ms", "score", "source")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TS_MS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    ts_ms: int
    score: float
    source: str
    def __init__(self, symbol: _Optional[str] = ..., ts_ms: _Optional[int] = ..., score: _Optional[float] = ..., source: _Optional[str] = ...) -> None: ...

class PutSentimentRequest(_message.Message):
    __slots__ = ("scores",)
    SCORES_FIELD_NUMBER: _ClassVar[int]
    scores: _containers.RepeatedCompositeFieldContainer[SentimentScore]
    def __init__(self, scores: _Optional[_Iterable[_Union[SentimentScore, _Mapping]]] = ...) -> None: ...

class PutSentimentResponse(_message.Message):
    __slots__ = ("created", "known")
    CREATED_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    created: int
    known: int
    def __init__(self, created: _Optional[int] = ..., known: _Optional[int] = ...) -> None: ...

class SentimentAsOfRequest(_message.Message):
    __slots__ = ("symbols", "at_ms", "source")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    at_ms: int
    source: str
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., at_ms: _Optional[int] = ..., source: _Optional[str] = ...) -> None: ...

class SentimentAsOfResponse(_message.Message):
    __slots__ = ("scores",)
    SCORES_FIELD_NUMBER: _ClassVar[int]
    scores: _containers.RepeatedCompositeFieldContainer[SentimentScore]
    def __init__(self, scores: _Optional[_Iterable[_Union[SentimentScore, _Mapping]]] = ...) -> None: ...
