"""Candles in, stored forecasts out, through everything real: `candlecast up`, the core, tritonserver, PostgreSQL."""

import asyncio
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import grpc
import numpy as np
import onnxruntime
import polars as pl
import psutil
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from candlecast.client import AsyncClient, Client, ServerError, messages, state
from candlecast.features import Features
from candlecast.server.app import features_for, newest_bundle
from candlecast.settings import CHECKOUT
from candlecast.v1 import types_pb2
from tests.market_simulator import INTERVAL_MS, candles
from tests.stack import CANDLECAST, Stack, free_port

NEED = Features(symbols_max=1, conflicts_max=1).need
REAL = CHECKOUT.parent / "shared" / "data" / "candles" / "BTCUSDT-15m.parquet"


def left_over():
    """Return the ids of System V shared memory whose maker is gone; PostgreSQL takes a little."""
    parts = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return {part[1] for part in parts if not psutil.pid_exists(int(part[4]))}


LEFT_OVER_BEFORE = left_over()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("stack") / "state")
    stack.start()
    yield stack
    if stack.process.poll() is None:
        stack.stop()


def written(directory: Path, symbol: str, count: int) -> Path:
    """Write simulated candles as the CSV a user would have."""
    columns = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume")
    simulated = candles(symbol, count)
    table = pl.DataFrame({"ts": simulated.open_time_ms} | dict(zip(columns, simulated.values.T, strict=True)))
    path = directory / f"{symbol}-15m.csv"
    table.write_csv(path)
    return path


async def rows(stack, sql, *arguments):
    connection = await asyncpg.connect(stack.database_url)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


def served_features():
    """Return an empty state that computes what the shipped model is served with."""
    return features_for(newest_bundle(CHECKOUT / "triton_models" / "patchtst"), symbols_max=1, conflicts_max=1)


def count(stack, symbol, table="ml_predictions"):
    time = "open_time" if table == "candles" else "close_time"
    sql = f"SELECT count(*) AS n, count(DISTINCT {time}) AS d FROM {table} WHERE symbol = $1"
    (row,) = asyncio.run(rows(stack, sql, symbol))
    assert row["n"] == row["d"]
    return row["n"]


def has(stack, symbol, expected):
    """Wait until so many forecasts of a symbol have come from the journal; true, and more is a mistake."""
    stack.until(lambda: count(stack, symbol) >= expected, f"{expected} forecasts of {symbol}", 20)
    return count(stack, symbol) == expected


