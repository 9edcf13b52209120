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
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults import network, overload  # noqa: F401 (their rows)
from tests.faults.invariants import Found, Health, verify
from tests.faults.load import Load
from tests.faults.rows import ROWS, Scene
from tests.stack import Stack

DISK_MB = 700
SNAPSHOT_INTERVAL_S = 10
RESTARTS_MAX = {1: 5, 2: 4, 3: 4, 4: 4, 5: 12, 20: 4, 21: 4}
"""Injections a stack bears: `candlecast up` gives up at the sixth death of a part within a minute."""


@contextmanager
def state_directory(small: bool) -> Iterator[Path]:
    """Make a directory; a small file system of its own when asked for, which takes root."""
    with tempfile.TemporaryDirectory(prefix="faults", ignore_cleanup_errors=True) as temporary:
        path = Path(temporary) / "disk"
        path.mkdir()
        Path(temporary).chmod(0o755)  # PostgreSQL may run as another user
        if small:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(path)], check=True)
        try:
            yield path / "state"
        finally:
            if small:
                subprocess.run(["umount", "--lazy", str(path)], check=True)


async def play(number: int, *, seed: int, times: int | None, full: bool) -> dict[str, Any]:
    """Play one row and return its figures; on a new stack after so many restarts, for `up` would give up."""
    name, _, usual = ROWS[number]
    left, parts = times or usual, list[dict[str, Any]]()
    while left > 0:
        count = min(left, RESTARTS_MAX.get(number, left))
        parts.append(await _play(number, seed=seed + len(parts), times=count, full=full))
        left -= count
    return {"row": number, "fault": name, "seed": seed} | _joined(parts)


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {"notes": {}, "failed_calls": {}, "detect_s": None, "recover_s": None}
    for part in parts:
        for key, value in part.items():
            if key in ("detect_s", "recover_s"):
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


async def _play(number: int, *, seed: int, times: int, full: bool) -> dict[str, Any]:
    """Play a row on a stack of its own."""
    _, row, _ = ROWS[number]
    os.environ["CANDLECAST_SNAPSHOT_INTERVAL_S"] = str(SNAPSHOT_INTERVAL_S)
    os.environ["CANDLECAST_REBUILD_AGE_MAX_H"] = "1e6"  # the load's candles are old
    started = time.monotonic()
    with state_directory(small=number == 8) as directory:
        stack = Stack(directory)
        stack.start()
        try:
            load = Load(stack.grpc, seed=seed, reference=True)
            async with Health(stack.grpc) as health:
                async with load:
                    dice = random.Random(f"{seed}.{number}")
                    scene = Scene(stack, load, health, dice, times, full)
                    seen = await row(scene)
                found = Found.of([await verify(stack, one) for one in (load, *scene.others)])
            code = stack.stop()
        except BaseException:
            log = stack.state_dir / "logs" / "server.log"
            tail = log.read_text(errors="replace")[-3000:] if log.exists() else ""
            print(f"row {number} failed; supervisor:\n{stack.output[-1500:]}\nserver:\n{tail}", file=sys.stderr)
            if stack.process is not None and stack.process.poll() is None:
                stack.process.kill()
            raise
        assert code == 0, f"candlecast up ended with {code}"
    failures = {" ".join(key): count for key, count in load.failures.items()}
    seconds = round(time.monotonic() - started, 1)
    return {**asdict(seen), **asdict(found), "failed_calls": failures, "seconds": seconds}


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
        if number == 8 and os.geteuid() != 0:
            print("row 8 left out: a file system of its own takes root")
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


TOTALS = {"injections": "injections", "lost": "lost", "duplicated": "duplicated", "failed_rows": "failed_rows"}

if __name__ == "__main__":
    sys.exit(main())
