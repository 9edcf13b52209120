"""The gRPC door: messages of some methods by the batch, all other calls by grpc's own server. Knows no method.

grpc's Python server spends some 200 µs on a call. Here a thread in Rust speaks HTTP/2 and hands over all messages that
have arrived, at once; what it does not know goes on, through a Unix socket, to the server that knows it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Protocol

import grpc

from candlecast import _rust
from candlecast.errors import ConfigurationError, Overloaded, Stopped
from candlecast.server.status import failure, status

KEEPALIVE_TIME_MS: Final = 30_000
"""A client that stands still for long has its streams closed."""
KEEPALIVE_TIMEOUT_MS: Final = 20_000
INBOX_MESSAGES_MAX: Final = 10_000
STREAM_MESSAGES_MAX: Final = 64
STREAM_BYTES_MAX: Final = 256 * 1024
"""Under way in one stream, 2,000 candles; a faster client is slowed down by flow control."""
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


class Methods(Protocol):
    """What answers messages."""

    @property
    def METHODS(self) -> Sequence[tuple[str, bool]]:
        """/package.Service/Method, and whether it takes a stream of messages and gives one answer to each, in order."""

    def arrived(self, calls: Iterable[Call]) -> None:
        """Take messages, in the order in which they came; each is answered, or fails, some time.

        To be taken one by one: what is behind one that fails, in the same stream, does not come any more.
        """


class Call:
    """One message that wants an answer: of a stream, one of many."""

    __slots__ = ("_door", "left", "message", "method", "number", "stream", "timeout_ms")

    def __init__(
        self, door: Door, number: int, method: int, message: bytes, timeout_ms: float | None, stream: int | None
    ) -> None:
        self._door = door
        self.stream = stream  # the number of that which it is of
        self.number = number
        self.method = method  # place among the methods
        self.message = message
        self.timeout_ms = timeout_ms  # that the caller still waits; None: it did not say
        self.left: Callable[[], object] | None = None
        """Is called when nobody waits any more."""

    def answer(self, message: bytes) -> None:
        """Answer with a message."""
        self._door.answer(self.number, message)

    def fail(self, error: Exception) -> None:
        """End the call, of a stream the whole of it, with the status of an error."""
        self._door.fail(self, error)


class Door:
    """Listens; an async context, which gives HOST:PORT.

    Args:
        address: HOST:PORT.
        server: not started yet; it gets all calls of other methods, and is stopped with the door.
    """

    def __init__(
        self, address: str, server: grpc.aio.Server, methods: Methods, *, message_bytes_max: int, grace_ms: int
    ) -> None:
        self._address = address
        self._server = server
        self._methods = methods
        self._message_bytes_max = message_bytes_max
        self._grace_ms = grace_ms
        self._calls: dict[int, Call] = {}
        self._answers: list[tuple[int, bytes]] = []
        self._failed: set[int | None] = set()  # streams of what is being taken

    async def __aenter__(self) -> str:
        """Begin to listen.

        Raises:
            ConfigurationError: the address cannot be had.
        """
        behind = (
            f"candlecast-{os.getpid()}-{secrets.token_hex(8)}"  # a name without a file, which a kill leaves none of
        )
        self._server.add_insecure_port(f"unix-abstract:{behind}")
        await self._server.start()
        full = status(Overloaded(f"{INBOX_MESSAGES_MAX} messages wait: try again later"))
        try:
            self._door = _rust.Door(
                self._address,
                behind,
                list(self._methods.METHODS),
                message_bytes_max=self._message_bytes_max,
                inbox_max=INBOX_MESSAGES_MAX,
                full=(full.code, full.message, full.SerializeToString()),
                stream_messages_max=STREAM_MESSAGES_MAX,
                stream_bytes_max=STREAM_BYTES_MAX,
                keep_alive_ms=KEEPALIVE_TIME_MS,
                keep_alive_timeout_ms=KEEPALIVE_TIMEOUT_MS,
            )
        except OSError as error:
            await self._server.stop(None)
            raise ConfigurationError(
                f"grpc: cannot listen on {self._address} ({error}): is another server running there?"
            ) from error
        asyncio.get_running_loop().add_reader(self._door.fd, self._ring)
        return f"{self._address.rpartition(':')[0]}:{self._door.port}"

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more calls, and let those there are end, at most as long as the grace."""
        stopped = _stopped()
        self._door.close(self._grace_ms, *stopped)
        await self._server.stop(self._grace_ms / 1000)
        await asyncio.to_thread(self._door.wait)
        asyncio.get_running_loop().remove_reader(self._door.fd)

    def stop(self) -> None:
        """Read no more from any stream: what was read is answered, then the stream ends with STOPPING."""
        self._door.stop(*_stopped())

    def refused(self) -> dict[str, int]:
        """Return how many calls it ended before their message was taken, by status code."""
        return {_CODES[code]: count for code, count in self._door.refused().items()}

    def answer(self, number: int, message: bytes) -> None:
        """Answer a call, together with all others that are answered in this turn of the loop."""
        self._calls.pop(number, None)
        self._answers.append((number, message))
        if len(self._answers) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def fail(self, call: Call, error: Exception) -> None:
        """End a call with the status of an error."""
        self._calls.pop(call.number, None)
        if call.stream is not None:
            self._failed.add(call.stream)
        why = failure(error)
        self._door.fail(call.number, why.code, why.message, why.SerializeToString())

    def _flush(self) -> None:
        answers, self._answers = self._answers, []
        self._door.answer(answers)

    def _ring(self) -> None:
        arrived = dict[int, Call]()
        self._failed.clear()
        for number, method, message, left_s, stream in self._door.take():
            if message is not None:
                timeout_ms = None if left_s is None else left_s * 1000
                arrived[number] = Call(self, number, method, message, timeout_ms, stream)
            elif number in arrived:  # its caller was gone before anybody saw it
                del arrived[number]
            elif (call := self._calls.pop(number, None)) is not None and (left := call.left) is not None:
                call.left = None  # a task that is cancelled holds its call: they would keep each other
                left()
        if arrived:
            self._calls |= arrived
            self._methods.arrived(call for call in arrived.values() if call.stream not in self._failed)


def _stopped() -> tuple[int, str, bytes]:
    why = status(Stopped("the server is shutting down"))
    return why.code, why.message, why.SerializeToString()
