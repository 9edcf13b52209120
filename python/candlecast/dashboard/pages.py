"""What the pages show, one request for each page; bounded in rows and in time. It asks the board and the views."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Query, Request

from candlecast import outputs
from candlecast.dashboard import gauges, shapes
from candlecast.dashboard.api import Database, Name
from candlecast.dashboard.board import Order, Side
from candlecast.dashboard.problems import RESPONSES, Refused
from candlecast.features import NAMES
from candlecast.store import views
from candlecast.store.pool import Pool
from candlecast.tracking.stability import stability

router = APIRouter(prefix="/api/ml/pages", tags=["pages"], responses=RESPONSES)

BARS_MAX: Final = 1_000
TRADES_MAX: Final = 500
STRATEGIES_DRAWN: Final = 20
EVOLVING: Final = 8
"""Features whose importance is drawn over time."""
SAMPLE: Final = 1_000
"""Newest forecasts that a live distribution is of."""
BINS: Final = 40
DAY_MS: Final = 86_400_000
_ACCURACY: Final = {
    "horizons": "accuracy_horizons",
    "calibration": "calibration",
    "days": "accuracy_days",
    "exits": "exits",
}
"""What the page shows, and the statement that it is."""
Days = Annotated[int, Query(ge=1, le=3_650)]


@router.get("/now/")
async def now(
    request: Request,
    search: Annotated[str, Query(max_length=32)] = "",
    side: Side | None = None,
    order: Order = "symbol",
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """The newest forecast of each symbol, some at a time, out of memory."""
    feed, watch = request.app.state.feed, request.app.state.watch
    await feed.awake()
    if not feed.loaded:
        raise Refused(503, "STORAGE_UNAVAILABLE", f"the forecasts are not loaded yet: {feed.trouble}")
    page = feed.board.page(search=search, side=side, order=order, offset=offset, limit=limit)
    return {"rows": page.rows, "total": page.total, "symbols": page.symbols, "status": watch.status()}


@router.get("/symbol/")
async def symbol(
    pool: Database,
    symbol: Annotated[shapes.Symbol, Query()],
    interval_ms: Annotated[int | None, Query(ge=1, le=2**40)] = None,
    bars: Annotated[int, Query(ge=1, le=BARS_MAX)] = 300,
    before_ms: Annotated[
        int | None, Query(ge=0, le=2**52, description="candles that open before; default: the newest")
    ] = None,
) -> dict[str, Any]:
    """A symbol's candles with the forecasts made at their closes, and the trades of that time."""
    intervals = [row["interval_ms"] for row in await views.rows(pool, "intervals_of_symbol", symbol)]
    if not intervals:
        raise Refused(404, "NOT_FOUND", f"no candle of {symbol} is stored")
    chosen = interval_ms or (900_000 if 900_000 in intervals else intervals[0])
    before = views.time_of(before_ms if before_ms is not None else 2**62)
    candles = (await views.rows(pool, "candles_of_symbol", symbol, chosen, before, bars))[::-1]
    found: dict[str, Any] = {"forecasts": [], "trades": []}
    if candles:
        start = views.time_of(candles[0]["open_time_ms"])
        end = views.time_of(candles[-1]["open_time_ms"] + chosen)
        forecasts, trades = await asyncio.gather(
            views.rows(pool, "forecasts_of_symbol", symbol, chosen, start, end, 4 * BARS_MAX),
            views.rows(pool, "trades_of_symbol", symbol, start, end, TRADES_MAX),
        )
        found = {"forecasts": forecasts, "trades": trades}
    return {
        "symbol": symbol,
        "interval_ms": chosen,
        "intervals_ms": intervals,
        "horizons": outputs.HORIZONS,
        "horizon_bars": outputs.HORIZON_BARS,
        "candles": [[c["open_time_ms"], c["open"], c["high"], c["low"], c["close"], c["volume"]] for c in candles],
        **found,
    }


