"""Rows of signals, strategies and accuracy to messages. Knows the wire, decides nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from candlecast.server.history_service import ms_of
from candlecast.v1 import performance_pb2 as pb

Row = Mapping[str, Any]
_COUNTS: Final = ("signals", "closed", "open_positions", "wins", "losses")
_SUMS: Final = ("total_pnl", "gross_profit", "gross_loss", "fees", "max_drawdown")
_ABSENT: Final = (
    "win_rate", "profit_factor", "expectancy", "mean_return", "sharpe", "trade_sharpe", "mean_holding_s",
)  # fmt: skip
_ACCURACY: Final = (
    "model", "version", "interval_ms", "horizon_bars", "symbol", "forecasts", "hit_rate", "base_rate", "log_loss",
    "base_log_loss", "brier", "base_brier", "mae", "base_mae",
)  # fmt: skip
BINS: Final = 20
"""Of the probability of the likeliest class, as ml_accuracy_counts has them."""


def signal(row: Row) -> pb.Signal:
    side = 1 if row["side"] == "LONG" else -1
    message = pb.Signal(
        key=row["key"],
        strategy=row["strategy"],
        symbol=row["symbol"],
        side=pb.Side.Value(f"SIDE_{row['side']}"),
        status=pb.SignalStatus.Value(f"SIGNAL_STATUS_{row['status']}"),
        entry_price=row["entry_price"],
        entry_time_ms=ms_of(row["entry_time"]),
        size=row["size"],
        closed_size=row["closed_size"],
        fees=row["fees"],
        exit_reason=row["exit_reason"] or "",
        metadata=json.loads(row["metadata"]),
        realised_pnl=side * (row["closed_value"] - row["entry_price"] * row["closed_size"]) - row["fees"],
    )
    for name in ("confidence", "exit_price", "pnl", "is_winner"):
        if row[name] is not None:
            setattr(message, name, row[name])
    if row["exit_time"] is not None:
        message.exit_time_ms = ms_of(row["exit_time"])
    if row["prediction_close_time"] is not None:
        message.prediction.interval_ms = row["prediction_interval_ms"]
        message.prediction.close_time_ms = ms_of(row["prediction_close_time"])
        message.prediction.model = row["prediction_model"]
        message.prediction.version = row["prediction_version"]
    return message


def performance(row: Row, periods_per_year: float) -> pb.StrategyPerformance:
    message = pb.StrategyPerformance(
        strategy=row["strategy"],
        symbol=row["symbol"],
        periods_per_year=periods_per_year,
        first_day_ms=_day_ms(row.get("first_day")),
        last_day_ms=_day_ms(row.get("last_day")),
        **{name: row.get(name) or 0 for name in (*_COUNTS, *_SUMS)},
    )
    for name in _ABSENT:
        if row.get(name) is not None:
            setattr(message, name, row[name])
    return message


def training(row: Row) -> pb.TrainingStatus:
    message = pb.TrainingStatus(
        strategy=row["strategy"],
        status=row["status"],
        last_training_ms=ms_of(row["last_training"]),
        error=row["error"] or "",
    )
    for name, column in (
        ("accuracy", "model_accuracy"),
        ("duration_s", "duration_s"),
        ("data_points", "data_points"),
        ("version", "version"),
    ):
        if row[column] is not None:
            setattr(message, name, row[column])
    return message


def accuracy(row: Row) -> pb.Accuracy:
    message = pb.Accuracy(**{name: row[name] for name in _ACCURACY}, day_ms=_day_ms(row["day"]))
    if row["side_hit_rate"] is not None:
        message.side_hit_rate = row["side_hit_rate"]
    if row["base_log_loss"] > 0:
        message.skill = 1 - row["log_loss"] / row["base_log_loss"]
    for number, forecasts, confidence, hits in zip(
        row["bins"], row["bin_forecasts"], row["bin_confidence"], row["bin_hits"], strict=True
    ):
        message.calibration.add(
            confidence_from=number / BINS,
            forecasts=forecasts,
            mean_confidence=confidence / forecasts,
            hit_rate=hits / forecasts,
        )
    return message


def _day_ms(day: date | None) -> int:
    return 0 if day is None else int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
