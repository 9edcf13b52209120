"""When the breaker refuses and when it lets through, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import logging

import pytest

from candlecast.errors import DeadlineExceeded, InvalidRequest, ModelUnavailable, Overloaded
from candlecast.triton.breaker import Breaker


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def ask(breaker: Breaker, error: BaseException | None = None, *, canary: bool = False) -> None:
    with breaker.request(canary=canary):
        if error is not None:
            raise error


def fail(breaker: Breaker, times: int = 1, *, canary: bool = False) -> None:
    for _ in range(times):
        with pytest.raises(DeadlineExceeded):
            ask(breaker, DeadlineExceeded("late"), canary=canary)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("rows", failures_max=3, open_ms=500, clock=clock)


def test_it_opens_after_failures_in_a_row_and_says_since_when_and_why(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 2)
    ask(breaker)  # not in a row
    fail(breaker, 2)
    assert not breaker.is_open
    fail(breaker)
    clock.now += 0.2
    said = r"rows: the breaker is open since \d\d:\d\d:\d\d UTC \(late\); next try in 300 ms"
    with pytest.raises(ModelUnavailable, match=said):
        ask(breaker)


@pytest.mark.parametrize(
    "error", [Overloaded("full"), InvalidRequest("windows", "shape"), asyncio.CancelledError()], ids=repr
)
def test_what_says_nothing_of_the_model_neither_counts_nor_mends(breaker: Breaker, error: BaseException) -> None:
    for _ in range(10):
        with pytest.raises(type(error)):
            ask(breaker, error)
    assert not breaker.is_open
    fail(breaker, 2)
    with pytest.raises(type(error)):
        ask(breaker, error)
    fail(breaker)
    assert breaker.is_open


def test_one_request_at_a_time_tries_an_open_breaker(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 0.5
    with breaker.request(), pytest.raises(ModelUnavailable, match="once the try under way fails"):
        ask(breaker)
    assert not breaker.is_open
    ask(breaker)


def test_a_try_that_fails_opens_it_anew(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 0.5
    fail(breaker)
    with pytest.raises(ModelUnavailable, match="next try in 500 ms"):
        ask(breaker)


def test_a_try_that_is_cancelled_leaves_its_place_to_the_next(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 0.5
    with pytest.raises(asyncio.CancelledError):
        ask(breaker, asyncio.CancelledError())
    assert breaker.is_open
    ask(breaker)
    assert not breaker.is_open


def test_a_canary_passes_an_open_breaker_and_closes_it(breaker: Breaker) -> None:
    fail(breaker, 3)
    fail(breaker, canary=True)
    with pytest.raises(ModelUnavailable, match="breaker is open"):
        ask(breaker)
    ask(breaker, canary=True)
    ask(breaker)


def test_each_change_is_one_line_in_the_log(breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fail(breaker, 6, canary=True)
    clock.now += 2
    ask(breaker)
    ask(breaker)
    assert [record.getMessage() for record in caplog.records] == [
        "breaker open model=rows failures=3 error=late",
        "breaker closed model=rows open_ms=2000",
    ]
