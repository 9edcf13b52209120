from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNSPECIFIED: _ClassVar[Side]
    SIDE_LONG: _ClassVar[Side]
    SIDE_SHORT: _ClassVar[Side]

class SignalStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIGNAL_STATUS_UNSPECIFIED: _ClassVar[SignalStatus]
    SIGNAL_STATUS_OPEN: _ClassVar[SignalStatus]
    SIGNAL_STATUS_CLOSED: _ClassVar[SignalStatus]
    SIGNAL_STATUS_VOID: _ClassVar[SignalStatus]
SIDE_UNSPECIFIED: Side
SIDE_LONG: Side
SIDE_SHORT: Side
SIGNAL_STATUS_UNSPECIFIED: SignalStatus
SIGNAL_STATUS_OPEN: SignalStatus
SIGNAL_STATUS_CLOSED: SignalStatus
SIGNAL_STATUS_VOID: SignalStatus

class PredictionKey(_message.Message):
    __slots__ = ("interval_ms", "close_time_ms", "model", "version")
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    interval_ms: int
    close_time_ms: int
    model: str
    version: int
    def __init__(self, interval_ms: _Optional[int] = ..., close_time_ms: _Optional[int] = ..., model: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class LogSignalRequest(_message.Message):
    __slots__ = ("key", "strategy", "symbol", "side", "entry_price", "size", "fees", "confidence", "entry_time_ms", "prediction", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FEES_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    key: str
    strategy: str
    symbol: str
    side: str
    entry_price: float
    size: float
    fees: float
    confidence: float
    entry_time_ms: int
    prediction: PredictionKey
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, key: _Optional[str] = ..., strategy: _Optional[str] = ..., symbol: _Optional[str] = ..., side: _Optional[str] = ..., entry_price: _Optional[float] = ..., size: _Optional[float] = ..., fees: _Optional[float] = ..., confidence: _Optional[float] = ..., entry_time_ms: _Optional[int] = ..., prediction: _Optional[_Union[PredictionKey, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class LogSignalResponse(_message.Message):
    __slots__ = ("signal", "created")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    signal: Signal
    created: bool
    def __init__(self, signal: _Optional[_Union[Signal, _Mapping]] = ..., created: _Optional[bool] = ...) -> None: ...

class CloseSignalRequest(_message.Message):
    __slots__ = ("key", "exit_price", "size", "fees", "exit_time_ms", "close_key")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXIT_PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FEES_FIELD_NUMBER: _ClassVar[int]
    EXIT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    exit_price: float
    size: float
    fees: float
    exit_time_ms: int
    close_key: str
    def __init__(self, key: _Optional[str] = ..., exit_price: _Optional[float] = ..., size: _Optional[float] = ..., fees: _Optional[float] = ..., exit_time_ms: _Optional[int] = ..., close_key: _Optional[str] = ...) -> None: ...

class CloseSignalResponse(_message.Message):
    __slots__ = ("signal", "closed")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    signal: Signal
    closed: bool
    def __init__(self, signal: _Optional[_Union[Signal, _Mapping]] = ..., closed: _Optional[bool] = ...) -> None: ...

class Signal(_message.Message):
    __slots__ = ("key", "strategy", "symbol", "side", "status", "entry_price", "entry_time_ms", "size", "closed_size", "fees", "confidence", "exit_price", "exit_time_ms", "pnl", "is_winner", "exit_reason", "prediction", "metadata", "realised_pnl")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_PRICE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CLOSED_SIZE_FIELD_NUMBER: _ClassVar[int]
    FEES_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    EXIT_PRICE_FIELD_NUMBER: _ClassVar[int]
    EXIT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    PNL_FIELD_NUMBER: _ClassVar[int]
    IS_WINNER_FIELD_NUMBER: _ClassVar[int]
    EXIT_REASON_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    REALISED_PNL_FIELD_NUMBER: _ClassVar[int]
    key: str
    strategy: str
    symbol: str
    side: Side
    status: SignalStatus
    entry_price: float
    entry_time_ms: int
    size: float
    closed_size: float
    fees: float
    confidence: float
    exit_price: float
    exit_time_ms: int
    pnl: float
    is_winner: bool
    exit_reason: str
    prediction: PredictionKey
    metadata: _containers.ScalarMap[str, str]
    realised_pnl: float
    def __init__(self, key: _Optional[str] = ..., strategy: _Optional[str] = ..., symbol: _Optional[str] = ..., side: _Optional[_Union[Side, str]] = ..., status: _Optional[_Union[SignalStatus, str]] = ..., entry_price: _Optional[float] = ..., entry_time_ms: _Optional[int] = ..., size: _Optional[float] = ..., closed_size: _Optional[float] = ..., fees: _Optional[float] = ..., confidence: _Optional[float] = ..., exit_price: _Optional[float] = ..., exit_time_ms: _Optional[int] = ..., pnl: _Optional[float] = ..., is_winner: _Optional[bool] = ..., exit_reason: _Optional[str] = ..., prediction: _Optional[_Union[PredictionKey, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., realised_pnl: _Optional[float] = ...) -> None: ...

class LogTrainingRequest(_message.Message):
    __slots__ = ("key", "strategy", "status", "accuracy", "duration_s", "data_points", "error", "trained_at_ms", "version", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    DATA_POINTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TRAINED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    key: str
    strategy: str
    status: str
    accuracy: float
    duration_s: float
    data_points: int
    error: str
    trained_at_ms: int
    version: int
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, key: _Optional[str] = ..., strategy: _Optional[str] = ..., status: _Optional[str] = ..., accuracy: _Optional[float] = ..., duration_s: _Optional[float] = ..., data_points: _Optional[int] = ..., error: _Optional[str] = ..., trained_at_ms: _Optional[int] = ..., version: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class LogTrainingResponse(_message.Message):
    __slots__ = ("created",)
    CREATED_FIELD_NUMBER: _ClassVar[int]
    created: bool
    def __init__(self, created: _Optional[bool] = ...) -> None: ...

class GetStrategyRequest(_message.Message):
    __slots__ = ("strategy", "symbol", "from_ms", "to_ms", "periods_per_year")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    FROM_MS_FIELD_NUMBER: _ClassVar[int]
    TO_MS_FIELD_NUMBER: _ClassVar[int]
    PERIODS_PER_YEAR_FIELD_NUMBER: _ClassVar[int]
    strategy: str
    symbol: str
    from_ms: int
    to_ms: int
    periods_per_year: float
    def __init__(self, strategy: _Optional[str] = ..., symbol: _Optional[str] = ..., from_ms: _Optional[int] = ..., to_ms: _Optional[int] = ..., periods_per_year: _Optional[float] = ...) -> None: ...

class GetStrategyResponse(_message.Message):
    __slots__ = ("performance",)
    PERFORMANCE_FIELD_NUMBER: _ClassVar[int]
    performance: StrategyPerformance
    def __init__(self, performance: _Optional[_Union[StrategyPerformance, _Mapping]] = ...) -> None: ...

class StrategyPerformance(_message.Message):
    __slots__ = ("strategy", "symbol", "signals", "closed", "open_positions", "wins", "losses", "total_pnl", "gross_profit", "gross_loss", "fees", "win_rate", "profit_factor", "expectancy", "mean_return", "sharpe", "trade_sharpe", "max_drawdown", "mean_holding_s", "periods_per_year", "first_day_ms", "last_day_ms")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    OPEN_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    WINS_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_PNL_FIELD_NUMBER: _ClassVar[int]
    GROSS_PROFIT_FIELD_NUMBER: _ClassVar[int]
    GROSS_LOSS_FIELD_NUMBER: _ClassVar[int]
    FEES_FIELD_NUMBER: _ClassVar[int]
    WIN_RATE_FIELD_NUMBER: _ClassVar[int]
    PROFIT_FACTOR_FIELD_NUMBER: _ClassVar[int]
    EXPECTANCY_FIELD_NUMBER: _ClassVar[int]
    MEAN_RETURN_FIELD_NUMBER: _ClassVar[int]
    SHARPE_FIELD_NUMBER: _ClassVar[int]
    TRADE_SHARPE_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAWDOWN_FIELD_NUMBER: _ClassVar[int]
    MEAN_HOLDING_S_FIELD_NUMBER: _ClassVar[int]
    PERIODS_PER_YEAR_FIELD_NUMBER: _ClassVar[int]
    FIRST_DAY_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_DAY_MS_FIELD_NUMBER: _ClassVar[int]
    strategy: str
    symbol: str
    signals: int
    closed: int
    open_positions: int
    wins: int
    losses: int
    total_pnl: float
    gross_profit: float
    gross_loss: float
    fees: float
    win_rate: float
    profit_factor: float
    expectancy: float
    mean_return: float
    sharpe: float
    trade_sharpe: float
    max_drawdown: float
    mean_holding_s: float
    periods_per_year: float
    first_day_ms: int
    last_day_ms: int
    def __init__(self, strategy: _Optional[str] = ..., symbol: _Optional[str] = ..., signals: _Optional[int] = ..., closed: _Optional[int] = ..., open_positions: _Optional[int] = ..., wins: _Optional[int] = ..., losses: _Optional[int] = ..., total_pnl: _Optional[float] = ..., gross_profit: _Optional[float] = ..., gross_loss: _Optional[float] = ..., fees: _Optional[float] = ..., win_rate: _Optional[float] = ..., profit_factor: _Optional[float] = ..., expectancy: _Optional[float] = ..., mean_return: _Optional[float] = ..., sharpe: _Optional[float] = ..., trade_sharpe: _Optional[float] = ..., max_drawdown: _Optional[float] = ..., mean_holding_s: _Optional[float] = ..., periods_per_year: _Optional[float] = ..., first_day_ms: _Optional[int] = ..., last_day_ms: _Optional[int] = ...) -> None: ...

class ListStrategiesRequest(_message.Message):
    __slots__ = ("periods_per_year",)
    PERIODS_PER_YEAR_FIELD_NUMBER: _ClassVar[int]
    periods_per_year: float
    def __init__(self, periods_per_year: _Optional[float] = ...) -> None: ...

class ListStrategiesResponse(_message.Message):
    __slots__ = ("strategies", "trainings")
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    TRAININGS_FIELD_NUMBER: _ClassVar[int]
    strategies: _containers.RepeatedCompositeFieldContainer[StrategyPerformance]
    trainings: _containers.RepeatedCompositeFieldContainer[TrainingStatus]
    def __init__(self, strategies: _Optional[_Iterable[_Union[StrategyPerformance, _Mapping]]] = ..., trainings: _Optional[_Iterable[_Union[TrainingStatus, _Mapping]]] = ...) -> None: ...

class TrainingStatus(_message.Message):
    __slots__ = ("strategy", "status", "last_training_ms", "accuracy", "duration_s", "data_points", "version", "error")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LAST_TRAINING_MS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    DATA_POINTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    strategy: str
    status: str
    last_training_ms: int
    accuracy: float
    duration_s: float
    data_points: int
    version: int
    error: str
    def __init__(self, strategy: _Optional[str] = ..., status: _Optional[str] = ..., last_training_ms: _Optional[int] = ..., accuracy: _Optional[float] = ..., duration_s: _Optional[float] = ..., data_points: _Optional[int] = ..., version: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class ListSignalsRequest(_message.Message):
    __slots__ = ("strategy", "symbol", "open_only", "page_size", "page_token")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    OPEN_ONLY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    strategy: str
    symbol: str
    open_only: bool
    page_size: int
    page_token: str
    def __init__(self, strategy: _Optional[str] = ..., symbol: _Optional[str] = ..., open_only: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSignalsResponse(_message.Message):
    __slots__ = ("signals", "next_page_token")
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    signals: _containers.RepeatedCompositeFieldContainer[Signal]
    next_page_token: str
    def __init__(self, signals: _Optional[_Iterable[_Union[Signal, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetAccuracyRequest(_message.Message):
    __slots__ = ("model", "version", "symbol", "horizon_bars", "from_ms", "to_ms", "by_symbol", "by_day")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    HORIZON_BARS_FIELD_NUMBER: _ClassVar[int]
    FROM_MS_FIELD_NUMBER: _ClassVar[int]
    TO_MS_FIELD_NUMBER: _ClassVar[int]
    BY_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    BY_DAY_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    symbol: str
    horizon_bars: int
    from_ms: int
    to_ms: int
    by_symbol: bool
    by_day: bool
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., symbol: _Optional[str] = ..., horizon_bars: _Optional[int] = ..., from_ms: _Optional[int] = ..., to_ms: _Optional[int] = ..., by_symbol: _Optional[bool] = ..., by_day: _Optional[bool] = ...) -> None: ...

class GetAccuracyResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[Accuracy]
    def __init__(self, rows: _Optional[_Iterable[_Union[Accuracy, _Mapping]]] = ...) -> None: ...

class Accuracy(_message.Message):
    __slots__ = ("model", "version", "interval_ms", "horizon_bars", "symbol", "day_ms", "forecasts", "hit_rate", "base_rate", "side_hit_rate", "log_loss", "base_log_loss", "skill", "brier", "base_brier", "mae", "base_mae", "calibration")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    HORIZON_BARS_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    DAY_MS_FIELD_NUMBER: _ClassVar[int]
    FORECASTS_FIELD_NUMBER: _ClassVar[int]
    HIT_RATE_FIELD_NUMBER: _ClassVar[int]
    BASE_RATE_FIELD_NUMBER: _ClassVar[int]
    SIDE_HIT_RATE_FIELD_NUMBER: _ClassVar[int]
    LOG_LOSS_FIELD_NUMBER: _ClassVar[int]
    BASE_LOG_LOSS_FIELD_NUMBER: _ClassVar[int]
    SKILL_FIELD_NUMBER: _ClassVar[int]
    BRIER_FIELD_NUMBER: _ClassVar[int]
    BASE_BRIER_FIELD_NUMBER: _ClassVar[int]
    MAE_FIELD_NUMBER: _ClassVar[int]
    BASE_MAE_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    interval_ms: int
    horizon_bars: int
    symbol: str
    day_ms: int
    forecasts: int
    hit_rate: float
    base_rate: float
    side_hit_rate: float
    log_loss: float
    base_log_loss: float
    skill: float
    brier: float
    base_brier: float
    mae: float
    base_mae: float
    calibration: _containers.RepeatedCompositeFieldContainer[CalibrationBin]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., interval_ms: _Optional[int] = ..., horizon_bars: _Optional[int] = ..., symbol: _Optional[str] = ..., day_ms: _Optional[int] = ..., forecasts: _Optional[int] = ..., hit_rate: _Optional[float] = ..., base_rate: _Optional[float] = ..., side_hit_rate: _Optional[float] = ..., log_loss: _Optional[float] = ..., base_log_loss: _Optional[float] = ..., skill: _Optional[float] = ..., brier: _Optional[float] = ..., base_brier: _Optional[float] = ..., mae: _Optional[float] = ..., base_mae: _Optional[float] = ..., calibration: _Optional[_Iterable[_Union[CalibrationBin, _Mapping]]] = ...) -> None: ...

class CalibrationBin(_message.Message):
    __slots__ = ("confidence_from", "forecasts", "mean_confidence", "hit_rate")
    CONFIDENCE_FROM_FIELD_NUMBER: _ClassVar[int]
    FORECASTS_FIELD_NUMBER: _ClassVar[int]
    MEAN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    HIT_RATE_FIELD_NUMBER: _ClassVar[int]
    confidence_from: float
    forecasts: int
    mean_confidence: float
    hit_rate: float
    def __init__(self, confidence_from: _Optional[float] = ..., forecasts: _Optional[int] = ..., mean_confidence: _Optional[float] = ..., hit_rate: _Optional[float] = ...) -> None: ...
