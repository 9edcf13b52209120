"""Rows of what is sent: malformed messages, impossible values, more symbols than anybody has."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import hypothesis
from grpc_status import rpc_status
from hypothesis import HealthCheck, Phase

from candlecast.client import AsyncClient, verdict
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1.forecasts_pb2_grpc import ForecastsStub
from candlecast.v1.types_pb2 import Candle, SymbolState
from tests.faults import fuzz
from tests.faults.disorder import maker
from tests.faults.holdings import Holdings
from tests.faults.load import NEED
from tests.faults.scene import Scene, Seen, part, row

CASES = 500
"""Of one injection of row 14."""
ALLOWED = "OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "OPEN"
SERVICE = pb.DESCRIPTOR.services_by_name["Forecasts"]
CALL_S = 20.0
OPEN_S = 0.1
"""What is answered for as long as one listens has been taken when it is open for so long."""
HUGE_BYTES = 5 * 1024 * 1024
SYMBOLS_MAX = 500
SYMBOLS = 1_000
"""In one message of row 27."""


@row(
    14,
    "malformed messages",
    40,
    stays_ready=True,
    environment=lambda directory: {"CANDLECAST_SYMBOLS_MAX": str(SYMBOLS_MAX)},
)
async def malformed(scene: Scene) -> Seen:
    """Real requests of every method, broken on the wire: answered or refused, while others are served."""
    answers: Counter[str] = Counter()
    server, failures, spent_s, distinct = part(scene, "server"), scene.load.failures.total(), 0.0, 0
    for i in range(scene.times):
        one, seed, began_s = maker(scene, "FUZZ"), scene.dice.randrange(2**32), time.monotonic()
        real = [one(NEED + i), one(NEED + i + 1)]
        told = await fuzzed(scene.stack.grpc, real, seed)
        spent_s, answers = spent_s + time.monotonic() - began_s, answers + told.answers
        distinct += told.distinct
        assert not told.strange, f"seed {seed}: {len(told.strange)} answers such as {told.strange[0]}"
        await scene.load.until_answered(2)
        if i == scene.times // 4:  # what may be kept of strange symbols is kept by now
            scene.before = await Holdings.of(scene.stack)
    assert part(scene, "server") == server and scene.load.failures.total() == failures
    cases = answers.total()
    notes = {"cases": cases, "distinct": distinct, "seconds": spent_s, "cases_per_s": cases / spent_s, **answers}
    return Seen(injections=scene.times, notes={name: round(value) for name, value in notes.items()})


class Told:
    """What came back to the cases of one injection."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.distinct = 0
        self.strange: list[tuple[str, str]] = []
        """What came, and the beginning of what was sent, of answers that must not be."""

    @classmethod
    def of(cls, parts: list[Told]) -> Told:
        whole = cls()
        for one in parts:
            whole.answers += one.answers
            whole.distinct += one.distinct
            whole.strange += one.strange
        return whole


async def fuzzed(address: str, real: list[Candle], seed: int) -> Told:
    """Send broken requests to all methods at once, to each one after the other."""
    told = [Told() for _ in SERVICE.methods]
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options=options) as channel:
        plays = [
            asyncio.to_thread(_play_all, channel, method, real, seed, one)
            for method, one in zip(SERVICE.methods, told, strict=True)
        ]
        await asyncio.gather(*plays)
    return Told.of(told)


def _play_all(channel: grpc.Channel, method: Any, real: list[Candle], seed: int, told: Told) -> None:
    """Play a method's share of the cases, and one message that is larger than any may be; blocks."""
    whole = fuzz.filled(method.input_type, {Candle.DESCRIPTOR.full_name: real}, [real[0].symbol, "NOBODY"])
    call = _caller(channel, method)
    sent = set[bytes]()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=CASES // len(SERVICE.methods),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(fuzz.requests(method.input_type, [whole]))
    def play(data: bytes) -> None:
        sent.add(data)
        answer = call(data)
        told.answers[answer] += 1
        if answer not in ALLOWED:
            told.strange.append((answer, data[:200].hex()))

    play()
    told.answers[call(bytes(HUGE_BYTES))] += 1
    told.distinct += len(sent)


