"""The board and the live feed without a server: slow readers get the newest, a source that fails is asked again."""

import asyncio
import json
import math

import numpy as np
import pytest

from candlecast.dashboard import feed as feeds
from candlecast.dashboard import gauges
from candlecast.dashboard.board import Board
from candlecast.dashboard.feed import Feed
from candlecast.dashboard.listeners import Listener, Listeners, Wanted
from candlecast.errors import Overloaded, StorageUnavailable
from candlecast.tracking.stability import stability


def row(symbol, close=1, direction="LONG", confidence=0.7, edge=0.1, stages=(1, 1, 1, 1, 1)):
    return {
        "symbol": symbol,
        "close_time_ms": close,
        "direction": direction,
        "confidence": confidence,
        "edge": edge,
        "stages_us": list(stages),
    }


def test_the_board_keeps_the_newest_of_each_symbol():
    board = Board()
    assert len(board.put([row("A", 5), row("B", 5)])) == 2
    assert board.put([row("A", 4)]) == []
    again = row("A", 5, confidence=0.9)
    assert board.put([again]) == [again]
    assert board.page(limit=10).rows[0] is again
    assert board.newest_close_ms == 5


def test_the_board_finds_orders_and_pages():
    board = Board()
    board.put(row(f"S{i:03}", confidence=i / 1000, direction=("LONG", "SHORT", "NEUTRAL")[i % 3]) for i in range(300))
    page = board.page(search="s01", order="confidence", limit=4)
    assert [r["symbol"] for r in page.rows] == ["S019", "S018", "S017", "S016"]
    assert (page.total, page.symbols) == (10, 300)
    assert board.page(side="SIGNAL", limit=1).total == 200
    assert board.page(side="SHORT", limit=1).total == 100
    assert [r["symbol"] for r in board.page(offset=298, limit=5).rows] == ["S298", "S299"]


def test_a_board_that_is_full_counts_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr("candlecast.dashboard.board.SYMBOLS_MAX", 2)
    board = Board()
    assert len(board.put([row("A"), row("B"), row("C"), row("A", 2)])) == 3
    assert (len(board), board.left_out) == (2, 1)


class Scripted:
    """A source that yields what it is given, or fails with it; `idle` when all of it has been taken in."""

    def __init__(self):
        self.batches, self.idle, self.begun = asyncio.Queue(), asyncio.Event(), 0

    async def __call__(self):
        self.begun += 1
        yield []
        while True:
            if self.batches.empty():
                self.idle.set()
            batch = await self.batches.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch

    async def give(self, *batches):
        self.idle.clear()
        for batch in batches:
            self.batches.put_nowait(batch)
        async with asyncio.timeout(5):
            await self.idle.wait()


async def nothing():
    return []


async def test_who_reads_slowly_gets_the_newest_of_each_symbol_and_holds_nobody_up():
    source = Scripted()
    async with Feed(nothing, source) as feed:
        with feed.listen() as slow, feed.listen([Wanted(frozenset("A"))]) as one:
            await source.give(*([row("A", close), row("B", close)] for close in range(1, 500)))
            got = [json.loads(text) for text in await slow.take(1)]
            assert [(r["symbol"], r["close_time_ms"]) for r in got] == [("A", 499), ("B", 499)]
            assert [json.loads(text)["symbol"] for text in await one.take(1)] == ["A"]
            assert await slow.take(0.01) == []
        assert feed.per_minute == 998


async def test_only_the_last_minute_counts(monkeypatch):
    source = Scripted()
    async with Feed(nothing, source) as feed, asyncio.timeout(5):
        await source.give([row("A"), row("B")])
        monkeypatch.setattr(feeds, "MINUTE_S", 0.02)
        await asyncio.sleep(0.03)
        await source.give([row("C")])
        assert feed.per_minute == 1


def test_who_wants_a_forecast_is_found_as_by_asking_everyone():
    rng, names = np.random.default_rng(7), [f"S{i}" for i in range(8)]
    listeners, wishes = Listeners(), dict[Listener, list[Wanted]]()

    def some(of, most):
        return frozenset(rng.choice(of, rng.integers(0, most), replace=False).tolist())

    for _ in range(400):
        match rng.integers(3):
            case 0:
                listener = Listener()
            case _ if wishes:
                listener = list(wishes)[rng.integers(len(wishes))]
            case _:
                continue
        if listener in wishes and rng.random() < 0.4:
            listeners.remove(listener)
            del wishes[listener]
        else:
            wishes[listener] = [
                Wanted(some(names, 4), some(["LONG", "SHORT", "NEUTRAL"], 3), float(rng.choice([0, 0.5])))
                for _ in range(rng.integers(0, 4))
            ]
            listeners.put(listener, wishes[listener])
        said = row(str(rng.choice(names)), direction=str(rng.choice(["LONG", "NEUTRAL"])), confidence=rng.random())
        wanting = {
            one
            for one, wanted in wishes.items()
            if any((not w.symbols or said["symbol"] in w.symbols) and w.takes(said) for w in wanted)
        }
        assert set(listeners.of(said)) == wanting
        assert len(listeners) == len(wishes)
    for listener in wishes:
        listeners.remove(listener)
    assert not listeners.of(row("S1"))
    assert not listeners._of_symbol, "what nobody wants is not kept"


