"""The measures of a running server, each beside its baseline in turns. Knows neither stack nor command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from candlecast.bench import machine
from candlecast.bench.baselines import BareTriton, OnnxInProcess
from candlecast.bench.figures import LATENCY, MEMORY, RATE, Figure
from candlecast.bench.load import Line, Open, burst, closed, line, single_file, teach
from candlecast.bench.market import Market
from candlecast.bench.pace import percentiles
from candlecast.client import AsyncClient
from candlecast.values import F32

BURST, CALLERS, SINGLE_HZ = 1_000, 32, 50.0
SCALES = (10, 100, 1_000, 10_000)
QUIET_CPU_SHARE, QUIET_LOOK_S, QUIET_MAX_S = 0.15, 0.5, 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure."""

    rounds: int = 7  # of bursts, ours and the baseline's in turns
    seconds: float = 8.0  # of a closed loop, in each of `turns`
    turns: int = 3
    candles: int = 2_000  # on the schedule, ours, and as many of the baseline
    warm_up_bursts: int = 2


QUICK = Plan(rounds=2, seconds=1.5, turns=1, candles=100, warm_up_bursts=1)


@dataclass(slots=True)
class Bench:
    """A running server, the symbols it is asked about, and the baselines there are.

    Args:
        windows: of the market's first symbols, for the baselines.
        say: takes one line of progress.
    """

    client: AsyncClient
    market: Market
    plan: Plan
    say: Callable[[str], None]
    windows: F32 | None = None  # [B, 96, F]
    onnx: OnnxInProcess | None = None
    triton: BareTriton | None = None
    server_pid: int | None = None
    rates: dict[int, float] = field(default_factory=dict)  # forecasts/s of bursts, by symbols

    async def teach(self, symbols: int) -> None:
        """Make the market's first so many symbols READY and wait until the server has written their history down."""
        started = time.perf_counter()
        sent = await teach(self.client, self.market, np.arange(symbols))
        if sent:
            self.say(f"{symbols} symbols READY after {sent:,} candles, {time.perf_counter() - started:.1f} s")
            await self.until_quiet()

    async def until_quiet(self) -> None:
        """Wait until the server rests, if it can be seen from here."""
        if self.server_pid is None:
            return
        until = time.monotonic() + QUIET_MAX_S
        while time.monotonic() < until:
            before = machine.cpu_s([self.server_pid])
            await asyncio.sleep(QUIET_LOOK_S)
            if machine.cpu_s([self.server_pid]) - before < QUIET_CPU_SHARE * QUIET_LOOK_S:
                return
        self.say(f"the server was still busy after {QUIET_MAX_S:.0f} s")

    async def burst(self, symbols: int, name: str) -> Figure:
        """Return forecasts a second when so many symbols close at once."""
        index = np.arange(symbols)
        windows = None if self.windows is None else self.windows[np.arange(min(symbols, BURST)) % len(self.windows)]
        repeats = max(1, min(50, 1_000 // symbols))  # short bursts, many of them
        note = ""
        if self.onnx is not None and windows is not None:
            self.onnx.choose(windows)
            note = f"baseline: ONNX Runtime in-process, {self.onnx.way}"
        ours, baseline = [], []
        async with line(self.client) as stream:
            for _ in range(self.plan.warm_up_bursts):
                await burst(stream, self.market, index)
            for _ in range(self.plan.rounds):
                ours.append(await self._median_burst(stream, index, repeats))
                if self.onnx is not None and windows is not None:
                    taken = [self.onnx.seconds(windows) for _ in range(repeats)]
                    baseline.append(len(windows) / median(taken))
        figure = Figure(
            name,
            f"{symbols:,} symbols at once, to the last forecast",
            RATE,
            median(ours),
            median(baseline) if baseline else None,
            f"{self.plan.rounds} rounds, {min(ours):,.0f} to {max(ours):,.0f}; {note or 'no ONNX Runtime'}",
        )
        self.rates[symbols] = median(ours)
        return figure

    async def _median_burst(self, stream: Line, index: np.ndarray, repeats: int) -> float:
        return len(index) / median([await burst(stream, self.market, index) for _ in range(repeats)])

    async def closed(self) -> Figure:
        """Return forecasts a second of 32 unary callers, beside bare Triton."""
        triton, seconds = self.triton, self.plan.seconds
        await closed(self.client, self.market, CALLERS, min(1.0, seconds))
        if triton is not None:
            await triton.closed(CALLERS, min(1.0, seconds))
        ours, baseline = await self._in_turns(
            lambda: closed(self.client, self.market, CALLERS, seconds),
            None if triton is None else lambda: triton.closed(CALLERS, seconds),
        )
        return Figure(
            "closed_32",
            "32 unary callers",
            RATE,
            median(ours),
            median(baseline) if baseline else None,
            f"{_each(ours)}; bare Triton with prepared windows {_each(baseline)}",
        )

    async def latency(self) -> list[Figure]:
        """Return p50 and p99 of one symbol's candles on a schedule, beside single windows to bare Triton."""
        triton, count = self.triton, self.plan.candles
        files: list[Open] = []

        async def ours() -> list[float]:
            async with line(self.client) as stream:
                files.append(await single_file(stream, self.market, 0, SINGLE_HZ, count))
            return files[-1].latencies_ms

        async with line(self.client) as stream:
            await single_file(stream, self.market, 0, SINGLE_HZ, 25)
        samples, baseline = await ours(), list[float]()
        if triton is not None:
            await triton.scheduled(SINGLE_HZ, 25)
            baseline = await triton.scheduled(SINGLE_HZ, count)
        (late,) = percentiles(files[-1].schedule.late_s * 1e3, 99)
        note = f"{len(samples)} candles; the schedule itself was late by {late:.2f} ms at p99"
        figures = []
        for point in (50, 99):
            what = f"one symbol, 50 candles/s: candle to answer, p{point}"
            theirs = percentiles(baseline, point)[0] if baseline else None
            name = f"latency_50_p{point}"
            figures.append(Figure(name, what, LATENCY, percentiles(samples, point)[0], theirs, note))
        return figures

    async def _in_turns(
        self, ours: Callable[[], Awaitable[float]], baseline: Callable[[], Awaitable[float]] | None
    ) -> tuple[list[float], list[float]]:
        mine, theirs = [], []
        for _ in range(self.plan.turns):
            mine.append(await ours())
            if baseline is not None:
                theirs.append(await baseline())
        return mine, theirs

    async def scales(self, symbols_max: int) -> list[Figure]:
        """Return forecasts a second of bursts of 10, 100, 1,000 and 10,000 symbols, those up to symbols_max."""
        figures = []
        for symbols in SCALES:
            name = f"scale_{symbols}"
            if symbols > symbols_max:
                figures.append(absent(name, f"needs {symbols:,} symbols"))
            else:
                self.say(name)
                figures.append(await self.burst(symbols, name))
        return figures

    def resident(self, symbols: int) -> Figure:
        """Return the server's resident memory now that so many symbols are READY."""
        name, what = "rss_10000_mb", "resident memory of the server, 10,000 symbols READY"
        if self.server_pid is None or symbols < SCALES[-1]:
            return absent(name, "needs 10,000 symbols and a server on this machine", what, MEMORY)
        note = "no baseline; the windows' rows alone, 10,000 × 96 × 240 × 4 bytes, are 922 MB"
        return Figure(name, what, MEMORY, machine.resident_mb(self.server_pid), None, note)


def absent(name: str, why: str, what: str = "", unit: str = RATE) -> Figure:
    """Return the figure of what could not be measured."""
    return Figure(name, what or "not measured", unit, note=why)


def _each(values: Sequence[float]) -> str:
    return ", ".join(f"{value:,.0f}" for value in values) or "not measured"
