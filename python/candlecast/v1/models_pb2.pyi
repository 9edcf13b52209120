from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_PUSHED: _ClassVar[ModelState]
    MODEL_STATE_VERIFIED: _ClassVar[ModelState]
    MODEL_STATE_LOADED: _ClassVar[ModelState]
    MODEL_STATE_WARM: _ClassVar[ModelState]
    MODEL_STATE_SHADOW: _ClassVar[ModelState]
    MODEL_STATE_CHALLENGER: _ClassVar[ModelState]
    MODEL_STATE_CHAMPION: _ClassVar[ModelState]
    MODEL_STATE_RETIRED: _ClassVar[ModelState]
    MODEL_STATE_REFUSED: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_PUSHED: ModelState
MODEL_STATE_VERIFIED: ModelState
MODEL_STATE_LOADED: ModelState
MODEL_STATE_WARM: ModelState
MODEL_STATE_SHADOW: ModelState
MODEL_STATE_CHALLENGER: ModelState
MODEL_STATE_CHAMPION: ModelState
MODEL_STATE_RETIRED: ModelState
MODEL_STATE_REFUSED: ModelState
MODEL_STATE_FAILED: ModelState

class Model(_message.Message):
    __slots__ = ("name", "version", "bundle_sha256", "state", "since_ms", "loaded", "reason", "share", "metrics_json", "traffic", "absent")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    METRICS_JSON_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    bundle_sha256: str
    state: ModelState
    since_ms: int
    loaded: bool
    reason: str
    share: float
    metrics_json: str
    traffic: ModelTraffic
    absent: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., bundle_sha256: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., since_ms: _Optional[int] = ..., loaded: _Optional[bool] = ..., reason: _Optional[str] = ..., share: _Optional[float] = ..., metrics_json: _Optional[str] = ..., traffic: _Optional[_Union[ModelTraffic, _Mapping]] = ..., absent: _Optional[_Iterable[str]] = ...) -> None: ...

class ModelTraffic(_message.Message):
    __slots__ = ("rows", "not_finite", "failures", "window_ms", "confidence", "not_heard")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NOT_FINITE_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    NOT_HEARD_FIELD_NUMBER: _ClassVar[int]
    rows: int
    not_finite: int
    failures: int
    window_ms: float
    confidence: float
    not_heard: int
    def __init__(self, rows: _Optional[int] = ..., not_finite: _Optional[int] = ..., failures: _Optional[int] = ..., window_ms: _Optional[float] = ..., confidence: _Optional[float] = ..., not_heard: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class PushModelRequest(_message.Message):
    __slots__ = ("why", "file", "data")
    WHY_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    why: str
    file: str
    data: bytes
    def __init__(self, why: _Optional[str] = ..., file: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("version", "why")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    version: int
    why: str
    def __init__(self, version: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class SetAliasRequest(_message.Message):
    __slots__ = ("version", "alias", "share", "why")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    version: int
    alias: ModelState
    share: float
    why: str
    def __init__(self, version: _Optional[int] = ..., alias: _Optional[_Union[ModelState, str]] = ..., share: _Optional[float] = ..., why: _Optional[str] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("why",)
    WHY_FIELD_NUMBER: _ClassVar[int]
    why: str
    def __init__(self, why: _Optional[str] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("version", "why")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    version: int
    why: str
    def __init__(self, version: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class ListModelEventsRequest(_message.Message):
    __slots__ = ("version", "limit")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    version: int
    limit: int
    def __init__(self, version: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ModelEvent(_message.Message):
    __slots__ = ("id", "at_ms", "model", "version", "bundle_sha256", "from_state", "to_state", "who", "why", "metrics_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    FROM_STATE_FIELD_NUMBER: _ClassVar[int]
    TO_STATE_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    METRICS_JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    at_ms: int
    model: str
    version: int
    bundle_sha256: str
    from_state: ModelState
    to_state: ModelState
    who: str
    why: str
    metrics_json: str
    def __init__(self, id: _Optional[str] = ..., at_ms: _Optional[int] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., bundle_sha256: _Optional[str] = ..., from_state: _Optional[_Union[ModelState, str]] = ..., to_state: _Optional[_Union[ModelState, str]] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., metrics_json: _Optional[str] = ...) -> None: ...

class ListModelEventsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[ModelEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[ModelEvent, _Mapping]]] = ...) -> None: ...
