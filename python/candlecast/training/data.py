"""History → rows, windows and labels. Rows come from the Rust core alone; knows no files but its own, and no splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from candlecast.errors import ConfigurationError
from candlecast.features import ACCEPTED, NAMES, WINDOW, Features
from candlecast.training.labels import Labels, label, past
from candlecast.training.sources import History, in_time_order
from candlecast.training.targets import Target
from candlecast.values import F32, F64, I64, Candles

CHUNK: Final = 256
"""Candles pushed at once, those of the reference among them: the core's answer takes CHUNK · 96 · F · 4 bytes."""

CONFLICTS_MAX: Final = 1 << 20
"""History that contradicts itself costs the candle that came later, never the symbol."""


@dataclass(frozen=True, slots=True)
class Samples:
    """N labelled candles of all symbols; their rows lie on disk once, windows are gathered from them."""

    rows: F32  # [R, F] memory-mapped
    end: I64  # [N] the window of a sample is rows[end - 96 : end]
    open_time_ms: I64  # [N]
    labels: Labels  # [N]
    asked: F64 | None = None  # [N, 2] of a target: what came after, what had come before
    past: Labels | None = None  # [N] how the last bars went, for persistence
    interval_ms: int = 900_000

    def __len__(self) -> int:
        return len(self.end)

    def since(self, start_ms: int) -> Samples:
        """Return those of the candles that opened at this time or later."""
        index = np.flatnonzero(self.open_time_ms >= start_ms).astype(np.int64)
        return replace(
            self,
            end=self.end[index],
            open_time_ms=self.open_time_ms[index],
            labels=self.labels.take(index),
            asked=None if self.asked is None else self.asked[index],
            past=self.past and self.past.take(index),
        )

    def windows(self, index: I64) -> F32:
        """Return the windows [B, 96, F] of the samples at index [B], oldest row first."""
        gathered: F32 = self.rows[self.end[index][:, None] + np.arange(-WINDOW, 0)]
        return gathered

    def newest(self, index: I64) -> F32:
        """Return the newest rows [B, F] of the samples at index [B]."""
        return self.rows[self.end[index] - 1]

    def constant_columns(self, rows_max: int = 20_000) -> list[int]:
        """Return the columns whose value is the same in all newest rows (in `rows_max` of them, evenly spaced)."""
        some = self.newest(np.arange(0, len(self), 1 + len(self) // rows_max))
        return np.flatnonzero(some.max(axis=0) == some.min(axis=0)).tolist()


def prepare(
    history: History, folder: Path, stride: int, on_symbol: Callable[[str], None], target: Target | None = None
) -> Samples:
    """Push every candle through the core and keep, for every `stride`-th labelled one, its window and label.

    With a target those alone are kept whose answer is known, before and after.

    Rows are written to `folder`, which must outlive the samples. The windows are exactly those that serving computes,
    with the rows of filled gaps, and with the reference as it was known at each candle's close.

    Raises:
        ConfigurationError: no candle has both a complete window and a complete future.
    """
    by_symbol = history.by_symbol()
    ends, times, labels, before, asked = [], [], [], [], []
    written = 0
    path = folder / "rows.f32"
    with path.open("wb") as file:
        for phase, symbol in enumerate(history.symbols):
            on_symbol(symbol)
            candles, end, written = _push(history, by_symbol, symbol, file, written)
            opened, values = candles.open_time_ms, candles.values
            columns = (opened, history.interval_ms, values[:, 1], values[:, 2], values[:, 3])
            found = label(*columns)
            # Another phase for each symbol: together they see every bar of the market.
            chosen = (end[found.at] >= 0) & (found.at % stride == phase % stride)
            if target is not None:
                answers = target.of(opened, history.interval_ms, values[:, 3])[found.at]
                chosen &= np.isfinite(answers).all(axis=1)
                asked.append(answers[chosen])
            labels.append(found.take(np.flatnonzero(chosen).astype(np.int64)))
            before.append(past(*columns, labels[-1].at))
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
        labels=_joined(labels),
        asked=np.concatenate(asked) if asked else None,
        past=_joined(before),
        interval_ms=history.interval_ms,
    )


def _joined(parts: list[Labels]) -> Labels:
    return Labels(*(np.concatenate([getattr(part, name) for part in parts]) for name in Labels.__slots__))


def _push(
    history: History, by_symbol: dict[str, Candles], symbol: str, file: BinaryIO, written: int
) -> tuple[Candles, I64, int]:
    """Push one symbol, and the reference beside it; append its rows to `file`, which holds `written`.

    Returns its accepted candles [N], for each the end of its window in the file [N] (-1 without one), and how many rows
    the file now holds.
    """
    core = Features(
        symbols_max=2,
        conflicts_max=CONFLICTS_MAX,
        optional_inputs=history.optional_inputs,
        reference_symbol=history.reference_symbol,
    )
    candles = _as_if_live(by_symbol, symbol, history.reference_symbol)
    is_mine = np.array([name == symbol for name in candles.names], dtype=np.bool_)
    end = np.full(len(candles), -1, dtype=np.int64)
    accepted = np.zeros(len(candles), dtype=np.bool_)
    previous_ms = -(1 << 62)
    for start in range(0, len(candles), CHUNK):
        at = np.arange(start, min(start + CHUNK, len(candles)))
        batch, mine = candles.take(at), is_mine[at]
        moved = core.push(batch, windows=bool(mine.any()))
        accepted[at] = mine & (moved.pushed.verdict == ACCEPTED)
        for k in np.flatnonzero(accepted[at] & (moved.pushed.window >= 0)).tolist():
            # Rows since the last window, filled gaps among them; after a restart none of this window is in the file.
            fresh = min((int(batch.open_time_ms[k]) - previous_ms) // history.interval_ms, WINDOW)
            previous_ms = int(batch.open_time_ms[k])
            file.write(moved.windows[moved.pushed.window[k], WINDOW - fresh :].tobytes())
            written += fresh
            end[start + k] = written
    return candles.take(np.flatnonzero(accepted)), end[accepted], written


def _as_if_live(by_symbol: dict[str, Candles], symbol: str, reference: str | None) -> Candles:
    """Return a symbol's candles, each behind the reference's of the same time: in no batch is anything known early."""
    mine = by_symbol[symbol]
    if reference in (None, symbol):
        return mine
    beside = by_symbol[reference]
    until_mine_end = np.flatnonzero(beside.open_time_ms <= mine.open_time_ms[-1])
    return in_time_order([beside.take(until_mine_end), mine])
