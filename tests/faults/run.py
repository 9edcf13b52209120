"""`make faults`: the matrix, row by row, over real stacks under load; prints what it injected and what was lost.

Usage: python -m tests.faults.run [--rows 1,5] [--times N] [--seed N] [--json FILE]. Ends with one line:
injections=N lost=N duplicated=N failed_rows=N. Exits with 1 when a row failed or anything was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.disks import APART, TOGETHER, state_directory
from tests.faults.holdings import Holdings, settled
from tests.faults.invariants import Found, verify
from tests.faults.load import Load
from tests.faults.readiness import AGAIN_S, Health, check
from tests.faults.rows import ROWS
from tests.faults.scene import Row, Scene, Seen
from tests.stack import Stack

SNAPSHOT_INTERVAL_S = 10
SETTINGS = {
    "CANDLECAST_SNAPSHOT_INTERVAL_S": str(SNAPSHOT_INTERVAL_S),
    "CANDLECAST_REBUILD_AGE_MAX_H": "1e6",  # the load's candles are old
}
WARM_MESSAGES = 40
"""Answers after which the server holds what it needs under this load."""


async def play(number: int, *, seed: int, times: int | None, full: bool) -> dict[str, Any]:
    """Play one row and return its figures; on a new stack after so many restarts, for `up` would give up."""
    row = ROWS[number]
    parts: list[dict[str, Any]] = []
    for stage in row.stages:
        left = times or row.times
        while left > 0:
            count = min(left, row.restarts_max or left)
            parts.append(await _play(row, stage, seed=seed + len(parts), times=count, full=full))
            left -= count
    return {"row": number, "fault": row.name, "seed": seed} | _joined(parts)


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {"notes": {}, "failed_calls": {}} | dict.fromkeys(WORST)
    for part in parts:
        for key, value in part.items():
            if key in WORST:
                whole[key] = max((x for x in (whole[key], value) if x is not None), default=None)
            elif isinstance(value, dict):
                for name, what in value.items():
                    _add(whole[key], name, what)
            else:
                _add(whole, key, value)
    return whole


def _add(to: dict[str, Any], name: str, what: Any) -> None:
    if isinstance(what, dict):
        for inner, value in what.items():
            _add(to.setdefault(name, {}), inner, value)
    else:
        to[name] = to[name] + what if name in to else what


async def _play(row: Row, stage: str, *, seed: int, times: int, full: bool) -> dict[str, Any]:
    """Play a row on a stack of its own, and ask for all invariants afterwards."""
    started = time.monotonic()
    with state_directory(stage) as (directory, state):
        stack = Stack(state, environment={**SETTINGS, **row.environment(directory)})
        stack.start()
        try:
            load = Load(stack.grpc, seed=seed, reference=True)
            async with Health(stack.grpc) as health:
                async with load:
                    await load.until_answered(WARM_MESSAGES)
                    dice, before = random.Random(f"{seed}.{row.number}"), await Holdings.of(stack)
                    scene = Scene(stack, load, health, dice, times, full, directory, stage, before=before)
                    seen: Seen = await row.play(scene)
                    with suppress(TimeoutError):  # then `check` has something to say
                        await health.until_ready(AGAIN_S)
                    held = await settled(stack, scene.before)
                found = Found.of([await verify(stack, one) for one in (load, *scene.others)])
            told = check(health.changes, scene.faults, stays_ready=row.stays_ready)
            code = stack.stop()
        except BaseException:
            log = stack.state_dir / "logs" / "server.log"
            tail = re.sub(r"\n+", "\n", log.read_text(errors="replace"))[-3000:] if log.exists() else ""
            print(f"row {row.number} failed; supervisor:\n{stack.output[-1500:]}\nserver:\n{tail}", file=sys.stderr)
            if stack.process is not None and stack.process.poll() is None:
                stack.process.kill()
            raise
        assert code == 0, f"candlecast up ended with {code}"
    return {
        **asdict(seen),
        **asdict(found),
        "unready_after_s": told.told_s,
        "ready_again_s": told.again_s,
        "rss_mb": [round(scene.before.server.rss_mb), round(held.server.rss_mb)],
        "failed_calls": {" ".join(key): count for key, count in load.failures.items()},
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> int:
    """Play rows, print their figures, and say whether anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="numbers, separated by commas (default: all)")
    parser.add_argument("--times", type=int, help="injections of each row (default: as many as the row usually has)")
    parser.add_argument("--seed", type=int, default=0, help="0: a new one, which is printed")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    seed = args.seed or random.SystemRandom().randrange(1, 10**6)
    print(f"seed {seed}")
    results: list[dict[str, Any]] = []
    failed = []
    for number in [int(text) for text in args.rows.split(",") if text] or sorted(ROWS):
        if {APART, TOGETHER} & set(ROWS[number].stages) and os.geteuid() != 0:
            print(f"row {number} left out: a file system of its own takes root")
            continue
        try:
            results.append(asyncio.run(play(number, seed=seed, times=args.times, full=not args.times)))
            print(json.dumps(results[-1]), flush=True)
        except Exception as error:
            failed.append(number)
            print(f"row {number} FAILED: {type(error).__name__}: {error}", flush=True)
    if args.json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        where = {
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "commit": commit,
            "date": time.strftime("%Y-%m-%d"),
        }
        args.json.write_text(json.dumps({"where": where, "seed": seed, "rows": results, "failed": failed}, indent=1))
    total = {name: sum(result[key] for result in results) for name, key in TOTALS.items()}
    print(" ".join(f"{name}={value}" for name, value in total.items()))
    return 1 if failed or total["lost"] or total["duplicated"] or total["failed_rows"] else 0


WORST = "detect_s", "recover_s", "unready_after_s", "ready_again_s"
TOTALS = {"injections": "injections", "lost": "lost", "duplicated": "duplicated", "failed_rows": "failed_rows"}

if __name__ == "__main__":
    sys.exit(main())
