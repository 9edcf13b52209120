"""The HTTP API: forecasts, models, trainings, features, performance. It asks the store, the server and the jobs."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from google.protobuf.json_format import MessageToDict

from candlecast.client import AsyncClient, Candle, ServerError, state, verdict
from candlecast.dashboard import shapes
from candlecast.dashboard.admin import require_admin
from candlecast.dashboard.problems import RESPONSES, Refused, status_of
from candlecast.dashboard.trainings import Job, TrainingRequest
from candlecast.errors import InvalidRequest
from candlecast.store import views
from candlecast.store.pool import Pool
from candlecast.store.predictions import recent_predictions

router = APIRouter(prefix="/api", responses=RESPONSES)

OFFSET_MAX: Final = 1_000_000
Limit = Annotated[int, Query(ge=1, le=1_000, description="rows of a page")]
Offset = Annotated[int, Query(ge=0, le=OFFSET_MAX, description="rows to pass over")]
Symbol = Annotated[shapes.Symbol | Literal[""] | None, Query(description="only of this one; empty: of all")]
Name = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="a model; default: the newest")]


def pool_of(request: Request) -> Pool:
    """Return the pool of the application."""
    pool: Pool = request.app.state.pool
    return pool


Database = Annotated[Pool, Depends(pool_of)]


@router.get("/ml/predictions/", tags=["predictions"], response_model=shapes.Predictions)
async def predictions(
    pool: Database,
    symbol: Symbol = None,
    limit: Limit = 100,
    before: Annotated[str | None, Query(max_length=400, description="`next` of the page before")] = None,
) -> Any:
    """The stored forecasts, newest first, of one symbol or of all."""
    rows = await recent_predictions(pool, symbol or None, limit + 1, _read_cursor(before) if before else None)
    page = rows[:limit]
    return {"predictions": page, "next": _cursor(page[-1]) if len(rows) > limit else None}


@router.post("/ml/predictions/", tags=["predictions"], response_model=shapes.Answers)
async def predict(request: Request, ask: shapes.Ask) -> Any:
    """Send candles and have forecasts, as Forecasts.Predict; one result for each candle, then one for each symbol."""
    client: AsyncClient = request.app.state.client
    candles = [Candle(**candle.model_dump(exclude_none=True)) for candle in ask.candles]
    try:
        results = await client.predict(candles, symbols=ask.symbols, interval_ms=ask.interval_ms)
    except ServerError as error:
        raise Refused(status_of(error.code), error.server_reason, str(error)) from error
    return {"results": [_answer(result) for result in results]}


@router.get("/ml/models/", tags=["models"], response_model=shapes.Models)
async def models(pool: Database, limit: Limit = 100, offset: Offset = 0) -> Any:
    """Every bundle that was trained, newest first, with its metrics beside base rates."""
    found = await views.rows(pool, "models", limit, offset)
    return {"models": [_without_total(row) for row in found], "total": _total(found)}


@router.post("/ml/models/", tags=["models"], status_code=202, response_model=shapes.Training)
async def train(
    request: Request,
    response: Response,
    pool: Database,
    wanted: TrainingRequest,
    _: Annotated[str, Depends(require_admin)],
) -> Any:
    """Begin a training on the candles of the database. Its progress is at the address in `Location`."""
    if wanted.epochs is not None and wanted.family not in ("patchtst", "lstm"):
        raise InvalidRequest("epochs", f"{wanted.family} has none; they are a network's")
    if wanted.target is not None and wanted.family in ("patchtst", "lstm"):
        raise InvalidRequest("target", f"{wanted.family} answers the 20 outputs alone; a target is for trees")
    if wanted.hours is not None and wanted.target is None:
        raise InvalidRequest("hours", "they belong to a target")
    version = wanted.version
    if version is None:
        newest = await views.row(pool, "newest_version", wanted.family)
        version = ((newest or {}).get("version") or 0) + 1
    job = request.app.state.trainings.start(wanted, version)
    response.headers["Location"] = f"/api/ml/trainings/{job.id}"
    return _of_job(job)


@router.get("/ml/trainings/", tags=["models"], response_model=shapes.Trainings)
async def trainings(pool: Database, limit: Limit = 100, offset: Offset = 0) -> Any:
    """Trainings on record, newest first, wherever they were begun."""
    found = await views.rows(pool, "trainings", limit, offset)
    return {"trainings": [_without_total(row) for row in found], "total": _total(found)}


@router.get("/ml/trainings/{id}", tags=["models"], response_model=shapes.Training)
async def training(request: Request, pool: Database, id: UUID) -> Any:
    """One training: how far it is, or how it ended."""
    return await _training(request, pool, id)


@router.delete("/ml/trainings/{id}", tags=["models"], response_model=shapes.Training)
async def stop_training(request: Request, pool: Database, id: UUID, _: Annotated[str, Depends(require_admin)]) -> Any:
    """End a training that was begun here as Ctrl-C would: the best step so far becomes its bundle."""
    if await request.app.state.trainings.stop(id) is None:
        raise Refused(404, "NOT_FOUND", f"no training {id} was begun here")
    return await _training(request, pool, id)


@router.get("/ml/features/top/", tags=["features"], response_model=shapes.TopFeatures)
async def top_features(
    pool: Database,
    model: Name = None,
    version: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    limit: Limit = 20,
) -> Any:
    """What a model looks at most: share of its answers, and correlation with returns."""
    return {"features": await views.rows(pool, "top_features", model, version, limit)}


@router.get("/ml/features/history/", tags=["features"], response_model=shapes.ImportanceHistory)
async def importance_history(
    pool: Database,
    feature: Annotated[str, Query(max_length=100, pattern=r"^[^\x00]+$")],
    model: Name = None,
    limit: Limit = 100,
) -> Any:
    """How important a feature was over time, newest first, and what it is."""
    definition = await views.row(pool, "feature_definition", feature)
    return {"definition": definition, "history": await views.rows(pool, "importance_history", feature, model, limit)}


@router.get("/ml-performance", tags=["performance"], response_model=shapes.Performances)
async def performance(pool: Database) -> Any:
    """Every strategy's signals and the last training of each strategy or model; zeros where there are none."""
    found = await views.rows(pool, "strategies")
    logged = await views.rows(pool, "training_status")
    names = sorted({row["strategy"] for row in (*found, *logged)})
    by_name = {row["strategy"]: row for row in found}
    trained = {row["strategy"]: row for row in logged}
    return {
        "performance": {name: _performance(by_name.get(name, {})) for name in names},
        "training_status": {name: _training_status(trained.get(name, {})) for name in names},
    }


