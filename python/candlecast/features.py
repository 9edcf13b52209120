"""The feature state of all symbols: owns the Rust Market. Computes nothing itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from candlecast import _rust
from candlecast.values import F32, F64, I64, Candles, Symbols

WINDOW = _rust.WINDOW
NAMES = tuple(feature.name for feature in _rust.catalog())
OPTIONAL_INPUTS = _rust.OPTIONAL_INPUTS
STATES = _rust.STATES

ACCEPTED, DUPLICATE, CONFLICT, LATE, REFUSED, PEEKED = range(6)
assert _rust.VERDICTS == ("ACCEPTED", "DUPLICATE", "CONFLICT", "LATE", "REFUSED", "PEEKED")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of N candles, as `_rust.Pushed` says it: a part of that."""

    verdict: NDArray[np.uint8]
    field: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    state: NDArray[np.uint8]
    have: NDArray[np.uint32]
    gap_filled: NDArray[np.bool_]
    window: NDArray[np.int32]
    features_hash: NDArray[np.uint64]
    still: NDArray[np.uint32]
    close: F64
    open_time_ms: I64


@dataclass(frozen=True)
class Moved:
    """What became of N candles, and the windows that came of it."""

    pushed: _rust.Pushed | Outcomes
    windows: F32  # [R, 96, F] of the R rows with pushed.window >= 0, which index into it
    features_us: int
    some: I64 | None = None  # [R] which candles the windows are of, where they are not all

    def part(self, start: int, stop: int) -> Moved:
        """Return what became of the candles from start to stop; the columns are views."""
        before, until = self.windows_before(start), self.windows_before(stop)
        columns = {column.name: getattr(self.pushed, column.name)[start:stop] for column in fields(Outcomes)}
        columns["window"] = np.where(columns["window"] < 0, -1, columns["window"] - before)
        return Moved(Outcomes(**columns), self.windows[before:until], self.features_us)

    @cached_property
    def of_windows(self) -> I64:
        """Return which candle each of R windows is of."""
        if self.some is not None:
            return self.some
        has_window = np.flatnonzero(self.pushed.window >= 0)
        of_windows = np.empty(len(self.windows), dtype=np.int64)
        of_windows[self.pushed.window[has_window]] = has_window
        return of_windows

    def only(self, windows: I64) -> Moved:
        """Return the same with some of its windows alone."""
        return Moved(self.pushed, self.windows[windows], self.features_us, self.of_windows[windows])

    def windows_before(self, candle: int) -> int:
        """Return how many windows candles before this one have: windows are in the order of the candles."""
        return int((self.pushed.window[:candle] >= 0).sum())


class Features:
    """The symbols' state, moved by closed candles only.

    Args:
        symbols_max: symbols kept; candles of a further one are refused.
        conflicts_max: conflicting candles before a symbol is quarantined.
        optional_inputs: names of OPTIONAL_INPUTS that are used; the others are ignored.
        reference_symbol: the symbol that others are compared with, when "reference" is used.
        threads: engines that move at once.
        ring: how the last rows of a symbol are kept; "f16" takes half the memory and rounds the windows to float16.
        room: gives the place for N windows [N, 96, F].
    """

    def __init__(
        self,
        *,
        symbols_max: int,
        conflicts_max: int,
        optional_inputs: Sequence[str] = (),
        reference_symbol: str | None = None,
        threads: int = 1,
        ring: Literal["f32", "f16"] = "f32",
        room: Callable[[int], F32] | None = None,
    ) -> None:
        self.reference_symbol = reference_symbol if "reference" in optional_inputs else None
        self.moves = 0  # grows with every change
        self._room = room or (lambda rows: np.empty((rows, WINDOW, len(NAMES)), dtype=np.float32))
        self._market = _rust.Market(
            symbols_max=symbols_max,
            conflicts_max=conflicts_max,
            optional_inputs=optional_inputs,
            reference_symbol=reference_symbol,
            threads=threads,
            ring=ring,
        )

    @property
    def need(self) -> int:
        """Return how many candles a symbol needs until it is READY."""
        return self._market.need

    def push(self, candles: Candles, *, windows: bool = True) -> Moved:
        """Move the state by N candles and return their windows (none when windows is False)."""
        started = time.perf_counter()
        out = self._room(len(candles) if windows else 0)
        pushed = self._push(candles, out)
        return Moved(pushed, out[: pushed.ready], int((time.perf_counter() - started) * 1e6))

    def newest(self, symbols: Symbols, interval_ms: int) -> Moved:
        """Return the newest windows of N symbols without moving anything."""
        started = time.perf_counter()
        out = self._room(len(symbols))
        pushed = self._market.windows_into(out, symbols, interval_ms, now_ms())
        return Moved(pushed, out[: pushed.ready], int((time.perf_counter() - started) * 1e6))

    def rows(self, candles: Candles) -> tuple[_rust.Pushed, F32]:
        """Move the state by N candles of history and return their rows [N, F]; NaN where a candle gave none."""
        rows = np.empty((len(candles), len(NAMES)), dtype=np.float32)
        return self._push(candles, np.empty((0, WINDOW, len(NAMES)), dtype=np.float32), rows), rows

    def count_conflict(self, symbol: str, interval_ms: int) -> None:
        """Count a conflict that storage found: with a candle too old for the core to remember."""
        self.moves += 1
        self._market.count_conflict(symbol, interval_ms)

    def status(self, symbol: str, interval_ms: int) -> _rust.Status:
        """Return where a symbol stands now, by the wall clock."""
        return self._market.status(symbol, interval_ms, now_ms())

    def symbols(self) -> list[tuple[str, int]]:
        """Return every known (symbol, interval_ms), the reference symbol's first."""
        return self._market.symbols()

    def snapshot(self, symbol: str, interval_ms: int) -> bytes | None:
        """Return all that is remembered of a symbol; None for one never seen."""
        return self._market.snapshot(symbol, interval_ms)

    def restore(self, snapshot: bytes) -> tuple[str, int]:
        """Put a symbol back as its snapshot has it and return its name and interval in ms.

        Raises:
            ValueError: the bytes are damaged, foreign, or of one symbol too many; nothing has changed.
        """
        self.moves += 1
        return self._market.restore(snapshot)

    def _push(self, candles: Candles, windows: F32, rows: F32 | None = None) -> _rust.Pushed:
        self.moves += 1
        return self._market.push(
            candles.symbol,
            candles.interval_ms,
            candles.open_time_ms,
            candles.values,
            candles.forming,
            now_ms(),
            windows,
            rows,
        )


def feature_set_hash(optional_inputs: Sequence[str] = ()) -> int:
    """Return the 64-bit hash of the feature set with these optional inputs."""
    return _rust.feature_set_hash(optional_inputs)


def now_ms() -> int:
    """Return the wall clock in milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000
