"""Two questions to the core about a recording: does a row know its future, and how long does it remember its past?

Both are asked of whatever gives rows, batch by batch, and take the same memory for any length of history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from candlecast import _rust
from candlecast.candle_files import closes_ms
from candlecast.errors import CandlecastError
from candlecast.feature_files import Advance, Core, Recording
from candlecast.features import ACCEPTED, NAMES
from candlecast.values import F32, I64, Bool, Candles

CUTS: Final = 8
"""Points at which the history is cut short, evenly spaced."""
STARTS: Final = 12
"""Later starts of the history, evenly spaced between the first READY bar and the middle."""

CUT_SHORT, OTHER_FUTURE, AS_LIVE = "history cut short", "another future", "one close at a time"

NewCore = Callable[[], Core]


@dataclass(slots=True)
class Compared:
    """Rows of one way of computing, against those of the whole history."""

    rows: int = 0
    differs_at_ms: dict[str, int] = field(default_factory=dict)  # open time of the first difference, by column

    def compare(self, open_time_ms: I64, expected: F32, rows: F32) -> None:
        """Count the rows of some candles and note the columns in which a bit differs."""
        self.rows += len(rows)
        differs = expected.view(np.uint32) != rows.view(np.uint32)
        for column in np.flatnonzero(differs.any(axis=0)).tolist():
            self.differs_at_ms.setdefault(NAMES[column], int(open_time_ms[differs[:, column].argmax()]))


@dataclass(frozen=True, slots=True)
class Causality:
    """What became of the rows when the future was taken away."""

    candles: int
    cuts_ms: list[int]  # the first close that was taken away
    ways: dict[str, Compared]

    @property
    def differing(self) -> list[str]:
        """Return the columns that differ in any way of computing."""
        return [name for name in NAMES if any(name in way.differs_at_ms for way in self.ways.values())]


def check_causality(recording: Recording, new_core: NewCore, advance: Advance = lambda count: None) -> Causality:
    """Compare the rows of the whole history, bit by bit, with those of histories without its future.

    The history is cut short at some points; it goes on there with other candles (prices turned over, volumes raised);
    and it is given one close at a time, so that nothing later is in reach.
    """
    whole, live, cuts = new_core(), new_core(), [_Cut(at, new_core) for at in _spread(recording.candles, 0, 1, CUTS)]
    ways = {name: Compared() for name in (CUT_SHORT, OTHER_FUTURE, AS_LIVE)}
    for start, batch in _numbered(recording.batches()):
        _, expected = whole.rows(batch)
        at, time = np.flatnonzero(recording.gives_rows(batch)), batch.open_time_ms
        edges = _edges(batch)
        by_close = [live.rows(batch.take(part))[1] for part in np.split(np.arange(len(batch)), edges[1:])]
        ways[AS_LIVE].compare(time[at], expected[at], np.concatenate(by_close)[at])
        for cut in [cut for cut in cuts if cut.close_ms is None]:
            kept = _edge_from(edges, cut.at - start, len(batch))
            if kept < len(batch):
                cut.close_ms = int(closes_ms(batch)[kept])
            known, past = at[at < kept], batch.take(np.arange(kept))
            ways[CUT_SHORT].compare(time[known], expected[known], cut.short.rows(past)[1][known])
            ways[OTHER_FUTURE].compare(time[known], expected[known], cut.other.rows(_other_from(batch, kept))[1][known])
        advance(len(batch))
    return Causality(recording.candles, [cut.close_ms for cut in cuts if cut.close_ms is not None], ways)


class _Cut:
    """A point where the future is taken away, and two histories up to it."""

    def __init__(self, at: int, new_core: NewCore) -> None:
        self.at = at  # number of the candle; the cut is at the next close that begins there or later
        self.short, self.other = new_core(), new_core()
        self.close_ms: int | None = None  # set when it has been reached


def _other_from(batch: Candles, start: int) -> Candles:
    """Return the batch with other candles from `start` on: as valid as those, moving the other way."""
    values = batch.values.copy()
    future = values[start:]
    with np.errstate(divide="ignore", invalid="ignore"):
        future[:, :4] = 1 / future[:, [0, 2, 1, 3]]  # what was the low is the high
    future[:, 4:] = future[:, 4:] * 2 + 1
    return Candles(batch.symbol, batch.interval_ms, batch.open_time_ms, values, batch.forming)


@dataclass(frozen=True, slots=True)
class Memory:
    """How long one column remembers where its history began."""

    name: str
    warmup_bars: int
    bars: int | None  # from this bar of a later history on, its value is that of the whole one; None: not within reach
    moves_from_warmup: float  # the largest difference at any bar from its warm-up on,
    moves_from_ready: float  # from READY on,
    moves_from_twice_ready: float  # from twice as many bars on

    @property
    def is_windowed(self) -> bool:
        """Say whether nothing counts that lies before the warm-up: a window, or one that forgets as fast."""
        return self.bars == self.warmup_bars


@dataclass(frozen=True, slots=True)
class Recursion:
    """How far columns move with less history."""

    candles: int
    starts_ms: list[int]  # open times of the later beginnings
    ready_bars: int
    observed_bars: int  # of the longest later history
    columns: list[Memory]  # in the order of the catalogue


def check_recursion(recording: Recording, new_core: NewCore, advance: Advance = lambda count: None) -> Recursion:
    """Compare the rows of the whole history with those of histories that begin later, bar by bar.

    A column counts as settled when its float32 value is that of the whole history from some bar on to the end, for as
    many bars as READY takes or more, whichever symbol and beginning is latest to get there.

    Raises:
        CandlecastError: the history is too short to say anything.
    """
    whole = new_core()
    lead = whole.need * len(recording.pairs) / recording.candles  # of the history, until it is READY
    too_short = CandlecastError(f"too little history: it takes more than {3 * whole.need:,} candles without a long gap")
    if lead >= 1 / 3:
        raise too_short
    starts = _spread(recording.candles, lead, min(0.5, 1 - 2 * lead), STARTS)
    later = [_Later(at, new_core(), whole.need) for at in starts]
    for start, batch in _numbered(recording.batches()):
        pushed, rows = whole.rows(batch)
        gives = recording.gives_rows(batch)
        edges = _edges(batch)
        for one in later:
            left_out = _edge_from(edges, one.at - start, len(batch))
            if left_out < len(batch):
                one.compare(batch, pushed, rows, gives, left_out)
        advance(len(batch))
    runs = [run for one in later for run in one.runs.values() if run.observed_bars >= 2 * whole.need]
    if not runs:
        raise too_short
    moving = {k for run in runs for k in np.flatnonzero(run.last_different + whole.need > run.observed_bars).tolist()}
    last = np.max([run.last_different for run in runs], axis=0)
    moves = np.max([run.moves for run in runs], axis=0).tolist()
    return Recursion(
        candles=recording.candles,
        starts_ms=sorted({run.start_ms for run in runs}),
        ready_bars=whole.need,
        observed_bars=max(run.observed_bars for run in runs),
        columns=[
            Memory(
                name=feature.name,
                warmup_bars=feature.warmup_bars,
                bars=None if k in moving else int(last[k]) + 1,
                moves_from_warmup=moves[0][k],
                moves_from_ready=moves[1][k],
                moves_from_twice_ready=moves[2][k],
            )
            for k, feature in enumerate(_rust.catalog())
        ],
    )


@dataclass(slots=True)
class _Run:
    """One symbol's rows in a history that begins later, against those of the whole one."""

    start_ms: int
    observed_bars: int = 0
    last_different: I64 = field(default_factory=lambda: np.zeros(len(NAMES), dtype=np.int64))
    moves: F32 = field(default_factory=lambda: np.zeros((3, len(NAMES)), dtype=np.float32))

    def compare(self, bars: I64, whole: F32, mine: F32, need: int) -> None:
        """Compare the rows of some bars, counted from the beginning, in their order."""
        differs: Bool = np.asarray(whole != mine)  # NaN, before the warm-up, differs
        newest = bars[len(bars) - 1 - differs[::-1].argmax(axis=0)]
        self.last_different = np.where(differs.any(axis=0), newest, self.last_different)
        self.observed_bars = int(bars[-1])
        moved = np.nan_to_num(np.abs(whole - mine))
        for k, first_bar in enumerate((1, need, 2 * need)):
            self.moves[k] = np.maximum(self.moves[k], moved[np.searchsorted(bars, first_bar) :].max(axis=0, initial=0))


