"""A stub that loads gives way: stopped again and again while others wait for a processor, and by nothing afterwards."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from candlecast.triton.environment import BACKENDS
from candlecast.triton.process import TritonProcess

LIMIT_S = 60.0
HOG = [sys.executable, "-c", "while True: pass"]
LOADING = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
os.sched_setaffinity(0, {int(sys.argv[2])})
import giving_way
giving_way.done()
giving_way.START_S = -1.0
exec(sys.argv[3])
print("begins", flush=True)
giving_way.begin()
began = time.process_time()
while time.process_time() - began < 0.1: pass
giving_way.done()
print("done", flush=True)
while True: pass
"""
FAKE_TRITON = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {LOADING!r}, *sys.argv[1:]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.stdout.readline().decode(), end="", flush=True)
time.sleep(600)
"""


@contextmanager
def busy():
    """Keep a processor of ours busy; yield its number."""
    cpu = min(os.sched_getaffinity(0))
    with subprocess.Popen(HOG) as hog:
        try:
            os.sched_setaffinity(hog.pid, {cpu})
            yield cpu
        finally:
            hog.kill()


@contextmanager
def loading(cpu, beforehand=""):
    command = [sys.executable, "-c", LOADING, BACKENDS / "python", str(cpu), beforehand]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "begins\n"
            yield process, psutil.Process(process.pid)
        finally:
            process.kill()


def is_stopped(process):
    return process.status() == psutil.STATUS_STOPPED


def until(what, check):
    deadline = time.monotonic() + LIMIT_S
    while not check():
        assert time.monotonic() < deadline, f"waited for: {what}"
        time.sleep(0.001)


def test_nothing_happens_while_its_parent_has_just_begun():
    child = "import sys; sys.path.insert(0, sys.argv[1]); import giving_way as g; print(g._pacer, g._before)"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"
    command = [sys.executable, "-c", parent, child, BACKENDS / "python"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "None None\n"


def test_who_loads_is_stopped_while_another_waits_and_is_not_once_it_has_loaded():
    with busy() as cpu, loading(cpu) as (process, seen):
        for _ in range(3):
            until("it is stopped", lambda: is_stopped(seen))
            until("it goes on", lambda: not is_stopped(seen))
        assert process.stdout.readline() == "done\n"
        assert not seen.children(), "nobody is left who could stop it"
        assert os.getpriority(os.PRIO_PROCESS, seen.pid) == os.getpriority(os.PRIO_PROCESS, 0)
        assert not is_stopped(seen)


def test_who_waits_for_no_processor_is_not_stopped():
    with busy() as cpu, loading(cpu, "giving_way._waited_s = lambda process: 0.0") as (process, seen):
        stops = 0
        until("it has children, or has loaded", lambda: seen.children() or seen.cpu_times().user > 0.1)
        while seen.children():
            stops += is_stopped(seen)
        assert (stops, process.stdout.readline()) == (0, "done\n")


def test_who_paces_a_process_ends_with_it():
    with busy() as cpu, loading(cpu) as (process, seen):
        until("it is stopped", lambda: is_stopped(seen))
        (pacer,) = seen.children()
        process.kill()
        pacer.wait(10)


@pytest.mark.parametrize("how", ["giving way", "frozen"])
async def test_a_stub_that_gives_way_is_not_dead_and_one_that_stands_still_is(tmp_path, monkeypatch, how):
    monkeypatch.setattr("candlecast.triton.process.STUB_CHECK_S", 0.2)
    with busy() as cpu:
        command = [sys.executable, "-c", FAKE_TRITON, str(BACKENDS / "python"), str(cpu), ""]
        async with TritonProcess("triton", command, log_path=tmp_path / "log", stop_timeout_ms=5_000) as triton:
            ended = asyncio.create_task(triton.wait())
            async with asyncio.timeout(LIMIT_S):
                while "done" not in (tmp_path / "log").read_text():
                    assert not ended.done(), "it was stopped for moments only"
                    await asyncio.sleep(0.01)
                if how == "frozen":
                    psutil.Process(triton.pid).children()[0].suspend()
                    assert await ended == -9
            ended.cancel()
