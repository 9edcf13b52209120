"""Which version of the model answers a window: the champion, or of a share of the symbols its challenger.

What a group asks is decided once, when it asks: so a forecast is of one version wholly, whatever is switched meanwhile.
Knows neither Triton nor what brings a version here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np

from candlecast.batching import Batched, Batcher
from candlecast.errors import CandlecastError
from candlecast.values import F32, F64, I64, Bool, Model, Symbols
from candlecast.watch import Watch

DAY_MS: Final = 86_400_000


class Asks(Protocol):
    """Answers windows [B, 96, F] with outputs [B, 20], or with what an ensemble has: [B, 22]."""

    async def __call__(self, windows: F32) -> F32: ...


class Lane:
    """One version: its way to its model, what it did of late, and how many questions are under way. An async context.

    Args:
        ask: called with at most batch_rows_max windows, at most in_flight_max at a time.
        temperatures: calibration [4] of the horizons.
        check: compares golden values; raises what is wrong.
    """

    def __init__(
        self,
        ask: Asks,
        *,
        model: Model,
        temperatures: F64,
        batch_rows_max: int,
        in_flight_max: int,
        queue_rows_max: int,
        join: Callable[[list[F32]], F32] = np.concatenate,
        check: Callable[[], Awaitable[None]] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.model = model
        self.temperatures = temperatures
        self.watch = watch or Watch()
        self.heard: F32 | None = None
        """The windows of its newest batch: what another version can be asked, too."""
        self._ask = ask
        self._check = check
        self._asking = 0
        self._none_asks = asyncio.Event()
        self._none_asks.set()
        self.batcher = Batcher(
            self._run,
            batch_rows_max=batch_rows_max,
            in_flight_max=in_flight_max,
            queue_rows_max=queue_rows_max,
            join=join,
        )

    async def __aenter__(self) -> Self:
        await self.batcher.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.batcher.__aexit__(None, None, None)

    async def ask(self, windows: F32) -> Batched:
        """Answer windows [B, 96, F]; raises what the model or the Batcher raise."""
        with self.held():
            return await self.batcher.submit(windows)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the lane open: it does not count as drained meanwhile."""
        self._asking += 1
        self._none_asks.clear()
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._none_asks.set()

    async def drained(self) -> None:
        """Return once no question is under way."""
        await self._none_asks.wait()
        await self.batcher.idle.wait()

    async def check(self) -> None:
        """Compare golden values; raises as Answering.check."""
        if self._check is not None:
            await self._check()

    async def _run(self, windows: F32) -> F32:
        begun_s = time.perf_counter()
        try:
            outputs = await self._ask(windows)
        except CandlecastError:
            self.watch.failed()
            raise
        self.watch.answered(windows, outputs, time.perf_counter() - begun_s)
        self.heard = windows
        return outputs


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What the model said to B windows, and which version of it."""

    outputs: F32  # [B, 20], or [B, 22] of an ensemble
    queue_us: int
    run_us: int
    champion: Lane
    challenger: Lane | None = None
    by_challenger: Bool | None = None  # [B], with a challenger: the rows that it answered

    @property
    def temperatures(self) -> F64:
        """Return the calibration [4] of all rows, or [B, 4] of each."""
        if self.challenger is None or self.by_challenger is None:
            return self.champion.temperatures
        return np.where(self.by_challenger[:, None], self.challenger.temperatures, self.champion.temperatures)

    def is_older_than(self, age_ms: float) -> bool | Bool:
        """Say of all rows, or of each [B], whether the version that answered was trained longer ago."""
        now_ms = time.time() * 1000
        champion = self.champion.model.age_ms(now_ms) > age_ms
        if self.challenger is None or self.by_challenger is None:
            return champion
        return np.where(self.by_challenger, self.challenger.model.age_ms(now_ms) > age_ms, champion)

    def spoke(self, confidence: F64) -> None:
        """Tell each version's watch the confidence [B] of its forecasts."""
        if self.challenger is None or self.by_challenger is None:
            self.champion.watch.spoke(confidence)
            return
        self.challenger.watch.spoke(confidence[self.by_challenger])
        self.champion.watch.spoke(confidence[~self.by_challenger])


