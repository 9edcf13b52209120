"""Candle files → rows, windows and labels. Rows come from the Rust core alone; knows no network and no splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np

from candlecast import candle_files
from candlecast.errors import ConfigurationError
from candlecast.features import ACCEPTED, NAMES, WINDOW, Moved
from candlecast.training.labels import Labels, label
from candlecast.values import F32, F64, I64, Candles

CHUNK: Final = 256
"""Candles pushed at once: the core's answer takes CHUNK · 96 · F · 4 bytes."""


class Pushes(Protocol):
    """Moves the symbols' state, as `candlecast.features.Features` does."""

    def push(self, candles: Candles) -> Moved: ...


@dataclass(frozen=True, slots=True)
class Samples:
    """N labelled candles of all symbols; their rows lie on disk once, windows are gathered from them."""

    rows: F32  # [R, F] memory-mapped
    end: I64  # [N] the window of a sample is rows[end - 96 : end]
    open_time_ms: I64  # [N]
    labels: Labels  # [N]

    def __len__(self) -> int:
        return len(self.end)

    def windows(self, index: I64) -> F32:
        """Return the windows [B, 96, F] of the samples at index [B], oldest row first."""
        gathered: F32 = self.rows[self.end[index][:, None] + np.arange(-WINDOW, 0)]
        return gathered

    def newest(self, index: I64) -> F32:
        """Return the newest rows [B, F] of the samples at index [B]."""
        return self.rows[self.end[index] - 1]


@dataclass(frozen=True, slots=True)
class Source:
    """The candles of one file that are used."""

    name: str
    sha256: str
    candles: Candles

    def described(self) -> dict[str, Any]:
        """Say what was used, without its place on this machine."""
        times = self.candles.open_time_ms
        span = {"from": utc(int(times[0])), "to": utc(int(times[-1]))}
        return {"name": self.name, "sha256": self.sha256, "rows": len(self.candles), **span}


def read_sources(
    files: Sequence[Path], symbols: Sequence[str] | None = None, start_ms: int | None = None, end_ms: int | None = None
) -> list[Source]:
    """Read the candles that open in [start_ms, end_ms), of these symbols (default: all); all of one interval.

    Raises:
        ConfigurationError: nothing is left, intervals differ, or a file is not a candle file.
    """
    sources = []
    for path in files:
        candles = candle_files.read(path)
        time = candles.open_time_ms
        keep = (time >= (time[0] if start_ms is None else start_ms)) & (
            time < (time[-1] + 1 if end_ms is None else end_ms)
        )
        if symbols is not None:
            keep &= np.array([symbol in symbols for symbol in candles.symbol], dtype=np.bool_)
        if keep.any():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            sources.append(Source(path.name, digest, candles.take(np.flatnonzero(keep).astype(np.int64))))
    if not sources:
        raise ConfigurationError("no candle is left; check --symbols, --from and --to against the files")
    intervals = sorted({int(interval) for source in sources for interval in np.unique(source.candles.interval_ms)})
    if len(intervals) > 1:
        raise ConfigurationError(f"the files have intervals of {intervals} ms; train on one interval at a time")
    return sources


def prepare(
    sources: Sequence[Source], folder: Path, core: Pushes, stride: int, on_symbol: Callable[[str], None]
) -> Samples:
    """Push every candle through the core and keep, for every `stride`-th labelled one, its window and label.

    Rows are written to `folder`, which must outlive the samples. The windows are exactly those that serving computes,
    with the rows of filled gaps.

    Raises:
        ConfigurationError: no candle has both a complete window and a complete future.
    """
    interval_ms = int(sources[0].candles.interval_ms[0])
    ends, times, labels = [], [], []
    written = 0
    path = folder / "rows.f32"
    with path.open("wb") as file:
        for phase, (symbol, (opened, values)) in enumerate(sorted(_by_symbol(sources).items())):
            on_symbol(symbol)
            accepted, end, written = _push(core, symbol, interval_ms, opened, values, file, written)
            opened, values, end = opened[accepted], values[accepted], end[accepted]
            found = label(opened, interval_ms, values[:, 1], values[:, 2], values[:, 3])
            # Another phase for each symbol: together they see every bar of the market.
            chosen = np.flatnonzero((end[found.at] >= 0) & (found.at % stride == phase % stride))
            labels.append(found.take(chosen.astype(np.int64)))
            ends.append(end[labels[-1].at])
            times.append(opened[labels[-1].at])
    if not sum(map(len, ends)):
        raise ConfigurationError(
            "no candle has both a complete window before it and 48 candles after it; give more data"
        )
    return Samples(
        rows=np.memmap(path, dtype=np.float32, mode="r", shape=(written, len(NAMES))),
        end=np.concatenate(ends),
        open_time_ms=np.concatenate(times),
        labels=Labels(*(np.concatenate([getattr(part, name) for part in labels]) for name in Labels.__slots__)),
    )


def utc(ms: int) -> str:
    """Return milliseconds since 1970 as ISO 8601 UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def _by_symbol(sources: Sequence[Source]) -> dict[str, tuple[I64, F64]]:
    """Join the files of each symbol: its open times [N], sorted, and values [N, 8]."""
    parts: dict[str, list[tuple[I64, F64]]] = {}
    for source in sources:
        names = np.array(source.candles.symbol, dtype=object)
        for symbol in sorted(set(source.candles.symbol)):
            at = np.flatnonzero(names == symbol)
            parts.setdefault(symbol, []).append((source.candles.open_time_ms[at], source.candles.values[at]))
    joined = {}
    for symbol, pieces in parts.items():
        time = np.concatenate([piece[0] for piece in pieces])
        order = np.argsort(time, kind="stable")
        joined[symbol] = time[order], np.concatenate([piece[1] for piece in pieces])[order]
    return joined


def _push(
    core: Pushes, symbol: str, interval_ms: int, opened: I64, values: F64, file: BinaryIO, written: int
) -> tuple[I64, I64, int]:
    """Push one symbol; append its rows to `file`, which holds `written`.

    Returns the indices of accepted candles, for every candle the end of its window in the file (-1 without one), and
    how many rows the file now holds.
    """
    end = np.full(len(opened), -1, dtype=np.int64)
    accepted = np.zeros(len(opened), dtype=np.bool_)
    previous_ms = -(1 << 62)
    for start in range(0, len(opened), CHUNK):
        at = slice(start, start + CHUNK)
        n = len(opened[at])
        flat = np.full(n, interval_ms, dtype=np.int64), opened[at], np.ascontiguousarray(values[at])
        moved = core.push(Candles([symbol] * n, *flat, np.zeros(n, dtype=np.bool_)))
        accepted[at] = moved.pushed.verdict == ACCEPTED
        for k in np.flatnonzero(accepted[at] & (moved.pushed.window >= 0)).tolist():
            # Rows since the last window, filled gaps among them; after a restart none of this window is in the file.
            fresh = min((int(opened[start + k]) - previous_ms) // interval_ms, WINDOW)
            previous_ms = int(opened[start + k])
            file.write(moved.windows[moved.pushed.window[k], WINDOW - fresh :].tobytes())
            written += fresh
            end[start + k] = written
    return np.flatnonzero(accepted).astype(np.int64), end, written
