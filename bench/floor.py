"""What this machine does to the bare model, without candlecast: the floor under the tails that are asked for.

Usage: python bench/floor.py [--rounds 6] [--json]; with the defaults some 6 minutes. Bare Triton is asked
by unary calls with prepared windows, on a schedule, latency counting from the moment a call was due; with and without
something beside it, in turns of some seconds:

- `load`: 70 % of what 32 callers get, while two processes do once, at the beginning of a span, the least that loading a
  version takes: import ONNX Runtime, build the session, compute one window. Two, as a model has two instances; at idle
  priority, in sessions of their own at the lowest priority. A span takes about as long as such a load.
- `paced`: the same, and each gives way as a stub does that loads (`giving_way.py`).
- `beside`: lone windows, 50 a second, while one process at idle priority counts: it touches neither memory nor disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

# As the command line does; before anything imports grpc.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import uvloop

from bench.run import ASKED_WINDOWS, DATA, Ground, histories_of
from candlecast.bench import machine, measures
from candlecast.bench.baselines import UNSAFE_OPTIMIZERS, Rival, bare_triton, windows_of
from candlecast.bench.measures import CALLERS, SINGLE_HZ
from candlecast.bench.pace import percentiles
from candlecast.cli.bench import say
from candlecast.models.bundle import MODEL
from candlecast.server.app import newest_bundle
from candlecast.settings import CHECKOUT
from candlecast.triton.environment import BACKENDS

SHARE, INSTANCES = 0.7, 2
IDLE = """import os, sys
sys.path.append(sys.argv[2])
os.setsid()
try:
    open("/proc/self/autogroup", "w").write("19")  # where the kernel shares out by sessions
except OSError:
    pass
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
"""
COUNT = IDLE + "while True: pass"
PACED = "import giving_way\ngiving_way.START_S = -1\ngiving_way.begin()\n"
LOAD = f"""
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    sys.argv[1], options, providers=["CPUExecutionProvider"], disabled_optimizers={UNSAFE_OPTIMIZERS!r}
)
session.run(None, {{"features": numpy.zeros((1, 96, 240), numpy.float32)}})
"""


@contextmanager
def beside(*programs: str, model: Path) -> Iterator[None]:
    """Run programs."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", program, model, BACKENDS / "python"], env=os.environ | threads)
        for program in programs
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


async def measure(bare: Rival, model: Path, rounds: int) -> list[dict[str, Any]]:
    """Return the figures of both."""
    await bare.closed(CALLERS, 2)
    best = median([await bare.closed(CALLERS, 4) for _ in range(3)])
    say(f"{CALLERS} callers of bare Triton get {best:.0f} windows/s")
    figures = []
    for name, rate_hz, seconds, others in (
        ("load", SHARE * best, 4.0, [IDLE + LOAD] * INSTANCES),
        ("paced", SHARE * best, 12.0, [IDLE + PACED + LOAD] * INSTANCES),
        ("beside", SINGLE_HZ, 5.0, [COUNT]),
    ):
        seen: dict[bool, list[float]] = {True: [], False: []}
        failures = {True: list[Exception](), False: list[Exception]()}
        for i in range(2 * rounds):
            is_beside = i % 4 in (1, 2)
            with beside(*others if is_beside else (), model=model):
                seen[is_beside] += await bare.scheduled(rate_hz, int(rate_hz * seconds), failures[is_beside])
            await asyncio.sleep(0.5)
        quiet, busy = percentiles(seen[False], 50, 99), percentiles(seen[True], 50, 99)
        figures.append(
            {
                "name": name,
                "rate_hz": round(rate_hz, 1),
                "p50_ms": quiet[0],
                "p50_beside_ms": busy[0],
                "p99_ms": quiet[1],
                "p99_beside_ms": busy[1],
                "p99_ratio": busy[1] / quiet[1],
                "failed": len(failures[False]),
                "failed_beside": len(failures[True]),
            }
        )
        say(
            ", ".join(
                f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}"
                for key, value in figures[-1].items()
            )
        )
    return figures


async def run(ground: Ground, rounds: int) -> list[dict[str, Any]]:
    windows = windows_of(ground.market(ASKED_WINDOWS), np.arange(ASKED_WINDOWS), ground.bundle)
    async with ground.stack("bare") as stack:
        triton = (stack.state_dir / "triton_address").read_text().strip()
        async with bare_triton(triton, ground.bundle.manifest.name, windows) as bare:
            return await measure(bare, ground.bundle.path / MODEL, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="with and without, each (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON alone on standard output")
    args = parser.parse_args()
    say(machine.line())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        Path(temporary).chmod(0o755)  # PostgreSQL may run as another user
        bundle = newest_bundle(CHECKOUT / "triton_models" / "patchtst")
        ground = Ground(Path(temporary), histories_of(DATA)[0], bundle, measures.Plan())
        figures = uvloop.run(run(ground, args.rounds))
    if args.json:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
