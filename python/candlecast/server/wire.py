"""Bytes that are no message: the call hears so instead of an error of grpc's. Knows no method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError

from candlecast.errors import InvalidRequest

T = TypeVar("T")


class Tolerant(grpc.aio.ServerInterceptor):
    """Hands None to the methods in the place of what cannot be parsed: see `parsed`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        parse = handler.request_deserializer

        def tolerant(data: bytes) -> Any:
            try:
                return parse(data)
            except DecodeError:
                return None

        return handler._replace(request_deserializer=tolerant)


def parsed(request: T | None) -> T:
    """Return the request.

    Raises:
        InvalidRequest: it could not be parsed.
    """
    if request is None:
        raise InvalidRequest("message", "is not of the method's type: it cannot be parsed")
    return request
