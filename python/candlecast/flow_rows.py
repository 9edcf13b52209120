"""Recorded order flow → the gate's record as of each trade, by the core that serves live. Knows no flags."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from candlecast import _rust, gate, tables
from candlecast.errors import CandlecastError, ConfigurationError
from candlecast.flow_files import FlowBatch, FlowFile, Kind, stream

STALE_MS: Final = 5_000
"""For how long a best bid and ask speaks."""
SCHEMA: Final[dict[str, Any]] = {"ts": pl.Int64, **dict.fromkeys(gate.RECORD, pl.Float64)}
"""Columns of the rows; ts is milliseconds since 1970, UTC."""
Advance = Callable[[int], None]
"""Told how many rows of the files more were taken."""


@dataclass(slots=True)
class Tally:
    """What became of the events: rows and those not accepted are all trades."""

    trades: int = 0
    rows: int = 0
    defined: int = 0  # rows with all three features
    quotes: int = 0
    depth_events: int = 0
    gaps: int = 0  # of depth: the book is not known until the next snapshot
    seconds: float = 0.0
    not_accepted: dict[str, int] = field(default_factory=dict)  # trades and quotes, by reason
    undefined: dict[str, int] = field(default_factory=dict)  # rows, by reason

    def add(self, batch: FlowBatch, pushed: _rust.FlowPushed) -> None:
        """Count the events of a batch."""
        self.trades += len(pushed.trades)
        self.quotes += len(pushed.quotes)
        self.depth_events += len(pushed.depth)
        self.gaps += int(np.count_nonzero(pushed.depth == 3))
        for kind, taken in (("trade", pushed.trades), ("quote", pushed.quotes)):
            _count(self.not_accepted, taken, [f"{kind} {name}" for name in _rust.FLOW_TAKEN])
        accepted = pushed.trades == 0
        for reasons in pushed.undefined[accepted].T:
            _count(self.undefined, reasons, _rust.FLOW_UNDEFINED)
        self.rows += int(accepted.sum())
        self.defined += int(np.isfinite(pushed.rows[accepted, : len(gate.FEATURES)]).all(axis=1).sum())

    def summary(self) -> dict[str, Any]:
        return {
            "trades": self.trades,
            "rows": self.rows,
            "rows_with_all_features": self.defined,
            "undefined": dict(sorted(self.undefined.items())),
            "not_accepted": dict(sorted(self.not_accepted.items())),
            "quotes": self.quotes,
            "depth_events": self.depth_events,
            "gaps": self.gaps,
            "seconds": round(self.seconds, 3),
            "trades_per_s": round(self.trades / self.seconds, 1) if self.seconds else 0.0,
        }


def write_rows(
    files: Sequence[FlowFile], out: Path, stale_ms: int = STALE_MS, advance: Advance = lambda count: None
) -> Tally:
    """Write a row for every accepted trade of the files; `out` is there when all of it is, and replaced.

    Raises:
        ConfigurationError: a file has something that is no number, or `out` is one of the files.
        CandlecastError: `out` cannot be written, or no trade was accepted.
    """
    if any(out.exists() and out.samefile(file.path) for file in files):
        raise ConfigurationError(f"{out} is one of the files that are read; write the rows elsewhere")
    tally, started = Tally(), time.perf_counter()

    def check() -> None:
        if not tally.rows:
            raise CandlecastError(f"no trade was accepted: {tally.not_accepted}")

    tables.write(out, SCHEMA, row_frames(files, stale_ms, tally, advance), check=check)
    tally.seconds = time.perf_counter() - started
    return tally


def row_frames(
    files: Sequence[FlowFile],
    stale_ms: int = STALE_MS,
    tally: Tally | None = None,
    advance: Advance = lambda count: None,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of the accepted trades of one symbol's files, in columns of SCHEMA.

    Raises:
        ConfigurationError: they are of several symbols, none has trades, or something in one is no number.
    """
    if len({file.symbol for file in files}) != 1 or not any(file.kind is Kind.TRADES for file in files):
        names = ", ".join(f"{file.path.name} ({file.kind} of {file.symbol})" for file in files) or "none"
        raise ConfigurationError(f"rows need the trades of one symbol, and its book; there is {names}")
    flow, tally = _rust.OrderFlow(symbols_max=1, stale_ms=stale_ms), tally or Tally()
    for batch in stream(files):
        try:
            pushed = flow.push(batch.symbol, trades=batch.trades, quotes=batch.quotes, depth=batch.depth)
        except ValueError as error:
            raise ConfigurationError(f"{files[-1].path}: {error}") from error
        tally.add(batch, pushed)
        advance(batch.rows)
        if batch.trades is not None:
            accepted = pushed.trades == 0
            rows = pl.from_numpy(pushed.rows[accepted], schema=list(gate.RECORD))
            yield pl.DataFrame({"ts": batch.trades[0][accepted]}).hstack(rows)


def _count(counts: dict[str, int], codes: Any, names: Sequence[str]) -> None:
    """Add how many codes there are of each name but the first, which is nothing worth a word."""
    for code, count in enumerate(np.bincount(codes, minlength=1).tolist()):
        if code and count:
            counts[names[code]] = counts.get(names[code], 0) + count
