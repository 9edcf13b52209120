"""The web door: the HTTP API, the live feed, the pages. It reads views and the server; trainings are processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from fastapi import FastAPI, Request
from starlette.middleware.gzip import GZipMiddleware

from candlecast import __version__
from candlecast.client import AsyncClient
from candlecast.dashboard import api, live, pages, rollouts, sources, static
from candlecast.dashboard.guard import Guard
from candlecast.dashboard.metered import add_metrics
from candlecast.dashboard.problems import RESPONSES, Refused, answer_with_problems
from candlecast.dashboard.trainings import Trainings
from candlecast.dashboard.watch import Watch
from candlecast.errors import ConfigurationError
from candlecast.settings import Settings, is_loopback, require_loopback
from candlecast.store.pool import open_pool

CONNECTIONS_MAX = 4
GZIP_BYTES_MIN = 1_000


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
            open_pool(url, connections_max=CONNECTIONS_MAX, command_timeout_ms=settings.database_timeout_ms) as pool,
            grpc.aio.insecure_channel(settings.grpc, options=[("grpc.enable_http_proxy", 0)]) as channel,
            AsyncClient(settings.grpc) as client,
            sources.opened(pool, channel) as coming,
            Watch(channel, pool, coming) as watch,
            Trainings(settings, url) as trainings,
        ):
            app.state.pool, app.state.channel, app.state.client, app.state.feed = pool, channel, client, coming
            app.state.watch, app.state.trainings = watch, trainings
            yield

    app = FastAPI(title="candlecast", version=__version__, lifespan=connections)
    app.state.settings = settings
    answer_with_problems(app)
    add_metrics(app)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_BYTES_MIN, compresslevel=5)
    app.add_middleware(Guard, loopback_only=is_loopback(settings.http))

    @app.get("/healthz", tags=["health"])
    async def live_() -> dict[str, str]:
        """This process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], responses=RESPONSES)
    async def ready(request: Request) -> dict[str, Any]:
        """The server's last canary forecast went through model and database; 503 otherwise."""
        match await request.app.state.watch.ask_server():
            case "SERVING":
                return {"status": "ready"}
            case "NOT_SERVING":
                raise Refused(503, "NOT_READY", "the server's canary forecast fails")
        raise Refused(503, "UNREACHABLE", f"the server at {settings.grpc} does not answer")

    app.include_router(api.router)
    app.include_router(rollouts.router)
    app.include_router(live.router)
    app.include_router(pages.router)
    static.mount(app)
    return app
