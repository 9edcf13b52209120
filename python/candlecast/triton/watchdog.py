"""The canary of a tritonserver that says it is well: returns when it is not. Knows neither process nor model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from candlecast.errors import Overloaded

log = logging.getLogger(__name__)

Canary = Callable[[], Awaitable[object]]
"""Asks for what is known, and raises when the answer is wrong or does not come."""


async def until_sick(canary: Canary, *, interval_ms: int, limit_ms: int, failures_max: int) -> str:
    """Run the canary over and over, first after one interval; once it fails failures_max times in a row, return why.

    A server that is busy (Overloaded) proves nothing: that run does not count, for or against.

    Args:
        interval_ms: from the start of one run to the start of the next.
        limit_ms: longest run.
    """
    failures, started = 0, time.monotonic()
    while True:
        await asyncio.sleep(max(0.0, started + interval_ms / 1000 - time.monotonic()))
        started = time.monotonic()
        try:
            async with asyncio.timeout(limit_ms / 1000):
                await canary()
            failures = 0
        except Overloaded:
            pass
        except Exception as error:  # whatever it is, a server whose canary fails is not well
            failures += 1
            why = str(error) or f"no answer within {limit_ms} ms"
            log.warning("triton canary failed failures=%d of=%d error=%s", failures, failures_max, why)
            if failures >= failures_max:
                return why
