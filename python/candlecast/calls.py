"""Calls that fail, and streams that go on in the next call. Knows grpc, not what is sent."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import AsyncIterable, Iterable
from typing import Generic, TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from candlecast.errors import CandlecastError

T = TypeVar("T")
RESUME_PAUSE_S = 0.3


class ServerError(CandlecastError):
    """A call failed.

    Attributes:
        code: the gRPC status, such as grpc.StatusCode.UNAVAILABLE.
        server_reason: UPPER_SNAKE, such as QUEUE_FULL; the status's name when the server gave none.
    """

    def __init__(self, error: grpc.RpcError) -> None:
        # What grpc says of a call that ended while it was being written to, whatever its status was.
        was_cut = error.details() == "Internal error from Core"
        self.code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE if was_cut else error.code()
        self.server_reason = self.code.name
        status = rpc_status.from_call(error) if error.trailing_metadata() else None  # type: ignore[arg-type]
        for detail in status.details if status else ():
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                self.server_reason = info.reason
        words = dict.fromkeys((self.code.name, self.server_reason))  # once, when they are the same
        super().__init__(f"{' '.join(words)}: {error.details()}")


class Attempts:
    """Decides whether a stream that failed is tried again: for resume_s, once something was answered."""

    def __init__(self, resume_s: float) -> None:
        self._resume_s = resume_s
        self._give_up_s = math.inf
        self._was_answered = False
        self.count = 0

    def begin(self) -> None:
        self.count += 1

    def answered(self) -> None:
        self._was_answered, self._give_up_s = True, math.inf

    def failed(self, error: ServerError) -> None:
        """Raise the error unless the stream is to be tried again."""
        self._give_up_s = min(self._give_up_s, time.monotonic() + self._resume_s)
        retryable = error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
        if not (retryable and self._was_answered) or time.monotonic() >= self._give_up_s:
            raise error from error.__cause__

    @staticmethod
    def pause_s() -> float:
        return RESUME_PAUSE_S * random.uniform(0.5, 1.5)


class BlockingSource(Generic[T]):
    """Batches that the threads of several calls take from, one call after the other."""

    def __init__(self, batches: Iterable[T]) -> None:
        self._batches = iter(batches)
        self._lock = threading.Lock()
        self._next: T | None = None
        self._has_next = False
        self.mistake: Exception | None = None
        """What the batches raised; grpc would only cancel the call."""

    def peek(self) -> T | None:
        """Return the next batch, None at the end; it stays the next until it is taken."""
        with self._lock:
            if not self._has_next:
                try:
                    self._next = next(self._batches, None)
                except Exception as error:
                    self.mistake = error
                    raise
                self._has_next = True
            return self._next

    def take(self) -> None:
        """Go on to the batch after the one that was peeked at."""
        with self._lock:
            self._has_next = False


class Source(Generic[T]):
    """Batches that several calls take from, one after the other: what one call was waiting for, the next one gets."""

    def __init__(self, batches: AsyncIterable[T]) -> None:
        self._batches = aiter(batches)
        self._next: asyncio.Task[T | None] | None = None
        self.mistake: Exception | None = None
        """What the batches raised; grpc would only cancel the call."""

    async def peek(self) -> T | None:
        """Return the next batch, None at the end; it stays the next until it is taken."""
        if self._next is None:
            self._next = asyncio.create_task(self._pull())
        return await asyncio.shield(self._next)

    def take(self) -> None:
        """Go on to the batch after the one that was peeked at."""
        self._next = None

    async def _pull(self) -> T | None:
        try:
            return await anext(self._batches, None)
        except Exception as error:
            self.mistake = error
            raise
