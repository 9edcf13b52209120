"""Asks the gate about live order flow, in time or without the model. Knows neither Triton nor what is forecast."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from candlecast import gate
from candlecast.errors import CandlecastError
from candlecast.gate import Decisions
from candlecast.order_flow import OrderFlow
from candlecast.values import F32, F64, I64, Bool, FlowStates, Symbols

log = logging.getLogger(__name__)

_TURNS: Final = 3
"""Of the loop, in which the request to the forecasting model leaves: the gate is asked while that computes."""


@dataclass(frozen=True, slots=True)
class GateModel:
    """What answers features [B, 3] with probabilities [B, 2], within its own timeout, or raises CandlecastError."""

    name: str
    version: int
    bundle_sha256: str
    ask: Callable[[F32], Awaitable[F32]]


class Gatekeeper:
    """Says of order flow whether a signal may leave; without a model, of all that it is ABSENT.

    Args:
        model: None: there is no gate.
        threshold: probability above which it approves.
        live_ms: since the newest trade; with an older one a symbol has no live order flow.
        absent_passes: whether a signal leaves that the gate says nothing of.
        observe: is told of every decision.
    """

    def __init__(
        self,
        flow: OrderFlow,
        model: GateModel | None,
        *,
        threshold: float = gate.THRESHOLD,
        live_ms: int = 60_000,
        absent_passes: bool = True,
        observe: Callable[[Decisions], None] = lambda said: None,
    ) -> None:
        self.model = model
        self.threshold = threshold
        self._flow = flow
        self._live_ms = live_ms
        self._absent_passes = absent_passes
        self._observe = observe
        self.is_degraded = False
        """The heuristic decides, because the model did not answer."""

    def changed(self, model: GateModel) -> None:
        """Ask another model from now on; what is asked already goes on."""
        self.model = model

    def passes(self, verdict: NDArray[np.uint8]) -> Bool:
        """Say with which verdicts [B] a signal leaves."""
        return gate.passes(verdict, self._absent_passes)

    async def judge(self, states: FlowStates) -> Decisions:
        """Decide on the states of B symbols, and have states and decisions stored.

        A model that fails or is late does not fail this: the heuristic decides, and that is flagged.
        """
        if self.model is None:
            return nothing_said(len(states))
        features = states.rows[:, : len(gate.FEATURES)]
        said = gate.decide(features, await self._probabilities(self.model, features), self.threshold)
        self._flow.decided(states, said)
        self._observe(said)
        return said

    def judge_forecasts(
        self, symbol: Symbols, close_time_ms: I64, interval_ms: I64, forming: Bool
    ) -> asyncio.Task[Decisions] | None:
        """Begin to judge forecasts [B] by the order flow as of their close; None: none of them has any.

        It is live when its newest trade is at most live_ms older than the close (of a forming candle: the open), and
        not of a later candle: then a forecast of the past is not judged by the present.
        """
        if self.model is None or self._flow.is_empty:
            return None
        newest = self._flow.newest_ms(symbol)
        since = close_time_ms - np.where(forming, interval_ms, 0)
        live = (newest >= since - self._live_ms) & (newest <= close_time_ms + interval_ms + self._live_ms)
        if not live.any():
            return None
        return asyncio.create_task(self._judge_live(symbol, since, live))

    async def _judge_live(self, symbol: Symbols, since: I64, live: Bool) -> Decisions:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        at = np.flatnonzero(live)
        rows = np.full((len(at), len(gate.RECORD)), np.nan)
        undefined, ts_ms = np.zeros((len(at), 2), dtype=np.uint8), np.zeros(len(at), dtype=np.int64)
        for moment in np.unique(since[at]).tolist():
            of = since[at] == moment
            states = self._flow.at(symbol[at[of]], moment)
            rows[of], undefined[of], ts_ms[of] = states.rows, states.undefined, states.ts_ms
        found = await self.judge(FlowStates(symbol[at], ts_ms, rows, undefined))
        said = nothing_said(len(symbol))
        said.verdict[at], said.probability[at], said.degraded[at] = found.verdict, found.probability, found.degraded
        return said

    async def _probabilities(self, model: GateModel, features: F64) -> F32 | None:
        """Ask the model about the rows that are defined [B, 3]; None: it does not answer."""
        defined = np.isfinite(features).all(axis=1)
        if not defined.any():
            return None
        try:
            answers = await model.ask(np.ascontiguousarray(features[defined], dtype=np.float32))
        except Exception as error:  # also a mistake of ours is no reason to lose a forecast
            self._say(error)
            return None
        self._say(None)
        probabilities = np.full((len(features), len(gate.CLASSES)), np.nan, dtype=np.float32)
        probabilities[defined] = answers
        return probabilities

    def _say(self, error: Exception | None) -> None:
        """Say in the log when the heuristic takes over, and when the model is back."""
        if error is not None and not isinstance(error, CandlecastError):
            log.error("gate: a mistake of ours, the heuristic decides", exc_info=error)
        elif error is not None and not self.is_degraded:
            log.warning("gate degraded, the heuristic decides error=%s", error)
        elif error is None and self.is_degraded:
            log.warning("gate is back")
        self.is_degraded = error is not None


def nothing_said(count: int) -> Decisions:
    """Return what is said of B symbols without a gate."""
    return Decisions(np.full(count, gate.ABSENT), np.full(count, np.nan), np.zeros(count, dtype=np.bool_))
