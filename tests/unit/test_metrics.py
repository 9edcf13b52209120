"""What the server counts of an answer is what the answer says, row by row."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from candlecast import _rust
from candlecast import features as feature_state
from candlecast.catch_up import Misses
from candlecast.features import Features
from candlecast.filters import reasons_of
from candlecast.gate import VERDICTS, Decisions
from candlecast.server.metrics import DIRECTIONS, STAGES, ServerMetrics, SymbolStates, restarts_in
from candlecast.telemetry import Telemetry
from candlecast.values import Model
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.market_simulator import candles
from tests.unit.test_telemetry import samples

NEED = Features(symbols_max=1, conflicts_max=1).need
HISTORY = candles("BTCUSDT", NEED + 30)


class SometimesNaN(FakeModel):
    """Every third row it answers is not finite."""

    async def __call__(self, windows):
        outputs = await super().__call__(windows)
        outputs[::3, 7] = np.nan
        return outputs


@pytest.fixture
async def seen():
    """Answers of a forecaster that was observed, and what was counted of them."""
    metrics, answers = ServerMetrics(Telemetry()), []
    features = Features(symbols_max=10, conflicts_max=3)

    def observe(answer, asked):
        answers.append((answer, asked))
        metrics.answered(answer, asked)

    async with fakes.forecaster(features, SometimesNaN(), FakeRecorder(), observe=observe) as forecaster:
        await forecaster.accept(HISTORY.take(np.arange(NEED)), forecast=False)
        await forecaster.accept(HISTORY.take(np.arange(NEED, NEED + 30)), decode_us=40)
        await forecaster.accept(HISTORY.take(np.arange(NEED + 29, NEED + 30)))  # again: a duplicate
        bad = HISTORY.take(np.arange(2))
        bad.values[0, 1], bad.values[1, 4] = np.nan, -1.0
        await forecaster.accept(bad)
        await forecaster.newest(["BTCUSDT"], 900_000)
    return answers, samples(metrics.telemetry)


async def test_candles_are_counted_by_verdict_and_refusals_by_reason(seen):
    answers, found = seen
    verdicts = Counter(_rust.VERDICTS[v] for answer, asked in answers if not asked for v in answer.moved.pushed.verdict)
    assert verdicts == {"ACCEPTED": NEED + 30, "DUPLICATE": 1, "REFUSED": 2}
    for verdict, count in verdicts.items():
        assert found[f"candlecast_candles_total{{verdict={verdict}}}"] == count
    refused = {name: value for name, value in found.items() if name.startswith("candlecast_candles_refused_total")}
    assert sum(refused.values()) == 2
    assert "candlecast_candles_refused_total{reason=}" not in refused


async def test_forecasts_are_counted_once_and_their_confidences_and_reasons_each(seen):
    answers, found = seen
    made = Counter()
    confidences, reasons, rows = Counter(), Counter(), 0
    for answer, _ in answers:
        if answer.forecasts is None:
            continue
        for i in range(len(answer.forecasts)):
            direction = DIRECTIONS[answer.forecasts.direction[i] + 1]
            made[direction] += bool(answer.recorded.new[i])
            confidences[direction] += bool(np.isfinite(answer.forecasts.meaning.confidence[i]))
            reasons.update(reasons_of(int(answer.forecasts.reasons[i])))
            rows += 1
    assert made.total() == 30 and rows == 32 and confidences.total() < 32
    for direction, count in made.items():
        assert found.get(f"ml_predictions_total{{direction={direction},model=fake,version=1}}", 0) == count
        assert found[f"ml_signal_confidence_count{{direction={direction}}}"] == confidences[direction]
        assert np.isfinite(found[f"ml_signal_confidence_sum{{direction={direction}}}"])
    assert reasons["OUTPUT_NOT_FINITE"] > 0
    for reason, count in reasons.items():
        assert found[f"candlecast_neutral_reasons_total{{reason={reason}}}"] == count
    assert found["ml_inference_duration_seconds_count"] == rows


async def test_every_stage_has_the_time_of_every_forecast(seen):
    answers, found = seen
    spent_us = Counter()
    for answer, _ in answers:
        if (forecasts := answer.forecasts) is not None:
            for stage in STAGES[:-1]:
                spent_us[stage] += len(forecasts) * getattr(forecasts.times, f"{stage}_us")
            spent_us["spool"] += len(forecasts) * answer.spool_us
    assert spent_us["decode"] == 30 * 40
    for stage in STAGES:
        assert found[f"candlecast_stage_duration_seconds_sum{{stage={stage}}}"] == pytest.approx(spent_us[stage] / 1e6)
    assert found["candlecast_forecast_duration_seconds_sum"] == pytest.approx(spent_us.total() / 1e6)


async def test_decisions_of_the_gate_are_counted_and_those_of_the_heuristic():
    metrics = ServerMetrics(Telemetry())
    verdict = np.array([VERDICTS.index(name) for name in ("APPROVE", "REFUSE", "REFUSE")], dtype=np.uint8)
    metrics.decided(Decisions(verdict, np.zeros(3), np.array([True, False, True])))
    found = samples(metrics.telemetry)
    assert found["candlecast_gate_decisions_total{verdict=REFUSE}"] == 2
    assert found["candlecast_gate_decisions_total{verdict=APPROVE}"] == 1
    assert found["candlecast_gate_degraded_total"] == 2


async def test_symbols_are_counted_by_state_not_more_often_than_is_useful(monkeypatch):
    telemetry, clock = Telemetry(), SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr("candlecast.server.metrics.time", clock)
    features = Features(symbols_max=10, conflicts_max=3)
    features.push(HISTORY, windows=False)
    states = SymbolStates(features, telemetry)
    await states.refresh()
    expected = feature_state.STATES[features.status("BTCUSDT", 900_000).state]
    assert samples(telemetry)[f"candlecast_symbols{{state={expected}}}"] == 1
    features.push(candles("ETHUSDT", 3), windows=False)
    await states.refresh()
    assert sum(value for name, value in samples(telemetry).items() if name.startswith("candlecast_symbols")) == 1
    clock.monotonic = lambda: 200.0
    await states.refresh()
    assert sum(value for name, value in samples(telemetry).items() if name.startswith("candlecast_symbols")) == 2


def test_forecasts_given_up_are_counted_by_why():
    misses = Misses(Model("fake", 1, "0" * 64, 1))
    misses.add("A", 1, 10, "MODEL_UNAVAILABLE")
    misses.add("A", 1, 20, "MODEL_UNAVAILABLE")
    misses.give_up("A", 1, "TOO_OLD")
    assert misses.given_up == {"SUPERSEDED": 1, "TOO_OLD": 1}


def test_restarts_are_what_the_supervisor_wrote(tmp_path):
    assert restarts_in(tmp_path / "restarts.json") is None
    (tmp_path / "restarts.json").write_text(json.dumps({"Triton": 2, "server": 0}))
    assert restarts_in(tmp_path / "restarts.json") == {"Triton": 2.0, "server": 0.0}
