"""Order flow through everything real: recorded trades into the server, the gate in a tritonserver, PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from itertools import pairwise

import grpc
import numpy as np
import pytest

from candlecast import _rust, flow_files
from candlecast.client import AsyncClient, FlowBatch, ServerError, gate_verdict, messages
from candlecast.errors import BundleError
from candlecast.gate import RECORD
from candlecast.lifecycle import poll
from candlecast.server.app import open_server
from candlecast.settings import CHECKOUT, load
from candlecast.triton.embedded import EmbeddedTriton
from candlecast.triton.repository import write_config
from tests import gates
from tests.fakes import fitting_bundle
from tests.integration.test_ensemble import NAMES, NEED, WINDOW, answer, control, layout, tiny
from tests.market_simulator import INTERVAL_MS, candles

BOOK = CHECKOUT.parent / "shared" / "data" / "book"
real = pytest.mark.skipif(not BOOK.exists(), reason="the real recordings are not here")
ETH = [BOOK / f"binance-usdm-ETHUSDT-20240808-{kind}.parquet" for kind in ("trades", "bbo")]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A model repository with a small forecaster and a small gate."""
    root, content = tmp_path_factory.mktemp("models"), tiny(0)
    windows = np.random.default_rng(9).normal(0, 1, (4, WINDOW, len(NAMES))).astype(np.float32)
    golden = windows, answer(content, windows)
    fitting_bundle(root / "patchtst" / "1", onnx=content, golden=golden)
    write_config(root / "patchtst", "patchtst", WINDOW, len(NAMES), layout.COUNT)
    gates.write(root / "gate")
    return root


@pytest.fixture(scope="module")
async def triton(repository, tmp_path_factory):
    async with EmbeddedTriton(
        env_dir=CHECKOUT / ".venv-triton",
        repository=repository,
        models=["gate", "patchtst"],
        work_dir=tmp_path_factory.mktemp("triton"),
    ) as triton:
        yield triton


@pytest.fixture
def settings(repository, triton, dsn, tmp_path):
    def of(**more):
        return load(
            model_repository=repository,
            triton=triton.address,
            triton_key=triton.memory_key,
            database_url=dsn,
            state_dir=tmp_path,
            grpc="127.0.0.1:0",
            canary_interval_ms=100,
            gate_timeout_ms=2_000,
            **more,
        )

    return of


def lively(symbol, newest_ms):
    """Trades of 20 s that end at a time, with a book."""
    rng = np.random.default_rng(1)
    ts = newest_ms - 100 * np.arange(200, dtype=np.int64)[::-1]
    price = 100 + np.cumsum(rng.normal(0, 0.01, 200))
    quotes = (ts, price - 0.01, rng.uniform(1, 9, 200), price + 0.01, rng.uniform(1, 9, 200))
    return FlowBatch(symbol, (ts, np.arange(200), price, rng.uniform(1, 2, 200)), quotes)


async def send(client, *batches):
    async def each():
        for batch in batches:
            yield batch

    return [response async for response in client.order_flow(each())]


