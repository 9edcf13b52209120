"""Candle files → bars, and what serving would have said at each close. Knows no trades and no flags.

Rows come from the core, fed by close as live; outputs are read by `interpret` and judged by `Signals`, as the
Forecaster's: the filters that remember see the same positions, which the same candles move.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast.candle_files import closes_ms
from candlecast.errors import ConfigurationError
from candlecast.feature_files import Advance, Recording
from candlecast.features import ACCEPTED, NAMES, STATES, WINDOW
from candlecast.filters import REASONS, Thresholds, size_multiplier
from candlecast.interpret import interpret
from candlecast.portfolio import Limits, Portfolio
from candlecast.signals import Signals
from candlecast.training import simulator
from candlecast.training.simulator import Bars
from candlecast.training.speakers import Speaker
from candlecast.values import F32, F64, I64, Bool, Candles

THREADS: Final = 2
BLOCK_CANDLES: Final = 256
"""Candles pushed at once, give or take those of one close: their windows take 92 KB each."""
PIECE_ROWS: Final = 64
"""Windows of one question to the model: the fastest of 16 to 256, one thread each."""


@dataclass(frozen=True, slots=True)
class Said:
    """The forecasts of one model at T times for S symbols, filtered; where there is none, NaN and no direction."""

    is_forecast: Bool  # [T, S]
    direction: NDArray[np.int8]  # [T, S]
    strength: NDArray[np.int8]  # [T, S] as filters.Verdicts
    reasons: NDArray[np.uint32]  # [T, S]
    confidence: F32  # [T, S]
    stop_loss: F64  # [T, S]
    take_profit: F64  # [T, S]
    edge: F32  # [T, S]
    agreement: F32  # [T, S]
    expected: F32  # [T, S] return at 4h

    def signals(self) -> simulator.Signals:
        """Return what of it is traded."""
        multiplier = size_multiplier(self.strength.astype(np.uint8))
        return simulator.Signals(self.direction, multiplier, self.stop_loss, self.take_profit)

    def counts(self) -> dict[str, int]:
        """Count the forecasts: all, those that are signals, and the reasons of the others (one may have several)."""
        reasons = self.reasons[self.is_forecast]
        found = {name: int((reasons >> bit & 1).sum()) for bit, name in enumerate(REASONS)}
        sides = {"forecasts": len(reasons), "long": int((self.direction > 0).sum())}
        return sides | {"short": int((self.direction < 0).sum())} | {name: n for name, n in found.items() if n}


def replay(
    recording: Recording,
    speakers: Sequence[Speaker],
    thresholds: Thresholds,
    *,
    limits: Limits | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    advance: Advance = lambda count: None,
) -> tuple[Bars, list[Said]]:
    """Return the bars of the recording's symbols that open in [start_ms, end_ms) and what each model says of them.

    Without limits the filters that remember are left out. Candles before start_ms warm the features up. Memory: some
    hundred windows, and 210 bytes for each bar.

    Raises:
        ConfigurationError: intervals differ, or no candle is left.
    """
    intervals = {interval_ms for _, interval_ms in recording.pairs}
    if len(intervals) > 1:
        raise ConfigurationError(f"the files have intervals of {sorted(intervals)} ms; test one interval at a time")
    symbols = tuple(sorted(recording.symbols))
    core, taken, rest = recording.core(_two_rooms()), list[_Taken](), recording.candles
    judges = [Signals(NAMES, STATES, thresholds, Portfolio(limits) if limits else None) for _ in speakers]
    with ThreadPoolExecutor(THREADS) as pool:
        asked = deque[_Asked]()  # the next block is computed while the models answer
        for block in _blocks(recording.batches(), end_ms):
            moved, rest = core.push(block), rest - len(block)
            pushed = moved.pushed
            gives = recording.gives_rows(block) & (pushed.verdict == ACCEPTED)
            at = np.flatnonzero(gives & (block.open_time_ms >= (start_ms or 0)))
            window = pushed.window[at]
            asks = window[window >= 0]
            windows = moved.windows if len(asks) == len(moved.windows) else moved.windows[asks]
            times = block.open_time_ms[at][window >= 0]
            pieces = [slice(k, k + PIECE_ROWS) for k in range(0, len(windows), PIECE_ROWS)]
            answers = [
                [pool.submit(speaker.ask, windows[piece], times[piece]) for piece in pieces] for speaker in speakers
            ]
            asked.append(
                _Asked(
                    block.take(at), window >= 0, windows, pushed.state[at], pushed.gap_filled[at], answers, len(block)
                )
            )
            if len(asked) > 1:  # before its room of windows is filled again
                taken.append(asked.popleft().read(speakers, judges, advance))
        taken += [last.read(speakers, judges, advance) for last in asked]
    advance(rest)  # those behind end_ms
    return _gridded(symbols, intervals.pop(), taken)


def _two_rooms() -> Callable[[int], F32]:
    """Return what gives two places for windows in turn, one to fill while the models read the other.

    Fresh memory for each block would double what the features cost.
    """
    rooms = deque(np.empty((0, WINDOW, len(NAMES)), dtype=np.float32) for _ in range(2))

    def room(rows: int) -> F32:
        rooms.rotate()
        if len(rooms[0]) < rows:
            rooms[0] = np.empty((rows, WINDOW, len(NAMES)), dtype=np.float32)
        return rooms[0][:rows]

    return room


@dataclass(frozen=True, slots=True)
class _Taken:
    """N accepted candles, and each model's columns [N], NaN or 0 without a forecast."""

    candles: Candles
    said: list[Said]


