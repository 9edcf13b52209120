"""Processes of ours: started so that they die with us, watched, stopped in order. Knows no other module."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, TextIO

log = logging.getLogger(__name__)

_LOG_BYTES_MAX = 16 * 1024 * 1024
_BACKOFF_MAX_MS = 1_600
_DIE_WITH_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[2]))  # PR_SET_PDEATHSIG
os.getppid() == int(sys.argv[1]) or sys.exit("error: the parent is gone")
os.execvp(sys.argv[3], sys.argv[3:])
"""


def give_way(niceness: int, pid: int = 0) -> None:
    """Let a process of ours, and what it starts from now on, take what others leave: at least as nice as that, 0 to 19.

    Where the kernel groups by sessions, priorities count within one alone, and each has a share of its own. That of a
    process that leads one, as every part does, is made as small; that of a session it only is in, a terminal, is not.

    Raises:
        ProcessLookupError: there is no such process any more.
    """
    niceness = max(niceness, os.getpriority(os.PRIO_PROCESS, pid))
    os.setpriority(os.PRIO_PROCESS, pid, niceness)
    if os.getsid(pid) == (pid or os.getpid()):
        with suppress(OSError):  # the kernel does not group
            Path(f"/proc/{pid or 'self'}/autogroup").write_text(str(niceness))


def prepare_grpc() -> None:
    """Set what grpc is to do in this process, unless it is set; before anything imports it.

    Its event engine makes a lone candle's answer come some 10 % later (bench/README.md). Its handlers of a fork are for
    children that go on using it: ours execute something else at once, and with the handlers a start of a child while a
    channel connects left that channel, or the whole process, hanging in 8 of 60 tries (none without).
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def open_log(path: Path) -> BinaryIO:
    """Open a log for appending; one that has grown too large is set aside as PATH.1 first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(f"{path}.1")
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def last_lines(path: Path, count: int = 5) -> str:
    """Return the end of a log for an error message, lines joined by ' | '."""
    if not path.exists():
        return "(no log)"
    with path.open(errors="replace") as lines:
        return " | ".join(line.strip() for line in deque(lines, count))


def say(line: str, to: TextIO) -> None:
    """Print a line for the user; that its disk is full, or its reader gone, is no reason to stop."""
    with suppress(OSError):
        print(line, file=to, flush=True)


class Child:
    """A child process as an async context manager: runs inside, gone outside with all of its process group.

    Args:
        log_path: where its standard output and error go, after what earlier runs wrote.
        stop_signals: what asks it to end, each followed by a wait of stop_timeout_ms; SIGKILL comes last.
        death_signal: what the kernel sends it when we die, however we die.
        listens: its standard input is ours to `tell` it something.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log_path: Path,
        cwd: str | None = None,
        stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,),
        stop_timeout_ms: int = 10_000,
        death_signal: signal.Signals = signal.SIGTERM,
        listens: bool = False,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = list(argv)
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self._stop_signals = tuple(stop_signals)
        self._stop_timeout_ms = stop_timeout_ms
        self._death_signal = death_signal
        self._listens = listens
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        # By way of a small Python program, not of preexec_fn, which is unsafe beside gRPC's threads.
        launch = [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), str(int(self._death_signal))]
        with open_log(self.log_path) as output:
            self._process = await asyncio.create_subprocess_exec(
                *launch,
                *self._argv,
                env=self._env,
                cwd=self._cwd,
                stdin=asyncio.subprocess.PIPE if self._listens else asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal reaches only us, and we stop our children in order
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        started = time.monotonic()
        try:
            for number in self._stop_signals:
                if process.returncode is None:
                    process.send_signal(number)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(process.wait(), self._stop_timeout_ms / 1000)
        finally:
            if process.returncode is None:
                log.warning("kill part=%s after_ms=%d", self.name, (time.monotonic() - started) * 1000)
            self.kill()
            await process.wait()
        log.info("stopped part=%s exit=%s ms=%d", self.name, process.returncode, (time.monotonic() - started) * 1000)

    @property
    def pid(self) -> int:
        """Return its process id, which is that of its process group as well."""
        assert self._process is not None, "the child runs only inside its context"
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit status, -N for signal N, or None while it runs."""
        assert self._process is not None, "the child runs only inside its context"
        return self._process.returncode

    async def wait(self) -> int:
        """Return the exit status once the process has ended."""
        assert self._process is not None, "the child runs only inside its context"
        return await self._process.wait()

    async def tell(self, data: bytes) -> None:
        """Write to its standard input, and wait while it has not read what was written before.

        Raises:
            ConnectionError: it reads no more.
        """
        assert self._process is not None and self._process.stdin is not None, "a child that listens, inside its context"
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    def kill(self) -> None:
        """Send SIGKILL to its whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def free_port(host: str = "127.0.0.1", port: int = 0) -> int:
    """Return `port` if nobody listens there, or a free one for 0.

    Raises:
        OSError: somebody does.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


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

    # They stay: a second signal, as from an impatient Ctrl-C, must not break off an orderly stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, receive, number)
    return await got


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
        restarts_max: starts within restarts_window_ms after which the keeper gives up; None: it never does.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Part],
        say: Callable[[str], None],
        *,
        restarts_max: int | None = 5,
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
        ends: deque[float] = deque()  # within the window: who ran well for long starts anew at once
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
            while ends and now - ends[0] >= self._restarts_window_ms / 1000:
                ends.popleft()
            if self._restarts_max is not None and len(ends) >= self._restarts_max:
                raise RuntimeError(
                    f"{self.name} {how}, {self._restarts_max} times within {self._restarts_window_ms / 1000:g} s"
                )
            ends.append(now)
            pause_ms = min(self._backoff_ms * 2 ** (len(ends) - 1), _BACKOFF_MAX_MS)
            self._say(f"{self.name} {how}; starting it again in {pause_ms} ms")
            await asyncio.sleep(pause_ms / 1000)
