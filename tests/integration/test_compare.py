"""`candlecast models compare` on what is stored: champion and shadow of the same candles, and what came after them."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from candlecast import outputs
from candlecast.cli import main
from candlecast.training.labels import label
from candlecast.values import Model
from tests.integration.conftest import INTERVAL_MS, START_MS, forecasts
from tests.market_simulator import candles as market
from tests.recorders import Store
from tests.training.test_schedule import Server

BARS = 800
ALIGNED_MS = START_MS // INTERVAL_MS * INTERVAL_MS


def said(version: int, **more):
    model = Model("patchtst", version, f"{version:02x}" * 32, 7)
    return replace(forecasts(BARS, start_ms=ALIGNED_MS, seed=version, model=model), **more)


async def compare(dsn, capsys, *arguments: str) -> str:
    command = ["models", "compare", *arguments, "--days", "10000", "--database", dsn]
    assert await asyncio.to_thread(main, command) == 0
    return capsys.readouterr().out


@pytest.fixture
async def stored(dsn, pool, tmp_path):
    """The candles of one symbol, and two versions' forecasts of the first BARS of them."""
    candles = market("BTCUSDT", BARS + 40, start_ms=ALIGNED_MS)  # the newest have no outcome
    both = said(1), said(2, shadow=True)
    async with Store(tmp_path / "journal", pool) as store:
        await store.record(candles, both[0])
        await store.record(None, both[1])
        await store.caught_up()
    return candles, both


async def test_two_versions_are_compared_by_what_came(dsn, stored, capsys):
    candles, both = stored

    found = json.loads(await compare(dsn, capsys, "1", "patchtst:2", "--json"))

    high, low, close = (candles.values[:, k] for k in (1, 2, 3))
    came = label(candles.open_time_ms, INTERVAL_MS, high, low, close)
    assert len(came.at) == BARS - 8
    for who, one in zip(("champion", "challenger"), both, strict=True):
        p = one.meaning.probabilities[came.at].astype(np.float32).astype(np.float64)
        for h, horizon in enumerate(outputs.HORIZONS):
            of_came = p[np.arange(len(p)), h, came.directions[:, h]]
            assert found["horizons"][horizon]["log_loss"][who] == pytest.approx(-np.log(of_came).mean(), rel=1e-5)
        side = one.direction[came.at].astype(np.float64)
        assert found["pnl"][who] == pytest.approx((side * came.returns[:, 2] - 0.0012 * abs(side)).mean(), rel=1e-4)
        assert found["rows"][who] == BARS - 8
        assert found["latency_ms"][who] == 0.004  # model_us of the stored rows
    assert found["paired"] and found["symbols"] == 1
    assert found["left_out"] == {f"of patchtst v{version} no outcome yet": 8 for version in (1, 2)}
    assert found["sentence"].startswith(("Not yet known", "patchtst v2 is"))

    table = await compare(dsn, capsys, "1", "2")
    assert found["sentence"] in table
    assert "PnL a forecast, after costs" in table


async def test_what_nobody_said_cannot_be_compared_and_a_version_not_with_itself(dsn, stored, capsys):
    assert "no forecasts of both can be measured" in await compare(dsn, capsys, "1", "3")
    command = ["models", "compare", "1", "patchtst:1", "--database", dsn]
    assert await asyncio.to_thread(main, command) == 78
    assert "compared with itself" in capsys.readouterr().err


async def test_a_shadow_that_is_not_better_is_unloaded_when_its_time_is_over(dsn, stored, capsys, monkeypatch):
    server = Server(v1="CHAMPION", v2="SHADOW")
    server.since_ms = 0
    monkeypatch.setattr("candlecast.cli.schedule.model_server", lambda settings: nullcontext(server))

    command = ["schedule", "judge", "--database", dsn, "--json"]
    assert await asyncio.to_thread(main, command) == 0

    said = json.loads(capsys.readouterr().out)
    assert (said["step"], said["champion"], said["version"]) == ("kept", 1, 2)
    assert said["comparison"]["rows"] == {"champion": BARS - 8, "challenger": BARS - 8}
    assert server.asked == ["unload 2"]
