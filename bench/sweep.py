"""Latency against offered load: single candles on a schedule at shares of the measured maximum, and their plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.plot import Curve, svg
from candlecast.bench.figures import LATENCY, Figure
from candlecast.bench.load import Open, open_loop
from candlecast.bench.measures import Bench
from candlecast.bench.pace import percentiles

SHARES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1)
TARGET_SHARE = 0.7
RIVAL_SECONDS_MAX = 30.0
POINTS = (50, 99, 99.9)


@dataclass(frozen=True, slots=True)
class Step:
    """One offered load."""

    offered_hz: float
    answered_hz: float
    ours_ms: list[float]  # at POINTS; of those answered
    failures: dict[str, int]
    late_p99_ms: float  # of the load generator
    rival_ms: list[float] | None  # bare Triton at the same load


async def sweep(bench: Bench, seconds: float) -> list[Step]:
    """Offer each share of what 32 callers got, so many seconds each, to us and then to bare Triton."""
    steps = []
    for share in SHARES:
        rate_hz = share * bench.closed_hz
        seen = await open_loop(bench.client, bench.market, np.arange(len(bench.market)), rate_hz, seconds)
        rival = None
        if "" in bench.rivals:
            rival = percentiles(await bench.rivals[""].scheduled(rate_hz, max(1, int(rate_hz * seconds))), *POINTS)
        steps.append(_step(seen, rival))
        bench.say(f"  {share:4.0%} {words(steps[-1])}")
        await bench.until_quiet()
    return steps


async def at_target(bench: Bench, seconds: float) -> tuple[Figure, Step]:
    """Offer 70 % of the maximum for so many seconds; return its p99."""
    rate_hz = TARGET_SHARE * bench.closed_hz
    await open_loop(bench.client, bench.market, np.arange(len(bench.market)), rate_hz, min(3.0, seconds))
    seen = await open_loop(bench.client, bench.market, np.arange(len(bench.market)), rate_hz, seconds)
    rival = None
    if "" in bench.rivals:
        count = max(1, int(rate_hz * min(seconds, RIVAL_SECONDS_MAX)))
        rival = percentiles(await bench.rivals[""].scheduled(rate_hz, count), *POINTS)
    step = _step(seen, rival)
    what = f"one candle a call on a schedule, {TARGET_SHARE:.0%} of what 32 callers got, {seconds:.0f} s: p99"
    baseline = None if rival is None else rival[1]
    return Figure(
        "open_70_p99", what, LATENCY, step.ours_ms[1], baseline, f"{words(step)}; baseline: bare Triton"
    ), step


def words(step: Step) -> str:
    """Say what one load gave."""
    ours = " / ".join(f"{ms:.1f}" for ms in step.ours_ms)
    failed = ", ".join(f"{count} {reason}" for reason, count in step.failures.items()) or "none failed"
    return (
        f"offered {step.offered_hz:,.0f}/s, answered {step.answered_hz:,.0f}/s, p50 / p99 / p99.9 {ours} ms, {failed},"
        f" generator late by {step.late_p99_ms:.1f} ms at p99"
    )


def draw(steps: Sequence[Step], path: Path, subtitle: str, say: Callable[[str], None]) -> None:
    """Write the plot."""
    curves = []
    for i, (point, colour) in enumerate(zip(POINTS[:2], ("#1f77b4", "#d62728"), strict=True)):
        curves.append(Curve(f"candlecast p{point}", colour, [(step.offered_hz, step.ours_ms[i]) for step in steps]))
    for i, (point, colour) in enumerate(zip(POINTS[:2], ("#1f77b4", "#d62728"), strict=True)):
        points = [(step.offered_hz, step.rival_ms[i]) for step in steps if step.rival_ms is not None]
        if points:
            curves.append(Curve(f"bare Triton p{point}", colour, points, dashed=True))
    title = "Latency against offered load: one candle a call, on a schedule"
    path.write_text(svg(title, subtitle, "offered candles/s", "ms from the scheduled moment to the answer", curves))
    say(f"plot: {path}")


def _step(seen: Open, rival_ms: list[float] | None) -> Step:
    (late,) = percentiles(seen.schedule.late_s * 1e3, 99)
    ours = percentiles(seen.latencies_ms, *POINTS) if seen.latencies_ms else [float("nan")] * len(POINTS)
    return Step(seen.offered_hz, seen.answered_hz, ours, dict(seen.failures), late, rival_ms)
