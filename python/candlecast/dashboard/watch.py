"""How the parts are: the server's own canary, the database's answer, the feed. Asked once a second for everybody."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Final, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from candlecast.dashboard.feed import Feed
from candlecast.errors import CandlecastError
from candlecast.store import views
from candlecast.store.pool import Pool

INTERVAL_MS: Final = 1_000
TIMEOUT_S: Final = 1.0
SILENT_S: Final = 10.0
"""Without a sign of life for so long a feed is down, whatever it last said."""


class Watch:
    """Knows how the parts are, while it is entered."""

    def __init__(self, channel: grpc.aio.Channel, pool: Pool, feed: Feed) -> None:
        self.server = "UNKNOWN"
        self.server_ms: float | None = None
        self.database: str | None = None
        """Why the database does not answer; None: it does."""
        self.database_ms: float | None = None
        self._health: Any = health_pb2_grpc.HealthStub(channel)
        self._pool = pool
        self._feed = feed
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.gather(self.ask_server(), self._ask_database())
            await asyncio.sleep(INTERVAL_MS / 1000)

    async def ask_server(self) -> str:
        """Ask the server now: SERVING, NOT_SERVING (its canary fails), or UNREACHABLE."""
        begin = time.monotonic()
        try:
            answer = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            self.server, self.server_ms = "UNREACHABLE", None
        else:
            serving = answer.status == health_pb2.HealthCheckResponse.SERVING
            self.server = "SERVING" if serving else "NOT_SERVING"
            self.server_ms = (time.monotonic() - begin) * 1000
        return self.server

    async def _ask_database(self) -> None:
        begin = time.monotonic()
        try:
            await views.now(self._pool)
        except CandlecastError as error:
            self.database, self.database_ms = str(error), None
        else:
            self.database, self.database_ms = None, (time.monotonic() - begin) * 1000

    def status(self) -> dict[str, Any]:
        """Return how things are, as pages show it."""
        feed = self._feed
        silent = feed.loaded and time.monotonic() - feed.heard_at > SILENT_S
        trouble = feed.trouble or ("the feed is silent" if silent else None)
        heard = "RESTING" if feed.resting else "LIVE"
        return {
            "time_ms": round(time.time() * 1000),
            "server": self.server,
            "database": "AWAY" if self.database else "OK",
            "feed": "DOWN" if trouble else heard,
            "trouble": self.database or trouble,
            "symbols": len(feed.board),
            "per_minute": feed.per_minute,
            "newest_close_ms": feed.board.newest_close_ms,
        }
