"""What a row of the fault matrix plays on and what it says, and the register of rows. Knows no fault."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.faults.holdings import Holdings
from tests.faults.invariants import connected
from tests.faults.load import Load
from tests.faults.readiness import Fault, Health, serving
from tests.stack import Stack


@dataclass
class Scene:
    """What a row plays on."""

    stack: Stack
    load: Load
    health: Health
    dice: random.Random
    times: int
    full: bool
    directory: Path
    """Where the row may keep files of its own."""
    stage: str = ""
    """Which of its stages the row plays on."""
    others: list[Load] = field(default_factory=list)
    """Further users, who have stopped; what was acknowledged to them is verified, too."""
    faults: list[Fault] = field(default_factory=list)
    """Those that made the server unready, or were to: outside of them it has to be ready all the time (I6)."""
    before: Holdings | None = None
    """What was held before (I5); a row that fills a bounded store first takes it anew once that is full."""

    def unready(self) -> Fault:
        """Take note that a fault begins which makes the server unready."""
        self.faults.append(Fault(time.monotonic()))
        return self.faults[-1]


@dataclass
class Seen:
    """What a row saw, in seconds; `detect` and `recover` are the worst."""

    injections: int = 0
    detect_s: float | None = None
    recover_s: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def add(self, *, detect_s: float | None = None, recover_s: float | None = None, count: int = 1) -> None:
        self.injections += count
        if detect_s is not None:
            self.detect_s = max(self.detect_s or 0, detect_s)
        if recover_s is not None:
            self.recover_s = max(self.recover_s or 0, recover_s)


Play = Callable[[Scene], Awaitable[Seen]]


@dataclass(frozen=True)
class Row:
    """A row of the matrix.

    Attributes:
        times: how often the whole matrix injects it, on each of its stages.
        stays_ready: readiness must be true all the time; else it is false during its faults, and only then (I6).
        environment: of the stack, given the directory the row may keep files in.
        stages: what kinds of stack it is played on, each in turn.
        restarts_max: injections that one stack bears: `candlecast up` gives up at the sixth death of a part within a
            minute; 0 for a row that kills nothing.
    """

    number: int
    name: str
    play: Play
    times: int
    stays_ready: bool
    environment: Callable[[Path], Mapping[str, str]]
    stages: tuple[str, ...]
    restarts_max: int


ROWS: dict[int, Row] = {}


def row(
    number: int,
    name: str,
    times: int,
    *,
    stays_ready: bool,
    environment: Callable[[Path], Mapping[str, str]] = lambda directory: {},
    stages: tuple[str, ...] = ("",),
    restarts_max: int = 0,
) -> Callable[[Play], Play]:
    def register(play: Play) -> Play:
        ROWS[number] = Row(number, name, play, times, stays_ready, environment, stages, restarts_max)
        return play

    return register


def part(scene: Scene, name: str) -> psutil.Process:
    """Return a running part, waiting for it to be there."""
    deadline = time.monotonic() + 30
    while True:
        with suppress(KeyError, IndexError, psutil.NoSuchProcess, psutil.ZombieProcess):
            return scene.stack.processes()[name]
        assert time.monotonic() < deadline, f"no {name}"
        time.sleep(0.02)


def backend(scene: Scene) -> psutil.Process:
    """Return one of PostgreSQL's processes that serve us, waiting for one to be there."""
    deadline = time.monotonic() + 30
    while True:
        with suppress(psutil.Error):  # one has just ended
            children = part(scene, "postgres").children()
            if found := [p for p in children if "candlecast candlecast [local]" in " ".join(p.cmdline())]:
                return scene.dice.choice(found)
        assert time.monotonic() < deadline, "PostgreSQL serves nobody"
        time.sleep(0.02)


async def ready(scene: Scene, since_s: float, limit_s: float) -> float:
    """Return the seconds since then until the server is ready and answers."""
    async with asyncio.timeout(limit_s):
        while not await serving(scene.stack.grpc):
            await asyncio.sleep(0.02)
    ready_s = time.monotonic() - since_s
    await scene.load.until_answered(1)
    return ready_s


async def failing(scene: Scene, limit_s: float = 30) -> float:
    """Return the seconds until the next call of the load failed."""
    failures, since_s = scene.load.failures.total(), time.monotonic()
    async with asyncio.timeout(limit_s):
        while scene.load.failures.total() == failures:
            await asyncio.sleep(0.02)
    return time.monotonic() - since_s


async def silent(scene: Scene, seconds: float) -> None:
    """See to it that nothing is acknowledged for so long."""
    answered = len(scene.load.latencies_ms)
    await asyncio.sleep(seconds)
    more = len(scene.load.latencies_ms) - answered
    assert not more, f"{more} messages were acknowledged"


async def drained(scene: Scene, timeout_s: float) -> None:
    """Return once what is acknowledged now is in PostgreSQL."""
    wanted = len(scene.load.acknowledged)
    connection = await connected(scene.stack)
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                count = "SELECT count(*) FROM ml_predictions WHERE symbol = ANY($1)"
                if await connection.fetchval(count, scene.load.names) >= wanted:
                    return
                await asyncio.sleep(0.05)
    finally:
        await connection.close()