def _caller(channel: grpc.Channel, method: Any) -> Callable[[bytes], str]:
    """Return what sends one message to a method, as it is, and gives the status."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
    call: Any = getattr(channel, "_".join(kind))(path)
    endless = method.server_streaming and not method.client_streaming

    def send(data: bytes) -> str:
        given = iter([data]) if method.client_streaming else data
        try:
            answer = call(given, timeout=OPEN_S if endless else CALL_S)
            if method.server_streaming:
                list(answer)
        except grpc.RpcError as error:
            code = str(error.code().name)
            if endless and code == "DEADLINE_EXCEEDED":
                return "OPEN"
            is_ours = rpc_status.from_call(error) is not None
            return code if is_ours or code == "RESOURCE_EXHAUSTED" else f"{code} without a reason: {error.details()}"
        return "OK"

    return send


@row(15, "NaN, infinite, zero, negative, denormal, 1e300, high < low", 60, stays_ready=True)
async def bad_values(scene: Scene) -> Seen:
    bad = [float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e300, 5e-324]
    fields = ["open", "high", "low", "close"]
    refused = 0
    async with AsyncClient(scene.stack.grpc) as client:
        for i in range(scene.times):
            candle = Candle()
            candle.CopyFrom(scene.load.batch(scene.load._next + 50)[0])
            if i % 8 == 7:
                candle.high, candle.low = candle.low * 0.9, candle.high
            else:
                setattr(candle, scene.dice.choice(fields), bad[i % 7])
            (result,) = await client.predict([candle])
            assert verdict(result) == "REFUSED" and result.refusal.reason, result
            refused += 1
    return Seen(injections=refused)  # that the state did not move, the recomputation of every features_hash shows


@row(
    27,
    "a million random symbols",
    1_000,
    stays_ready=True,
    environment=lambda directory: {"CANDLECAST_SYMBOLS_MAX": str(SYMBOLS_MAX)},
)
async def strangers(scene: Scene) -> Seen:
    """A thousand in each message, by three doors: as many are kept as the limit says, all others hear SYMBOL_LIMIT."""
    answers: Counter[str] = Counter()
    candle, began_s = scene.load.batch(NEED)[0], time.monotonic()
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(scene.stack.grpc, options=options) as channel:
        stub: Any = ForecastsStub(channel)
        for i in range(scene.times):
            names = [scene.dice.randbytes(6).hex().upper() for _ in range(SYMBOLS)]
            answers += await _strange(stub, names, candle, door=i % 3)
            if i == scene.times // 10:  # all that may be kept is kept by now
                scene.before = await Holdings.of(scene.stack)
    kept, refused, cold = answers["ACCEPTED"], answers["SYMBOL_LIMIT"], answers["COLD"]
    assert kept + refused + cold == scene.times * SYMBOLS, answers
    assert kept + len(scene.load.names) == SYMBOLS_MAX, answers
    await scene.load.until_answered(2)
    seconds = round(time.monotonic() - began_s)
    return Seen(injections=scene.times, notes={"symbols": scene.times * SYMBOLS, "seconds": seconds, **answers})


async def _strange(stub: Any, names: list[str], candle: Candle, *, door: int) -> Counter[str]:
    """Send a candle of each name, or ask for its newest; return what came back."""
    if door == 2:
        response = await stub.Predict(pb.PredictRequest(symbols=names), timeout=CALL_S)
        return Counter(SymbolState.Name(one.status.state).removeprefix("SYMBOL_STATE_") for one in response.results)
    request = (pb.PredictRequest, pb.BackfillRequest)[door]()
    for name in names:
        one = request.candles.add()
        one.CopyFrom(candle)
        one.symbol = name
    if door == 0:
        response = await stub.Predict(request, timeout=CALL_S)
        return Counter(one.refusal.reason or verdict(one) for one in response.results)
    response = await stub.Backfill(iter([request]), timeout=CALL_S)
    return Counter({"ACCEPTED": response.accepted}) + Counter(one.refusal.reason for one in response.refused)
