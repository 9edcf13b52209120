"""The door for Prometheus answers what it is for, refuses the rest, and holds nobody."""

import asyncio

import pytest

from candlecast.errors import ConfigurationError
from candlecast.server import metrics_door
from candlecast.server.metrics_door import MetricsDoor
from candlecast.telemetry import Telemetry


@pytest.fixture
async def scene():
    telemetry, prepared, ready = Telemetry(), [], [True, ""]

    async def prepare():
        prepared.append(1)

    telemetry.gauge("candlecast_prepared", "x", lambda: len(prepared))
    async with MetricsDoor(
        "127.0.0.1:0", telemetry, prepare=prepare, ready=lambda: ready[0], degraded=lambda: ready[1]
    ) as door:
        yield door, ready


async def said(door, request: bytes) -> tuple[str, dict[str, str], bytes]:
    host, _, port = door.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


async def test_a_scrape_prepares_and_gets_all_metrics(scene):
    door, _ = scene
    for expected in (b"candlecast_prepared 1.0", b"candlecast_prepared 2.0"):
        first, fields, body = await said(door, b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n")
        assert first == "HTTP/1.1 200 OK"
        assert int(fields["Content-Length"]) == len(body)
        assert expected in body
        assert b"process_cpu_seconds_total" in body


async def test_health_follows_the_canary(scene):
    door, ready = scene
    first, _, body = await said(door, b"GET /readyz HTTP/1.1\r\n\r\n")
    assert (first, body) == ("HTTP/1.1 200 OK", b"ready\n")
    ready[1] = "MODEL_EXPIRED: it is old"
    first, _, body = await said(door, b"GET /readyz HTTP/1.1\r\n\r\n")
    assert (first, body) == ("HTTP/1.1 200 OK", b"DEGRADED MODEL_EXPIRED: it is old\n")
    ready[0] = False
    assert (await said(door, b"GET /readyz HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 503 Service Unavailable"
    assert (await said(door, b"GET /healthz HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("request_head", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        (b"nonsense\r\n\r\n", "400"),
        (b"GET /metrics HTTP/2\r\n\r\n", "400"),
    ],
)
async def test_what_it_is_not_for_is_refused(scene, request_head, code):
    first, _, _ = await said(scene[0], request_head)
    assert first.split(" ")[1] == code


async def test_heads_without_an_end_and_clients_that_wait_are_hung_up_on(scene, monkeypatch):
    door, _ = scene
    assert (await said(door, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 2 * metrics_door.HEAD_BYTES_MAX))[0] == ""
    monkeypatch.setattr(metrics_door, "TIMEOUT_S", 0.1)
    assert (await said(door, b"GET /metrics HTTP/1.1\r\n"))[0] == ""
    assert (await said(door, b"GET /healthz HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 200 OK"


async def test_a_head_request_gets_no_body(scene):
    first, fields, body = await said(scene[0], b"HEAD /healthz HTTP/1.1\r\n\r\n")
    assert (first, fields["Content-Length"], body) == ("HTTP/1.1 200 OK", "3", b"")


async def test_a_port_that_is_taken_is_a_configuration_error(scene):
    async def prepare(): ...

    with pytest.raises(ConfigurationError, match="cannot listen"):
        async with MetricsDoor(scene[0].address, Telemetry(), prepare=prepare, ready=bool):
            pass
