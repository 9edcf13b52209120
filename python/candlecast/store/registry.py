"""Trainings and models on record: each function may be repeated, and nothing is there twice. Knows no bundle's files.

Rows travel as JSON under the names of their columns; a number that is not finite becomes NULL.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from candlecast.store.pool import Pool
from candlecast.store.queries import STATEMENTS

Status = Literal["running", "finished", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Session:
    """One training, from its beginning to its end; what is None is not known yet."""

    id: UUID
    model: str
    version: int
    family: str
    horizon_bars: Sequence[int]
    started_at: datetime
    target: str = "forecast"  # the 20 outputs; else direction, volatility, …
    status: Status = "running"
    config: Mapping[str, Any] = field(default_factory=dict)
    symbols: Sequence[str] | None = None
    interval_ms: int | None = None
    data_from: datetime | str | None = None  # ISO 8601, here and below
    data_to: datetime | str | None = None
    data_points: int | None = None
    phase: str | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    validation_loss: float | None = None
    finished_at: datetime | None = None
    metrics: Mapping[str, Any] | None = None
    bundle_sha256: bytes | None = None
    code_commit: str | None = None
    host: str | None = None
    error: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Logged:
    """One training that ended; `key` is its logger's, and the same key again changes nothing."""

    key: str
    strategy: str
    status: str
    version: int | None = None
    logged_at: datetime | None = None  # None: now
    accuracy: float | None = None
    duration_s: float | None = None
    data_points: int | None = None
    error: str | None = None
    session_id: UUID | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trained:
    """A bundle, as ml_models has it."""

    name: str
    version: int
    bundle_sha256: bytes
    bundle_path: str
    family: str
    target: str
    horizon_bars: Sequence[int]
    interval_ms: int
    feature_set: str
    feature_set_hash: int  # 64 bits, unsigned
    features: Sequence[str]
    optional_inputs: Sequence[str]
    reference_symbol: str | None
    symbols: Sequence[str]
    data_from: str
    data_to: str
    code_commit: str
    metrics: Mapping[str, Any]
    session_id: UUID | None
    created_at: str


@dataclass(frozen=True, slots=True)
class Performance:
    """One metric of one horizon and fold, beside its base rate; fold 0 is the mean of the folds, or the whole."""

    model: str
    version: int
    bundle_sha256: bytes
    source: str
    measured_at: datetime | str
    fold: int
    horizon: str
    metric: str
    value: float
    base: float | None = None
    persistence: float | None = None
    low: float | None = None
    high: float | None = None
    data_points: int | None = None
    data_from: str | None = None
    data_to: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One evaluation or backtest of one bundle that ended; what is None is not known."""

    id: UUID
    source: str  # evaluate, backtest
    bundle_path: str
    status: Status
    measured_at: datetime
    duration_s: float
    model: str | None = None
    version: int | None = None
    bundle_sha256: bytes | None = None
    error: str | None = None
    data_from: str | None = None
    data_to: str | None = None
    data_points: int | None = None
    verdict: str | None = None
    warnings: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Importance:
    """One feature's share in a model's answers."""

    model: str
    version: int
    calculated_at: datetime | str
    feature: str
    index: int
    score: float
    rank: int
    method: str
    correlation: float | None = None
    correlation_bars: int | None = None
    gain: float | None = None
    bundle_sha256: bytes | None = None


async def register_features(pool: Pool, feature_set: str, catalog: Sequence[Any]) -> None:
    """Register the definitions of the features, as `_rust.catalog()` has them.

    Raises:
        StorageUnavailable, InvalidRequest: here and below.
    """
    columns = ("index", "name", "version", "formula", "convention", "warmup_bars", "low", "high")
    rows = [
        {"feature_set": feature_set, "group_name": feature.group} | {name: getattr(feature, name) for name in columns}
        for feature in catalog
    ]
    await pool.fetch(STATEMENTS["register_features"], _json(rows))


async def save_session(pool: Pool, session: Session) -> None:
    """Write a training as it stands now: its start, its progress and its end alike."""
    await pool.fetch(STATEMENTS["save_session"], _json(session))


async def log_training(pool: Pool, logged: Logged) -> bool:
    """Write that a training ended; return whether its key is new."""
    return bool(await pool.fetch(STATEMENTS["log_training"], _json(logged)))


async def register_model(pool: Pool, model: Trained) -> int:
    """Register a bundle; return its id."""
    row = asdict(model) | {"feature_set_hash": (model.feature_set_hash ^ 1 << 63) - (1 << 63)}
    return int((await pool.fetch(STATEMENTS["register_model"], _json(row)))[0][0])


async def record_performance(pool: Pool, rows: Sequence[Performance]) -> None:
    """Write how good a model was; a metric whose value is not finite says nothing and is left out."""
    await pool.fetch(STATEMENTS["record_performance"], _json([row for row in rows if math.isfinite(row.value)]))


async def record_measurements(pool: Pool, rows: Sequence[Measurement]) -> None:
    """Write evaluations and backtests that ended."""
    await pool.fetch(STATEMENTS["record_measurements"], _json(rows))


async def record_importance(pool: Pool, rows: Sequence[Importance]) -> None:
    """Write what a model looks at."""
    await pool.fetch(STATEMENTS["record_importance"], _json(rows))


def _json(value: object) -> str:
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return "\\x" + value.hex()
        case str():
            return value.replace("\0", "")  # PostgreSQL has no text with it
        case None | bool() | int():
            return value
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case Sequence():
            return [_plain(item) for item in value]
        case datetime():
            return value.isoformat()
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _plain(asdict(value))
        case _:
            return str(value)
