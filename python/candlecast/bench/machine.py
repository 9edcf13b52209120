"""The machine a bench runs on, and what processes on it use, as /proc says. Knows no measure."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from candlecast.settings import CHECKOUT

_LISTENS = "0A"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def line() -> str:
    """Return one line: processor, cores, memory, commit, date, load average."""
    git = subprocess.run(
        ["git", "-C", CHECKOUT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {_memory_gb():.0f} GB;"
        f" commit {git.stdout.strip() or 'unknown'}; {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC;"
        f" load average {' '.join(f'{load:.2f}' for load in os.getloadavg())}"
    )


def listener(address: str) -> int | None:
    """Return the process that listens at HOST:PORT; None when it is not to be seen from here."""
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0"):
        return None
    sockets = set[str]()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = row.split()
                if words[3] == _LISTENS and int(words[1].rpartition(":")[2], 16) == int(port):
                    sockets.add(f"socket:[{words[9]}]")
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in (folder / "fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) in sockets:
                        return int(folder.name)
    return None


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process.

    Raises:
        OSError: it is gone.
    """
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def family(pid: int) -> set[int]:
    """Return a process and all that it started, directly or not, and that still run."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(_stat(stat)[1]), []).append(int(stat.parent.name))
    found, new = set[int](), [pid]
    while new:
        found.update(new)
        new = [child for parent in new for child in children.get(parent, ()) if child not in found]
    return found


def household(pid: int) -> set[int]:
    """Return all that `candlecast up` runs together with this server, PostgreSQL too; without `up`, the server alone.

    Raises:
        OSError: it is gone.
    """
    parent = int(_stat(Path(f"/proc/{pid}/stat"))[1])
    words = Path(f"/proc/{parent}/cmdline").read_text().split("\0")
    is_up = "up" in words and any(Path(word).name == "candlecast" for word in words)
    return family(parent) if is_up else {pid}


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time that processes have used so far, their ended and awaited children included.

    One that has just gone is left out: its time is its parent's.
    """
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            ticks += sum(map(int, _stat(Path(f"/proc/{pid}/stat"))[11:15]))
    return ticks * _TICK_S


def _stat(path: Path) -> list[str]:
    """Return the words of a stat file from the state on: the name before it may hold anything."""
    return path.read_text().rpartition(") ")[2].split()


def _processor() -> str:
    with suppress(OSError):
        for row in Path("/proc/cpuinfo").read_text().splitlines():
            if row.startswith("model name"):
                return row.partition(":")[2].strip()
    return os.uname().machine


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
