"""The order flow of all symbols: owns the Rust core, and picks what is recorded of it. Computes no feature itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast import _rust
from candlecast.features import now_ms
from candlecast.gate import ABSENT, Decisions
from candlecast.values import F64, I64, FlowBatch, FlowRecords, FlowStates, Symbols, symbols

UNDEFINED: Final = _rust.FLOW_UNDEFINED
ACCEPTED, DUPLICATE, LATE, REFUSED = range(4)
assert _rust.FLOW_TAKEN == ("ACCEPTED", "DUPLICATE", "LATE", "REFUSED")
FUTURE_MAX_MS: Final = 2_000
"""By which an event may be ahead of the clock; one further ahead would make everything after it late."""
_OVER_MAX: Final = 10_000
Counts = tuple[int, int, int, int]
_NONE: Final[Counts] = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a batch: how many rows were accepted, duplicate, late, refused."""

    trades: Counts
    quotes: Counts
    depth: Counts  # of events: applied, known already, early, behind a gap
    newest_ms: int  # of all rows, and of the newest trade; 0 without any
    row: F64  # [8] as of then
    undefined: NDArray[np.uint8]  # [2] as of then
    needs_snapshot: bool  # depth was sent, and the book is not valid


@dataclass(slots=True)
class _Newest:
    """The newest state of an interval that is not over."""

    interval: int  # its number
    ts_ms: int
    row: F64  # [8]
    seen_s: float  # on the clock of the wall


