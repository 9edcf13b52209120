"""Outcomes are looked at once a close has come in, and never much later."""

import asyncio
import time

import pytest

from candlecast.store.outcomes import Pass
from candlecast.tracking import outcomes
from candlecast.tracking.outcomes import Tracking


@pytest.fixture
def follower():
    return Tracking("", 0.0, gather_s=1.5)


async def test_it_waits_until_no_more_candles_come(follower):
    follower.look_at([("A", 60_000)])
    gathering = asyncio.create_task(follower._gather())
    await asyncio.sleep(0.3)
    follower.look_at([("B", 60_000)])
    heard_s = time.monotonic()
    await gathering
    assert time.monotonic() - heard_s > 1.4


async def test_candles_that_never_end_hold_it_up_for_so_long_only(follower, monkeypatch):
    monkeypatch.setattr(outcomes, "GATHER_MAX_S", 2.0)
    follower.look_at([("A", 60_000)])
    gathering = asyncio.create_task(follower._gather())
    async with asyncio.timeout(30):
        while not gathering.done():
            follower.look_at([("A", 60_000)])
            await asyncio.sleep(0.1)
    assert follower.waiting == 1


async def test_a_series_heard_of_during_a_round_waits_for_the_next(follower, monkeypatch):
    looked_at = []

    async def settle(_, some, *args, **more):
        looked_at.extend(some)
        follower.look_at(some)
        return Pass(1, (), ())

    monkeypatch.setattr(outcomes.outcomes, "settle", settle)
    follower.look_at([("A", 60_000), ("B", 60_000)])
    async with asyncio.timeout(10):
        await follower._settle([None])
    assert looked_at == [("A", 60_000), ("B", 60_000)] and follower.waiting == 2
