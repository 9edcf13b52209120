"""Takes out of traffic, by itself, what is not to be borne; asks the other version first whose fault it is."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Any, Final

import numpy as np

from candlecast import ensemble
from candlecast.errors import CandlecastError
from candlecast.forecaster import Forecaster
from candlecast.interpret import interpret
from candlecast.models.ledger import Ledger
from candlecast.models.moves import SERVER, Moves
from candlecast.models.presence import Presence
from candlecast.models.states import State, Version, noted, now_ms
from candlecast.routing import Lane
from candlecast.watch import Limits, Traffic, fault

log = logging.getLogger(__name__)

LOOK_MS: Final = 250
"""Between two looks at the versions in traffic."""
MEND_S: Final = 1.0
"""Between two questions to members of an ensemble that were left out."""


class Guard:
    """Looks at the versions in traffic.

    Args:
        compared_s: after a promotion, how long a champion is compared with the one before it.
    """

    def __init__(
        self,
        ledger: Ledger,
        presence: Presence,
        moves: Moves,
        forecaster: Forecaster,
        *,
        limits: Limits,
        compared_s: float,
    ) -> None:
        self.limits = limits
        self._ledger = ledger
        self._presence = presence
        self._moves = moves
        self._forecaster = forecaster
        self._compared_s = compared_s
        self._mended_s = -MEND_S
        self._doubted: set[int] = set()  # versions whose failures may have been an outage
        self._told: set[tuple[int, str]] = set()

    async def again_and_again(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_MS / 1000)
            try:
                await self.look()
            except Exception as error:  # it has to go on looking
                log.warning("guard error=%r", error)
                await asyncio.sleep(1)

    async def look(self) -> None:
        """Take a version out of traffic that does what is not to be borne: the champion for the one before it.

        What was seen may be over when it is known whose fault it is: nothing happens then.
        """
        standing, lanes = self._ledger.standing, self._presence.lanes
        await self._mend()
        answers = self._forecaster.routes.champion.watch.of_late()
        for state in (State.SHADOW, State.CHALLENGER):
            one = standing.the(state)
            if one is None or (lane := lanes.get(one.version)) is None:
                continue
            why = fault(lane.watch.of_late(), answers, self.limits)
            if why and await self._is_its_own(lane, why, self._forecaster.routes.champion):
                await self._moves.move(one.version, State.FAILED, who=SERVER, why=why, reason=why, only_from=state)
                self._moves.trim()
        champion = standing.champion
        if (why := fault(answers, self._before(champion), self.limits)) is None:
            return
        try:
            other = lanes.get(standing.rollback_target)
            if await self._is_its_own(lanes[champion.version], why, other):
                await self._moves.roll_back(State.FAILED, who=SERVER, why=why, reason=why, only_from=champion.version)
        except CandlecastError as error:  # no other is better
            if self._is_news(champion.version, why):
                log.error("no rollback from version=%d for %s: %s", champion.version, why, error)
                async with self._ledger.lock:
                    event = noted(champion, SERVER, f"no rollback: {error}", {"fault": why})
                    await self._ledger.keep(self._ledger.standing, [event])

    async def _mend(self) -> None:
        """Ask members that were left out whether they are well again; those of the champion the canary asks."""
        if time.monotonic() - self._mended_s < MEND_S:
            return
        self._mended_s = time.monotonic()
        for version, lane in list(self._presence.lanes.items()):
            if self._presence.connected[version].absent and lane is not self._forecaster.routes.champion:
                await self._presence.is_well(lane)

    async def _is_its_own(self, lane: Lane, why: str, other: Lane | None) -> bool:
        """Say whether a version is at fault for `why`; if not, what was counted of it is forgotten."""
        is_fault = True
        match why.partition(":")[0]:
            case "ERRORS":
                is_fault = await self._fails_alone(lane, other)
            case "LATENCY":
                is_fault = other is not None and await self._is_slower(lane, other)
            case "CONFIDENCE":  # markets change, and rows of one bar are alike: only the same windows can tell
                is_fault = other is not None and await self._knows_less(lane, other)
        if not is_fault:
            self._presence.begin_anew(lane)
        return is_fault

    async def _fails_alone(self, lane: Lane, other: Lane | None) -> bool:
        if other is not None and not await self._presence.is_well(other):
            return False
        version = lane.model.version
        if await self._presence.is_well(lane) and version not in self._doubted:
            self._doubted.add(version)  # it may have been an outage: once more, and it was none
            return False
        return True

    async def _is_slower(self, lane: Lane, other: Lane) -> bool:
        ours_s, theirs_s = await self._presence.seconds(lane), await self._presence.seconds(other)
        return ours_s > self.limits.latency_ratio * theirs_s

    async def _knows_less(self, lane: Lane, other: Lane) -> bool:
        windows = lane.heard
        if windows is None:
            return False
        known = []
        for one in (lane, other):
            outputs, _, _ = ensemble.parts((await one.ask(windows)).outputs)
            meaning = interpret(outputs, one.temperatures)
            known.append(float(np.nanmean(meaning.confidence)) - 0.5)
        return known[0] < self.limits.confidence_ratio * known[1]

    def _before(self, champion: Version) -> Traffic | None:
        """Return the traffic that the champion is compared with, for some time after it was promoted."""
        before = champion.metrics.get("before")
        if before is None or now_ms() - champion.since_ms > self._compared_s * 1000:
            return None
        figures: dict[str, Any] = {name: math.nan if value is None else value for name, value in before.items()}
        return Traffic(**figures)

    def _is_news(self, version: int, why: str) -> bool:
        """Say whether this kind of fault of a version is told for the first time."""
        key = version, why.partition(":")[0]
        is_news = key not in self._told
        self._told.add(key)
        return is_news