@real
async def test_replayed_trades_give_the_features_of_the_core_and_a_row_for_each_interval(settings, pool):
    trades, quotes = (flow_files.survey(path) for path in ETH)
    core, whole = _rust.OrderFlow(), []
    for batch in flow_files.stream([trades, quotes]):
        pushed = core.push(batch.symbol, trades=batch.trades, quotes=batch.quotes)
        if batch.trades is not None:
            whole.append((batch.trades[0], pushed.rows))
    ts, rows = (np.concatenate(parts) for parts in zip(*whole, strict=True))
    last = np.flatnonzero(np.append(np.diff(ts // 1_000) != 0, True))

    async with open_server(settings()) as address, AsyncClient(address) as client:
        command = [sys.executable, "-m", "candlecast", "replay-flow", *map(str, ETH), "--server", address, "--json"]
        replay = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        summary = json.loads((await replay.communicate())[0])
        assert replay.returncode == 0
        assert summary["trades"] == {"accepted": len(ts), "duplicate": 0, "late": 0, "refused": 0}
        assert summary["quotes"]["accepted"] == quotes.rows
        newest = max(trades.to_ms, quotes.to_ms)
        (expected,), _ = core.at(["ETHUSDT"], newest)
        state = summary["states"]["ETHUSDT"]
        assert state["ts_ms"] == newest
        np.testing.assert_array_equal([state.get(name, np.nan) for name in RECORD], expected)
        (decision,) = (await client.gate(["ETHUSDT"], ts_ms=int(ts[-1]))).decisions
        (features,), _ = core.at(["ETHUSDT"], int(ts[-1]))
        assert decision.probability == pytest.approx(gates.probability(features[:3]), rel=1e-5)

    stored = await pool.fetch(
        f"SELECT ts, {', '.join(RECORD)} FROM order_flow_features WHERE NOT gate_asked ORDER BY ts"
    )
    assert [round(row["ts"].timestamp() * 1000) for row in stored] == ts[last].tolist()
    values = np.array([[np.nan if row[name] is None else row[name] for name in RECORD] for row in stored])
    np.testing.assert_array_equal(values, rows[last])
    (asked,) = await pool.fetch("SELECT * FROM order_flow_features WHERE gate_asked")
    assert asked["gate_probability"] == decision.probability
    assert asked["gate_approved"] == decision.approve


async def test_a_forecast_carries_the_gates_verdict_degraded_while_its_model_is_gone(settings, triton, pool):
    history = messages(candles("BTCUSDT", NEED + 60))
    given = iter(history[NEED - 1 :])
    said = []

    async with (
        control(triton) as (unload, reload),
        open_server(settings()) as address,
        AsyncClient(address) as client,
    ):
        await client.backfill(history[: NEED - 1])

        async def forecast(*, flows=True):
            candle = next(given)
            if flows:
                await send(client, lively("BTCUSDT", candle.open_time_ms + INTERVAL_MS))
            (result,) = await client.predict([candle])
            said.append(result.forecast)
            return result.forecast

        without = await forecast(flows=False)
        assert not without.HasField("gate_approved")
        whole = await forecast()
        assert whole.HasField("gate_probability")
        assert not whole.degraded
        assert whole.gate_approved == (whole.gate_probability > 0.65)
        assert ("GATE_REFUSED" in whole.reasons) == (not whole.gate_approved)

        await unload("gate")
        broken = await forecast()
        assert broken.degraded
        assert broken.HasField("gate_approved")
        assert not broken.HasField("gate_probability")
        (decision,) = (await client.gate(["BTCUSDT"], ts_ms=broken.close_time_ms)).decisions
        assert decision.degraded
        assert gate_verdict(decision) == ("APPROVE" if broken.gate_approved else "REFUSE")
        await reload("gate")

        async def is_whole_again():
            return not (await forecast()).degraded

        await poll("the gate", is_whole_again, timeout_ms=10_000, interval_ms=100)
        (packed,) = await client.predict(candles("BTCUSDT", NEED + 60).take(np.array([NEED - 1 + len(said)])))
        assert not packed.forecast.HasField("gate_approved") or packed.forecast.HasField("gate_probability")

    rows = await pool.fetch("SELECT close_time, gate_probability, gate_approved, degraded, reasons FROM ml_predictions")
    by_time = {round(row["close_time"].timestamp() * 1000): row for row in rows}
    for one in said:
        row = by_time[one.close_time_ms]
        assert row["gate_approved"] == (one.gate_approved if one.HasField("gate_approved") else None)
        assert row["gate_probability"] == (one.gate_probability if one.HasField("gate_probability") else None)
        assert (row["degraded"], row["reasons"]) == (one.degraded, list(one.reasons))


async def test_what_is_malformed_ends_the_call_with_its_field_and_moves_nothing(settings):
    async with open_server(settings()) as address, AsyncClient(address) as client:
        good = lively("AAA", 1_700_000_000_000)
        wrong = FlowBatch("BBB", (np.array([1]), np.array([1]), np.ones(2), np.ones(1)))
        (first,) = await send(client, [good])
        with pytest.raises(ServerError, match=r"batches\[1\]\.trades\.price") as error:
            await send(client, [lively("AAA", 1_700_000_100_000), wrong])
        assert error.value.code is grpc.StatusCode.INVALID_ARGUMENT
        (after,) = await send(client, FlowBatch("AAA"))
        assert first.states[0].ts_ms == after.states[0].ts_ms == 1_700_000_000_000
        with pytest.raises(ServerError, match=r"symbols\[1\]"):
            await client.gate(["AAA", "no symbol"])
        (decision,) = (await client.gate(["AAA"])).decisions  # now: its trades have left long ago
        assert (gate_verdict(decision), decision.approve, list(decision.reasons)) == (
            "ABSENT",
            True,
            ["NO_TRADES", "STALE_BOOK"],
        )


async def test_a_gate_of_a_simulated_market_is_refused_unless_that_is_allowed(settings, tmp_path, repository):
    simulated = tmp_path / "simulated"
    simulated.mkdir()
    (simulated / "patchtst").symlink_to(repository / "patchtst")
    gates.write(simulated / "gate", simulated=True)
    refused = settings().model_copy(update={"model_repository": simulated})
    with pytest.raises(BundleError, match="allow-simulated"):
        async with open_server(refused):
            pass
    async with open_server(refused.model_copy(update={"allow_simulated": True})):
        pass


@real
async def test_a_gap_in_the_differences_of_a_book_is_told_until_a_snapshot_comes(settings):
    (file,) = [flow_files.survey(BOOK / "binance-spot-BTCUSDT-20240808-depthdiff.parquet")]
    (depth, *_) = (batch.depth for batch in flow_files.stream([file]))
    keys = np.stack([depth[1], depth[2], depth[7]], axis=1)
    starts = np.flatnonzero(np.append(True, (np.diff(keys.astype(np.int64), axis=0) != 0).any(axis=1)))
    events = [tuple(column[a:b] for column in depth) for a, b in pairwise(starts[:41])]
    snapshot = next(i for i, event in enumerate(events) if event[7][0])
    later = next(i for i in range(snapshot + 1, 40) if not events[i][7][0])
    assert later + 3 < 40
    parts = [*events[: later + 1], *events[later + 2 : later + 3], events[snapshot]]
    async with open_server(settings()) as address, AsyncClient(address) as client:
        responses = await send(client, *(FlowBatch("BTCUSDT", depth=part) for part in parts))
    gaps = [len(response.gaps) for response in responses]
    assert gaps[snapshot : later + 1] == [0] * (later + 1 - snapshot)
    assert gaps[-2] == 1


async def test_a_newer_gate_answers_once_it_is_dropped_and_a_wrong_one_never_does(
    settings, triton, repository, pool, tmp_path
):
    made, incoming, ts_ms = tmp_path / "made", tmp_path / "incoming", 1_700_000_000_000
    for number in (2, 4):
        gates.write(made, version=number)
    gates.write(made, version=3, wrong=0.01)
    responses = []
    options = settings(triton_control_key=triton.control_header[1], incoming_poll_ms=50)
    async with open_server(options) as address, AsyncClient(address) as client:
        await send(client, lively("AAA", ts_ms))

        async def ask():
            responses.append(await client.gate(["AAA"], ts_ms=ts_ms))
            return responses[-1].model.version

        async def answers(version):
            return await ask() == version

        def refused():
            return [path.read_text() for path in (incoming / "refused").glob("*.txt")]

        async def is_refused():
            return await ask() and bool(await asyncio.to_thread(refused))

        assert await ask() == 1
        shutil.copytree(made / "2", incoming / "a gate")
        await poll("gate 2", lambda: answers(2), timeout_ms=20_000)
        shutil.copytree(made / "3", repository / "gate" / "3")  # as `candlecast gate retrain` would
        await poll("the refusal of gate 3", is_refused, timeout_ms=20_000)
        assert await ask() == 2
        shutil.copytree(made / "4", repository / "gate" / "4")
        await poll("gate 4", lambda: answers(4), timeout_ms=20_000)

        async def are_kept():
            return sorted(path.name for path in (repository / "gate").iterdir() if path.is_dir()) == ["2", "4"]

        await poll("the older ones to go", are_kept, timeout_ms=10_000)

    assert "GOLDEN_MISMATCH" in refused()[0]
    assert all(not decision.degraded for response in responses for decision in response.decisions)
    assert len({decision.probability for response in responses for decision in response.decisions}) == 1
    rows = await pool.fetch("SELECT version, to_state FROM ml_model_events WHERE model = 'gate' ORDER BY sequence")
    steps = [(row["version"], row["to_state"]) for row in rows]
    assert steps == [(2, "CHAMPION"), (1, "RETIRED"), (3, "REFUSED"), (4, "CHAMPION"), (2, "RETIRED")]