class OrderFlow:
    """Trades and books move it; what was known with each interval's last trade is kept until it is taken for storage.

    A symbol without trades has no features, so changes of its book alone make no record.

    Args:
        symbols_max: symbols kept; the events of a further one are refused.
        stale_ms: for how long a best bid and ask speaks.
        record_interval_ms: length of the intervals.
        records_max: records kept; beyond it the oldest are given up and counted.
        clock: seconds that pass, for an interval that no further trade ends.
    """

    def __init__(
        self,
        *,
        symbols_max: int = 4_096,
        stale_ms: int = 5_000,
        record_interval_ms: int = 1_000,
        records_max: int = 200_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flow = _rust.OrderFlow(symbols_max=symbols_max, stale_ms=stale_ms)
        self._interval_ms = record_interval_ms
        self._records_max = records_max
        self._clock = clock
        self._newest: dict[str, _Newest] = {}  # by symbol, the one that was longest without a trade first
        self._newest_ms: dict[bytes, int] = {}  # time of the newest trade by symbol
        self._over: list[tuple[str, int, F64]] = []  # symbol, time and row of intervals that are over
        self._over_max = min(_OVER_MAX, records_max)
        self._due: deque[FlowRecords] = deque()
        self._due_rows = 0
        self.dropped = 0
        """Records given up since the start."""

    def push(self, batch: FlowBatch) -> Pushed:
        """Move one symbol by a batch; rows too far in the future count as refused.

        Raises:
            ValueError: the symbol is malformed, or the columns do not fit.
            OverflowError: the symbol is new and symbols_max is reached.
        """
        latest = now_ms() + FUTURE_MAX_MS
        trades, trades_ahead, trades_ms = _not_after(batch.trades, latest)
        quotes, quotes_ahead, quotes_ms = _not_after(batch.quotes, latest)
        depth, _, depth_ms = _not_after(batch.depth, latest)
        pushed = self._flow.push(batch.symbol, trades=trades, quotes=quotes, depth=depth)
        taken = _counts(pushed.trades, trades_ahead)
        if taken[ACCEPTED]:
            self._keep(batch.symbol, trades[0], pushed, all_of_them=taken[ACCEPTED] == len(trades[0]))
        newest_trade_ms = self._newest_ms.get(batch.symbol.encode(), 0)
        newest_ms = max(newest_trade_ms, trades_ms, quotes_ms, depth_ms)
        if trades_ms and newest_ms == newest_trade_ms:
            row, undefined = pushed.rows[-1], pushed.undefined[-1]
        else:
            (row,), (undefined,) = self._flow.at([batch.symbol], newest_ms)
        needs_snapshot = False
        if depth is not None:
            status = self._flow.status(batch.symbol)
            needs_snapshot = status is not None and not status.book_is_valid
        return Pushed(
            trades=taken,
            quotes=_counts(pushed.quotes, quotes_ahead) if quotes is not None else _NONE,
            depth=_counts(pushed.depth, 0) if depth is not None else _NONE,
            newest_ms=newest_ms,
            row=row,
            undefined=undefined,
            needs_snapshot=needs_snapshot,
        )

    def at(self, column: Symbols, ts_ms: int) -> FlowStates:
        """Return the states of symbols [B] as of a time, or as of a symbol's newest trade when that is later."""
        rows, undefined = self._flow.at(column, ts_ms)
        newest = self.newest_ms(column)
        return FlowStates(column, np.where(newest > 0, np.maximum(newest, ts_ms), 0), rows, undefined)

    @property
    def is_empty(self) -> bool:
        """Say whether no trade of any symbol came yet."""
        return not self._newest_ms

    def newest_ms(self, column: Symbols) -> I64:
        """Return the time of the newest trade of each symbol [B]; 0 for one without."""
        of = self._newest_ms.get
        return np.array([of(name, 0) for name in column.tolist()], dtype=np.int64)

    def book(self, symbol: str, levels: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]] | None:
        """Return the best bids and asks, (price, size), of a book built of depth; None while it is not valid."""
        return self._flow.book(symbol, levels)

    def decided(self, states: FlowStates, said: Decisions) -> None:
        """Keep what the gate was asked about, and what it said, for storage."""
        known = states.ts_ms > 0
        asked = np.ones(int(known.sum()), dtype=np.bool_)
        told = said.verdict[known], said.probability[known], said.degraded[known]
        self._add(FlowRecords(states.symbol[known], states.ts_ms[known], states.rows[known], asked, *told))

    def take_records(self, *, all_of_them: bool = False) -> FlowRecords | None:
        """Return what is to be stored now: of intervals that are over, also because nothing came for so long.

        Args:
            all_of_them: take intervals for over.
        """
        quiet_since_s = self._clock() - self._interval_ms / 1000
        for symbol, newest in list(self._newest.items()):
            if newest.seen_s > quiet_since_s and not all_of_them:
                break
            self._over.append((symbol, newest.ts_ms, newest.row))
            del self._newest[symbol]
        self._gather()
        if not self._due:
            return None
        taken = self._due[0] if len(self._due) == 1 else FlowRecords.joined(self._due)
        self._due.clear()
        self._due_rows = 0
        return taken

    def give_back(self, records: FlowRecords) -> None:
        """Keep records that could not be stored now; they are the oldest."""
        self._due.appendleft(records)
        self._due_rows += len(records)
        self._drop_oldest()

    def _keep(self, symbol: str, ts: I64, pushed: _rust.FlowPushed, *, all_of_them: bool) -> None:
        """Keep the states of intervals that end within a batch, and the newest one, of the trades accepted."""
        rows = pushed.rows
        if not all_of_them:
            taken = pushed.trades == ACCEPTED
            ts, rows = ts[taken], rows[taken]
        before = self._newest.pop(symbol, None)  # and back again at the end: it was just seen
        first, last = int(ts[0]) // self._interval_ms, int(ts[-1]) // self._interval_ms
        if before is not None and before.interval < first:
            self._over.append((symbol, before.ts_ms, before.row))
        if first < last:
            intervals = ts // self._interval_ms
            ends = np.flatnonzero(intervals[1:] != intervals[:-1])
            self._over += zip(repeat(symbol), ts[ends].tolist(), rows[ends])
        self._newest_ms[symbol.encode()] = int(ts[-1])
        self._newest[symbol] = _Newest(last, int(ts[-1]), rows[-1].copy(), self._clock())
        if len(self._over) >= self._over_max:
            self._gather()

    def _gather(self) -> None:
        """Make records of the intervals that are over."""
        if self._over:
            names, ts_ms, rows = zip(*self._over, strict=True)
            self._over.clear()
            self._add(_unasked(symbols(names), np.array(ts_ms, dtype=np.int64), np.array(rows)))

    def _add(self, records: FlowRecords) -> None:
        self._due.append(records)
        self._due_rows += len(records)
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while (surplus := self._due_rows - self._records_max) > 0:
            oldest = self._due.popleft()
            if len(oldest) > surplus:
                self._due.appendleft(oldest.after(surplus))
            lost = min(surplus, len(oldest))
            self._due_rows -= lost
            self.dropped += lost


def _unasked(symbol: Symbols, ts_ms: I64, rows: F64) -> FlowRecords:
    """Return records [N] of a cadence, about which no gate was asked."""
    none = np.zeros(len(ts_ms), dtype=np.bool_)
    return FlowRecords(symbol, ts_ms, rows, none, np.full(len(ts_ms), ABSENT), np.full(len(ts_ms), np.nan), none)


def _not_after(columns: Any, latest_ms: int) -> tuple[Any, int, int]:
    """Return the rows that are not after a time, how many are, and the newest time of the others; 0 without any."""
    if columns is None or not len(columns[0]):
        return columns, 0, 0
    if (newest_ms := int(columns[0].max())) <= latest_ms:
        return columns, 0, newest_ms
    kept = columns[0] <= latest_ms
    rest = tuple(column[kept] for column in columns)
    return rest, int((~kept).sum()), int(rest[0].max(initial=0))


def _counts(codes: NDArray[np.uint8], ahead: int) -> Counts:
    if not any(codes.tobytes()):  # of a hundred codes sooner than by NumPy
        return len(codes), 0, 0, ahead
    accepted, duplicate, late, refused = np.bincount(codes, minlength=4).tolist()
    return accepted, duplicate, late, refused + ahead
