"""What a version of a model did of late, and whether that is bearable: counts and means. Knows no model."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from candlecast.values import F32, F64

BUCKETS: Final = 20
"""Parts of the window; the oldest is forgotten as a whole."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a version did within a window of time."""

    rows: int = 0  # windows it answered
    not_finite: int = 0  # of these: outputs are not finite, though the window was
    requests: int = 0
    failures: int = 0  # requests that it did not answer
    window_ms: float = math.nan  # mean time a window, in requests; NaN: there was none
    confidence: float = math.nan  # mean, of those that have one


@dataclass(frozen=True, slots=True)
class Limits:
    """What is not borne; see the settings rollback_*."""

    rows_min: int = 50
    not_finite_max: int = 3
    error_ratio: float = 0.1
    latency_ratio: float = 3.0
    latency_ms: float = 5.0
    confidence_ratio: float = 0.2


@dataclass(slots=True)
class _Bucket:
    begin_s: float
    rows: int = 0
    not_finite: int = 0
    requests: int = 0
    failures: int = 0
    busy_s: float = 0.0
    confident: int = 0  # rows with a confidence
    confidence: float = 0.0  # their sum


class Watch:
    """Counts what happens within the last window_s."""

    def __init__(self, window_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._buckets: deque[_Bucket] = deque()

    def answered(self, windows: F32, outputs: F32, seconds: float) -> None:
        """Take note of windows [b, 96, F] and outputs [b, K] of a request that took so long."""
        now = self._now()
        now.rows, now.requests, now.busy_s = now.rows + len(outputs), now.requests + 1, now.busy_s + seconds
        finite = np.isfinite(outputs)
        if not finite.all():
            bad = np.flatnonzero(~finite.all(axis=1))
            now.not_finite += int(np.isfinite(windows[bad]).all(axis=(1, 2)).sum())

    def failed(self) -> None:
        """Take note of a request without an answer."""
        now = self._now()
        now.requests, now.failures = now.requests + 1, now.failures + 1

    def spoke(self, confidence: F64) -> None:
        """Take note of the confidence [B] of forecasts; NaN has none."""
        now = self._now()
        total = float(confidence.sum())
        if total == total:
            now.confident, now.confidence = now.confident + len(confidence), now.confidence + total
        else:
            now.confident += int(np.isfinite(confidence).sum())
            now.confidence += float(np.nansum(confidence))

    def of_late(self) -> Traffic:
        """Return the counts and means of the window."""
        self._forget()
        total = _Bucket(0)
        for bucket in self._buckets:
            for name in (column.name for column in fields(_Bucket)):
                setattr(total, name, getattr(total, name) + getattr(bucket, name))
        return Traffic(
            total.rows,
            total.not_finite,
            total.requests,
            total.failures,
            1e3 * total.busy_s / total.rows if total.rows else math.nan,
            total.confidence / total.confident if total.confident else math.nan,
        )

    def _now(self) -> _Bucket:
        now = self._clock()
        if not self._buckets or now >= self._buckets[-1].begin_s + self._window_s / BUCKETS:
            self._forget()
            self._buckets.append(_Bucket(now))
        return self._buckets[-1]

    def _forget(self) -> None:
        oldest = self._clock() - self._window_s
        while self._buckets and self._buckets[0].begin_s < oldest:
            self._buckets.popleft()


def fault(now: Traffic, before: Traffic | None, limits: Limits) -> str | None:
    """Say what is not borne in the traffic of now: a word, a colon, figures; None: nothing.

    Args:
        before: of the version that answered before it; None: there is nothing to compare with.
    """
    if now.not_finite >= limits.not_finite_max:
        return f"NOT_FINITE: {now.not_finite} of {now.rows} forecasts, {limits.not_finite_max} are too many"
    if now.requests >= limits.rows_min or now.failures >= limits.rows_min:
        ratio = now.failures / now.requests
        if ratio >= limits.error_ratio:
            return (
                f"ERRORS: {now.failures} of {now.requests} requests failed, {limits.error_ratio:g} of them is too many"
            )
    if before is None or now.rows < limits.rows_min or before.rows < limits.rows_min:
        return None
    slow_ms = max(limits.latency_ratio * before.window_ms, limits.latency_ms)
    if now.window_ms > slow_ms:
        return f"LATENCY: {now.window_ms:.1f} ms a window, {before.window_ms:.1f} before it; {slow_ms:.1f} is too long"
    # A confidence is the probability of the side given a move: 0.5 knows nothing.
    known = before.confidence - 0.5
    if known > 0 and now.confidence - 0.5 < limits.confidence_ratio * known:
        return f"CONFIDENCE: {now.confidence:.3f} in the mean, {before.confidence:.3f} before it"
    return None
