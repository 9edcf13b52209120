"""Whether a version that does what is not to be borne is at fault itself, or what all of them run on. Knows no step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from candlecast.interpret import interpret
from candlecast.models.presence import Presence
from candlecast.models.states import Version, now_ms
from candlecast.routing import Lane
from candlecast.watch import Limits, Traffic


class Guard:
    """Asks the other version before one is taken out.

    Args:
        compared_s: after a promotion, how long a champion is compared with the one before it.
    """

    def __init__(self, presence: Presence, limits: Limits, compared_s: float) -> None:
        self.limits = limits
        self._presence = presence
        self._compared_s = compared_s
        self._doubted: set[int] = set()  # versions whose failures may have been an outage
        self._told: set[tuple[int, str]] = set()

    async def is_its_own(self, lane: Lane, why: str, other: Lane | None) -> bool:
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
            meaning = interpret((await one.ask(windows)).outputs, one.temperatures)
            known.append(float(np.nanmean(meaning.confidence)) - 0.5)
        return known[0] < self.limits.confidence_ratio * known[1]

    def before(self, champion: Version) -> Traffic | None:
        """Return the traffic that the champion is compared with, for some time after it was promoted."""
        before = champion.metrics.get("before")
        if before is None or now_ms() - champion.since_ms > self._compared_s * 1000:
            return None
        figures: dict[str, Any] = {name: math.nan if value is None else value for name, value in before.items()}
        return Traffic(**figures)

    def is_news(self, version: int, why: str) -> bool:
        """Say whether this kind of fault of a version is told for the first time."""
        key = version, why.partition(":")[0]
        is_news = key not in self._told
        self._told.add(key)
        return is_news
