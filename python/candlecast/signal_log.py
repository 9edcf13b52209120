"""Signals of a strategy on their way to the server, through a file: no call waits for the server. Knows only the wire.

    with SignalLog("signals.queue", "127.0.0.1:50051") as log:
        key = log.log_signal("my_strategy", "BTCUSDT", "long", 64_000.0, 0.1, 0.71)
        log.close_signal(key, 64_500.0)

What is logged is a line in the file before the call returns, so it outlives the process, and goes to the server in its
order as soon as that takes it, also when a later process opens the file. It arrives once: every entry has its key.

Nothing is raised at the strategy: at the limit of the file, or when the disk takes nothing, a new entry is refused (the
key returned is None, `refused` counts, an error is logged) and what is in the file stays. An entry that the server will
never take is set aside in PATH.refused with the reason, and the next one follows.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf import json_format

from candlecast.calls import ServerError
from candlecast.client import DEFAULT_SERVER, Client
from candlecast.performance_calls import PerformanceRequests
from candlecast.v1 import performance_pb2 as pb
from candlecast.v1.types_pb2 import Forecast

BYTES_MAX: Final = 64 * 1024 * 1024
BACKOFF_MIN_S: Final = 0.2
BACKOFF_MAX_S: Final = 10.0
TRIES_MAX: Final = 5
"""Of an entry that the server fails on: then it is set aside."""
TROUBLED: Final = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
FINAL: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
)
"""What will be answered the same way however often it is sent."""
KINDS: Final[Mapping[str, tuple[str, type[Any], type[Any]]]] = {
    "log_signal": ("LogSignal", pb.LogSignalRequest, pb.LogSignalResponse),
    "close_signal": ("CloseSignal", pb.CloseSignalRequest, pb.CloseSignalResponse),
    "log_training": ("LogTraining", pb.LogTrainingRequest, pb.LogTrainingResponse),
}
READ_BYTES: Final = 64 * 1024
log = logging.getLogger(__name__)


class SignalLog:
    """Takes entries at once and sends them from a thread of its own; a context manager.

    Args:
        path: of the file; PATH.sent says up to where it was sent. One process at a time has it.
        bytes_max: of the file: at about 300 bytes an entry, BYTES_MAX keeps more than 200,000.
        leave_s: longest wait at the end for what is left to be sent; the rest stays in the file.

    Raises:
        OSError: the file cannot be opened, or another process has it (when it is made, and never later).
    """

    def __init__(
        self,
        path: str | Path,
        server: str = DEFAULT_SERVER,
        *,
        bytes_max: int = BYTES_MAX,
        timeout_s: float = 10.0,
        leave_s: float = 2.0,
    ) -> None:
        self._path = Path(path)
        self._server = server
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s
        self._leave_s = leave_s
        self._lock = threading.Lock()
        self._more = threading.Event()
        self._stopping = threading.Event()
        self._file = self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise
        self._sent = self._mark()
        self._cut_torn_end()
        self._thread = threading.Thread(target=self._run, name="candlecast-signal-log", daemon=True)
        self.refused = 0
        """Entries that found no room."""
        self.set_aside = 0
        """Entries that the server will never take."""
        self.failure: str | None = None
        """Why nothing can be sent now."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._leave_s and self.failure is None:
            self.flush(self._leave_s)
        self._stopping.set()
        self._more.set()
        self._thread.join(self._timeout_s + 1)
        self._file.close()

    @property
    def waiting_bytes(self) -> int:
        """Return how much of the file is not sent yet."""
        with self._lock:
            return 0 if self._file.closed else self._file.tell() - self._sent

    def log_signal(
        self,
        strategy: str,
        symbol: str,
        side: str,
        entry_price: float,
        size: float = 1.0,
        confidence: float | None = None,
        key: str | None = None,
        *,
        fees: float = 0.0,
        entry_time_ms: int = 0,
        forecast: Forecast | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str | None:
        """Log that a position was opened, as Client.log_signal; return its key, None when there is no room."""
        request = PerformanceRequests.log_signal(
            strategy, symbol, side, entry_price, size, confidence, key,
            fees=fees, entry_time_ms=entry_time_ms or _now_ms(), forecast=forecast, metadata=metadata,
        )  # fmt: skip
        return request.key if self._keep("log_signal", request) else None

    def close_signal(
        self,
        key: str | None,
        exit_price: float,
        *,
        size: float | None = None,
        fees: float = 0.0,
        exit_time_ms: int = 0,
        close_key: str | None = None,
    ) -> bool:
        """Log that a position was closed, as Client.close_signal; return False when there is no room."""
        if key is None:  # of a signal that found no room
            self.refused += 1
            return False
        request = PerformanceRequests.close_signal(
            key, exit_price, size=size, fees=fees, exit_time_ms=exit_time_ms or _now_ms(), close_key=close_key
        )
        return self._keep("close_signal", request)

    def log_training(self, strategy: str, status: str, key: str | None = None, **numbers: Any) -> str | None:
        """Log that a training ended, as Client.log_training; return its key, None when there is no room."""
        numbers.setdefault("trained_at_ms", _now_ms())
        request = PerformanceRequests.log_training(strategy, status, key, **numbers)
        return request.key if self._keep("log_training", request) else None

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is sent; return False when it is not in time."""
        deadline = time.monotonic() + timeout_s
        while self.waiting_bytes and time.monotonic() < deadline:
            self._more.set()
            time.sleep(0.01)
        return not self.waiting_bytes

    def _keep(self, kind: str, request: Any) -> bool:
        line = json.dumps([kind, json_format.MessageToDict(request)], separators=(",", ":")).encode() + b"\n"
        with self._lock:
            position = self._file.tell()
            try:
                if position - self._sent + len(line) > self._bytes_max:
                    raise OSError(
                        f"{self._path} is full: {self._bytes_max} bytes wait ({self.failure or 'it is slow'})"
                    )
                self._file.write(line)
                self._file.flush()
            except (OSError, ValueError) as error:  # ValueError: closed
                self.refused += 1
                log.error("signal not kept kind=%s refused=%d error=%s", kind, self.refused, error)
                return False
        self._more.set()
        return True

    def _run(self) -> None:
        pause_s, tries = BACKOFF_MIN_S, 0
        with Client(self._server, timeout_s=self._timeout_s) as client:
            while not self._stopping.is_set():
                if not (line := self._next()):
                    self._begin_anew()
                    self._more.wait(1.0)
                    self._more.clear()
                    continue
                try:
                    _send(client, line)
                    self.failure = None
                except ServerError as error:
                    tries += 1
                    is_given_up = error.code in TROUBLED and tries >= TRIES_MAX
                    if error.code not in FINAL and not is_given_up:
                        if self.failure is None:
                            log.warning("signals wait bytes=%d because=%s", self.waiting_bytes, error)
                        self.failure = str(error)
                        self._sync()
                        self._stopping.wait(pause_s * random.uniform(0.5, 1.5))
                        pause_s = min(2 * pause_s, BACKOFF_MAX_S)
                        continue
                    self._put_aside(line, str(error))
                except (ValueError, TypeError, KeyError, json_format.ParseError) as error:
                    self._put_aside(line, f"not understood: {error}")
                pause_s, tries = BACKOFF_MIN_S, 0
                self._keep_mark(self._sent + len(line))
                with self._lock:
                    self._sent += len(line)

    def _next(self) -> bytes:
        """Return the oldest line that is not sent, empty when there is none."""
        size = READ_BYTES
        with self._path.open("rb") as reader:
            while True:
                reader.seek(self._sent)
                data = reader.read(size)
                if (end := data.find(b"\n")) >= 0:
                    return data[: end + 1]
                if len(data) < size:
                    return b""
                size *= 2

    def _put_aside(self, line: bytes, why: str) -> None:
        self.set_aside += 1
        log.error("signal set aside why=%s entry=%.200s", why, line)
        try:
            with self._path.with_name(self._path.name + ".refused").open("a") as file:
                file.write(json.dumps({"why": why, "entry": line.decode("utf-8", "replace").rstrip()}) + "\n")
        except OSError as error:
            log.error("not even kept aside error=%s", error)

    def _mark(self) -> int:
        try:
            sent = int(self._path.with_name(self._path.name + ".sent").read_text())
        except (FileNotFoundError, ValueError):
            return 0  # everything again: that is harmless
        return sent if 0 <= sent <= self._path.stat().st_size else 0

    def _keep_mark(self, position: int) -> bool:
        """Remember what was sent. Without a sync: what is forgotten in a crash is sent again."""
        aside = self._path.with_name(self._path.name + ".sent.new")
        try:
            aside.write_text(str(position))
            aside.replace(self._path.with_name(self._path.name + ".sent"))
        except OSError as error:
            log.warning("mark not kept error=%s", error)
            return False
        return True

    def _begin_anew(self) -> None:
        """Empty the file once all of it was sent; the mark goes first, for what is sent twice is harmless."""
        with self._lock:
            if self._sent and not self._file.closed and self._file.tell() == self._sent and self._keep_mark(0):
                self._file.truncate(0)
                self._file.seek(0)
                self._sent = 0

    def _sync(self) -> None:
        """Have the disk keep what waits, for when this machine stops while the server is away."""
        try:
            os.fsync(self._file.fileno())
        except (OSError, ValueError) as error:
            log.warning("signals not synced error=%s", error)

    def _cut_torn_end(self) -> None:
        """Drop half a line, which a crash has left."""
        with self._path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            if size and file.read() != b"\n":
                file.seek(max(0, size - 1024 * 1024))
                tail = file.read()
                file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
        self._file.seek(0, os.SEEK_END)


def _send(client: Client, line: bytes) -> None:
    kind, fields = json.loads(line)
    method, request, response = KINDS[kind]
    client.ask(method, json_format.ParseDict(fields, request()), response)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
