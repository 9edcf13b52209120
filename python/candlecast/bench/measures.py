"""The measures of a running server, each beside its baseline in turns. Knows neither stack nor command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from candlecast.bench import machine
from candlecast.bench.baselines import OnnxInProcess, Rival
from candlecast.bench.figures import LATENCY, MEMORY, RATE, Figure
from candlecast.bench.load import Line, burst, closed, line, single_file, teach
from candlecast.bench.market import Market
from candlecast.bench.pace import percentiles
from candlecast.client import AsyncClient
from candlecast.values import F32

BURST, CALLERS, SINGLE_HZ = 1_000, 32, 50.0
LONE_SYMBOL, WARM_UP_CANDLES = 1, 25
SCALES = (10, 100, 1_000, 10_000)
QUIET_CORES, QUIET_LOOK_S, QUIET_MAX_S = 0.15, 0.5, 300.0
"""The processor time that a server and its database use at rest, at most; how long we look, and wait, for it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure."""

    rounds: int = 15  # of bursts, ours and the baseline's in turns
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
    rivals: dict[str, Rival] = field(default_factory=dict)
    """By what is added to a measure's name for the comparison; bare Triton is the first, under nothing."""
    server_pid: int | None = None
    rests: Callable[[], set[int]] | None = None
    """The processes that have to rest before the next measure begins; None: they cannot be seen from here."""
    apart: AsyncClient | None = None
    """A client whose callers do not share calls, as callers in as many programs would not."""
    closed_hz: float = 0.0  # forecasts/s of 32 callers, once measured

    async def teach(self, symbols: int) -> None:
        """Make the market's first so many symbols READY and wait until the server has written their history down."""
        started = time.perf_counter()
        sent = await teach(self.client, self.market, np.arange(symbols))
        if sent:
            self.say(f"{symbols} symbols READY after {sent:,} candles, {time.perf_counter() - started:.1f} s")
            await self.until_quiet()

    async def until_quiet(self) -> None:
        """Wait until the server rests and has written everything down, if it can be seen from here."""
        if self.rests is None:
            return
        until, pids = time.monotonic() + QUIET_MAX_S, self.rests()
        while time.monotonic() < until:
            before = machine.cpu_s(pids)
            await asyncio.sleep(QUIET_LOOK_S)
            if machine.cpu_s(pids) - before < QUIET_CORES * QUIET_LOOK_S:
                return
        self.say(f"the server was still busy after {QUIET_MAX_S:.0f} s")

    async def burst(self, symbols: int, name: str) -> Figure:
        """Return forecasts a second when so many symbols close at once."""
        index = np.arange(symbols)
        windows = None if self.windows is None else self.windows[np.arange(min(symbols, BURST)) % len(self.windows)]
        repeats = max(1, min(50, 1_000 // symbols))  # short bursts, many of them
        rounds = self.plan.rounds if symbols <= BURST else max(2, self.plan.rounds // 3)  # long ones, fewer
        note = ""
        if self.onnx is not None and windows is not None:
            self.onnx.choose(windows)
            note = f"baseline: ONNX Runtime in-process, {self.onnx.way}"
        ours, baseline = [], []
        async with line(self.client) as stream:
            for _ in range(self.plan.warm_up_bursts):
                await burst(stream, self.market, index)
            for _ in range(rounds):
                ours.append(await self._median_burst(stream, index, repeats))
                if self.onnx is not None and windows is not None:
                    taken = [self.onnx.seconds(windows) for _ in range(repeats)]
                    baseline.append(len(windows) / median(taken))
        return Figure(
            name,
            f"{symbols:,} symbols at once, to the last forecast",
            RATE,
            median(ours),
            _median(baseline),
            f"{rounds} rounds, {min(ours):,.0f} to {max(ours):,.0f}{_ratios(ours, baseline)};"
            f" {note or 'no ONNX Runtime'}",
        )

    async def _median_burst(self, stream: Line, index: np.ndarray, repeats: int) -> float:
        return len(index) / median([await burst(stream, self.market, index) for _ in range(repeats)])

    async def closed(self) -> list[Figure]:
        """Return forecasts a second of 32 unary callers, beside each rival."""
        seconds = self.plan.seconds
        await closed(self.client, self.market, CALLERS, min(1.0, seconds))
        ours, alone, theirs = [], list[float](), {suffix: list[float]() for suffix in self.rivals}
        for rival in self.rivals.values():
            await rival.closed(CALLERS, min(1.0, seconds))
        for _ in range(self.plan.turns):
            ours.append(await closed(self.client, self.market, CALLERS, seconds))
            if self.apart is not None:
                alone.append(await closed(self.apart, self.market, CALLERS, seconds))
            for suffix, rival in self.rivals.items():
                theirs[suffix].append(await rival.closed(CALLERS, seconds))
        self.closed_hz = median(ours)
        figures = [
            Figure(
                f"closed_32{suffix}",
                f"32 unary callers of one client{_beside(suffix)}",
                RATE,
                self.closed_hz,
                _median(rates),
                f"{_each(ours)}; the baseline {_each(rates)}",
            )
            for suffix, rates in (theirs or {"": []}).items()
        ]
        if alone:
            what, rates = "the same, and no two share a call", theirs.get("", [])
            figures.append(Figure("closed_32_apart", what, RATE, median(alone), _median(rates), _each(alone)))
        return figures

    async def latency(self) -> list[Figure]:
        """Return p50 and p99 of one symbol's candles on a schedule, beside single windows to each rival."""
        count = self.plan.candles // self.plan.turns
        ours, late_s = list[float](), list[float]()
        theirs = {suffix: list[float]() for suffix in self.rivals}
        async with line(self.client) as stream:
            await single_file(stream, self.market, LONE_SYMBOL, SINGLE_HZ, WARM_UP_CANDLES)
            for rival in self.rivals.values():
                await rival.scheduled(SINGLE_HZ, WARM_UP_CANDLES)
            for _ in range(self.plan.turns):
                seen = await single_file(stream, self.market, LONE_SYMBOL, SINGLE_HZ, count)
                ours += seen.latencies_ms
                late_s += seen.schedule.late_s.tolist()
                for suffix, rival in self.rivals.items():
                    theirs[suffix] += await rival.scheduled(SINGLE_HZ, count)
        late_ms = [1e3 * late for late in percentiles(late_s, 50, 99)]
        note = (
            f"{len(ours)} candles; the load generator was late by {late_ms[0]:.2f} / {late_ms[1]:.2f} ms at p50 / p99"
        )
        figures = []
        for suffix, samples in (theirs or {"": []}).items():
            for point in (50, 99):
                what = f"one symbol, 50 candles/s: candle to answer, p{point}{_beside(suffix)}"
                (mine,) = percentiles(ours, point)
                baseline = percentiles(samples, point)[0] if samples else None
                figures.append(Figure(f"latency_50_p{point}{suffix}", what, LATENCY, mine, baseline, note))
        return figures

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


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _ratios(ours: Sequence[float], baseline: Sequence[float]) -> str:
    """Say how the ratio differed from round to round; ours and the baseline of one round met the same machine."""
    ratios = [mine / theirs for mine, theirs in zip(ours, baseline, strict=False)]
    return f", ratio {min(ratios):.2f} to {max(ratios):.2f}, median {median(ratios):.2f}" if ratios else ""


def _beside(suffix: str) -> str:
    return f", beside {suffix.removeprefix('_')}" if suffix else ""


def _each(values: Sequence[float]) -> str:
    return ", ".join(f"{value:,.0f}" for value in values) or "not measured"
