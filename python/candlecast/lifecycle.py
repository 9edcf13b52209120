"""Processes of ours: started so that they die with us, watched, stopped in order. Knows no other module."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_LOG_BYTES_MAX = 16 * 1024 * 1024


def die_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Ask the kernel to signal this process when its parent dies, however it dies; for preexec_fn."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal_number)


def open_log(path: Path) -> int:
    """Open a log for appending and return its descriptor; a log that has grown too large is set aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_suffix(".old.log"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def last_lines(path: Path, count: int = 5) -> str:
    """Return the end of a log for an error message, lines joined by ' | '."""
    if not path.exists():
        return "(no log)"
    with path.open(errors="replace") as lines:
        return " | ".join(line.strip() for line in deque(lines, count))


class Child:
    """A child process as an async context manager: runs inside, gone outside.

    Args:
        log_path: where its standard output and error go; None shares ours.
        stop_signal: asks for an orderly end; SIGKILL follows after stop_timeout_ms.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log_path: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_timeout_ms: int = 10_000,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._env = dict(env) if env is not None else None
        self._log_path = log_path
        self._stop_signal = stop_signal
        self._stop_timeout_ms = stop_timeout_ms
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        output = open_log(self._log_path) if self._log_path else None
        try:
            # A session of its own: Ctrl-C in the terminal reaches only us, and we stop our children in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                env=self._env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        finally:
            if output is not None:
                os.close(output)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        started = time.monotonic()
        process.send_signal(self._stop_signal)
        try:
            await asyncio.wait_for(process.wait(), self._stop_timeout_ms / 1000)
        except TimeoutError:
            log.warning("kill part=%s after_ms=%d", self.name, self._stop_timeout_ms)
            process.kill()
            await process.wait()
        log.info("stopped part=%s exit=%s ms=%d", self.name, process.returncode, (time.monotonic() - started) * 1000)

    @property
    def pid(self) -> int:
        assert self._process is not None, "the child runs only inside its context"
        return self._process.pid

    async def wait(self) -> int:
        """Return the exit status once the process has ended; negative for a signal."""
        assert self._process is not None, "the child runs only inside its context"
        return await self._process.wait()


async def poll(what: str, check: Callable[[], Awaitable[bool]], *, timeout_ms: int, interval_ms: int = 50) -> None:
    """Return as soon as check() is true.

    Raises:
        TimeoutError: it was not within timeout_ms; says what was waited for.
    """
    deadline = time.monotonic() + timeout_ms / 1000
    while not await check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} not within {timeout_ms / 1000:g} s")
        await asyncio.sleep(interval_ms / 1000)


async def until_signal() -> signal.Signals:
    """Return the first of SIGINT and SIGTERM that this process gets."""
    loop = asyncio.get_running_loop()
    got: asyncio.Future[signal.Signals] = loop.create_future()

    def receive(number: signal.Signals) -> None:
        if not got.done():
            got.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, receive, number)
    try:
        return await got
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class Part(Protocol):
    """Something that runs until it is left, or ends by itself."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> object: ...

    async def wait(self) -> int:
        """Return the exit status once the part has ended by itself."""


class Keeper:
    """Keeps a part running: an end that nobody asked for is said and followed by a new start, within limits.

    Args:
        make: gives the part to enter, anew for each start.
        say: takes one line for the user.
        restarts_max: starts within restarts_window_ms after which the keeper gives up.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Part],
        say: Callable[[str], None],
        *,
        restarts_max: int = 5,
        restarts_window_ms: int = 60_000,
        backoff_ms: int = 200,
    ) -> None:
        self.name = name
        self._make = make
        self._say = say
        self._restarts_max = restarts_max
        self._restarts_window_ms = restarts_window_ms
        self._backoff_ms = backoff_ms
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Return once the part runs; raise what kept it from starting the first time."""
        started = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._keep(started))
        try:
            await asyncio.wait({self.task, started}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        if self.task.done():
            self.task.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self.task is not None, "the keeper was not entered"
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _keep(self, started: asyncio.Future[None]) -> None:
        ends: deque[float] = deque(maxlen=self._restarts_max)
        while True:
            try:
                part = self._make()
                async with part:
                    if not started.done():
                        started.set_result(None)
                    how = f"ended with {await part.wait()}"
            except Exception as error:
                if not started.done():
                    raise
                how = f"did not start: {error}"
            now = time.monotonic()
            if len(ends) == ends.maxlen and now - ends[0] < self._restarts_window_ms / 1000:
                raise RuntimeError(
                    f"{self.name} {how}, {self._restarts_max} times within {self._restarts_window_ms / 1000:g} s"
                )
            ends.append(now)
            pause_ms = self._backoff_ms * 2 ** (len(ends) - 1)
            self._say(f"{self.name} {how}; starting it again in {pause_ms} ms")
            await asyncio.sleep(pause_ms / 1000)
