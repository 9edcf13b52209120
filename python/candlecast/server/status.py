"""Errors to gRPC statuses: one table. Every failed call carries google.rpc.ErrorInfo; malformed ones BadRequest too."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from candlecast import errors

log = logging.getLogger(__name__)

DOMAIN = "candlecast"
RETRY_AFTER_MS = 500
WORDS_CHARS_MAX: Final = 300
"""They may hold what a caller sent, and travel in headers, of which clients take 8 KB."""
FAILURES: Final = Counter[str]()
"""Calls that ended with an error since the process began, by its reason."""

_CODES: tuple[tuple[type[Exception], int], ...] = (
    (errors.InvalidRequest, code_pb2.INVALID_ARGUMENT),
    (errors.NotFound, code_pb2.NOT_FOUND),
    (errors.Overloaded, code_pb2.RESOURCE_EXHAUSTED),
    (errors.DeadlineExceeded, code_pb2.DEADLINE_EXCEEDED),
    (errors.Unavailable, code_pb2.UNAVAILABLE),
    (errors.Unauthenticated, code_pb2.UNAUTHENTICATED),
    (errors.WrongState, code_pb2.FAILED_PRECONDITION),
    (errors.ModelRefused, code_pb2.FAILED_PRECONDITION),
    (errors.CandlecastError, code_pb2.INTERNAL),
)


def status(error: Exception) -> status_pb2.Status:
    """Return the rich status of an error; what is none of ours is INTERNAL and says nothing of its inside."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), code_pb2.INTERNAL)
    ours = isinstance(error, errors.CandlecastError)
    reason = error.reason if isinstance(error, errors.CandlecastError) else "INTERNAL"
    details = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)]
    packed = [_any(details[0])]
    if isinstance(error, errors.InvalidRequest):
        said = _short(error.field), _short(error.description)
        violation = error_details_pb2.BadRequest.FieldViolation(field=said[0], description=said[1])
        packed.append(_any(error_details_pb2.BadRequest(field_violations=[violation])))
    if code in (code_pb2.UNAVAILABLE, code_pb2.RESOURCE_EXHAUSTED):
        delay = duration_pb2.Duration(nanos=RETRY_AFTER_MS * 1_000_000)
        packed.append(_any(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=code, message=_short(str(error)) if ours else "internal error", details=packed)


def failure(error: Exception) -> status_pb2.Status:
    """Return the status that a call ends with, counted and, when it is none of ours, logged."""
    if not isinstance(error, errors.CandlecastError):
        log.error("unexpected error=%r", error, exc_info=error)
    FAILURES[error.reason if isinstance(error, errors.CandlecastError) else "INTERNAL"] += 1
    return status(error)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """End the call with the status of an error."""
    rich = rpc_status.to_status(failure(error))
    await context.abort(rich.code, rich.details, rich.trailing_metadata)
    raise AssertionError("abort does not return")


def _short(text: str) -> str:
    return text if len(text) <= WORDS_CHARS_MAX else f"{text[: WORDS_CHARS_MAX - 1]}…"


def _any(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
