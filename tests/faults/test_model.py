"""Faults of Triton under a running `candlecast up`: health is false within 3 s of one and true again within 10 s.

A stub is replaced, with its tritonserver, so soon that the canary of the server may never meet the fault.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from candlecast.client import Client, messages
from candlecast.features import Features
from tests.market_simulator import candles
from tests.stack import Stack

NEED = Features(symbols_max=1, conflicts_max=1).need
DETECTED_S, RECOVERED_S = 3.0, 10.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return one for all faults: it is as good as new after each."""
    stack = Stack(tmp_path_factory.mktemp("stack") / "state")
    stack.start()
    yield stack
    assert stack.stop() == 0


@pytest.fixture
def serving(stack: Stack) -> Iterator[Callable[[], bool]]:
    with grpc.insecure_channel(stack.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def serving() -> bool:
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        stack.until(serving, "serving", 20)
        yield serving


def triton_of(stack: Stack) -> psutil.Process | None:
    return stack.processes().get("tritonserver")


def starts(stack: Stack) -> int:
    """Return how often Triton became ready so far."""
    return stack.output.count("triton ready")


@pytest.mark.parametrize("fault", ["kill", "suspend"])
@pytest.mark.parametrize("part", ["tritonserver", "stub"])
def test_a_dead_or_frozen_triton_is_told_and_repaired(
    stack: Stack, serving: Callable[[], bool], record_property: Callable[[str, object], None], part: str, fault: str
) -> None:
    server = triton_of(stack)
    assert server is not None
    stub = next(process for process in server.children(recursive=True) if "stub" in process.name())
    before, begin = starts(stack), time.monotonic()
    getattr({"tritonserver": server, "stub": stub}[part], fault)()
    stack.until(lambda: not serving() or starts(stack) > before, "told, or repaired already,", DETECTED_S)
    detected = time.monotonic()
    psutil.wait_procs([server], timeout=10)
    assert not server.is_running(), "the watchdog kills what is frozen"
    killed = time.monotonic()
    stack.until(lambda: starts(stack) == before + 1 and serving(), "serving again", RECOVERED_S)
    again = time.monotonic()
    for name, seconds in {"detected": detected - begin, "killed": killed - begin, "again": again - begin}.items():
        record_property(f"{name}_s", round(seconds, 2))
        print(f"{fault} {part}: {name} after {seconds:.2f} s")

    symbol = f"{part}{fault}".upper()
    history = messages(candles(symbol, NEED))
    with Client(stack.grpc) as client:
        client.backfill(history[:-1])
        (result,) = client.predict(history[-1:])
    assert result.HasField("forecast")


def test_a_stopped_triton_is_started_again_and_clients_ride_over_it(stack: Stack, serving: Callable[[], bool]) -> None:
    server = triton_of(stack)
    assert server is not None
    history = messages(candles("RIDE", NEED + 1))
    with Client(stack.grpc) as client:
        client.backfill(history[:NEED])
        started = time.monotonic()
        server.send_signal(signal.SIGTERM)
        stack.until(lambda: not serving(), "not serving", DETECTED_S)
        stack.until(serving, "serving again", RECOVERED_S)
        print(f"stop in good order: serving again after {time.monotonic() - started:.2f} s")
        (result,) = client.predict(history[NEED:])
    assert result.HasField("forecast")
    assert "Triton ended with" in stack.output


def test_a_triton_past_its_time_is_recycled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLECAST_TRITON_RECYCLE_H", str(15 / 3600))
    stack = Stack(tmp_path / "state")
    stack.start()
    try:
        stack.until(lambda: "triton recycle" in stack.output, "recycled", 20)
        stack.until(lambda: starts(stack) == 2, "started again", 10)
        assert "stopped part=triton exit=0" in stack.output  # in good order
    finally:
        assert stack.stop() == 0
