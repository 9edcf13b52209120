"""Calls of one client that are made at the same time go as one, for a call costs about as much as a forecast.

Nobody waits for company: one call, or two, go at once; with more under way those that come meanwhile go together, as
many as keep CALLS_MAX calls of one size under way. What a caller is answered is what it would have been answered alone.
Knows requests and answers, and neither channel nor retries.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from candlecast.calls import ServerError
from candlecast.results import Batch, Results, asking
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1.types_pb2 import Wait

CALLER_ROWS_MAX: Final = 16
"""Candles of a caller; with more it goes alone."""
CALL_ROWS_MAX: Final = 256
CALLS_MAX: Final = 4
"""While two are computed, one goes there and one comes back."""
AT_ONCE: Final = 2
"""Calls under way beside which nobody waits."""

Call = Callable[[pb.PredictRequest, float], Awaitable[pb.PredictResponse]]


@dataclass(eq=False, slots=True)
class _Caller:
    carried: Any  # records as bytes, or messages
    rows: int
    deadline_s: float
    answer: asyncio.Future[Results]
    together: _Together | None = None


@dataclass(eq=False, slots=True)
class _Together:
    """Callers of one call."""

    callers: list[_Caller]
    rows: int
    task: asyncio.Task[None] | None = None


@dataclass(eq=False, slots=True)
class _Kind:
    """Callers whose candles can travel in one request."""

    carrier: str  # the field of the request
    layout: int
    wait: Wait
    waiting: deque[_Caller] = field(default_factory=deque)
    rows: int = 0  # that wait
    under_way: set[_Together] = field(default_factory=set)


class SharedCalls:
    """Makes the calls of an AsyncClient's callers.

    Args:
        call: makes a call with a request and a timeout in s.
        timeout_s: of a caller.
    """

    def __init__(self, call: Call, timeout_s: float) -> None:
        self._call, self._timeout_s = call, timeout_s
        self._kinds: dict[tuple[str, Wait], _Kind] = {}
        self._flushing = False

    async def predict(self, candles: Batch, wait: Wait) -> Results:
        """Return the results of candles, CALLER_ROWS_MAX at most.

        Raises:
            ServerError.
        """
        request = asking(candles)
        layout = request.pop("packed_layout")
        ((carrier, carried),) = request.items()
        kind = self._kinds.setdefault((carrier, wait), _Kind(carrier, layout, wait))
        loop = asyncio.get_running_loop()
        caller = _Caller(carried, len(candles), time.monotonic() + self._timeout_s, loop.create_future())
        kind.waiting.append(caller)
        kind.rows += caller.rows
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._flush)
        try:
            return await caller.answer
        except asyncio.CancelledError:
            together = caller.together
            if together and together.task and all(other.answer.done() for other in together.callers):
                together.task.cancel()
            raise

    def _flush(self) -> None:
        self._flushing = False
        for kind in self._kinds.values():
            all_rows = kind.rows + sum(together.rows for together in kind.under_way)
            share = min(math.ceil(all_rows / CALLS_MAX), CALL_ROWS_MAX)
            while kind.waiting and (len(kind.under_way) < AT_ONCE or kind.rows >= share):
                self._send(kind, share)

    def _send(self, kind: _Kind, share: int) -> None:
        together = _Together([], 0)
        while kind.waiting and (not together.callers or together.rows + kind.waiting[0].rows <= share):
            caller = kind.waiting.popleft()
            kind.rows -= caller.rows
            if not caller.answer.done():
                caller.together = together
                together.callers.append(caller)
                together.rows += caller.rows
        if together.callers:
            self._start(kind, together)

    def _start(self, kind: _Kind, together: _Together) -> None:
        kind.under_way.add(together)
        together.task = asyncio.create_task(self._ask(kind, together))

    async def _ask(self, kind: _Kind, together: _Together) -> None:
        callers = together.callers
        try:
            response = await self._call(
                _request(kind, [caller.carried for caller in callers]),
                max(0.0, min(caller.deadline_s for caller in callers) - time.monotonic()),
            )
            results, start = Results(response), 0
            if len(results) != together.rows:
                raise ValueError(f"{len(results)} results came to {together.rows} candles")
            for caller in callers:
                stop = start + caller.rows
                if not caller.answer.done():
                    caller.answer.set_result(results.part(start, stop))
                start = stop
        except Exception as error:
            if len(callers) > 1 and _is_invalid(error):  # the message as a whole, as when it holds too many candles
                for caller in callers:
                    caller.together = _Together([caller], caller.rows)
                    self._start(kind, caller.together)
                callers = []
            for caller in callers:
                if not caller.answer.done():
                    caller.answer.set_exception(_said(error))
        finally:
            for caller in callers:
                caller.answer.cancel()  # who has no answer by now: the call was cancelled
            kind.under_way.discard(together)
            if kind.waiting:
                self._flush()


def _request(kind: _Kind, parts: Sequence[Any]) -> pb.PredictRequest:
    joined: Any = b"".join(parts) if kind.carrier == "packed" else [one for part in parts for one in part]
    return pb.PredictRequest(**{kind.carrier: joined}, packed_layout=kind.layout, wait=kind.wait)


def _is_invalid(error: Exception) -> bool:
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.INVALID_ARGUMENT


def _said(error: Exception) -> Exception:
    """Return what one of several callers is told: an exception of its own."""
    if not isinstance(error, grpc.RpcError):
        return error
    said = ServerError(error)
    said.__cause__ = error
    return said
