"""Errors as problem JSON (RFC 9457): one table. Every failed request says what went wrong, under a closed reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import grpc
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from candlecast import errors

MEDIA_TYPE: Final = "application/problem+json"
log = logging.getLogger(__name__)


class Problem(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="what went wrong, and what to do where that is known")
    reason: str = Field(description="UPPER_SNAKE, of a closed list")


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    code: {
        "description": what,
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    }
    for code, what in (("4XX", "the request is at fault"), ("5XX", "we are, or a part that is away"))
}
"""For the OpenAPI page of every route."""

_STATUS: Final[tuple[tuple[type[errors.CandlecastError], int], ...]] = (
    (errors.InvalidRequest, 422),
    (errors.Overloaded, 503),
    (errors.DeadlineExceeded, 504),
    (errors.Unavailable, 503),
    (errors.ConfigurationError, 503),
)
_TITLES: Final[Mapping[int, str]] = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Malformed request",
    429: "Too much at once",
    500: "Internal error",
    502: "The server failed",
    503: "Unavailable",
    504: "Too late",
}


_OF_GRPC: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.UNAVAILABLE: 503,
}


def status_of(code: grpc.StatusCode) -> int:
    """Return the HTTP status of a call that failed on the server."""
    return _OF_GRPC.get(code, 502)


class Refused(Exception):
    """A request that is not carried out, with its status and reason."""

    def __init__(self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail, self.headers = status, reason, detail, headers


def problem(
    status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """Return the answer to a request that failed."""
    said = Problem(title=_TITLES.get(status, "Error"), status=status, detail=detail, reason=reason, **more)
    return JSONResponse(said.model_dump(), status, headers=dict(headers) if headers else None, media_type=MEDIA_TYPE)


def answer_with_problems(app: FastAPI) -> None:
    """Make the application answer every error so."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return problem(error.status, error.reason, error.detail, error.headers)

    @app.exception_handler(errors.CandlecastError)
    async def ours(_: Request, error: errors.CandlecastError) -> JSONResponse:
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        if status == 500:
            log.error("unexpected error=%r", error, exc_info=error)
        return problem(status, error.reason, str(error) if status != 500 else "a fault of ours: see the log")

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        found = [{"field": ".".join(map(str, item["loc"])), "description": item["msg"]} for item in error.errors()]
        return problem(
            422, "INVALID_REQUEST", "; ".join(f"{e['field']}: {e['description']}" for e in found), errors=found
        )

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        reason = _TITLES.get(error.status_code, "Error").upper().replace(" ", "_")
        return problem(error.status_code, reason, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return problem(500, "INTERNAL", "a fault of ours: see the log")
