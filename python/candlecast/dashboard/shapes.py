"""What the HTTP API takes and gives, for OpenAPI. Fractions are fractions, times are UTC milliseconds since 1970."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from candlecast.values import DEFAULT_INTERVAL_MS, SYMBOL

Symbol = Annotated[str, StringConstraints(pattern=f"^{SYMBOL.pattern}$")]
INT64_SAFE = 2**53
"""Whole numbers beyond are not exact in JavaScript."""


class Shape(BaseModel):
    """What is given; a column that a page does not know yet is left out."""

    model_config = ConfigDict(extra="ignore")


class Taken(BaseModel):
    """What is taken; a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class Prediction(Shape):
    """One stored forecast; what was not finite is null."""

    symbol: str
    interval_ms: int
    close_time_ms: int
    model: str
    version: int
    close: float
    volume: float | None
    state: str
    gap_filled: bool
    degraded: bool
    model_agreement: float | None
    features_hash: str
    direction: str
    strength: str
    confidence: float | None
    quality: float | None
    agreement: float | None
    move: float | None
    edge: float | None
    stop_loss: float | None
    take_profit: float | None
    reasons: list[str] = Field(description="why it is NEUTRAL")
    rule_score: float | None = Field(description="-1..1, the vote of the rules")
    hybrid_score: float | None = Field(description="-1..1, the weighted mean of edge and rule score")
    size_multiplier: float | None = Field(description="suggested size, 1 to 1.5")
    gate_probability: float | None
    gate_approved: bool | None
    decode_us: int
    features_us: int
    queue_us: int
    model_us: int
    interpret_us: int
    created_at_ms: int
    returns: dict[str, float | None] = Field(description="expected, by horizon")
    risks: dict[str, float | None]


class Predictions(Shape):
    predictions: list[Prediction]
    next: str | None = Field(description="the `before` of the next page; null: this is the last")


class CandleIn(Taken):
    symbol: Symbol
    interval_ms: int = Field(DEFAULT_INTERVAL_MS, ge=0, le=INT64_SAFE)
    open_time_ms: int = Field(ge=0, le=INT64_SAFE)
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None = None
    trades: float | None = None
    taker_buy_volume: float | None = None
    forming: bool = Field(False, description="not closed yet: a forecast that is not stored; nothing moves")


class Ask(Taken):
    """Candles just closed (or forming), and symbols whose newest candle is asked about."""

    candles: list[CandleIn] = Field([], max_length=1_000)
    symbols: list[Symbol] = Field([], max_length=1_000)
    interval_ms: int = Field(DEFAULT_INTERVAL_MS, ge=0, le=INT64_SAFE, description="of `symbols`")


class Answer(Shape):
    """What became of a candle; `forecast` has the fields of Forecast in proto/candlecast/v1/types.proto."""

    symbol: str
    interval_ms: int
    open_time_ms: int
    verdict: str
    refusal: dict[str, str] | None
    state: str
    have: int
    need: int
    forecast: dict[str, Any] | None


class Answers(Shape):
    results: list[Answer]


class Model(Shape):
    """A trained bundle; its metrics stand beside their base rates."""

    model: str
    version: int
    bundle_sha256: str
    family: str
    target: str
    horizon_bars: list[int]
    interval_ms: int
    feature_set: str
    feature_count: int
    optional_inputs: list[str]
    reference_symbol: str | None
    symbol_count: int
    data_from_ms: int
    data_to_ms: int
    code_commit: str
    metrics: dict[str, Any]
    session_id: str | None
    state: str
    deployed_at_ms: int | None
    created_at_ms: int
    updated_at_ms: int


class Models(Shape):
    models: list[Model]
    total: int


class Training(Shape):
    id: str
    model: str
    version: int
    family: str
    target: str
    status: str = Field(description="starting, running, finished, failed, interrupted, lost (no sign of life)")
    phase: str | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    validation_loss: float | None = None
    symbol_count: int | None = None
    data_from_ms: int | None = None
    data_to_ms: int | None = None
    data_points: int | None = None
    started_at_ms: int
    updated_at_ms: int | None = None
    finished_at_ms: int | None = None
    duration_s: float | None = None
    error: str | None = None


class Trainings(Shape):
    trainings: list[Training]
    total: int


class Performance(Shape):
    """A strategy's signals; win rate and the like are over closed ones, null where there are none."""

    signals: int
    closed: int
    open_positions: int
    wins: int
    losses: int
    total_pnl: float
    avg_pnl: float
    fees: float
    max_drawdown: float
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    mean_return: float | None
    sharpe: float | None = Field(description="of daily PnL, a year")
    trade_sharpe: float | None
    mean_holding_s: float | None


class TrainingStatus(Shape):
    status: str = Field(description="of the last training; never: there was none")
    last_training: int | None = Field(description="when it ended, ms")
    model_accuracy: float
    error: str | None = None


class Performances(Shape):
    performance: dict[str, Performance]
    training_status: dict[str, TrainingStatus]


class Importance(Shape):
    model: str
    version: int
    calculated_at_ms: int
    feature: str
    index: int
    score: float
    rank: int
    correlation: float | None
    correlation_bars: int | None
    gain: float | None
    method: str


class TopFeatures(Shape):
    features: list[Importance]


class Evolved(Shape):
    model: str
    version: int
    calculated_at_ms: int
    feature: str
    score: float
    rank: int
    correlation: float | None
    score_change: float | None
    ranks_gained: int | None


class ImportanceHistory(Shape):
    definition: dict[str, Any] | None
    history: list[Evolved]
