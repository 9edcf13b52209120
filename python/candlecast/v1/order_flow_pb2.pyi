from candlecast.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GateVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATE_VERDICT_UNSPECIFIED: _ClassVar[GateVerdict]
    GATE_VERDICT_ABSENT: _ClassVar[GateVerdict]
    GATE_VERDICT_UNDECIDED: _ClassVar[GateVerdict]
    GATE_VERDICT_REFUSE: _ClassVar[GateVerdict]
    GATE_VERDICT_APPROVE: _ClassVar[GateVerdict]
GATE_VERDICT_UNSPECIFIED: GateVerdict
GATE_VERDICT_ABSENT: GateVerdict
GATE_VERDICT_UNDECIDED: GateVerdict
GATE_VERDICT_REFUSE: GateVerdict
GATE_VERDICT_APPROVE: GateVerdict

class TradeColumns(_message.Message):
    __slots__ = ("ts", "id", "price", "qty")
    TS_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QTY_FIELD_NUMBER: _ClassVar[int]
    ts: bytes
    id: bytes
    price: bytes
    qty: bytes
    def __init__(self, ts: _Optional[bytes] = ..., id: _Optional[bytes] = ..., price: _Optional[bytes] = ..., qty: _Optional[bytes] = ...) -> None: ...

class QuoteColumns(_message.Message):
    __slots__ = ("ts", "bid", "bid_size", "ask", "ask_size")
    TS_FIELD_NUMBER: _ClassVar[int]
    BID_FIELD_NUMBER: _ClassVar[int]
    BID_SIZE_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    ASK_SIZE_FIELD_NUMBER: _ClassVar[int]
    ts: bytes
    bid: bytes
    bid_size: bytes
    ask: bytes
    ask_size: bytes
    def __init__(self, ts: _Optional[bytes] = ..., bid: _Optional[bytes] = ..., bid_size: _Optional[bytes] = ..., ask: _Optional[bytes] = ..., ask_size: _Optional[bytes] = ...) -> None: ...

class DepthColumns(_message.Message):
    __slots__ = ("ts", "first", "last", "previous", "side", "price", "qty", "is_snapshot")
    TS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QTY_FIELD_NUMBER: _ClassVar[int]
    IS_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    ts: bytes
    first: bytes
    last: bytes
    previous: bytes
    side: bytes
    price: bytes
    qty: bytes
    is_snapshot: bytes
    def __init__(self, ts: _Optional[bytes] = ..., first: _Optional[bytes] = ..., last: _Optional[bytes] = ..., previous: _Optional[bytes] = ..., side: _Optional[bytes] = ..., price: _Optional[bytes] = ..., qty: _Optional[bytes] = ..., is_snapshot: _Optional[bytes] = ...) -> None: ...

class FlowBatch(_message.Message):
    __slots__ = ("symbol", "trades", "quotes", "depth")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    trades: TradeColumns
    quotes: QuoteColumns
    depth: DepthColumns
    def __init__(self, symbol: _Optional[str] = ..., trades: _Optional[_Union[TradeColumns, _Mapping]] = ..., quotes: _Optional[_Union[QuoteColumns, _Mapping]] = ..., depth: _Optional[_Union[DepthColumns, _Mapping]] = ...) -> None: ...

class OrderFlowRequest(_message.Message):
    __slots__ = ("batches",)
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[FlowBatch]
    def __init__(self, batches: _Optional[_Iterable[_Union[FlowBatch, _Mapping]]] = ...) -> None: ...

class OrderFlowResponse(_message.Message):
    __slots__ = ("acks", "states", "gaps")
    ACKS_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    acks: _containers.RepeatedCompositeFieldContainer[FlowAck]
    states: _containers.RepeatedCompositeFieldContainer[FlowState]
    gaps: _containers.RepeatedCompositeFieldContainer[FlowGap]
    def __init__(self, acks: _Optional[_Iterable[_Union[FlowAck, _Mapping]]] = ..., states: _Optional[_Iterable[_Union[FlowState, _Mapping]]] = ..., gaps: _Optional[_Iterable[_Union[FlowGap, _Mapping]]] = ...) -> None: ...

