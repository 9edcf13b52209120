"""The whole product as a user starts it: `candlecast up` in a process of its own, for tests and bench."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

CANDLECAST = [sys.executable, "-m", "candlecast"]


class Stack:
    """Started on free ports over a state directory; `output` holds what it said so far."""

    def __init__(self, state_dir: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.state_dir = state_dir
        self.grpc, self.http, self.metrics = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.environment = {**os.environ, "CANDLECAST_METRICS": self.metrics, **(environment or {})}
        self.log = state_dir.parent / f"{state_dir.name}.up.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 60) -> float:
        """Start it, wait until it says that it is ready, return the seconds that took."""
        arguments = ["up", "--state-dir", str(self.state_dir), "--grpc", self.grpc, "--http", self.http]
        self.log.write_text("")
        started = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*CANDLECAST, *arguments], stderr=log, stdout=log, stdin=subprocess.DEVNULL, env=self.environment
            )
        self.until(lambda: "is ready" in self.output or self.process.poll() is not None, "ready", timeout_s)
        if self.process.poll() is not None:
            raise AssertionError(f"candlecast up ended with {self.process.returncode}: {self.output}")
        return time.monotonic() - started

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 60) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def database_url(self) -> str:
        return (self.state_dir / "database_url").read_text().strip()

    def processes(self) -> dict[str, psutil.Process]:
        """Return the parts by name: postgres, tritonserver, server, dashboard."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            words = child.cmdline()
            name = next((w for w in ("serve", "dashboard") if w in words), Path(words[0]).name if words else "?")
            found[{"serve": "server"}.get(name, name)] = child
        return found

    def shared_memory(self) -> list[Path]:
        """Return the shared memory that Triton and its stubs have mapped."""
        regions = self.processes()["tritonserver"].memory_maps()
        return [Path(region.path) for region in regions if region.path.startswith("/dev/shm/")]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def replay(self, *files: Path, arguments: tuple[str, ...] = ()) -> dict[str, Any]:
        """Run `candlecast replay --json` and return its object."""
        command = [*CANDLECAST, "replay", *map(str, files), "--server", self.grpc, "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    def until(self, true: Any, what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"not {what} within {timeout_s} s: {self.output}")
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
