"""The web door: FastAPI over the views and the server's health. It writes nothing and computes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import grpc
from fastapi import FastAPI, HTTPException, Query, Request
from grpc_health.v1 import health_pb2, health_pb2_grpc

from candlecast.errors import ConfigurationError, InvalidRequest, StorageUnavailable
from candlecast.settings import Settings, require_loopback
from candlecast.store.pool import open_pool
from candlecast.store.predictions import recent_predictions

_HEALTH_TIMEOUT_S = 1.0


def create_app(settings: Settings) -> FastAPI:
    """Build the application; it opens its connections when it starts.

    Raises:
        ConfigurationError: no database is set, or the address is not loopback.
    """
    require_loopback("http", settings.http, insecure=settings.insecure)
    if settings.database_url is None:
        raise ConfigurationError("no database: set DATABASE_URL")
    url = settings.database_url

    @asynccontextmanager
    async def connections(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_pool(url, connections_max=2, command_timeout_ms=settings.database_timeout_ms) as pool,
            grpc.aio.insecure_channel(settings.grpc, options=[("grpc.enable_http_proxy", 0)]) as channel,
        ):
            app.state.pool, app.state.health = pool, health_pb2_grpc.HealthStub(channel)
            yield

    app = FastAPI(title="candlecast", lifespan=connections)

    @app.get("/healthz")
    async def live() -> dict[str, str]:
        """This process is alive."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready(request: Request) -> dict[str, str]:
        """The server's last canary forecast went through model and database; 503 otherwise."""
        try:
            answer = await request.app.state.health.Check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_TIMEOUT_S)
        except grpc.RpcError as error:
            raise HTTPException(503, f"the server does not answer: {error.code().name}") from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise HTTPException(503, "the server's canary forecast fails")
        return {"status": "ready"}

    @app.get("/api/ml/predictions/")
    async def predictions(
        request: Request, symbol: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> dict[str, Any]:
        """The newest stored forecasts, of one symbol or of all."""
        try:
            return {"predictions": await recent_predictions(request.app.state.pool, symbol, limit)}
        except StorageUnavailable as error:
            raise HTTPException(503, str(error)) from error
        except InvalidRequest as error:
            raise HTTPException(422, str(error)) from error

    return app
