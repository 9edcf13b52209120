"""What the web door tells Prometheus at /metrics: its requests and how long they took. Knows no page."""

from __future__ import annotations

import time
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from candlecast.telemetry import Telemetry

UNKNOWN: Final = "none"
"""In place of a route: of requests for what is not there, whatever their paths."""
STREAM: Final = b"text/event-stream"


def add_metrics(app: FastAPI) -> Telemetry:
    """Meter the requests of an application and give it GET /metrics."""
    telemetry = Telemetry()
    app.add_middleware(Metered, telemetry=telemetry)

    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        body, content_type = telemetry.rendered(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return telemetry


class Metered:
    """Counts requests by route and status, and sorts their times; a stream's time is not one."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._requests = telemetry.counter(
            "candlecast_web_requests_total", "Requests, by route and status.", ["route", "status"]
        )
        self._times = telemetry.histogram(
            "candlecast_web_request_duration_seconds", "Time of a request, streams aside."
        )
        self._open = 0
        telemetry.gauge("candlecast_web_requests_open", "Requests under way, streams included.", lambda: self._open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, is_stream = time.perf_counter(), 500, False

        async def watched(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = dict(message.get("headers", ()))
                is_stream = headers.get(b"content-type", b"").startswith(STREAM)
            await send(message)

        self._open += 1
        try:
            await self._app(scope, receive, watched)
        finally:
            self._open -= 1
            route = getattr(scope.get("route"), "path", UNKNOWN)
            self._requests.add(1, str(route), str(status))
            if not is_stream:
                self._times.observe_alike(time.perf_counter() - started)