@router.get("/accuracy/")
async def accuracy(
    pool: Database,
    model: Name = None,
    version: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    interval_ms: Annotated[int | None, Query(ge=1, le=2**40)] = None,
    days: Days = 90,
) -> dict[str, Any]:
    """How right a model was in the days up to its newest known outcome, beside base rates."""
    models = await views.rows(pool, "accuracy_models")
    wanted = {"model": model, "version": version, "interval_ms": interval_ms}
    chosen = next(
        (row for row in models if all(value is None or row[name] == value for name, value in wanted.items())), None
    )
    if chosen is None:
        return {"models": models, "chosen": None, "since_ms": None, **{name: [] for name in _ACCURACY}}
    since = (views.time_of(chosen["newest_day_ms"]) - timedelta(days=days - 1)).date()
    key = chosen["model"], chosen["version"], chosen["interval_ms"], since
    found = await asyncio.gather(*(views.rows(pool, statement, *key) for statement in _ACCURACY.values()))
    return {
        "models": models,
        "chosen": {name: chosen[name] for name in wanted},
        "since_ms": round(datetime(since.year, since.month, since.day, tzinfo=UTC).timestamp() * 1000),
        **dict(zip(_ACCURACY, found, strict=True)),
    }


@router.get("/strategies/")
async def strategies(pool: Database) -> dict[str, Any]:
    """All strategies, and the days of the best STRATEGIES_DRAWN."""
    found = await views.rows(pool, "strategies")
    names = [row["strategy"] for row in found[:STRATEGIES_DRAWN]]
    return {"strategies": found, "days": await views.rows(pool, "strategy_days", names)}


@router.get("/strategy/")
async def strategy(
    pool: Database,
    strategy: Annotated[str, Query(max_length=64, pattern=r"^[^\x00]+$")],
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 20,
) -> dict[str, Any]:
    """One strategy by symbol, its newest exits, what is open, and what quality was worth."""
    symbols, trades, positions, quality = await asyncio.gather(
        views.rows(pool, "strategy_symbols", strategy, limit, offset),
        views.rows(pool, "strategy_trades", strategy, 50),
        views.rows(pool, "strategy_positions", strategy, 50),
        views.rows(pool, "signal_quality", strategy),
    )
    total = symbols[0]["total"] if symbols else 0
    return {"symbols": symbols, "total": total, "trades": trades, "positions": positions, "quality": quality}


@router.get("/models/")
async def models(
    pool: Database,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 20,
) -> dict[str, Any]:
    """Which versions stand where, what was trained and how good it was, what is being trained."""
    trained, skill, trainings, states, history = await asyncio.gather(
        views.rows(pool, "models", limit, offset),
        views.rows(pool, "model_skill"),
        views.rows(pool, "trainings", 20, 0),
        views.rows(pool, "model_states"),
        views.rows(pool, "model_history", 100),
    )
    total = trained[0]["total"] if trained else 0
    for row in trained:
        del row["metrics"]  # large; /api/ml/models/ has them
    return {
        "states": states,
        "models": trained,
        "total": total,
        "skill": skill,
        "trainings": trainings,
        "history": history,
    }


@router.get("/features/")
async def features(pool: Database, model: Name = None, days: Days = 14) -> dict[str, Any]:
    """What a model looks at, how that changed, and how the features are of late."""
    models, top, quality = await asyncio.gather(
        views.rows(pool, "models_with_importance"),
        views.rows(pool, "top_features", model, None, 40),
        _per_hour(pool, days),
    )
    chosen = top[0]["model"] if top else model
    evolution = await asyncio.gather(
        *(views.rows(pool, "importance_history", row["feature"], chosen, 50) for row in top[:EVOLVING])
    )
    return {
        "models": models,
        "top": top,
        "evolution": {row["feature"]: history[::-1] for row, history in zip(top, evolution, strict=False)},
        "quality": quality,
        "names": NAMES,
    }


