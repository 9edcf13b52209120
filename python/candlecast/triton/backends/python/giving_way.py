"""A version that is loaded beside those that answer takes its time from what they leave. Knows no model.

It is imported before anything that takes long, lowers this process's priority, and `done` raises it again. That takes a
right (CAP_SYS_NICE, or RLIMIT_NICE of 20 or more); without, and while tritonserver itself is starting, nothing happens.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

NICENESS = 10
"""More than before: a tenth of what another process gets, where both want all."""
START_S = 20.0
"""A tritonserver that is younger is starting: nobody is answered yet, and everybody waits for the load."""
CAP_SYS_NICE = 1 << 23


_before: int | None = None


def begin() -> None:
    """Give way, if it can be ended again and somebody is being answered."""
    global _before
    with suppress(OSError, ValueError, IndexError):
        if _age_s(os.getppid()) > START_S and _may_return():
            _before = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, 0, min(19, _before + NICENESS))


def done() -> None:
    """Give way no more."""
    if _before is None:
        return
    try:
        for thread in Path("/proc/self/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), _before)
    except OSError as error:  # it was allowed a moment ago
        sys.exit(f"this process cannot get its priority back: {error}")


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