class _Later:
    """A history that begins later."""

    def __init__(self, at: int, core: Core, need: int) -> None:
        self.at = at  # number of its first candle, or the next at which a close begins
        self.runs: dict[tuple[str, int], _Run] = {}
        self._core, self._need = core, need

    def compare(self, batch: Candles, whole: _rust.Pushed, rows: F32, gives: Bool, left_out: int) -> None:
        """Compare the rows of a batch, of which the first candles are left out, where they are asked for."""
        pushed, mine = self._core.rows(batch.take(np.arange(left_out, len(batch))))
        # After a long gap both begin anew and have the same history. Before READY the whole one is no measure.
        lead = whole.have[left_out:].astype(np.int64) - pushed.have
        accepted = (pushed.verdict == ACCEPTED) & (whole.verdict[left_out:] == ACCEPTED)
        by_key: dict[tuple[str, int], list[int]] = {}
        names = batch.names
        for i in np.flatnonzero(accepted & (lead >= self._need) & gives[left_out:]).tolist():
            by_key.setdefault((names[left_out + i], int(batch.interval_ms[left_out + i])), []).append(i)
        for key, at in by_key.items():
            run = self.runs.setdefault(key, _Run(int(batch.open_time_ms[left_out + at[0]])))
            run.compare(pushed.have[at].astype(np.int64), rows[left_out:][at], mine[at], self._need)


def _numbered(batches: Iterator[Candles]) -> Iterator[tuple[int, Candles]]:
    """Yield each batch with the number of its first candle."""
    start = 0
    for batch in batches:
        yield start, batch
        start += len(batch)


def _edges(batch: Candles) -> I64:
    """Return where in the batch another close begins."""
    return np.flatnonzero(np.diff(closes_ms(batch), prepend=-1))


def _edge_from(edges: I64, at: int, size: int) -> int:
    """Return the first edge at `at` or later; the size of the batch if there is none."""
    k = int(np.searchsorted(edges, at))
    return int(edges[k]) if k < len(edges) else size


def _spread(count: int, low: float, high: float, points: int) -> list[int]:
    """Return numbers of candles, evenly spaced between two fractions of all."""
    return [int(at) for at in np.linspace(low * count, high * count, points + 2)[1:-1]]
