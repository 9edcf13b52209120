"""A version that is loaded beside those that answer takes its time from what they leave. Knows no model.

It is imported before anything that takes long, and `done` ends it. A child lets this process run for a slice of time
and stops it for a while behind each slice in which it had to wait for a processor, as others then wait for it: a low
priority alone leaves all processors busy, and who answers several times as late (bench/README.md). The priority is
lowered as well, where it may be raised again (CAP_SYS_NICE, or RLIMIT_NICE of 20 or more). While tritonserver itself is
starting nothing happens.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

SLICE_S, PAUSE_S = 0.004, 0.046
WAITED_SHARE = 0.1
"""Of a slice: who waits for less is in nobody's way."""
PACED_MAX_S = 15.0
"""From then on priority alone counts: what waits for this version must not do so for ever."""
NICENESS = 10
"""More than before: a tenth of what another process gets, where both want all."""
START_S = 20.0
"""A tritonserver that is younger is starting: nobody is answered yet, and everybody waits for the load."""
CAP_SYS_NICE = 1 << 23


_pacer: tuple[int, int] | None = None
"""Who stops this process, and what is closed to end it."""
_before: int | None = None


def begin() -> None:
    """Give way, if somebody is being answered."""
    global _before, _pacer
    with suppress(OSError, ValueError, IndexError):
        if _age_s(os.getppid()) <= START_S:
            return
        with suppress(OSError):  # the kernel does not say how long a process waits
            _pacer = _paced()
        if _may_return():
            _before = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, 0, min(19, _before + NICENESS))


def done() -> None:
    """Give way no more."""
    global _pacer
    if _pacer is not None:
        child, end = _pacer
        _pacer = None
        os.close(end)
        os.waitpid(child, 0)
    if _before is None:
        return
    try:
        for thread in Path("/proc/self/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), _before)
    except OSError as error:  # it was allowed a moment ago
        sys.exit(f"this process cannot get its priority back: {error}")


def _paced() -> tuple[int, int]:
    """Have a child pace this process, until the returned file is closed or this process is gone."""
    paced = os.getpid()
    _waited_s(paced)
    ended, end = os.pipe()
    child = os.fork()
    if child:
        os.close(ended)
        return child, end
    try:
        os.close(end)
        _pace(paced, ended)
    finally:
        os._exit(0)


def _pace(process: int, ended: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # it ends with whom it may have stopped
    until = time.monotonic() + PACED_MAX_S
    while time.monotonic() < until:
        began, waited = time.monotonic(), _waited_s(process)
        if select.select([ended], [], [], SLICE_S)[0]:
            return
        has_waited = _waited_s(process) - waited > WAITED_SHARE * (time.monotonic() - began)
        if has_waited and os.getppid() == process:
            os.kill(process, signal.SIGSTOP)
            time.sleep(PAUSE_S)
            os.kill(process, signal.SIGCONT)


def _waited_s(process: int) -> float:
    """Return how long a process has waited for a processor since it began."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9


def _may_return() -> bool:
    limit = resource.getrlimit(resource.RLIMIT_NICE)[0]
    words = Path("/proc/self/status").read_text().split()
    capable = int(words[words.index("CapEff:") + 1], 16) & CAP_SYS_NICE
    return bool(capable) or limit == resource.RLIM_INFINITY or limit >= 20


def _age_s(pid: int) -> float:
    began_ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return up_s - began_ticks / os.sysconf("SC_CLK_TCK")


begin()
