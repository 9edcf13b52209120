"""Bytes that are no message: the call hears so instead of an error of grpc's. Knows no method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from candlecast.errors import InvalidRequest

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class TolerantServer:
    """A server whose methods get None in the place of what cannot be parsed: see `parsed`.

    Services are added to it in the place of the server. An interceptor would do the same, at a cost in every call.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Take what add_registered_method_handlers is given, too."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Add the methods of a service; one that only streams responses may yield them encoded."""
        tolerant = {name: handler._replace(request_deserializer=_tolerant(handler.request_deserializer))
                    for name, handler in handlers.items()}  # fmt: skip
        for name, handler in tolerant.items():
            if handler.response_streaming and not handler.request_streaming:
                tolerant[name] = handler._replace(response_serializer=_encoded(handler.response_serializer))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, tolerant),))


def _tolerant(parse: Callable[[bytes], T]) -> Callable[[bytes], T | None]:
    def tolerant(data: bytes) -> T | None:
        try:
            return parse(data)
        except DecodeError:
            return None

    return tolerant


def _encoded(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def encoded(response: Any) -> bytes:
        return response if isinstance(response, bytes) else serialize(response)

    return encoded


def parsed_as(kind: type[M], data: bytes) -> M:
    """Return the message that bytes are.

    Raises:
        InvalidRequest: they are none of that kind.
    """
    return parsed(_tolerant(kind.FromString)(data))


def parsed(request: T | None) -> T:
    """Return the request.

    Raises:
        InvalidRequest: it could not be parsed.
    """
    if request is None:
        raise InvalidRequest("message", "is not of the method's type: it cannot be parsed")
    return request
