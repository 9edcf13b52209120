"""A model that was trained too long ago: its forecasts are made and flagged, and the reason can be read."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from candlecast.features import Features
from candlecast.models.age import DAY_MS, complaint, described, max_age_ms
from candlecast.models.ensemble import Ensemble, weigh, write
from candlecast.server.health import Readiness
from candlecast.values import Model
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder, fitting_bundle
from tests.market_simulator import candles

NEED = Features(symbols_max=1, conflicts_max=1).need
NOW_MS = 1_800_000_000_000
MODEL = Model("patchtst", 3, "ab" * 32, 7, trained_ms=NOW_MS - 40 * DAY_MS)


def test_an_age_above_the_setting_is_said_with_both_and_none_with_0() -> None:
    assert complaint(MODEL, 39, NOW_MS) == (
        "MODEL_EXPIRED: patchtst v3 was trained 40.0 days ago, max_model_age_d is 39: train it again, or promote a"
        " newer version"
    )
    assert complaint(MODEL, 41, NOW_MS) == ""
    assert complaint(MODEL, 0, NOW_MS) == ""
    assert complaint(replace(MODEL, trained_ms=0), 1, NOW_MS) == ""


def test_a_bundle_is_as_old_as_its_training_and_an_ensemble_as_its_oldest_member(tmp_path: Path) -> None:
    horizons = {name: {"log_loss": {"model": 1.0, "base": 1.1}} for name in ("15m", "1h", "4h", "12h")}
    metrics = {"walk_forward": {"mean": {"horizons": horizons}}}
    members = [fitting_bundle(tmp_path / name / "1", name=name, metrics=metrics) for name in ("patchtst", "lstm")]
    assert described(members[0]).trained_ms == 1_767_225_600_000  # 2026-01-01

    write(tmp_path / "ensemble" / "1", weigh(members, 1))

    assert described(Ensemble.load(tmp_path / "ensemble" / "1")).trained_ms == 1_767_225_600_000


@pytest.mark.parametrize(("days", "flagged"), [(39, True), (41, False), (0, False)])
async def test_forecasts_of_an_old_model_are_made_and_flagged_degraded(days: float, flagged: bool) -> None:
    features, history = Features(symbols_max=1, conflicts_max=1), candles("BTCUSDT", NEED + 1)
    async with fakes.forecaster(features, FakeModel(), FakeRecorder(), max_model_age_ms=max_age_ms(days)) as forecaster:
        lane = forecaster.routes.champion
        lane.model = replace(lane.model, trained_ms=round(time.time() * 1000) - 40 * DAY_MS)
        await forecaster.accept(history.take(np.arange(NEED - 1)), forecast=False)
        answer = await forecaster.accept(history.take(np.array([NEED - 1])))
        # A younger version that answers instead is not flagged.
        forecaster.routes.promote(forecaster.lane(FakeModel(), model=MODEL, temperatures=np.ones(4)))
        forecaster.routes.champion.model = replace(lane.model, version=4, trained_ms=round(time.time() * 1000))
        async with forecaster.routes.champion:
            newer = await forecaster.accept(history.take(np.array([NEED])))

    assert answer.forecasts.degraded.tolist() == [flagged]
    assert newer.forecasts.degraded.tolist() == [False]


async def test_the_reason_can_be_read_beside_readiness_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    said = ""

    async def sings() -> None: ...

    async with Readiness(sings, interval_ms=3_600_000, complaint=lambda: said) as readiness:
        assert readiness.degraded == ""
        for said in ("MODEL_EXPIRED: 40.0 days", "MODEL_EXPIRED: 40.1 days", ""):
            await readiness.check()
            assert readiness.degraded == said

    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("degraded=")]
    assert lines == ["degraded=MODEL_EXPIRED: 40.0 days", "degraded=no more"]
