"""`make soak`: load while symbols come and go, and what the server's memory does meanwhile.

Every minute another set of symbols is streamed, and the one before falls silent. Prints one line a minute and, at the
end, the slope of the resident memory after warm-up (the first third) in MB an hour: the median of the slopes between
all pairs of samples (Theil and Sen), which a moment of more does not tilt, beside that of least squares.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from tests.faults.disks import state_directory
from tests.faults.holdings import Footprint
from tests.faults.invariants import verify
from tests.faults.load import Load
from tests.stack import Stack

SYMBOLS = 40
RATE = 6.0
"""Bar closes a second: what a set has of them lasts for a bit more than an hour of turns."""
SETS = 5
"""Sets of symbols that take turns: later rounds send candles of symbols that are known."""


async def soak(minutes: float) -> dict[str, object]:
    os.environ["CANDLECAST_SNAPSHOT_INTERVAL_S"] = "60"
    samples: list[tuple[float, float]] = []
    with state_directory() as (_, directory):
        stack = Stack(directory)
        stack.start()
        try:
            process = stack.processes()["server"]
            sets = [Load(stack.grpc, symbols=SYMBOLS, rate=RATE, seed=i + 1) for i in range(SETS)]
            began, turn, forecasts = time.monotonic(), 0, 0
            while time.monotonic() - began < minutes * 60:
                load = sets[turn % SETS]
                load.go_on()
                async with load:
                    until = time.monotonic() + min(60.0, minutes * 6)
                    while time.monotonic() < until:
                        await asyncio.sleep(5)
                        samples.append(((time.monotonic() - began) / 3600, Footprint.of(process).rss_mb))
                forecasts = sum(len(one.acknowledged) for one in sets)
                print(
                    f"minutes={(time.monotonic() - began) / 60:.1f} rss_mb={samples[-1][1]:.1f} forecasts={forecasts}"
                )
                sys.stdout.flush()
                turn += 1
            found = [await verify(stack, load) for load in sets[: min(turn, SETS)]]
        finally:
            stack.stop()
    steady = np.array([sample for sample in samples if sample[0] > samples[-1][0] / 3])
    first, second = np.triu_indices(len(steady), k=1)
    slopes = (steady[second, 1] - steady[first, 1]) / (steady[second, 0] - steady[first, 0])
    slope, squares = float(np.median(slopes)), float(np.polyfit(steady[:, 0], steady[:, 1], 1)[0])
    lost, doubled = sum(one.lost for one in found), sum(one.duplicated for one in found)
    return {"minutes": minutes, "rss_slope_mb_per_h": round(slope, 2),
            "rss_slope_least_squares_mb_per_h": round(squares, 2), "rss_mb": round(samples[-1][1], 1),
            "forecasts": forecasts, "lost": lost, "duplicated": doubled}  # fmt: skip


def main() -> int:
    """Run and print one JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--json", type=Path, help="write the result there, too")
    args = parser.parse_args()
    result = asyncio.run(soak(args.minutes))
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
