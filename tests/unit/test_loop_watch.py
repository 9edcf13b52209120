"""A late loop is measured and said; one that stands still is told where it stands, and ends the process."""

import asyncio
import logging
import subprocess
import sys
import time

from candlecast.server import loop_watch
from candlecast.server.loop_watch import LoopWatch, Watchdog


def block(seconds):
    time.sleep(seconds)


async def test_a_blocked_loop_is_measured_and_said(caplog):
    delays = []
    with caplog.at_level(logging.WARNING):
        async with LoopWatch(delays.append, late_s=0.2):
            await asyncio.sleep(2.5 * loop_watch.CHECK_S)
            quiet = max(delays)
            block(0.5)
            await asyncio.sleep(1.5 * loop_watch.CHECK_S)
    assert quiet < 0.2 < 0.35 < max(delays) < 2
    assert "event loop late ms=" in caplog.text


async def test_a_loop_that_stands_still_is_told_where_it_stands(caplog):
    def stands_here():
        time.sleep(0.5)

    with caplog.at_level(logging.ERROR):
        async with Watchdog(stall_max_s=0, say_s=0.1):
            await asyncio.sleep(0.2)
            assert not caplog.records
            stands_here()
    (told,) = caplog.records
    assert "stands_here" in told.getMessage()


ENDED = """
import asyncio, sys, time
from candlecast.server.loop_watch import Watchdog

async def main():
    async with Watchdog(stall_max_s=float(sys.argv[1]), say_s=0.1):
        await asyncio.sleep(0.5)
        print("alive", flush=True)
        if sys.argv[2] == "blocked":
            time.sleep(10)

asyncio.run(main())
print("left in good order", flush=True)
"""


def test_past_the_limit_the_process_ends_with_the_stacks_in_its_log():
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", ENDED, "0.7", "blocked"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stdout == "alive\n"
    assert "Timeout" in done.stderr and "in main" in done.stderr
    assert time.monotonic() - started < 8


def test_a_loop_that_goes_on_is_left_alone():
    done = subprocess.run([sys.executable, "-c", ENDED, "0.3", "well"], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "alive\nleft in good order\n"), done.stderr