@dataclass(frozen=True, slots=True)
class _Asked:
    """N accepted candles whose R windows the models are asked about."""

    candles: Candles
    has_window: Bool  # [N]
    windows: F32  # [R, 96, F]
    state: NDArray[np.uint8]  # [N]
    gap_filled: Bool  # [N]
    answers: list[list[Future[F32]]]  # of each model, in pieces
    pushed: int

    def read(self, speakers: Sequence[Speaker], judges: Sequence[Signals], advance: Advance) -> _Taken:
        at = np.flatnonzero(self.has_window)
        outputs = [[piece.result() for piece in pieces] for pieces in self.answers]
        advance(self.pushed)
        if not len(at):
            for judge in judges:
                judge.follow(self.candles)
            return _Taken(self.candles, [_nothing((len(self.candles),)) for _ in speakers])
        return _Taken(
            self.candles,
            [
                self._said(at, np.concatenate(parts), speaker, judge)
                for parts, speaker, judge in zip(outputs, speakers, judges, strict=True)
            ],
        )

    def _said(self, at: I64, outputs: F32, speaker: Speaker, judge: Signals) -> Said:
        meaning = interpret(outputs, speaker.temperatures)
        source = self.candles.take(at)
        verdicts = judge.judge(
            meaning,
            source,
            self.windows,
            self.state[at],
            self.gap_filled[at],
            others=self.candles.take(~self.has_window),
        ).verdicts
        said = _nothing((len(self.candles),))
        said.is_forecast[at] = True
        said.direction[at], said.strength[at], said.reasons[at] = (
            verdicts.direction,
            verdicts.strength,
            verdicts.reasons,
        )
        said.confidence[at] = meaning.confidence
        said.stop_loss[at], said.take_profit[at] = meaning.stop_loss, meaning.take_profit
        said.edge[at], said.agreement[at], said.expected[at] = meaning.edge, meaning.agreement, meaning.returns[:, 2]
        return said


def _nothing(shape: tuple[int, ...]) -> Said:
    def none(kind: type[np.generic]) -> NDArray[np.generic]:
        return np.full(shape, np.nan if issubclass(kind, np.floating) else 0, dtype=kind)

    kinds = (np.bool_, np.int8, np.int8, np.uint32, np.float32, np.float64, np.float64, *[np.float32] * 3)
    return Said(*map(none, kinds))  # type: ignore[arg-type]


def _blocks(batches: Iterator[Candles], end_ms: int | None) -> Iterator[Candles]:
    """Yield the candles that open before end_ms, BLOCK_CANDLES or more at once; those of one close together."""
    for batch in batches:
        kept = batch if end_ms is None else batch.take(np.flatnonzero(batch.open_time_ms < end_ms))
        if not len(kept):
            return  # batches are in the order of their closes
        edges = np.flatnonzero(np.diff(closes_ms(kept), append=-1)) + 1
        start = 0
        for stop in edges.tolist():
            if stop - start >= BLOCK_CANDLES or stop == len(kept):
                yield kept.take(np.arange(start, stop))
                start = stop


def _gridded(symbols: tuple[str, ...], interval_ms: int, taken: Sequence[_Taken]) -> tuple[Bars, list[Said]]:
    """Put candles and forecasts on one grid of every time from the first to the last."""
    candles = Candles.joined([part.candles for part in taken]) if taken else None
    if candles is None or not len(candles):
        raise ConfigurationError("no candle is left; check --symbols, --from and --to against the files")
    first, last = int(candles.open_time_ms.min()), int(candles.open_time_ms.max())
    times = np.arange(first, last + 1, interval_ms, dtype=np.int64)
    index = {symbol: s for s, symbol in enumerate(symbols)}
    place = (candles.open_time_ms - first) // interval_ms, np.array([index[name] for name in candles.names])
    shape = len(times), len(symbols)
    prices = [np.full(shape, np.nan) for _ in range(4)]
    for k, column in enumerate(prices):
        column[place] = candles.values[:, k]
    gridded = []
    for model in range(len(taken[0].said)):
        said = _nothing(shape)
        for name in Said.__slots__:
            getattr(said, name)[place] = np.concatenate([getattr(part.said[model], name) for part in taken])
        gridded.append(said)
    return Bars(symbols, interval_ms, times, *prices), gridded