async def _training(request: Request, pool: Pool, id: UUID) -> dict[str, Any]:
    """Return a training as it is on record; what never came on record as its job knows it."""
    job: Job | None = request.app.state.trainings.find(id)
    found = await views.row(pool, "training", id)
    if found is not None:
        return _without_total(found)
    if job is None:
        raise Refused(404, "NOT_FOUND", f"there is no training {id}")
    return _of_job(job)


def _performance(row: dict[str, Any]) -> dict[str, Any]:
    counts = {name: row.get(name) or 0 for name in ("signals", "closed", "open_positions", "wins", "losses")}
    money = {name: row.get(name) or 0.0 for name in ("total_pnl", "avg_pnl", "fees", "max_drawdown")}
    ratios = ("win_rate", "profit_factor", "expectancy", "mean_return", "sharpe", "trade_sharpe", "mean_holding_s")
    return {**counts, **money, **{name: row.get(name) for name in ratios}}


def _training_status(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": row.get("status") or "never",
        "last_training": row.get("last_training_ms"),
        "model_accuracy": row.get("model_accuracy") or 0.0,
        "error": row.get("error"),
    }


def _of_job(job: Job) -> dict[str, Any]:
    return {
        "id": str(job.id),
        "model": job.request.family,
        "version": job.version,
        "family": job.request.family,
        "target": job.request.target or "forecast",
        "status": job.status,
        "started_at_ms": job.started_ms,
        "duration_s": time.time() - job.started_ms / 1000 if job.exit is None else None,
        "error": job.error,
    }


def _answer(result: Any) -> dict[str, Any]:
    forecast = None
    if result.HasField("forecast"):
        forecast = MessageToDict(
            result.forecast, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    refused = result.refusal.field != "" or result.refusal.reason != ""
    return {
        "symbol": result.symbol,
        "interval_ms": result.interval_ms,
        "open_time_ms": result.open_time_ms,
        "verdict": verdict(result),
        "refusal": {"field": result.refusal.field, "reason": result.refusal.reason} if refused else None,
        "state": state(result),
        "have": result.status.have,
        "need": result.status.need,
        "forecast": forecast,
    }


_CURSOR: Final = ("close_time_ms", "symbol", "interval_ms", "model", "version")


def _cursor(row: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([row[name] for name in _CURSOR]).encode()).decode()


def _read_cursor(text: str) -> dict[str, Any]:
    try:
        time_ms, symbol, interval_ms, model, version = json.loads(base64.urlsafe_b64decode(text.encode()))
        numbers = {"close_time_ms": time_ms, "interval_ms": interval_ms, "version": version}
        if not all(type(number) is int and 0 <= number < shapes.INT64_SAFE for number in numbers.values()):
            raise ValueError
        if not all(type(word) is str and "\0" not in word for word in (symbol, model)) or version >= 2**31:
            raise ValueError
        views.time_of(time_ms)
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequest("before", "it is not the `next` of a page") from None
    return {**numbers, "symbol": symbol, "model": model}


def _total(rows: list[dict[str, Any]]) -> int:
    return rows[0]["total"] if rows else 0


def _without_total(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "total"}
