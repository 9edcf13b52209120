"""What holds for every request: browsers are told what not to do; on loopback, names that are not ours are refused."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from candlecast.dashboard.problems import problem
from candlecast.settings import is_loopback

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


class Guard:
    """Middleware.

    Args:
        loopback_only: we listen on loopback, so a request for another name comes from a page that had its name point
            here (DNS rebinding), or from a proxy that keeps its name: both are refused with 421.
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool) -> None:
        self._app = app
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        if scope["type"] in ("http", "websocket") and self._loopback_only and not _is_ours(scope):
            if scope["type"] == "http":
                detail = "we are 127.0.0.1 or localhost: a proxy before us has to say so in the header Host"
                await problem(421, "MISDIRECTED", detail)(scope, receive, with_headers)
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": "misdirected"})
            return
        if scope["type"] == "http" and not scope["path"].isprintable():  # the router takes "…/\n" for "…/"
            await problem(404, "NOT_FOUND", "no address holds control characters")(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def _is_ours(scope: Scope) -> bool:
    host = Headers(scope=scope).get("host", "")
    return is_loopback(host if host.rpartition(":")[2].isdigit() else f"{host}:80")
