"""Switches of the model under load: who asks for them, what is sent meanwhile, and what every answer has to be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import numpy as np
import psutil

from candlecast.bench.market import Market, names, simulated
from candlecast.bench.pace import Schedule
from candlecast.client import AsyncClient, ServerError
from candlecast.features import Features
from candlecast.models_client import ModelsClient
from candlecast.server.admin import FILE
from candlecast.v1 import models_pb2 as pb
from candlecast.v1 import models_pb2_grpc
from candlecast.values import Candles
from tests.stack import Stack
from tests.versions import MARK, variant

NEED = Features(symbols_max=1, conflicts_max=1).need
GROUPS, GROUP_SYMBOLS = 32, 8
REQUEST_TIMEOUT_S = 10.0
SETTLE_S = 60.0


class Models:
    """The admin's door of a stack."""

    def __init__(self, server: str, channel: grpc.aio.Channel, token: str) -> None:
        self._server, self._token = server, token
        self._stub: Any = models_pb2_grpc.ModelsStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def call(self, method: str, request: Any) -> Any:
        return await getattr(self._stub, method)(request, metadata=self._metadata, timeout=120)

    async def versions(self) -> dict[int, Any]:
        return {one.version: one for one in (await self.call("List", pb.ListModelsRequest())).models}

    async def champion(self) -> int:
        found = await self.versions()
        return next(number for number, one in found.items() if one.state == pb.MODEL_STATE_CHAMPION)

    async def push(self, folder: Path) -> None:
        """Push a bundle as the command line does.

        Not by grpc.aio: of an upload that is refused before its end it says INTERNAL (grpc's pull request 43486).

        Raises:
            ServerError.
        """

        def pushed() -> None:
            with ModelsClient(self._server, token=self._token, timeout_s=120) as client:
                client.push(folder, "a proof")

        await asyncio.to_thread(pushed)

    async def promote(self, version: int) -> None:
        request = pb.SetAliasRequest(version=version, alias=pb.MODEL_STATE_CHAMPION, why="a switch")
        await self.call("SetAlias", request)

    async def switch(self, version: int) -> None:
        """Promote a version that Triton lacks; return once the one of before is out of Triton."""
        await self.promote(version)
        async with asyncio.timeout(SETTLE_S):
            while any(one.loaded for number, one in (await self.versions()).items() if number != version):
                await asyncio.sleep(0.25)