class FlowCounts(_message.Message):
    __slots__ = ("accepted", "duplicate", "late", "refused")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    duplicate: int
    late: int
    refused: int
    def __init__(self, accepted: _Optional[int] = ..., duplicate: _Optional[int] = ..., late: _Optional[int] = ..., refused: _Optional[int] = ...) -> None: ...

class FlowAck(_message.Message):
    __slots__ = ("symbol", "trades", "quotes", "depth")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    trades: FlowCounts
    quotes: FlowCounts
    depth: DepthCounts
    def __init__(self, symbol: _Optional[str] = ..., trades: _Optional[_Union[FlowCounts, _Mapping]] = ..., quotes: _Optional[_Union[FlowCounts, _Mapping]] = ..., depth: _Optional[_Union[DepthCounts, _Mapping]] = ...) -> None: ...

class DepthCounts(_message.Message):
    __slots__ = ("applied", "known", "early", "gaps")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    EARLY_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    applied: int
    known: int
    early: int
    gaps: int
    def __init__(self, applied: _Optional[int] = ..., known: _Optional[int] = ..., early: _Optional[int] = ..., gaps: _Optional[int] = ...) -> None: ...

class FlowState(_message.Message):
    __slots__ = ("symbol", "ts_ms", "tick_ratio", "depth_ratio", "price_dist", "price", "vwap", "std_dev", "bid_vol", "ask_vol", "undefined")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TS_MS_FIELD_NUMBER: _ClassVar[int]
    TICK_RATIO_FIELD_NUMBER: _ClassVar[int]
    DEPTH_RATIO_FIELD_NUMBER: _ClassVar[int]
    PRICE_DIST_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    VWAP_FIELD_NUMBER: _ClassVar[int]
    STD_DEV_FIELD_NUMBER: _ClassVar[int]
    BID_VOL_FIELD_NUMBER: _ClassVar[int]
    ASK_VOL_FIELD_NUMBER: _ClassVar[int]
    UNDEFINED_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    ts_ms: int
    tick_ratio: float
    depth_ratio: float
    price_dist: float
    price: float
    vwap: float
    std_dev: float
    bid_vol: float
    ask_vol: float
    undefined: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, symbol: _Optional[str] = ..., ts_ms: _Optional[int] = ..., tick_ratio: _Optional[float] = ..., depth_ratio: _Optional[float] = ..., price_dist: _Optional[float] = ..., price: _Optional[float] = ..., vwap: _Optional[float] = ..., std_dev: _Optional[float] = ..., bid_vol: _Optional[float] = ..., ask_vol: _Optional[float] = ..., undefined: _Optional[_Iterable[str]] = ...) -> None: ...

class FlowGap(_message.Message):
    __slots__ = ("symbol", "ts_ms")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TS_MS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    ts_ms: int
    def __init__(self, symbol: _Optional[str] = ..., ts_ms: _Optional[int] = ...) -> None: ...

class GateRequest(_message.Message):
    __slots__ = ("symbols", "ts_ms")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    TS_MS_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    ts_ms: int
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., ts_ms: _Optional[int] = ...) -> None: ...

class GateResponse(_message.Message):
    __slots__ = ("decisions", "threshold", "model")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[GateDecision]
    threshold: float
    model: _types_pb2.ModelVersion
    def __init__(self, decisions: _Optional[_Iterable[_Union[GateDecision, _Mapping]]] = ..., threshold: _Optional[float] = ..., model: _Optional[_Union[_types_pb2.ModelVersion, _Mapping]] = ...) -> None: ...

class GateDecision(_message.Message):
    __slots__ = ("symbol", "approve", "verdict", "probability", "state", "reasons", "degraded")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    APPROVE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    approve: bool
    verdict: GateVerdict
    probability: float
    state: FlowState
    reasons: _containers.RepeatedScalarFieldContainer[str]
    degraded: bool
    def __init__(self, symbol: _Optional[str] = ..., approve: _Optional[bool] = ..., verdict: _Optional[_Union[GateVerdict, str]] = ..., probability: _Optional[float] = ..., state: _Optional[_Union[FlowState, _Mapping]] = ..., reasons: _Optional[_Iterable[str]] = ..., degraded: _Optional[bool] = ...) -> None: ...
