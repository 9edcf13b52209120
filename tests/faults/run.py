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
from tests.faults.page import page
from tests.faults.rows import ROWS, Scene
from tests.stack import Stack

DISK_MB = 700
SNAPSHOT_INTERVAL_S = 10


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
    """Play one row on a stack of its own and return its figures."""
    name, row, usual = ROWS[number]
    os.environ["CANDLECAST_SNAPSHOT_INTERVAL_S"] = str(SNAPSHOT_INTERVAL_S)
    os.environ["CANDLECAST_REBUILD_AGE_MAX_H"] = "1e6"  # the load's candles are old
    os.environ["CANDLECAST_RESTARTS_MAX"] = "1000"  # by default, a part that ends so often stops everything
    started = time.monotonic()
    with state_directory(small=number == 8) as directory:
        stack = Stack(directory)
        stack.start()
        try:
            load = Load(stack.grpc, seed=seed, reference=True)
            async with Health(stack.grpc) as health:
                async with load:
                    dice = random.Random(f"{seed}.{number}")
                    scene = Scene(stack, load, health, dice, times or usual, full)
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
    figures = {"row": number, "fault": name, **asdict(seen), **asdict(found)}
    failures = {" ".join(key): count for key, count in load.failures.items()}
    return figures | {"failed_calls": failures, "seed": seed, "seconds": round(time.monotonic() - started, 1)}


def main() -> int:
    """Play rows, print their figures, and say whether anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="numbers, separated by commas (default: all)")
    parser.add_argument("--times", type=int, help="injections of each row (default: as many as the row usually has)")
    parser.add_argument("--seed", type=int, default=0, help="0: a new one, which is printed")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--page", type=Path, help="write the figures there as a page to read")
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
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    system, date = f"{platform.system()} {platform.release()}", time.strftime("%Y-%m-%d")
    where = {"cores": os.cpu_count(), "system": system, "commit": commit, "date": date}
    figures = {"where": where, "seed": seed, "rows": results, "failed": failed}
    for path, text in ((args.json, json.dumps(figures, indent=1)), (args.page, page(figures))):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    total = {name: sum(result[key] for result in results) for name, key in TOTALS.items()}
    print(" ".join(f"{name}={value}" for name, value in total.items()))
    return 1 if failed or total["lost"] or total["duplicated"] or total["failed_rows"] else 0


TOTALS = {"injections": "injections", "lost": "lost", "duplicated": "duplicated", "failed_rows": "failed_rows"}

if __name__ == "__main__":
    sys.exit(main())