@contextmanager
def running(command, **options):
    """Run a command; it is over at the end, also when an assertion failed."""
    with subprocess.Popen(command, text=True, **{"stdout": subprocess.PIPE, **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def test_every_candle_after_warm_up_gives_one_row_and_a_second_replay_none(stack, tmp_path):
    files = [written(tmp_path, symbol, NEED + 60) for symbol in ("AAAUSDT", "BBBUSDT", "CCCUSDT")]
    first = stack.replay(*files)
    assert first["candles"] == 3 * (NEED + 60)
    assert first["forecasts"] == 3 * 61
    assert (first["duplicates"], first["refused"], first["already_stored"]) == (0, 0, 0)
    assert sum(first["signals"].values()) == first["forecasts"]
    assert first["latency_ms"]["p50"] > 0
    assert all(has(stack, symbol, 61) for symbol in ("AAAUSDT", "BBBUSDT", "CCCUSDT"))

    second = stack.replay(*files)
    assert (second["forecasts"], second["duplicates"], second["refused"]) == (0, second["candles"], 0)
    assert [count(stack, symbol) for symbol in ("AAAUSDT", "BBBUSDT", "CCCUSDT")] == [61, 61, 61]
    said = subprocess.run(
        [*CANDLECAST, "replay", str(files[0]), "--server", stack.grpc, "--limit", "10"], capture_output=True, text=True
    )
    assert "No forecast was added: every candle was known." in said.stdout
    assert re.search(r"duplicates +10\n", said.stdout)


def test_stored_rows_are_what_the_core_and_the_model_give_for_the_stored_candles(stack, tmp_path):
    stack.replay(written(tmp_path, "DDDUSDT", NEED + 30))
    assert has(stack, "DDDUSDT", 31)
    columns = "open_time, open, high, low, close, volume, quote_volume, trades, taker_buy_volume"
    stored = asyncio.run(rows(stack, f"SELECT {columns} FROM candles WHERE symbol = 'DDDUSDT' ORDER BY open_time"))
    simulated = candles("DDDUSDT", NEED + 30)
    np.testing.assert_array_equal(np.array([tuple(row)[1:] for row in stored], dtype=float), simulated.values)

    moved = served_features().push(simulated)
    session = onnxruntime.InferenceSession(newest_bundle(CHECKOUT / "triton_models" / "patchtst").path / "model.onnx")
    (outputs,) = session.run(None, {"features": moved.windows})
    columns = "close_time, features, outputs, features_hash"
    table = "ml_predictions WHERE symbol = 'DDDUSDT' ORDER BY close_time"
    predictions = asyncio.run(rows(stack, f"SELECT {columns} FROM {table}"))
    features = np.stack([np.frombuffer(row["features"], dtype="<f4") for row in predictions])
    np.testing.assert_array_equal(features, moved.windows[:, -1, :])
    np.testing.assert_allclose(
        np.stack([np.frombuffer(row["outputs"], dtype="<f4") for row in predictions]), outputs, atol=2e-3
    )
    hashes = moved.pushed.features_hash[moved.pushed.window >= 0]
    assert [row["features_hash"] for row in predictions] == hashes.tolist()


def test_a_forecast_is_spooled_and_said_to_be_stored_once_it_is(stack):
    history = messages(candles("EEEUSDT", NEED + 5))
    with Client(stack.grpc) as client:
        client.backfill(history[:NEED])
        (result,) = client.predict([history[NEED]])
        assert result.forecast.durability == types_pb2.DURABILITY_SPOOLED
        assert not result.forecast.already_stored
        assert result.forecast.model.name == "patchtst"
        assert has(stack, "EEEUSDT", 1)

        def is_stored():
            (again,) = client.predict([history[NEED]])
            assert again.forecast.already_stored
            return again.forecast.durability == types_pb2.DURABILITY_STORED

        stack.until(is_stored, "said to be stored", 10)
    assert has(stack, "EEEUSDT", 1)


def test_a_server_that_is_killed_right_after_its_replies_has_lost_nothing(stack):
    symbols = [f"SPOOL{i}" for i in range(4)]
    histories = [messages(candles(symbol, NEED + 20)) for symbol in symbols]

    async def answered_and_killed():
        connection = await asyncpg.connect(stack.database_url)
        try:
            async with connection.transaction(), AsyncClient(stack.grpc) as client:
                await connection.execute("LOCK TABLE candles, ml_predictions IN EXCLUSIVE MODE", timeout=20)
                for history in histories:
                    await client.backfill(history[:NEED])
                for i in range(NEED, NEED + 20):
                    for result in await client.predict([history[i] for history in histories]):
                        assert result.forecast.durability == types_pb2.DURABILITY_SPOOLED
                stack.processes()["server"].kill()
                sql = "SELECT count(*) FROM candles WHERE symbol LIKE 'SPOOL%'"
                assert await connection.fetchval(sql) == 0  # it was on the server's disk and nowhere else
        finally:
            await connection.close()

    asyncio.run(answered_and_killed())
    assert all(has(stack, symbol, 20) for symbol in symbols)
    assert [count(stack, symbol, "candles") for symbol in symbols] == [NEED + 20] * 4
    stack.until(lambda: ready(stack), "serving again", 30)


def ready(stack):
    try:
        with Client(stack.grpc, timeout_s=1) as client:
            return client.get_symbol("NOBODY") is not None
    except ServerError:
        return False


async def test_concurrent_streams_get_their_own_answers(stack):
    async def one(symbol):
        simulated = candles(symbol, NEED + 20)

        async def batches():
            for i in range(len(simulated)):
                yield messages(simulated.take(np.array([i])))

        async with AsyncClient(stack.grpc) as client:
            return [results[0] async for results in client.stream(batches())]

    symbols = [f"PAR{i}" for i in range(6)]
    for symbol, results in zip(symbols, await asyncio.gather(*map(one, symbols)), strict=True):
        answered = [result.forecast for result in results if result.HasField("forecast")]
        assert len(answered) == 21
        assert {forecast.symbol for forecast in answered} == {symbol}
        expected = served_features().push(candles(symbol, NEED + 20)).pushed
        assert [f.features_hash for f in answered] == expected.features_hash[expected.window >= 0].tolist()


async def test_reflection_names_the_services(stack):
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        services = {s.name async for answer in call for s in answer.list_services_response.service}
    assert {"candlecast.v1.Forecasts", "grpc.health.v1.Health"} <= services


def test_the_example_of_the_readme_runs(stack, tmp_path):
    code = re.search(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL).group(1)
    assert len(code.splitlines()) <= 20
    code = code.replace("127.0.0.1:50051", stack.grpc).replace("BTCUSDT", "EXAMPLE")
    file = written(tmp_path, "EXAMPLE", NEED + 1)
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"READY {NEED + 1} of {NEED}\n"), done.stderr
    assert has(stack, "EXAMPLE", 1)


def test_the_web_door_is_ready_and_shows_what_was_stored(stack):
    def get(path):
        with urllib.request.urlopen(f"http://{stack.http}{path}", timeout=5) as answer:
            return json.load(answer)

    assert get("/healthz") == {"status": "ok"}
    assert get("/readyz") == {"status": "ready"}
    (newest,) = get("/api/ml/predictions/?symbol=AAAUSDT&limit=1")["predictions"]
    assert (newest["symbol"], newest["model"]) == ("AAAUSDT", "patchtst")


def test_the_server_runs_alone_against_a_database_and_a_triton_elsewhere(stack, tmp_path):
    words = stack.processes()["server"].cmdline()
    triton, address = words[words.index("--triton") + 1], f"127.0.0.1:{free_port()}"
    environment = os.environ | {"DATABASE_URL": stack.database_url, "CANDLECAST_STATE_DIR": str(tmp_path)}
    command = [*CANDLECAST, "serve", "--grpc", address, "--triton", triton]
    with running(command, env=environment) as server:
        assert server.stdout.readline() == f"candlecast serves gRPC on {address}\n"
        history = messages(candles("ALONE", NEED))
        with Client(address) as client:
            client.backfill(history[:-1])
            (result,) = client.predict(history[-1:])
        assert result.forecast.durability == types_pb2.DURABILITY_SPOOLED
        server.terminate()
        assert server.wait(20) == 0
    assert count(stack, "ALONE") == 1  # an orderly stop leaves nothing in the journal


def test_a_second_instance_on_the_same_state_exits_with_78_and_the_first_goes_on(stack):
    second = subprocess.run(
        [*CANDLECAST, "up", "--state-dir", str(stack.state_dir)], capture_output=True, text=True, timeout=30
    )
    assert second.returncode == 78
    assert "another candlecast runs on" in second.stderr
    assert "postgres" in stack.processes()


@pytest.mark.parametrize("part", ["server", "tritonserver", "postgres", "dashboard"])
def test_a_part_that_is_killed_is_reported_and_everything_works_again(stack, part):
    stack.processes()[part].send_signal(signal.SIGKILL)
    name = {"tritonserver": "Triton", "postgres": "PostgreSQL"}.get(part, part)
    stack.until(lambda: f"{name} ended with -9; starting it again" in stack.output, "reported", 10)
    history = messages(candles(f"KILLED{part.upper()[:6]}", NEED + 1))

    def answers():
        try:
            with Client(stack.grpc, timeout_s=5) as client:
                client.backfill(history[:NEED])
                (result,) = client.predict(symbols=[history[0].symbol])
                return result.forecast.durability == types_pb2.DURABILITY_STORED
        except Exception:
            return False

    stack.until(answers, "answering again", 30)
    assert count(stack, history[0].symbol) == 1


@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)], ids=["stopped", "killed"])
def test_a_server_that_starts_again_goes_on_where_it_was(stack, number, said):
    now_ms = time.time_ns() // 1_000_000
    history = candles(f"ON{number.name}", NEED + 3, start_ms=(now_ms // INTERVAL_MS - NEED - 3) * INTERVAL_MS)
    with Client(stack.grpc) as client:
        client.backfill(messages(history)[: NEED + 1])
    before = stack.output.count(f"server ended with {said}; starting it again")
    stack.processes()["server"].send_signal(number)
    stack.until(lambda: stack.output.count(f"server ended with {said}; starting it again") > before, "reported", 20)

    def goes_on():
        try:
            with Client(stack.grpc, timeout_s=5) as client:
                return client.predict(messages(history)[NEED + 1 :])
        except Exception:
            return ()

    results = []
    stack.until(lambda: results or results.extend(goes_on()), "answering again", 30)
    assert [state(result) for result in results] == ["READY"] * 2
    expected = served_features().push(history).pushed.features_hash[NEED + 1 :]
    assert [result.forecast.features_hash for result in results] == expected.tolist()


def test_a_triton_that_dies_in_the_middle_of_a_replay_leaves_no_hole(stack, tmp_path):
    file = written(tmp_path, "HOLES", NEED + 400)
    command = [*CANDLECAST, "replay", str(file), "--server", stack.grpc, "--json", "--in-flight", "4"]
    with running(command) as replay:
        stack.until(lambda: count(stack, "HOLES") > 50, "under way", 30)
        stack.processes()["tritonserver"].kill()
        summary = json.loads(replay.communicate(timeout=60)[0])
    assert summary["forecasts"] == 401
    assert has(stack, "HOLES", 401)


@pytest.mark.parametrize("file", [REAL] * REAL.exists(), ids=lambda path: path.name)
def test_real_candles_give_one_row_each_after_warm_up(stack, file):
    summary = stack.replay(file, arguments=("--in-flight", "16", "--limit", "6000"))
    assert summary["forecasts"] == summary["candles"] - NEED + 1
    assert (summary["refused"], summary["duplicates"]) == (0, 0)
    assert has(stack, "BTCUSDT", summary["forecasts"])


def test_a_replay_leaves_outcomes_accuracy_and_the_servers_own_signals(stack, tmp_path):
    stack.replay(written(tmp_path, "OUTUSDT", NEED + 100))
    assert has(stack, "OUTUSDT", 101)
    known = "SELECT count(actual_return_48) FROM ml_outcomes WHERE symbol = 'OUTUSDT'"
    stack.until(lambda: asyncio.run(rows(stack, known))[0][0] == 53, "outcomes of 53 forecasts", 30)
    with Client(stack.grpc) as client:
        by_horizon = {row.horizon_bars: row.forecasts for row in client.get_accuracy(symbol="OUTUSDT")}
        assert by_horizon == {1: 100, 4: 97, 16: 85, 48: 53}
        signals = list(client.list_signals("candlecast", symbol="OUTUSDT"))
        stored = client.list_predictions("OUTUSDT", page_size=200).predictions
        assert len(signals) == sum(p.forecast.direction != types_pb2.DIRECTION_NEUTRAL for p in stored)
        key = client.log_signal(
            "ensemble_ml", "OUTUSDT", "Long", 100.0, 2.0, 0.7, forecast=stored[0].forecast
        ).signal.key
        assert client.close_signal(key, 101.0).signal.pnl == 2.0
        assert client.get_strategy("ensemble_ml").wins == 1
    command = [*CANDLECAST, "predictions", "--symbol", "OUTUSDT", "--server", stack.grpc]
    told = json.loads(subprocess.run([*command, "--limit", "101", "--json"], capture_output=True, check=True).stdout)
    assert [p["horizons"]["12h"]["actual_return"] is None for p in told] == [True] * 48 + [False] * 53
    assert told[0]["features"]["count"] == 240
    box = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for words in (
        "features",
        told[0]["features_hash"],
        "mean",
        "std",
        "logits 4h",
        "reasons",
        "not yet known",
        "p neutral",
    ):
        assert words in box, box
    table = subprocess.run([*command, "--limit", "3"], capture_output=True, text=True, check=True).stdout
    assert table.count("OUTUSDT") == 3
    top = [*CANDLECAST, "top", "--server", stack.grpc]
    (row,) = json.loads(
        subprocess.run([*top, "--symbols", "OUTUSDT", "--json"], capture_output=True, check=True).stdout
    )
    same = ("symbol", "close_time_ms", "direction", "confidence", "quality", "reasons", "state")
    assert {name: row[name] for name in same} == {name: told[0][name] for name in same}
    assert row["outcome"] == {
        "close_time_ms": told[1]["close_time_ms"], "horizons_known": 1, "hits": int(told[1]["horizons"]["15m"]["hit"]),
        "exit_reason": told[1]["exit"]["reason"], "exit_return": told[1]["exit"]["return"],
    }  # fmt: skip
    assert (
        "OUTUSDT" in subprocess.run([*top, "--symbols", "OUTUSDT"], capture_output=True, text=True, check=True).stdout
    )
    terminal, side = pty.openpty()
    screen, environment = b"", {**os.environ, "COLUMNS": "160", "LINES": "50", "TERM": "xterm"}
    with running(top, stdin=side, stderr=side, env=environment, stdout=side) as live:
        for text in (b"series", b"TOPUSDT"):
            if text == b"TOPUSDT":
                stack.replay(written(tmp_path, "TOPUSDT", NEED))
            deadline = time.monotonic() + 20
            while text not in screen and time.monotonic() < deadline:
                if select.select([terminal], [], [], 1)[0]:
                    screen += os.read(terminal, 65_536)
            assert text in screen
        live.send_signal(signal.SIGINT)
        assert live.wait(10) == 0


def test_sigterm_stops_everything_and_leaves_no_process_and_no_shared_memory(stack):
    family, shared = stack.family(), stack.shared_memory()
    assert len(family) > 4
    assert shared
    assert stack.stop() == 0
    order = re.findall(r"stopped part=(\w+)", stack.output)[-4:]
    assert order == ["dashboard", "server", "triton", "PostgreSQL"]  # the reverse of starting
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    assert not [path for path in shared if path.exists()]
    assert left_over() <= LEFT_OVER_BEFORE
    again = Stack(stack.state_dir)
    again.start()
    try:
        assert count(again, "AAAUSDT") == 61
    finally:
        assert again.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("door", ["grpc", "http"])
def test_a_port_that_is_taken_is_a_clear_error(tmp_path, door):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        stack = Stack(tmp_path / "state")
        setattr(stack, door, f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(AssertionError, match="ended with 78"):
            stack.start()
        assert f"{door}: cannot listen on" in stack.output
        assert f"--{door}" in stack.output
