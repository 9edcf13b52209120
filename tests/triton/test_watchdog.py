"""When a canary's failures count as sickness."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from candlecast.errors import ModelUnavailable, Overloaded
from candlecast.triton.watchdog import until_sick


class Canary:
    """Does what it is told, run by run; at the end of the list it dies for good."""

    def __init__(self, runs: Iterable[Exception | None] = ()) -> None:
        self.runs = list(runs)
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1
        error = self.runs.pop(0) if self.runs else ModelUnavailable("dead")
        if error is not None:
            raise error


async def why(canary: Canary, failures_max: int = 3) -> str:
    async with asyncio.timeout(5):
        return await until_sick(canary, interval_ms=1, limit_ms=1_000, failures_max=failures_max)


async def test_only_failures_in_a_row_are_sickness() -> None:
    away = ModelUnavailable("away")
    canary = Canary([None, away, away, None, away, away, None])
    assert await why(canary) == "dead"
    assert canary.count == 7 + 3


async def test_a_busy_server_is_not_sick_and_its_failures_are_not_forgotten() -> None:
    canary = Canary([Overloaded("full")] * 20 + [ModelUnavailable("away"), Overloaded("full")])
    assert await why(canary) == "dead"
    assert canary.count == 22 + 2


async def test_an_error_nobody_expected_is_a_failure_too() -> None:
    assert await why(Canary([RuntimeError("a bug")]), failures_max=1) == "a bug"


async def test_a_canary_that_does_not_come_back_is_a_failure() -> None:
    async def silent() -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        assert "no answer within 20 ms" in await until_sick(silent, interval_ms=1, limit_ms=20, failures_max=2)