@asynccontextmanager
async def admin(stack: Stack) -> AsyncIterator[Models]:
    async with grpc.aio.insecure_channel(stack.grpc, options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield Models(stack.grpc, channel, (stack.state_dir / FILE).read_text().strip())


async def pushed(models: Models, directory: Path, versions: tuple[int, ...] = (2, 3)) -> None:
    """Write versions that say which they are, and push them."""
    for version in versions:
        bundle = await asyncio.to_thread(variant, directory / f"run-{version}", version)
        await models.push(bundle.path)


@dataclass(slots=True)
class Traffic:
    """Bar closes of groups of symbols, on a schedule."""

    client: AsyncClient
    market: Market = field(default_factory=lambda: Market(names(GROUPS * GROUP_SYMBOLS), simulated()))
    sent: list[tuple[float, float]] = field(default_factory=list)  # (due, answered) in s, monotonic
    failures: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    answers: dict[tuple[str, int], int] = field(default_factory=dict)  # (symbol, close) → version
    _last: list[asyncio.Task[None] | None] = field(default_factory=lambda: [None] * GROUPS)

    async def warm(self) -> None:
        for group in range(GROUPS):
            chunks = self.market.history(self._index(group), NEED)
            done = await self.client.backfill(Candles.joined(list(chunks)))
            assert done.accepted == GROUP_SYMBOLS * NEED, done

    async def maximum(self, seconds: float, callers: int = 4) -> float:
        """Return messages a second in a closed loop."""
        count, until = 0, time.monotonic() + seconds

        async def caller(first: int) -> None:
            nonlocal count
            group = first
            while time.monotonic() < until:
                await self.one(group, time.perf_counter())
                group, count = first + (group - first + callers) % (GROUPS - GROUPS % callers), count + 1

        await asyncio.gather(*(caller(first) for first in range(callers)))
        self.sent.clear()
        return count / seconds

    async def run(self, rate_hz: float, stop: asyncio.Event) -> None:
        """Send rate_hz messages a second, whatever comes back, until told to stop."""
        turn = 0
        while not stop.is_set():
            schedule = Schedule(rate_hz, max(1, round(rate_hz)))  # a second of it

            def fire(i: int, schedule: Schedule = schedule) -> None:
                nonlocal turn
                group, due = turn % GROUPS, schedule.started_s + float(schedule.due_s[i])
                turn += 1
                self._last[group] = asyncio.create_task(self._after(self._last[group], group, due))

            schedule.due_s -= schedule.due_s[0]  # one second behind the other
            await schedule.run(fire)
            await asyncio.sleep(max(0.0, 1 / rate_hz - schedule.since_due_s(len(schedule.due_s) - 1)))
        await asyncio.gather(*filter(None, self._last))

    async def _after(self, last: asyncio.Task[None] | None, group: int, due: float) -> None:
        if last is not None:
            await last
        await self.one(group, due)

    async def one(self, group: int, due: float) -> None:
        """Close a bar of a group, and look at what is answered."""
        candles = self.market.next(self._index(group))
        try:
            results = await self.client.predict(candles)
        except ServerError as error:
            self.failures.append(str(error)[:200])
            return
        self.sent.append((due, time.perf_counter()))
        records = results.columns
        packed = results._packed
        assert packed is not None
        if not records["has_forecast"].all():
            self.failures.append(f"{int((records['has_forecast'] == 0).sum())} candles without a forecast")
            return
        version = packed.model.version
        marks = records["risks"][:, 0]
        if version != 1 and not np.allclose(marks, MARK * version, rtol=1e-3):
            self.mixed.append(f"version {version} with the numbers of {np.unique(np.round(marks / MARK, 2)).tolist()}")
        if version == 1 and np.isclose(marks, MARK * np.arange(2, 4)[:, None], rtol=1e-6).any():
            self.mixed.append("version 1 with numbers of another")
        if packed.HasField("challenger"):
            self.mixed.append("two versions in an answer, without a split")
        for symbol, close_ms in zip(candles.names, records["close_time_ms"].tolist(), strict=True):
            self.answers[symbol, close_ms] = version

    def latencies_ms(self, begin: float = 0.0, end: float = float("inf")) -> list[float]:
        """Return those of messages that were under way within a span."""
        return [(answered - due) * 1e3 for due, answered in self.sent if answered >= begin and due <= end]

    @staticmethod
    def _index(group: int) -> Any:
        return np.arange(group * GROUP_SYMBOLS, (group + 1) * GROUP_SYMBOLS)


async def stored_otherwise(stack: Stack, answers: dict[tuple[str, int], int], wait_s: float = 60.0) -> list[str]:
    """Compare every answer with its row in PostgreSQL; say what differs: not there, twice, or of another version."""
    connection = await asyncpg.connect(stack.database_url)
    try:
        deadline, rows = time.monotonic() + wait_s, list[Any]()
        while True:
            rows = await connection.fetch(
                "SELECT symbol, (date_part('epoch', close_time) * 1000)::bigint AS ms, version FROM ml_predictions"
                " WHERE NOT shadow AND symbol LIKE 'BENCH.%'"
            )
            if len(rows) >= len(answers) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
    finally:
        await connection.close()
    versions: dict[tuple[str, int], list[int]] = {}
    for symbol, ms, version in rows:
        versions.setdefault((symbol, ms), []).append(version)
    return [
        f"{key}: answered by {version}, stored {versions.get(key, [])}"
        for key, version in answers.items()
        if versions.get(key, []) != [version]
    ]


def triton_memory_mb(stack: Stack) -> dict[str, float]:
    """Return what tritonserver and its stubs hold of their own, and how many stubs there are."""
    server = stack.processes()["tritonserver"]
    stubs = [child for child in server.children(recursive=True) if "stub" in child.name()]
    own = sum(process.memory_full_info().uss for process in stubs) / 2**20
    return {
        "server": server.memory_full_info().uss / 2**20,
        "stubs": own,
        "count": len(stubs),
        "files": server.num_fds(),
        "threads": server.num_threads(),
    }


def server_memory_mb(stack: Stack) -> float:
    process: psutil.Process = stack.processes()["server"]
    return float(process.memory_full_info().uss / 2**20)
