"""The web door counts its requests by route, never by path, and answers /metrics."""

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from candlecast.dashboard.metered import add_metrics
from tests.unit.test_telemetry import samples


@pytest.fixture
async def door():
    app = FastAPI()
    telemetry = add_metrics(app)

    @app.get("/symbols/{symbol}")
    async def symbol(symbol: str):
        return {"symbol": symbol}

    @app.get("/broken")
    async def broken():
        raise RuntimeError("a mistake")

    @app.get("/stream")
    async def stream():
        async def events():
            yield "data: 1\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        yield client, telemetry


async def test_requests_are_counted_by_route_and_status(door):
    client, telemetry = door
    for i in range(300):
        await client.get(f"/symbols/S{i}")
        await client.get(f"/nothing/{i}")
    assert (await client.get("/broken")).status_code == 500
    found = samples(telemetry)
    requests = {name: value for name, value in found.items() if name.startswith("candlecast_web_requests_total")}
    assert requests == {
        "candlecast_web_requests_total{route=/symbols/{symbol},status=200}": 300,
        "candlecast_web_requests_total{route=none,status=404}": 300,
        "candlecast_web_requests_total{route=/broken,status=500}": 1,
    }
    assert found["candlecast_web_request_duration_seconds_count"] == 601
    assert found["candlecast_web_requests_open"] == 0


async def test_a_stream_is_counted_and_not_timed(door):
    client, telemetry = door
    assert (await client.get("/stream")).text == "data: 1\n\n"
    found = samples(telemetry)
    assert found["candlecast_web_requests_total{route=/stream,status=200}"] == 1
    assert found["candlecast_web_request_duration_seconds_count"] == 0


async def test_metrics_are_text_for_prometheus(door):
    client, _ = door
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "candlecast_web_requests_total" in answer.text and "process_cpu_seconds_total" in answer.text