@router.get("/features/distribution/")
async def distribution(pool: Database, feature: Annotated[str, Query(max_length=100)]) -> dict[str, Any]:
    """How a feature is distributed over the newest forecasts."""
    if feature not in NAMES:
        raise Refused(404, "NOT_FOUND", f"there is no feature {feature}")
    rows, newest_ms = await views.feature_rows(pool, SAMPLE, len(NAMES))
    values = rows[:, NAMES.index(feature)].astype(np.float64)
    finite = values[np.isfinite(values)]
    counts, edges = np.histogram(finite, BINS) if len(finite) else (np.zeros(0), np.zeros(0))
    quantiles = np.quantile(finite, (0.01, 0.25, 0.5, 0.75, 0.99)).tolist() if len(finite) else []
    return {
        "feature": feature,
        "definition": await views.row(pool, "feature_definition", feature),
        "newest_close_ms": newest_ms,
        "rows": len(values),
        "finite": len(finite),
        "counts": counts.tolist(),
        "edges": edges.tolist(),
        "quantiles": quantiles,
    }


@router.get("/features/drift/")
async def drift(pool: Database, days: Annotated[int, Query(ge=1, le=365)] = 7) -> dict[str, Any]:
    """How far each feature of the newest forecasts is from those that closed so many days earlier."""
    newest, newest_ms = await views.feature_rows(pool, SAMPLE, len(NAMES))
    empty: dict[str, Any] = {
        "newest_close_ms": newest_ms,
        "reference_close_ms": None,
        "rows": len(newest),
        "features": [],
    }
    if newest_ms is None:
        return empty
    reference, reference_ms = await views.feature_rows(pool, SAMPLE, len(NAMES), newest_ms - days * DAY_MS)
    if not len(newest) or not len(reference):
        return empty
    index = await asyncio.to_thread(stability, reference, newest)
    ranked = sorted(zip(index, NAMES, strict=True), reverse=True)
    found = [{"feature": name, "stability": value} for value, name in ranked]
    return empty | {"reference_close_ms": reference_ms, "reference_rows": len(reference), "features": found}


@router.get("/system/")
async def system(request: Request, pool: Database, hours: Annotated[int, Query(ge=1, le=720)] = 48) -> dict[str, Any]:
    """How the parts are, how long each stage takes, how much was forecast and what stood against signals."""
    watch = request.app.state.watch
    since = datetime.now(UTC) - timedelta(hours=hours)
    latency, reasons, missed, confidence, per_hour, parts = await asyncio.gather(
        views.rows(pool, "latency_hours", since),
        views.rows(pool, "reasons", await _days_before_newest(pool, 7)),
        views.rows(pool, "missed", since),
        views.rows(pool, "confidence_distribution", await _days_before_newest(pool, 7)),
        _per_hour(pool, 7),
        gauges.parts(request.app.state.settings.metrics),
    )
    return {
        "status": watch.status(),
        "server_ms": watch.server_ms,
        "database_ms": watch.database_ms,
        "stages": [*views.STAGES, "total"],
        "latency": latency,
        "reasons": reasons,
        "missed": missed,
        "confidence": confidence,
        "per_hour": per_hour,
        "parts": parts,
    }


async def _per_hour(pool: Pool, days: int) -> list[dict[str, Any]]:
    """Return what was forecast by the hour, up to the newest: a replay is of another time than today."""
    newest = await views.row(pool, "newest_hour")
    if newest is None or newest.get("hour_ms") is None:
        return []
    end = views.time_of(newest["hour_ms"]) + timedelta(hours=1)
    return await views.rows(pool, "forecasts_per_hour", end - timedelta(days=days), end)


async def _days_before_newest(pool: Pool, days: int) -> datetime:
    newest = await views.row(pool, "newest_hour")
    end = views.time_of((newest or {}).get("hour_ms") or 2**45)
    return end - timedelta(days=days)
