"""The gate beside the forecasts: asked about live order flow alone, in time or without its model."""

import asyncio

import numpy as np
import pytest

from candlecast.errors import DeadlineExceeded, ModelUnavailable
from candlecast.filters import REASONS
from candlecast.gate import ABSENT, APPROVE, REFUSE, UNDECIDED, heuristic
from candlecast.gatekeeper import Gatekeeper, GateModel
from candlecast.order_flow import OrderFlow
from candlecast.results import Results
from candlecast.server import convert
from candlecast.v1.forecasts_pb2 import PredictResponse
from candlecast.values import FlowBatch, symbols
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.gates import probability
from tests.unit.test_forecaster import HISTORY, NEED, Features, slice_of

CLOSE = int(HISTORY.open_time_ms[NEED] + HISTORY.interval_ms[NEED])
"""Of the first candle that is forecast."""


class FakeGate:
    """Answers as the small gate of the tests does, or with an error."""

    def __init__(self):
        self.error = None
        self.asked = []

    async def __call__(self, features):
        self.asked.append(features)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        p = probability(features)
        return np.column_stack([1 - p, p]).astype(np.float32)


def lively(symbol, newest_ms, seed=0, book=True):
    """Trades of 20 s that end at a time, and a book."""
    rng = np.random.default_rng(seed)
    ts = newest_ms - 100 * np.arange(200, dtype=np.int64)[::-1]
    price = 100 + np.cumsum(rng.normal(0, 0.01, 200))
    quotes = (ts, price - 0.01, rng.uniform(1, 9, 200), price + 0.01, rng.uniform(1, 9, 200)) if book else None
    return FlowBatch(symbol, (ts, np.arange(200), price, rng.uniform(1, 2, 200)), quotes)


def keeper(flow, model, **given):
    return Gatekeeper(flow, GateModel("gate", 1, "0" * 64, model) if model else None, **given)


def states_of(flow, *names, ts_ms=CLOSE):
    return flow.at(symbols(names), ts_ms)


@pytest.fixture
def flow():
    flow = OrderFlow()
    for i in range(8):
        flow.push(lively(f"S{i}", CLOSE, seed=i))
    flow.push(lively("BOOKLESS", CLOSE, book=False))
    flow.take_records(all_of_them=True)
    return flow


async def test_the_model_decides_what_is_defined_and_nothing_else(flow):
    model, names = FakeGate(), [f"S{i}" for i in range(8)]
    states = states_of(flow, *names, "BOOKLESS", "NOBODY")
    said = await keeper(flow, model, threshold=0.5).judge(states)
    p = probability(states.rows[:8, :3])
    assert len(model.asked) == 1
    assert len(model.asked[0]) == 8
    np.testing.assert_allclose(said.probability[:8], p, rtol=1e-6)
    assert said.verdict.tolist() == [APPROVE if x > 0.5 else REFUSE for x in p] + [UNDECIDED, ABSENT]
    assert {APPROVE, REFUSE} <= set(said.verdict.tolist())
    assert np.isnan(said.probability[8:]).all()
    records = flow.take_records()
    assert records.gate_asked.all()
    assert records.gate_verdict.tolist() == said.verdict.tolist()[:9]  # of the unknown one there is nothing to keep


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), ModelUnavailable("away"), RuntimeError("a mistake")])
async def test_without_the_model_the_heuristic_decides_flagged_until_it_is_back(flow, error):
    model = FakeGate()
    gate, states = keeper(flow, model), states_of(flow, *(f"S{i}" for i in range(8)))
    model.error = error
    said = await gate.judge(states)
    assert said.degraded.all()
    assert np.isnan(said.probability).all()
    assert (said.verdict == APPROVE).tolist() == heuristic(states.rows[:, :3]).tolist()
    model.error = None
    assert not (await gate.judge(states)).degraded.any()


async def test_without_a_gate_everything_is_absent_and_nothing_is_recorded(flow):
    said = await keeper(flow, None).judge(states_of(flow, "S1"))
    assert said.verdict.tolist() == [ABSENT]
    assert flow.take_records() is None


@pytest.mark.parametrize(
    ("ahead_ms", "forming", "is_live"),
    [
        (0, False, True),
        (-60_000, False, True),
        (-60_001, False, False),  # older than a close may be
        (900_000, False, True),  # asked for during the next candle
        (-700_000, True, True),  # while the candle forms
        (2_000_000, False, False),  # a forecast of the past is not judged by the present
    ],
)
async def test_order_flow_is_live_by_the_time_of_its_events(ahead_ms, forming, is_live):
    flow = OrderFlow()
    flow.push(lively("A", CLOSE + ahead_ms))
    gate = keeper(flow, FakeGate())
    asked = gate.judge_forecasts(
        symbols(["A", "B"]), np.full(2, CLOSE), np.full(2, 900_000), np.array([forming, forming])
    )
    assert (asked is not None) == is_live
    if asked is not None:
        assert (await asked).verdict.tolist()[1] == ABSENT


