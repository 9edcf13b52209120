import asyncio

import numpy as np
import pytest

from candlecast.batching import Batcher, Closed, QueueFull


class FakeModel:
    """Answers each row with a number only that row can give, when it is told to; so a swapped row shows."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[np.ndarray] = []
        self.at_once = 0
        self.most_at_once = 0
        self.go = asyncio.Event()
        if not held:
            self.go.set()

    async def __call__(self, rows):
        self.batches.append(rows)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.go.wait()
        self.at_once -= 1
        if np.isnan(rows).any():
            raise ValueError("no such row")
        return self.answer(rows)

    @staticmethod
    def answer(rows):
        return np.stack([rows.sum(axis=1), rows[:, 0] * 3], axis=1)


def rows(count, start=0):
    return np.arange(start, start + count * 4, dtype=np.float32).reshape(count, 4)


def batcher(model, **limits):
    return Batcher(model, **{"batch_rows_max": 4, "in_flight_max": 2, "queue_rows_max": 100} | limits)


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_every_caller_gets_its_own_rows_whatever_their_sizes():
    model = FakeModel()
    sizes = [1, 3, 9, 2, 1, 17, 4]
    asked = [rows(size, start=100 * i) for i, size in enumerate(sizes)]
    async with batcher(model) as b:
        answers = await asyncio.gather(*(b.submit(r) for r in asked))
    for r, answer in zip(asked, answers, strict=True):
        np.testing.assert_array_equal(answer.outputs, FakeModel.answer(r))
    assert sum(len(batch) for batch in model.batches) == sum(sizes)
    assert max(len(batch) for batch in model.batches) <= 4


async def test_a_lone_caller_is_dispatched_at_once_without_a_timer():
    model = FakeModel(held=True)
    async with batcher(model) as b:
        task = asyncio.create_task(b.submit(rows(1)))
        await turns()
        assert len(model.batches) == 1
        model.go.set()
        await task


async def test_what_waits_while_all_slots_are_busy_becomes_one_batch():
    model = FakeModel(held=True)
    async with batcher(model, in_flight_max=1) as b:
        tasks = [asyncio.create_task(b.submit(rows(1, start=0)))]
        await turns()
        tasks += [asyncio.create_task(b.submit(rows(1, start=10 * i))) for i in range(1, 4)]
        await turns()
        assert [len(batch) for batch in model.batches] == [1]
        model.go.set()
        await asyncio.gather(*tasks)
        assert [len(batch) for batch in model.batches] == [1, 3]
        assert model.most_at_once == 1


async def test_a_large_request_fills_several_slots():
    model = FakeModel(held=True)
    async with batcher(model) as b:
        task = asyncio.create_task(b.submit(rows(8)))
        await turns()
        assert [len(batch) for batch in model.batches] == [4, 4]
        model.go.set()
        await task


async def test_a_full_queue_refuses_at_once_and_takes_again_when_drained():
    model = FakeModel(held=True)
    async with batcher(model, in_flight_max=1, queue_rows_max=5) as b:
        first = asyncio.create_task(b.submit(rows(4)))
        await turns()
        second = asyncio.create_task(b.submit(rows(5)))
        await turns()
        with pytest.raises(QueueFull):
            await b.submit(rows(1))
        model.go.set()
        await asyncio.gather(first, second)
        assert b.waiting_rows == 0
        await b.submit(rows(5))


async def test_a_caller_that_left_is_skipped():
    model = FakeModel(held=True)
    async with batcher(model, in_flight_max=1) as b:
        first = asyncio.create_task(b.submit(rows(1)))
        await turns()
        gone, stays = asyncio.create_task(b.submit(rows(3, start=50))), asyncio.create_task(b.submit(rows(1, start=90)))
        await turns()
        gone.cancel()
        await turns()
        model.go.set()
        await asyncio.gather(first, stays)
        assert b.waiting_rows == 0
    assert [batch[0, 0] for batch in model.batches] == [0, 90]


async def test_an_error_reaches_every_caller_of_its_batch_and_no_other():
    model = FakeModel()
    async with batcher(model) as b:
        bad = asyncio.gather(b.submit(rows(1) * np.nan), b.submit(rows(1)), return_exceptions=True)
        assert [type(error) for error in await bad] == [ValueError, ValueError]
        np.testing.assert_array_equal((await b.submit(rows(1))).outputs, FakeModel.answer(rows(1)))


async def test_leaving_answers_everybody():
    model = FakeModel(held=True)
    b = batcher(model, in_flight_max=1)
    async with b:
        tasks = [asyncio.create_task(b.submit(rows(1, start=i))) for i in range(9)]
        await turns()
        model.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {Closed} | {type(results[0])}
    assert not isinstance(results[0], Closed)
    with pytest.raises(Closed):
        await b.submit(rows(1))


async def test_the_expected_wait_grows_with_what_waits_and_is_none_when_nothing_is_under_way():
    model = FakeModel()
    async with batcher(model) as b:
        model.go.set()
        await b.submit(rows(1))
        await turns()
        model.go.clear()
        assert b.expected_s(1_000) == 0
        calls = [asyncio.create_task(b.submit(rows(4))) for _ in range(6)]
        await turns()
        assert 0 < b.expected_s(4) < b.expected_s(40)
        model.go.set()
        await asyncio.gather(*calls)
        await turns()
        assert b.expected_s(1_000) == 0


async def test_requests_take_turns_so_that_a_large_one_keeps_nobody_waiting():
    model = FakeModel(held=True)
    async with batcher(model, in_flight_max=1) as b:
        large = asyncio.create_task(b.submit(rows(40)))
        await turns()
        small = [asyncio.create_task(b.submit(rows(1, start=1_000 * i))) for i in (1, 2)]
        await turns()
        model.go.set()
        answers = await asyncio.gather(large, *small)
    firsts = [[int(row[0]) for row in batch] for batch in model.batches]
    assert firsts[0] == [0, 4, 8, 12]
    assert {1_000, 2_000} <= set(firsts[1] + firsts[2])  # with a part of the large one
    assert all(len(batch) == 4 for batch in model.batches[:-1])
    for answer, asked in zip(answers, (rows(40), rows(1, 1_000), rows(1, 2_000)), strict=True):
        np.testing.assert_array_equal(answer.outputs, FakeModel.answer(asked))
