"""The HTTP API against the running product: contract.md's endpoints, paging, problems, the live feed, training jobs."""

import asyncio
import json
import time

import httpx
import pytest
import websockets
from polars import read_parquet

from candlecast.client import AsyncClient
from tests.market_simulator import candles
from tests.web.conftest import FORECASTS, NEED, SYMBOLS, TOKEN, written

ADMIN = {"Authorization": f"Bearer {TOKEN}"}
_sent = iter(range(10))


@pytest.fixture
async def http(stack):
    async with httpx.AsyncClient(base_url=f"http://{stack.http}", timeout=20) as client:
        yield client


@pytest.fixture
def next_candle(tmp_path):
    """Return a function that gives the candle after those that were replayed and given before."""

    def candle(symbol=SYMBOLS[0]):
        at = NEED - 1 + FORECASTS + next(_sent)
        (row,) = read_parquet(written(tmp_path, symbol, at, 1)).to_dicts()
        return {"symbol": symbol, "open_time_ms": row.pop("ts"), **row}

    return candle


def problem(answer, status, reason):
    """Make sure that an answer is a problem, and return its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert (said["status"], said["reason"]) == (status, reason)
    return said["detail"]


async def test_health_tells_the_door_from_the_server(http):
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).json() == {"status": "ready"}


async def test_predictions_come_in_pages_without_gap_or_overlap(http):
    keys, before = [], None
    while True:
        parameters = {"symbol": SYMBOLS[0], "limit": 50} | ({"before": before} if before else {})
        page = (await http.get("/api/ml/predictions/", params=parameters)).json()
        keys += [row["close_time_ms"] for row in page["predictions"]]
        if (before := page["next"]) is None:
            break
    assert len(keys) == len(set(keys)) >= FORECASTS
    assert keys == sorted(keys, reverse=True)
    everyone = (await http.get("/api/ml/predictions/?symbol=&limit=20")).json()["predictions"]
    assert len({row["symbol"] for row in everyone}) > 1


async def test_what_is_malformed_is_a_problem_that_names_the_field(http):
    assert "symbol" in problem(await http.get("/api/ml/predictions/?symbol=btc%00"), 422, "INVALID_REQUEST")
    assert "limit" in problem(await http.get("/api/ml/predictions/?limit=0"), 422, "INVALID_REQUEST")
    assert "before" in problem(await http.get("/api/ml/predictions/?before=AAAA"), 422, "INVALID_REQUEST")
    problem(await http.get("/api/nowhere"), 404, "NOT_FOUND")
    problem(await http.get("/api/ml/trainings/%0A"), 404, "NOT_FOUND")
    problem(await http.put("/api/ml/predictions/"), 405, "METHOD_NOT_ALLOWED")
    problem(await http.get("/ml/static/..%2fapp.py"), 404, "NOT_FOUND")


async def test_a_candle_that_is_posted_has_its_forecast_and_is_heard_live(http, stack, next_candle):
    address = f"ws://{stack.http}/api/ml/live/ws"
    async with websockets.connect(address, proxy=None) as everything, websockets.connect(address, proxy=None) as other:
        await other.send(json.dumps({"any": [{"symbol": ["NOSUCH"]}]}))
        for socket in (everything, other):
            first = json.loads(await asyncio.wait_for(socket.recv(), 5))
            assert first["event"] == "status"
            assert (first["data"]["server"], first["data"]["feed"]) == ("SERVING", "LIVE")
        candle = next_candle()
        answer = await http.post("/api/ml/predictions/", json={"candles": [candle]})
        (result,) = answer.json()["results"]
        assert (result["verdict"], result["state"], result["refusal"]) == ("ACCEPTED", "READY", None)
        assert result["forecast"]["direction"].startswith("DIRECTION_")
        (row,) = await heard(everything)
        assert row["symbol"] == candle["symbol"]
        assert row["close_time_ms"] == candle["open_time_ms"] + 900_000
        assert row["confidence"] == pytest.approx(result["forecast"]["confidence"])
        with pytest.raises(TimeoutError):
            await heard(other, 1)
    again = (await http.post("/api/ml/predictions/", json={"candles": [candle], "symbols": [SYMBOLS[1]]})).json()
    assert again["results"][0]["verdict"] == "DUPLICATE"
    bad = (await http.post("/api/ml/predictions/", json={"candles": [candle | {"high": 0.0}]})).json()["results"][0]
    assert bad["verdict"] == "REFUSED"
    assert bad["refusal"]["field"] == "high"


async def heard(socket, timeout_s=5):
    """Return the next forecasts that a socket tells."""
    async with asyncio.timeout(timeout_s):
        while (message := json.loads(await socket.recv()))["event"] != "forecasts":
            pass
    return message["data"]


async def test_the_same_comes_as_server_sent_events(http, next_candle):
    async with http.stream("GET", "/api/ml/live", params={"symbol": SYMBOLS[2]}) as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = events.aiter_lines()
        assert await anext(lines) == "event: status"
        candle = next_candle(SYMBOLS[2])
        posting = asyncio.create_task(http.post("/api/ml/predictions/", json={"candles": [candle]}))
        async with asyncio.timeout(5):
            while await anext(lines) != "event: forecasts":
                pass
            (row,) = json.loads((await anext(lines)).removeprefix("data: "))
        assert row["symbol"] == SYMBOLS[2]
        assert (await posting).status_code == 200


async def test_a_page_of_another_site_may_not_listen_and_nonsense_ends_the_socket(stack):
    address = f"ws://{stack.http}/api/ml/live/ws"
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(address, origin="http://evil.example", proxy=None)
    async with websockets.connect(address, proxy=None) as socket:
        await socket.send('{"any": [{"symbol": 7}]}')
        with pytest.raises(websockets.ConnectionClosed) as closed:
            while True:
                await asyncio.wait_for(socket.recv(), 5)
        assert closed.value.rcvd.code == 1007


async def test_another_name_that_leads_here_is_refused(http, stack):
    port = stack.http.rpartition(":")[2]
    problem(await http.get("/api/ml/models/", headers={"Host": f"evil.example:{port}"}), 421, "MISDIRECTED")
    assert (await http.get("/healthz", headers={"Host": f"localhost:{port}"})).status_code == 200
    with pytest.raises(websockets.InvalidStatus):
        hosts = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
        await websockets.connect(f"ws://{stack.http}/api/ml/live/ws", additional_headers=hosts, proxy=None)


async def test_nobody_without_the_token_begins_a_training(http):
    body = {"family": "lightgbm"}
    problem(await http.post("/api/ml/models/", json=body), 401, "NOT_ADMIN")
    wrong = {"Authorization": "Bearer wrong"}
    problem(await http.post("/api/ml/models/", json=body, headers=wrong), 401, "NOT_ADMIN")
    problem(await http.post("/api/ml/models/rollback", json={"why": "test"}, headers=wrong), 401, "NOT_ADMIN")
    wanting = {"family": "lightgbm", "epochs": 3}
    assert "epochs" in problem(await http.post("/api/ml/models/", json=wanting, headers=ADMIN), 422, "INVALID_REQUEST")
    assert (await http.get("/api/ml/trainings/")).json() == {"trainings": [], "total": 0}


async def test_a_training_says_how_far_it_is_is_alone_and_can_be_stopped(http, stack):
    async with AsyncClient(stack.grpc) as client:
        await client.backfill(candles("TRAINUSDT", 3_000))
    assert "lightgbm" not in (await http.get("/api/ml-performance")).json()["training_status"]
    body = {"family": "lightgbm", "folds": 1, "stride": 1, "symbols": ["TRAINUSDT"]}
    begun = await http.post("/api/ml/models/", json=body, headers=ADMIN)
    assert begun.status_code == 202, begun.text
    address = begun.headers["location"]
    problem(await http.post("/api/ml/models/", json=body, headers=ADMIN), 409, "TRAINING_RUNS")
    deadline = time.monotonic() + 30
    while (now := (await http.get(address)).json())["status"] == "starting":
        assert time.monotonic() < deadline, now
        await asyncio.sleep(0.1)
    assert (now["status"], now["model"], now["version"]) == ("running", "lightgbm", 1)
    assert (await http.delete(address, headers=ADMIN)).status_code == 200
    while (stopped := (await http.get(address)).json())["status"] == "running":
        assert time.monotonic() < deadline, stopped
        await asyncio.sleep(0.1)
    assert stopped["status"] == "interrupted", stopped
    told = (await http.get("/api/ml-performance")).json()
    assert told["training_status"]["lightgbm"]["status"] == "interrupted"
    assert told["performance"]["lightgbm"] == {
        **dict.fromkeys(("signals", "closed", "open_positions", "wins", "losses"), 0),
        **dict.fromkeys(("total_pnl", "avg_pnl", "fees", "max_drawdown"), 0.0),
        **dict.fromkeys(
            ("win_rate", "profit_factor", "expectancy", "mean_return", "sharpe", "trade_sharpe", "mean_holding_s")
        ),
    }
    problem(await http.get("/api/ml/trainings/00000000-0000-0000-0000-000000000000"), 404, "NOT_FOUND")


async def test_importance_is_empty_where_nothing_is_on_record(http):
    assert (await http.get("/api/ml/features/top/")).json() == {"features": []}
    history = (await http.get("/api/ml/features/history/", params={"feature": "rsi_14"})).json()
    assert history["history"] == []


async def test_drift_is_held_to_what_the_shipped_model_was_trained_on_and_shown_by_subject(http):
    deadline = time.monotonic() + 20
    while not (found := (await http.get("/api/ml/pages/features/drifting/")).json()["measures"]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    measures = {one["subject"]: one for one in found}
    assert {"momentum", "volume", "confidence", "probabilities"} <= set(measures)
    assert "direction" not in measures and "time" not in measures  # no first days yet; the clock is not compared
    momentum = measures["momentum"]
    assert (momentum["against"], momentum["reference_rows"]) == ("BUNDLE", 50_000)
    assert momentum["newest_rows"] >= 200 and momentum["usual_psi"] > 0 and 0 < momentum["ks"] <= 1
    assert [one["drifting"] for one in found] == sorted((one["drifting"] for one in found), reverse=True)
    assert all((one["since_ms"] is not None) == one["drifting"] for one in found)