async def test_a_source_that_fails_is_said_and_asked_again(monkeypatch, caplog):
    monkeypatch.setattr(feeds, "RETRY_PAUSE_MS", 1)
    source, loads = Scripted(), []

    async def load():
        loads.append(1)
        return [row("A", len(loads))]

    async with Feed(load, source) as feed:
        await source.give(StorageUnavailable("away"))  # idle again: the second time round
        assert (source.begun, feed.trouble) == (2, None)
        assert feed.board.newest_close_ms == 2  # what came meanwhile is on the board
    assert "feed down: away" in caplog.text


async def test_what_is_stored_is_on_the_board_also_when_the_source_does_not_begin(monkeypatch):
    monkeypatch.setattr(feeds, "RETRY_PAUSE_MS", 1)
    filled = asyncio.Event()

    async def away():
        raise StorageUnavailable("away")
        yield []

    async def load():
        filled.set()
        return [row("A")]

    async with Feed(load, away) as feed, asyncio.timeout(5):
        await filled.wait()
        await asyncio.sleep(0)
        assert (feed.loaded, len(feed.board), feed.trouble) == (True, 1, "away")


async def test_a_feed_nobody_looks_at_asks_the_server_for_nothing_and_wakes_when_one_does(monkeypatch):
    monkeypatch.setattr(feeds, "REFILL_S", 0.0)
    source = Scripted()
    async with Feed(nothing, source, rest_after_s=0.05) as feed, asyncio.timeout(5):
        await asyncio.sleep(0.02)
        assert (source.begun, feed.resting, feed.trouble) == (0, True, None)
        await feed.awake()
        assert (source.begun, feed.resting, feed.loaded) == (1, False, True)
        with feed.listen() as listener:
            await asyncio.sleep(0.1)  # who listens keeps it awake
            await source.give([row("A", 1)])
            assert len(await listener.take(1)) == 1
        await asyncio.sleep(0.06)
        source.batches.put_nowait([row("A", 2)])
        await asyncio.sleep(0.01)
        assert feed.resting
        with feed.listen():
            await feed.awake()
            assert source.begun == 2


async def test_a_page_does_not_wait_for_a_source_that_is_away(monkeypatch):
    async def away():
        raise StorageUnavailable("away")
        yield []

    async with Feed(nothing, away, rest_after_s=60) as feed, asyncio.timeout(1):
        await feed.awake()
        await feed.awake()
        assert feed.trouble == "away"


async def test_too_many_listeners_are_refused(monkeypatch):
    monkeypatch.setattr(feeds, "LISTENERS_MAX", 1)
    async with Feed(nothing, Scripted()) as feed:
        with feed.listen(), pytest.raises(Overloaded), feed.listen():
            pass
        with feed.listen():
            pass


METRICS = """
# HELP candlecast_queue_rows Candles under way in the server.
candlecast_queue_rows 12.0
candlecast_queue_rows_max 8192.0
candlecast_journal_bytes 9.0e+08
candlecast_journal_bytes_max 1.073741824e+09
candlecast_drain_lag_seconds 0.25
candlecast_triton_breaker_open{model="patchtst"} 0.0
candlecast_triton_breaker_open{model="lstm"} 1.0
"""


async def test_gauges_are_said_in_words_and_what_is_nearly_full_or_ill_is_said_to_be(monkeypatch):
    monkeypatch.setattr(gauges, "_fetched", lambda url: METRICS)
    found = {part["name"]: (part["value"], part["ok"]) for part in await gauges.parts("127.0.0.1:1")}
    assert found == {
        "Queue": ("12 of 8,192", True),
        "Journal": ("858 of 1,024 MB", False),
        "Behind the journal": ("0.2 s", True),
        "Triton": ("breaker open", False),
    }


async def test_a_server_without_gauges_or_away_has_none():
    assert await gauges.parts("") == []
    assert await gauges.parts("127.0.0.1:9") == []


def test_the_stability_index_of_a_hand_computed_case():
    # Edges 1, 1.5 and 2, so five bins: below 1, below 1.5, below 2, from 2 on, and no value.
    reference = np.repeat([[1.0], [2.0]], 50, axis=0).astype(np.float32)
    newest = np.repeat([[1.0], [2.0]], [20, 80], axis=0).astype(np.float32)
    p, q = np.array([0.5, 20.5, 0.5, 80.5, 0.5]) / 102.5, np.array([0.5, 50.5, 0.5, 50.5, 0.5]) / 102.5
    expected = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert stability(reference, newest) == pytest.approx([expected])


def test_what_has_not_moved_is_stable_and_what_has_or_lost_its_values_is_not():
    rng = np.random.default_rng(0)
    reference, newest = rng.normal(size=(2, 1_000, 4)).astype(np.float32)
    newest[:, 1] += 2
    newest[:, 2] = np.nan
    reference[:, 3] = newest[:, 3] = 7.0
    same, moved, gone, constant = stability(reference, newest)
    assert same < 0.05
    assert min(moved, gone) > 1
    assert constant == 0
