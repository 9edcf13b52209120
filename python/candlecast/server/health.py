"""Readiness is a canary: golden windows through the model give golden values, and the database answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from grpc_health.v1 import health, health_pb2

from candlecast.errors import CandlecastError

log = logging.getLogger(__name__)

SERVICES = (
    "",
    "candlecast.v1.Forecasts",
    "candlecast.v1.OrderFlow",
    "candlecast.v1.Performance",
    "candlecast.v1.History",
    "candlecast.v1.Sentiment",
    "candlecast.v1.Models",
)
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Readiness:
    """Keeps gRPC health true while it is entered: SERVING exactly while the last canary passed."""

    def __init__(
        self,
        canary: Callable[[], Awaitable[None]],
        *,
        interval_ms: int,
        complaint: Callable[[], str] = lambda: "",
    ) -> None:
        self.servicer = health.aio.HealthServicer()
        self._canary = canary
        self._interval_ms = interval_ms
        self.ready: bool | None = None
        """What the last canary said; None: none was sung yet."""
        self._complaint = complaint
        self.degraded = ""
        """Why forecasts are degraded although they are made: a reason, a colon, words; nothing while they are not."""
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.check()
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._watcher is not None, "not entered"
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_ms / 1000)
            await self.check()

    async def check(self) -> None:
        """Run the canary once and say what it found, on a change in the log too."""
        if (degraded := self._complaint()).partition(":")[0] != self.degraded.partition(":")[0]:
            log.warning("degraded=%s", degraded or "no more")
        self.degraded = degraded
        try:
            await self._canary()
        except Exception as error:  # whatever it is, a server whose canary fails is not ready
            reason = error.reason if isinstance(error, CandlecastError) else type(error).__name__
            await self._say(ready=False, why=f"{reason}: {error}")
        else:
            await self._say(ready=True)

    async def _say(self, *, ready: bool, why: str = "") -> None:
        if ready == self.ready:
            return
        self.ready = ready
        log.log(logging.INFO if ready else logging.WARNING, "ready=%s %s", str(ready).lower(), why)
        for service in SERVICES:
            await self.servicer.set(service, _SERVING if ready else _NOT_SERVING)

    async def stop(self) -> None:
        """Say NOT_SERVING for good."""
        await self.servicer.enter_graceful_shutdown()
