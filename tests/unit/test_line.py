import asyncio
from types import SimpleNamespace

import pytest

from candlecast.line import Line


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def standing(line, rows):
    loop = asyncio.get_running_loop()
    work = SimpleNamespace(rows=rows, done=loop.create_future(), trouble=loop.create_future())
    line.join(work)
    return work


async def answered(*works):
    for work in works:
        work.done.set_result(None)
    await asyncio.sleep(0)


async def test_who_stands_alone_is_never_kept_out():
    clock = Clock()
    line = Line(clock)
    await answered(standing(line, 1))
    clock.now += 5
    assert line.expected_s(1_000_000) == 0


async def test_twice_what_the_oldest_has_waited_is_expected():
    clock = Clock()
    line = Line(clock)
    first, _ = standing(line, 1), standing(line, 1)
    clock.now += 0.3
    third = standing(line, 1)
    assert line.expected_s(1) == pytest.approx(0.6)
    await answered(first, third)
    clock.now += 0.1
    assert line.expected_s(1) == pytest.approx(0.8)


async def test_a_flood_is_seen_by_the_pace_of_the_answers_before_anyone_is_late():
    clock = Clock()
    line = Line(clock)
    works = [standing(line, 10) for _ in range(100)]
    for work in works[:9]:
        clock.now += 0.01
        await answered(work)
    # The first answer begins the count: 80 rows in 0.08 s, 910 before it.
    assert line.expected_s(10) == pytest.approx(1.25 * 0.001 * 920)
    assert line.expected_s(10) > 2 * 0.09


async def test_the_pace_is_that_of_late():
    clock = Clock()
    line = Line(clock)
    works = [standing(line, 10) for _ in range(2_400)]
    for work in works[:100]:
        clock.now += 0.001
        await answered(work)
    for work in works[100:220]:
        clock.now += 0.1
        await answered(work)
    assert line.expected_s(10) == pytest.approx(1.25 * 0.01 * 21_810, rel=0.01)


async def test_a_pace_is_remembered_for_some_seconds_only():
    clock = Clock()
    line = Line(clock)
    works = [standing(line, 10) for _ in range(10)]
    for work in works[:-1]:
        clock.now += 1
        await answered(work)
    await answered(works[-1])
    standing(line, 10)
    assert line.expected_s(10) == pytest.approx(1.25 * 0.1 * 20)
    clock.now += 20
    assert line.expected_s(1_000) == pytest.approx(40)  # twice what that one has waited; by the pace it would be 1,000


async def test_who_waits_for_a_model_that_is_away_keeps_nobody_out():
    clock = Clock()
    line = Line(clock)
    work = standing(line, 10)
    clock.now += 10
    work.trouble.set_result(RuntimeError())
    await asyncio.sleep(0)
    assert line.expected_s(1) == 0
    await answered(work)  # leaves once
    standing(line, 1)
    assert line.expected_s(1) == 0
