"""Processor time of a forecast, part by part, of a stack whose model does nothing."""

from __future__ import annotations

import asyncio
import os
import time
from statistics import median

import numpy as np

from candlecast.bench import machine
from candlecast.bench.figures import COST, Figure
from candlecast.bench.load import burst, line
from candlecast.bench.measures import BURST, Bench
from tests.stack import Stack

OURS = ("client", "server", "supervisor")
IDLE_S = 5.0


def parts(stack: Stack) -> dict[str, float]:
    """Return the processor seconds that each part has used so far; our own are the client's."""
    processes, supervisor = stack.processes(), stack.process
    assert supervisor is not None
    seconds = {
        "client": machine.cpu_s([os.getpid()]),
        "server": machine.cpu_s(machine.family(processes["server"].pid)),
        "supervisor": machine.cpu_s([supervisor.pid]),
    }
    for name, part in (("PostgreSQL", "postgres"), ("Triton with the null model", "tritonserver")):
        seconds[name] = machine.cpu_s(machine.family(processes[part].pid))
    return seconds


async def overhead(bench: Bench, stack: Stack, rounds: int) -> Figure:
    """Return our processor time for a forecast in bursts of 1,000, less what the parts use when nothing is asked."""
    index = np.arange(BURST)
    async with line(bench.client) as stream:
        for _ in range(bench.plan.warm_up_bursts):
            await burst(stream, bench.market, index)
        await bench.until_quiet()
        started, before = time.perf_counter(), parts(stack)
        await asyncio.sleep(IDLE_S)
        idle_s, after = time.perf_counter() - started, parts(stack)
        idle = {name: (after[name] - before[name]) / idle_s for name in after}  # cores
        started, before = time.perf_counter(), parts(stack)
        rates = [BURST / await burst(stream, bench.market, index) for _ in range(rounds)]
        await bench.until_quiet()  # what was recorded is still on its way to PostgreSQL
        busy_s, after = time.perf_counter() - started, parts(stack)
    each = {
        name: 1e6 * (after[name] - before[name] - idle[name] * busy_s) / (rounds * BURST) for name in after
    }  # µs a forecast
    ours = sum(each[name] for name in OURS)
    note = (
        f"{' + '.join(OURS)}; each: {', '.join(f'{name} {value:.0f}' for name, value in each.items())}; everything"
        f" {sum(each.values()):.0f}; less what is used when nothing is asked (together {sum(idle.values()):.3f} cores);"
        f" {rounds} bursts, {median(rates):,.0f} forecasts/s"
    )
    what = "null model, burst of 1,000: processor time a forecast, our processes (model's and database's apart)"
    return Figure("overhead_null_us", what, COST, ours, None, note)
