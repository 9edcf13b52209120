"""Stored forecasts over gRPC: convert, ask, convert. Knows no statement."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
import numpy as np

from candlecast import outputs
from candlecast.errors import InvalidRequest
from candlecast.server import pages
from candlecast.server.status import abort
from candlecast.server.stored import forecast_of
from candlecast.server.wire import parsed
from candlecast.store.performance import stored_predictions
from candlecast.store.pool import Pool
from candlecast.v1 import history_pb2 as pb
from candlecast.v1 import history_pb2_grpc
from candlecast.values import SYMBOL

Context = grpc.aio.ServicerContext[Any, Any]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEY: Final = (int, str, int, str, int)  # close_time_us, symbol, interval_ms, model, version
_SUMMARY: Final = {"mean": "features_mean", "std": "features_std", "min": "features_min", "max": "features_max"}
_INDICATORS: Final = ("rsi", "macd", "bb_position", "atr_pct", "volume_ratio", "trend_strength")


class HistoryService(history_pb2_grpc.HistoryServicer):
    """The one method of History."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ListPredictions(self, request: pb.ListPredictionsRequest, context: Context) -> pb.ListPredictionsResponse:
        try:
            return await self._list(parsed(request))
        except Exception as error:
            await abort(context, error)

    async def _list(self, request: pb.ListPredictionsRequest) -> pb.ListPredictionsResponse:
        if request.symbol and not SYMBOL.fullmatch(request.symbol):
            raise InvalidRequest("symbol", "is no symbol: 1 to 32 characters of A-Z 0-9 . _ : / -")
        limit, last = pages.page_size(request.page_size), pages.key(request.page_token, _KEY)
        before: Any = None if last is None else (time_of(last[0]), *last[1:])
        rows = await stored_predictions(self._pool, request.symbol, limit, before)
        response = pb.ListPredictionsResponse(predictions=map(stored, rows))
        if len(rows) == limit:
            row = rows[-1]
            response.next_page_token = pages.token(
                us_of(row["close_time"]), row["symbol"], row["interval_ms"], row["model"], row["version"]
            )
        return response


def time_of(us: int) -> datetime:
    """Return a time given in µs since 1970.

    Raises:
        InvalidRequest: no calendar has it.
    """
    try:
        return _EPOCH + timedelta(microseconds=us)
    except OverflowError as error:
        raise InvalidRequest("page_token", "is none that a response gave") from error


def us_of(time: datetime) -> int:
    """Return a time in µs since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def ms_of(time: datetime) -> int:
    """Return a time in ms since 1970."""
    return us_of(time) // 1000


def stored(row: Mapping[str, Any]) -> pb.StoredPrediction:
    """Return the message of a row of `stored_predictions`."""
    numbers = np.frombuffer(row["outputs"], dtype="<f4").tolist()
    message = pb.StoredPrediction(
        forecast=forecast_of(row),
        close=row["close"],
        features=_features(row),
        outcomes=[_outcome(row, bars) for bars in outputs.HORIZON_BARS],
        exit_reason=row["exit_reason"] or "",
        exit_bars=row["exit_bars"] or 0,
        created_at_ms=ms_of(row["created_at"]),
        outputs=numbers,
    )
    for name in ("volume", "exit_return"):
        if row[name] is not None:
            setattr(message, name, row[name])
    return message


def _features(row: Mapping[str, Any]) -> pb.FeatureSummary:
    summary = pb.FeatureSummary(
        count=row["feature_count"], nan_count=row["nan_count"], zero_variance_count=row["zero_variance_count"]
    )
    for name, column in (*_SUMMARY.items(), *((name, name) for name in _INDICATORS)):
        if row[column] is not None:
            setattr(summary, name, row[column])
    return summary


def _outcome(row: Mapping[str, Any], bars: int) -> pb.HorizonOutcome:
    came = row[f"actual_direction_{bars}"]
    outcome = pb.HorizonOutcome(bars=bars, actual_direction=f"DIRECTION_{came or 'UNSPECIFIED'}")
    for name in ("actual_return", "hit", "error"):
        if row[f"{name}_{bars}"] is not None:
            setattr(outcome, name, row[f"{name}_{bars}"])
    return outcome