class Routes:
    """The lanes that answer now. What is under way goes on in its lane when another takes its place.

    Args:
        champion: answers.
        pick: takes rows [K] out of windows [B, 96, F].
    """

    def __init__(self, champion: Lane, pick: Callable[[F32, I64], F32] | None = None) -> None:
        self.champion = champion
        self.challenger: Lane | None = None
        self.share = 0.0
        self._pick = pick or (lambda windows, index: windows[index])

    async def check(self) -> None:
        """Compare the golden values of the version that answers; raises as Answering.check."""
        await self.champion.check()

    def promote(self, lane: Lane) -> None:
        """Let this one answer from now on."""
        if lane is self.challenger:
            self.split(None, 0)
        self.champion = lane

    def split(self, challenger: Lane | None, share: float) -> None:
        """Let the challenger answer a share of the symbols, of each day others; None: no more."""
        self.challenger, self.share = challenger, share if challenger else 0.0

    def expected_s(self, rows: int) -> float:
        """Return in how many seconds so many more rows would be answered; see Batcher.expected_s."""
        champion = self.champion.batcher.expected_s(rows)
        return champion if self.challenger is None else max(champion, self.challenger.batcher.expected_s(rows))

    def answers(self, symbol: Symbols, close_time_ms: I64) -> tuple[list[Model], I64]:
        """Return the versions that answer now, and which of them [B] is asked first about these candles."""
        if self.challenger is None:
            return [self.champion.model], np.zeros(len(symbol), dtype=np.int64)
        theirs = chosen(symbol, close_time_ms, self.challenger.model.version, self.share)
        return [self.champion.model, self.challenger.model], theirs.astype(np.int64)

    async def idle(self) -> None:
        """Return when no lane has anything to do."""
        while not all(lane.batcher.idle.is_set() for lane in (self.champion, self.challenger) if lane):
            await self.champion.batcher.idle.wait()
            if self.challenger is not None:
                await self.challenger.batcher.idle.wait()

    async def ask(self, windows: F32, symbol: Symbols, close_time_ms: I64) -> Said:
        """Answer windows [B, 96, F], each by one version; raises what the champion's lane raises.

        What the challenger does not answer, the champion does.
        """
        champion, challenger = self.champion, self.challenger
        if challenger is None:
            batched = await champion.ask(windows)
            return Said(batched.outputs, batched.queue_us, batched.run_us, champion)
        theirs = chosen(symbol, close_time_ms, challenger.model.version, self.share)
        by, others = np.flatnonzero(theirs), np.flatnonzero(~theirs)
        if not len(by):
            batched = await champion.ask(windows)
            return Said(batched.outputs, batched.queue_us, batched.run_us, champion)
        with champion.held():  # it may be asked once more
            return await self._ask_both(windows, by, others, champion, challenger)

    async def _ask_both(self, windows: F32, by: I64, others: I64, champion: Lane, challenger: Lane) -> Said:
        theirs = np.zeros(len(windows), dtype=np.bool_)
        asked = asyncio.create_task(self._of_challenger(self._pick(windows, by), challenger))
        try:
            parts = [(others, await champion.ask(self._pick(windows, others)))] if len(others) else []
        except BaseException:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            raise
        answer = await asked
        theirs[by] = answer is not None
        parts.append((by, answer or await champion.ask(self._pick(windows, by))))
        outputs = np.empty((len(windows), parts[0][1].outputs.shape[1]), dtype=np.float32)
        for index, part in parts:
            outputs[index] = part.outputs
        queue_us, run_us = max(part.queue_us for _, part in parts), max(part.run_us for _, part in parts)
        return Said(outputs, queue_us, run_us, champion, challenger, theirs)

    @staticmethod
    async def _of_challenger(windows: F32, challenger: Lane) -> Batched | None:
        """Ask the challenger; None: it does not answer."""
        try:
            return await challenger.ask(windows)
        except Exception:  # its watch has counted it; the champion answers
            return None


def chosen(symbol: Symbols, close_time_ms: I64, version: int, share: float) -> Bool:
    """Say of which symbols [B] the challenger answers: the same all day (UTC, of the candle), others the next.

    A larger share keeps those of a smaller one.
    """
    words = np.ascontiguousarray(symbol, dtype="S32").view("<u8").reshape(len(symbol), 4)
    day = (close_time_ms // DAY_MS).astype(np.uint64)
    mixed = _mixed(day ^ np.uint64(version * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF))
    for k in range(4):
        mixed = _mixed(mixed ^ words[:, k])
    picked: Bool = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53 < share
    return picked


def _mixed(x: np.ndarray[tuple[int, ...], np.dtype[np.uint64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Scatter 64 bits over all 64, as splitmix64 does."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