def forecaster(model, recorder, gate, **given):
    return fakes.forecaster(Features(symbols_max=10, conflicts_max=3), model, recorder, gate=gate, **given)


async def one_forecast(gate, *, model=None, **given):
    async with forecaster(model or FakeModel(), FakeRecorder(), gate, **given) as f:
        await f.accept(slice_of(0, NEED), forecast=False)
        answer = await f.accept(slice_of(NEED, NEED + 1))
    assert answer.error is None
    return answer.forecasts


async def test_a_forecast_of_a_symbol_with_live_order_flow_carries_the_gates_verdict():
    flow, model = OrderFlow(), FakeGate()
    flow.push(lively("BTCUSDT", CLOSE, seed=4))
    (p,) = probability(flow.at(symbols(["BTCUSDT"]), CLOSE).rows[:, :3])
    for threshold, verdict in ((p - 0.01, APPROVE), (p + 0.01, REFUSE)):
        given = await one_forecast(keeper(flow, model, threshold=threshold))
        assert given.gate_verdict.tolist() == [verdict]
        assert given.gate_probability[0] == pytest.approx(p, rel=1e-6)
        refused = bool(given.reasons[0] >> REASONS.index("GATE_REFUSED") & 1)
        assert refused == (verdict == REFUSE)
        assert not (refused and given.direction[0])
        assert not given.degraded[0]


async def test_a_forecast_whose_gate_failed_is_degraded():
    flow, model = OrderFlow(), FakeGate()
    flow.push(lively("BTCUSDT", CLOSE))
    model.error = ModelUnavailable("away")
    given = await one_forecast(keeper(flow, model))
    assert given.degraded.tolist() == [True]
    assert given.gate_verdict[0] in (APPROVE, REFUSE)


@pytest.mark.parametrize("passes", [True, False])
async def test_without_live_order_flow_the_gate_is_absent_and_passes_or_blocks_as_is_set(passes):
    flow, model = OrderFlow(), FakeGate()
    flow.push(lively("BTCUSDT", CLOSE - 200_000))
    given = await one_forecast(keeper(flow, model, absent_passes=passes), gate_absent_passes=passes)
    assert model.asked == []
    assert given.gate_verdict.tolist() == [ABSENT]
    assert bool(given.reasons[0] >> REASONS.index("GATE_ABSENT") & 1) == (not passes)


async def test_the_gate_is_asked_while_the_model_computes():
    flow, order, asked = OrderFlow(), [], asyncio.Event()
    flow.push(lively("BTCUSDT", CLOSE))

    class Telling(FakeGate):
        async def __call__(self, features):
            asked.set()
            return await super().__call__(features)

    class Watching(FakeModel):
        async def __call__(self, windows):
            await asked.wait()  # would not end if the gate came after
            order.append("model")
            return await super().__call__(windows)

    async with asyncio.timeout(5):
        given = await one_forecast(keeper(flow, Telling()), model=Watching())
    assert order == ["model"]
    assert given.gate_verdict[0] != ABSENT


@pytest.mark.parametrize("error", [None, ModelUnavailable("away")])
async def test_packed_results_say_of_the_gate_what_messages_say(error):
    flow, model = OrderFlow(), FakeGate()
    model.error = error
    flow.push(lively("BTCUSDT", CLOSE))
    async with forecaster(FakeModel(), FakeRecorder(), keeper(flow, model)) as f:
        await f.accept(slice_of(0, NEED), forecast=False)
        answer = await f.accept(slice_of(NEED, NEED + 2))
    plain = list(convert.results(answer.candles, answer, NEED))
    packed = Results(PredictResponse(packed=convert.packed_results(answer, NEED)))
    assert [result.forecast.HasField("gate_approved") for result in plain] == [True, False]
    assert plain[0].forecast.HasField("gate_probability") == (error is None)
    for a, b in zip(plain, packed, strict=True):
        for name in ("gate_approved", "gate_probability"):
            assert a.forecast.HasField(name) == b.forecast.HasField(name)
            assert getattr(a.forecast, name) == getattr(b.forecast, name)
        assert list(a.forecast.reasons) == list(b.forecast.reasons)
