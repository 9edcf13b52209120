"""I5: what the processes hold comes back to what it was: memory, files, threads, connections to PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

from candlecast.settings import Settings
from tests.faults.invariants import connected
from tests.stack import Stack

SHARE = 1.05
SPARE_MB, SPARE_FILES = 16, 4
"""On top of the share: an allocator rounds, and a connection more or less is under way at any time."""
SPARE_THREADS = (os.cpu_count() or 1) + 4
"""Those of asyncio's own pool, which start as they are needed and stay."""
DASHBOARD_CONNECTIONS = 2
CONNECTIONS_MAX = (
    Settings.model_fields["database_connections_max"].default
    + Settings.model_fields["outcome_workers"].default
    + 1  # of the outcomes' process, beside its workers'
    + DASHBOARD_CONNECTIONS
)
SETTLE_S = 20.0


@dataclass(frozen=True)
class Footprint:
    """What one process holds."""

    rss_mb: float
    """Of its own: windows for Triton lie in shared memory that is kept for the next burst (`shared_windows_max`)."""
    files: int
    threads: int

    @classmethod
    def of(cls, process: psutil.Process) -> Footprint:
        memory = process.memory_info()
        return cls((memory.rss - memory.shared) / 2**20, process.num_fds(), process.num_threads())

    def above(self, other: Footprint) -> list[str]:
        """Say what is more than it was."""
        limits = {
            "rss_mb": other.rss_mb * SHARE + SPARE_MB,
            "files": other.files * SHARE + SPARE_FILES,
            "threads": other.threads * SHARE + SPARE_THREADS,
        }
        return [
            f"{name} {getattr(self, name):.0f}, was {getattr(other, name):.0f}"
            for name, limit in limits.items()
            if getattr(self, name) > limit
        ]

    def assert_not_above(self, other: Footprint) -> None:
        assert not self.above(other), (self, other)


@dataclass(frozen=True)
class Holdings:
    """What server and supervisor hold, and the connections of ours that PostgreSQL knows."""

    server: Footprint
    supervisor: Footprint
    connections: int

    @classmethod
    async def of(cls, stack: Stack) -> Holdings:
        connection = await connected(stack)
        try:
            count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'candlecast'"
            connections = await connection.fetchval(count)
        finally:
            await connection.close()
        assert stack.process is not None
        supervisor = Footprint.of(psutil.Process(stack.process.pid))
        return cls(Footprint.of(stack.processes()["server"]), supervisor, connections)

    def above(self, other: Holdings) -> list[str]:
        """Say what is more than it was."""
        found = [f"server: {more}" for more in self.server.above(other.server)]
        found += [f"supervisor: {more}" for more in self.supervisor.above(other.supervisor)]
        if self.connections > max(CONNECTIONS_MAX, other.connections):
            found.append(f"connections {self.connections}, was {other.connections}")
        return found


async def settled(stack: Stack, before: Holdings, limit_s: float = SETTLE_S) -> Holdings:
    """Return what is held once it is no more than before.

    Raises:
        AssertionError: it does not come back within the limit (I5).
    """
    deadline = time.monotonic() + limit_s
    above: list[str] = ["nothing could be seen"]
    while time.monotonic() < deadline:
        with suppress(KeyError, psutil.Error):  # a part is being started again
            now = await Holdings.of(stack)
            if not (above := now.above(before)):
                return now
        await asyncio.sleep(0.2)
    raise AssertionError(f"held more than before {limit_s:.0f} s after the last fault (I5): {'; '.join(above)}")
