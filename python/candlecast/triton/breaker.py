"""A circuit breaker: after failures in a row, refuse at once instead of waiting once more. Knows time, no model."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final
from weakref import WeakSet

from candlecast.errors import DeadlineExceeded, ModelUnavailable

log = logging.getLogger(__name__)

FAILED: Final = Counter[str]()
"""Failures since the process began, by what was asked."""
OPENED: Final = Counter[str]()
"""How often a breaker opened, likewise."""
_LIVING: Final = WeakSet["Breaker"]()


def open_now() -> dict[str, float]:
    """Return for what is asked 1 while a breaker of it is open, else 0."""
    found: dict[str, float] = {}
    for breaker in _LIVING:
        found[breaker.name] = max(found.get(breaker.name, 0.0), float(breaker.is_open))
    return found


class Breaker:
    """Closed, it lets everything through; open, nothing; half open, one request, whose success closes it.

    Args:
        name: of what is asked, for messages.
        failures_max: failures in a row that open it.
        open_ms: how long it refuses after the last failure, before it lets one request through.
    """

    def __init__(
        self, name: str, *, failures_max: int, open_ms: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._failures_max = failures_max
        self._open_s = open_ms / 1000
        self._clock = clock
        self._failures = 0
        self._open_since = 0.0
        self._open_until = 0.0
        self._opened = ""  # when and why, as a caller is told
        self._probing = False
        _LIVING.add(self)

    @property
    def is_open(self) -> bool:
        """Say whether requests are refused, but for one now and then."""
        return bool(self._opened)

    @contextmanager
    def request(self, *, canary: bool = False) -> Iterator[None]:
        """Count how the request inside ends.

        ModelUnavailable and DeadlineExceeded are failures. Any other error, and a cancellation, says nothing: a full
        queue is not an absence, and a request that is wrong in itself meets no model.

        Args:
            canary: let it through an open breaker.

        Raises:
            ModelUnavailable: before the request, when the breaker is open; says since when and why.
        """
        probe = self.is_open and not canary
        if probe:
            self._begin_probe()
        try:
            yield
        except (ModelUnavailable, DeadlineExceeded) as error:
            self._fail(error)
            raise
        else:
            self._succeed()
        finally:
            if probe:
                self._probing = False

    def _begin_probe(self) -> None:
        left_s = self._open_until - self._clock()
        if self._probing or left_s > 0:
            when = "once the try under way fails" if self._probing else f"in {left_s * 1000:.0f} ms"
            raise ModelUnavailable(f"{self.name}: the breaker is open since {self._opened}; next try {when}")
        self._probing = True

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        FAILED[self.name] += 1
        if self._failures < self._failures_max:
            return
        now = self._clock()
        self._open_until = now + self._open_s
        if not self.is_open:
            self._open_since = now
            OPENED[self.name] += 1
            self._opened = f"{datetime.now(UTC):%H:%M:%S} UTC ({error})"
            log.warning("breaker open model=%s failures=%d error=%s", self.name, self._failures, error)

    def _succeed(self) -> None:
        self._failures = 0
        if self.is_open:
            self._opened = ""
            log.warning("breaker closed model=%s open_ms=%.0f", self.name, (self._clock() - self._open_since) * 1000)
