"""A small HTTP door for Prometheus inside the server's process: GET /metrics, /healthz and /readyz, nothing else.

It is not the web door: it reads no body, keeps no connection, and takes few of them, each for a short time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

from candlecast.errors import ConfigurationError
from candlecast.telemetry import Telemetry

log = logging.getLogger(__name__)

HEAD_BYTES_MAX: Final = 8 * 1024
CONNECTIONS_MAX: Final = 16
TIMEOUT_S: Final = 5.0
"""Longest exchange with one client."""
TEXT: Final = "text/plain; charset=utf-8"


class MetricsDoor:
    """Listens while it is entered.

    Args:
        address: HOST:PORT.
        prepare: runs before each scrape.
        ready: says whether the server is.
        degraded: says why its forecasts are degraded, if they are.
    """

    def __init__(
        self,
        address: str,
        telemetry: Telemetry,
        *,
        prepare: Callable[[], Awaitable[None]],
        ready: Callable[[], bool],
        degraded: Callable[[], str] = lambda: "",
    ) -> None:
        self.address = address
        self._telemetry = telemetry
        self._prepare = prepare
        self._ready = ready
        self._degraded = degraded
        self._exchanges: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigurationError: somebody else does.
        """
        host, _, port = self.address.rpartition(":")
        try:
            self._server = await asyncio.start_server(
                self._take, host.strip("[]"), int(port), limit=HEAD_BYTES_MAX, backlog=CONNECTIONS_MAX
            )
        except OSError as error:
            raise ConfigurationError(
                f"metrics: cannot listen on {self.address}: {error.strerror};"
                " choose another by --metrics, or none by ''"
            ) from error
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"
        log.info("metrics on http://%s/metrics", self.address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.close()
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        await self._server.wait_closed()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._exchanges.add(task)
        try:
            if len(self._exchanges) <= CONNECTIONS_MAX:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._exchange(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("metrics: a client left, or was too slow or too long: %r", error)
        finally:
            self._exchanges.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        code, body, content_type = await self._answer(head[0].split(" "), _accept(head[1:]))
        lines = (
            f"HTTP/1.1 {code.value} {code.phrase}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if head[0].startswith("HEAD ") else body))
        await writer.drain()

    async def _answer(self, words: list[str], accept: str) -> tuple[HTTPStatus, bytes, str]:
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return HTTPStatus.BAD_REQUEST, b"this is a door for HTTP/1.1\n", TEXT
        method, target, _ = words
        if method not in {"GET", "HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, b"it only reads\n", TEXT
        match target.partition("?")[0]:
            case "/metrics":
                await self._prepare()
                return HTTPStatus.OK, *self._telemetry.rendered(accept)
            case "/healthz":
                return HTTPStatus.OK, b"ok\n", TEXT
            case "/readyz" if self._ready():
                why = self._degraded()
                return HTTPStatus.OK, f"DEGRADED {why}\n".encode() if why else b"ready\n", TEXT
            case "/readyz":
                return HTTPStatus.SERVICE_UNAVAILABLE, b"the canary forecast fails\n", TEXT
            case _:
                return HTTPStatus.NOT_FOUND, b"/metrics, /healthz, /readyz\n", TEXT


def _accept(lines: list[str]) -> str:
    """Return the Accept header of a request."""
    fields = (line.partition(":") for line in lines)
    return ", ".join(value.strip() for name, _, value in fields if name.strip().lower() == "accept")
