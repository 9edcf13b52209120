"""Many subscribers at many forecasts a second: the fan-out alone, over real gRPC on loopback, without a model.

Usage: python bench/subscribers.py [--subscribers 1000] [--rate 1000] [--seconds 10] [--json FILE]. One process serves
and makes forecasts up; another holds all subscribers, 100 to a connection. Three mixes: `some` want 10 of 1,000 symbols
each; `all` want everything; `slow` as all, and beside them 10 that take one message a second. What a subscriber got is
compared in bytes with what was published for it. Starved: less than half of the median, or silent for 5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

# As the command line does; before anything imports grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import grpc
import numpy as np
import uvloop

from candlecast.features import Features
from candlecast.server import convert
from candlecast.server.door import Door
from candlecast.server.service import ForecastsService
from candlecast.server.subscriptions import Subscriptions, chunk
from candlecast.server.wire import TolerantServer
from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1 import forecasts_pb2_grpc
from candlecast.values import Recorded, symbols
from candlecast.work import Answer
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder
from tests.integration.conftest import forecasts

SYMBOLS = 1_000
TICK_S = 0.1
PER_CONNECTION = 100
WANTED = 10
SLOW = 10
SILENT_S = 5.0


def names_of(number: int) -> list[str]:
    """Return the symbols that subscriber `number` wants."""
    return [f"S{(number * 7 + k * 97) % SYMBOLS}USDT" for k in range(WANTED)]


async def serve(pipe: Connection, count: int, rate: int, seconds: float) -> None:
    """Publish `rate` forecasts a second for so long; send the address, then the bytes published of each symbol."""
    features = Features(symbols_max=1, conflicts_max=1)
    forecaster = fakes.forecaster(features, FakeModel(), FakeRecorder())
    made = forecasts(SYMBOLS)
    made = replace(made, symbol=symbols([f"S{i}USDT" for i in range(SYMBOLS)]))
    made = replace(made, close_time_ms=np.full(SYMBOLS, time.time_ns() // 1_000_000))
    async with Subscriptions(None, subscribers_max=count + SLOW, backlog_max=8_192) as subscriptions:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service = ForecastsService(  # type: ignore[abstract]
            forecaster, features, candles_per_message_max=1, unary_timeout_ms=1, answer_timeout_ms=1,
            subscriptions=subscriptions,
        )  # fmt: skip
        forecasts_pb2_grpc.add_ForecastsServicer_to_server(service, TolerantServer(server))  # type: ignore[arg-type]
        async with Door("127.0.0.1:0", server, service, message_bytes_max=1024**2, grace_ms=100) as address:
            pipe.send(address)
            await asyncio.to_thread(pipe.recv)
            sizes = np.array([len(chunk(forecast)) for forecast in convert.forecasts(_answer(made), closes=True)])
            published, position, rows = np.zeros(SYMBOLS, dtype=np.int64), 0, int(rate * TICK_S)
            started, cpu, late = time.monotonic(), time.process_time(), list[float]()
            for tick in range(int(seconds / TICK_S)):
                now = time.time_ns() // 1_000_000
                at = (position + np.arange(rows)) % SYMBOLS
                position += rows
                published[at] += sizes[at]
                subscriptions.publish(_answer(replace(made.take(at), close_time_ms=np.full(rows, now))))
                due = started + (tick + 1) * TICK_S
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                late.append(time.monotonic() - due)
            pipe.send(
                {"published": published.tolist(), "cpu": (time.process_time() - cpu) / (time.monotonic() - started),
                 "loop_late_ms_p99": float(np.percentile(late, 99)) * 1e3}
            )  # fmt: skip
            await asyncio.to_thread(pipe.recv)
            service.stop()


def _answer(given: Any) -> Any:
    new = np.ones(len(given), dtype=np.bool_)
    return Answer(None, None, {}, given, Recorded(new, ~new), True, 7, None)  # type: ignore[arg-type]


class Reader:
    """One subscriber: how much it got, its longest silence, and how old the newest forecast of some messages was."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.bytes = self.messages = self.skipped = 0
        self.pause_s, self.silence_s, self.last_s = pause_s, 0.0, 0.0
        self.ages_ms: list[float] = []
        self.live = asyncio.Event()

    async def read(self, call: Any) -> None:
        try:
            async for data in call:
                now = time.monotonic()
                if not self.live.is_set():
                    self.live.set()
                    continue
                self.silence_s, self.last_s = max(self.silence_s, now - self.last_s), now
                self.messages += 1
                self.bytes += len(data)
                if self.messages % 8 == 1:
                    response = pb.SubscribeResponse.FromString(data)
                    self.skipped += response.skipped
                    newest = max((f.close_time_ms for f in response.forecasts), default=0)
                    self.ages_ms.append(time.time_ns() / 1e6 - newest)
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass


async def hold(pipe: Connection, mix: str, count: int) -> dict[str, Any]:
    """Hold all subscribers of a mix and return what became of them."""
    address = pipe.recv()
    connections = (count + SLOW) // PER_CONNECTION + 1
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(connections)]
    readers = [Reader() for _ in range(count)]
    if mix == "slow":
        readers += [Reader(pause_s=1.0) for _ in range(SLOW)]
    calls, tasks = list[Any](), []
    for number, reader in enumerate(readers):
        wanted = names_of(number) if mix == "some" else []
        ask: Any = channels[number // PER_CONNECTION].unary_stream(
            "/candlecast.v1.Forecasts/Subscribe", request_serializer=pb.SubscribeRequest.SerializeToString
        )
        calls.append(ask(pb.SubscribeRequest(symbols=wanted)))
        tasks.append(asyncio.create_task(reader.read(calls[-1])))
        if number % 50 == 49:
            await reader.live.wait()
    await asyncio.gather(*(reader.live.wait() for reader in readers))
    began, cpu = time.monotonic(), time.process_time()
    for reader in readers:
        reader.last_s = began
    pipe.send("go")
    told: dict[str, Any] = await asyncio.to_thread(pipe.recv)
    own_cpu = (time.process_time() - cpu) / (time.monotonic() - began)
    await asyncio.sleep(1.5)  # what is on its way
    ended = time.monotonic()
    pipe.send("stop")
    for call in calls:
        call.cancel()
    await asyncio.gather(*tasks)
    published = np.array(told["published"])
    shares = []
    for number, reader in enumerate(readers[:count]):
        of = [int(name[1:-4]) for name in names_of(number)] if mix == "some" else slice(None)
        shares.append(reader.bytes / published[of].sum())
        reader.silence_s = max(reader.silence_s, ended - 1.5 - reader.last_s)
    ages = np.array([age for reader in readers[:count] for age in reader.ages_ms])
    silence = [reader.silence_s for reader in readers[:count]]
    starved = sum(share < median(shares) / 2 or quiet > SILENT_S for share, quiet in zip(shares, silence, strict=True))
    return {
        "subscribers": len(readers),
        "starved": int(starved),
        "share_min": float(min(shares)),
        "share_median": float(median(shares)),
        "complete": int(sum(abs(share - 1) < 1e-9 for share in shares)),
        "silence_s_max": max(silence),
        "age_ms_p50": float(np.percentile(ages, 50)),
        "age_ms_p99": float(np.percentile(ages, 99)),
        "messages_per_s": sum(reader.messages for reader in readers) / (ended - began),
        "mb_per_s": sum(reader.bytes for reader in readers) / (ended - began) / 1e6,
        "server_cpu": told["cpu"],
        "client_cpu": own_cpu,
        "loop_late_ms_p99": told["loop_late_ms_p99"],
    }


def _serve(pipe: Connection, *args: Any) -> None:
    uvloop.run(serve(pipe, *args))


def main() -> int:
    """Measure each mix and print a line of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=1_000)
    parser.add_argument("--rate", type=int, default=1_000, help="forecasts a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--mixes", nargs="+", default=["some", "all", "slow"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = {}
    for mix in args.mixes:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(theirs, args.subscribers, args.rate, args.seconds)
        )
        process.start()
        found[mix] = uvloop.run(hold(ours, mix, args.subscribers))
        process.join(20)
        rounded = {name: round(value, 3) for name, value in found[mix].items()}
        print(mix, json.dumps(rounded), flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    return 1 if any(one["starved"] for one in found.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
