"""One version moved one step: what Triton has, what is written, and the traffic that follows. Knows nobody's reasons.

What is written changes under the ledger's lock, and the traffic follows within it: nobody sees one without the other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from candlecast.errors import CandlecastError, ModelRefused, Unavailable, WrongState
from candlecast.forecaster import Forecaster
from candlecast.models.ledger import Ledger
from candlecast.models.presence import Presence, refusal_of
from candlecast.models.states import ALONE, State, Version, noted
from candlecast.shadow import Shadow
from candlecast.watch import Limits

log = logging.getLogger(__name__)

SERVER: Final = "candlecast"
"""Who acts when nobody asked for it."""
SERVED_STATES: Final = (State.WARM, State.SHADOW, State.CHALLENGER, State.CHAMPION)


@dataclass(frozen=True, slots=True)
class Policy:
    """How versions are treated in traffic; see the settings of these names."""

    drain_timeout_ms: int = 10_000
    standby: int = 1
    shadow_rows_max: int = 1_024
    batch_rows_max: int = 16
    window_s: float = 60.0  # of late
    compared_s: float = 3_600.0  # after a promotion, latency and confidence with the champion's before
    limits: Limits = field(default_factory=Limits)


class Moves:
    """The moves of the versions of one model; `close` ends what they have begun.

    Args:
        forecaster: whose routes and shadow follow.
    """

    def __init__(self, ledger: Ledger, presence: Presence, forecaster: Forecaster, policy: Policy) -> None:
        self._ledger = ledger
        self._presence = presence
        self._forecaster = forecaster
        self._policy = policy
        self._shadow: AsyncExitStack | None = None
        self._unloads: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End the shadow, and what is being unloaded."""
        for task in self._unloads:
            task.cancel()
        await asyncio.gather(*self._unloads, return_exceptions=True)
        await self._hush()

    async def move(
        self, version: int, to: State, *, who: str, why: str, reason: str = "", share: float = 0.0,
        metrics: Mapping[str, Any] | None = None, is_loaded: bool | None = None, only_from: State | None = None,
    ) -> Version:  # fmt: skip
        """Take one step: write it, then let the traffic follow.

        Args:
            only_from: nothing happens to a version that is no more where its mover saw it.

        Raises:
            WrongState: no step leads there.
            StorageUnavailable: it cannot be written; nothing has changed.
        """
        async with self._ledger.lock:
            before = self._ledger.standing[version]
            if only_from not in (None, before.state):
                return before
            if to is before.state is State.CHAMPION:
                return before  # a rollback was quicker
            if to in ALONE and version not in self._presence.lanes:
                raise WrongState(f"version {version} was just unloaded, or is not back yet: ask once more")
            standing, events = self._ledger.standing.moved(
                version, to, who=who, why=why, reason=reason, share=share, metrics=metrics
            )
            if is_loaded is not None:
                standing = standing.with_loaded(version, is_loaded)
            await self._ledger.keep(standing, events)
            await self.apply()
        return self._ledger.standing[version]

    async def load(self, version: int, *, who: str, why: str) -> Version:
        """Publish a version, have Triton load it, connect and warm it; on failure it is withdrawn.

        Raises:
            ModelRefused: it does not pass, and is FAILED now.
            Unavailable: Triton is away.
        """
        async with self._presence.lock:
            if (one := self._ledger.standing[version]).state in SERVED_STATES:
                return one
            return await self._load(version, who, why)

    async def _load(self, version: int, who: str, why: str) -> Version:
        started = time.monotonic()
        try:
            if version not in self._presence.lanes:
                served = await self._presence.load(version, self._ledger.standing[version].sha256)
                metrics = {"load_ms": round((time.monotonic() - started) * 1e3)}
                await self.move(version, State.LOADED, who=who, why=why, is_loaded=True, metrics=metrics)
                await self._presence.open(served)
            started = time.monotonic()
            await self._presence.warm(self._presence.lanes[version])
        except (CandlecastError, OSError) as error:
            refused = error if isinstance(error, ModelRefused) else ModelRefused(refusal_of(error), str(error))
            await self.move(version, State.FAILED, who=who, why=why, reason=str(refused))
            await self.out(version)
            if isinstance(error, Unavailable) and await self._presence.is_away():
                raise
            raise refused from error
        metrics = {"warm_ms": round((time.monotonic() - started) * 1e3)}
        return await self.move(version, State.WARM, who=who, why=why, metrics=metrics)

    async def roll_back(
        self, to: State, *, who: str, why: str, reason: str = "", only_from: int | None = None
    ) -> Version:
        """Let the former champion answer again, loaded first if it is not; the one of now goes `to`.

        Args:
            only_from: nothing happens when another than this version answers by now.

        Raises:
            WrongState: there is no former champion, or meanwhile it is another or was unloaded.
            ModelRefused, ModelUnavailable: it is not well.
        """
        number = self._ledger.standing.rollback_target
        if number not in self._presence.lanes:
            await self.load(number, who=who, why=why)
        if (lane := self._presence.lanes.get(number)) is not None:
            await self._presence.well(lane)
        async with self._ledger.lock:
            standing = self._ledger.standing
            if only_from not in (None, standing.champion.version):
                return standing.champion
            if number != standing.rollback_target or number not in self._presence.lanes:
                raise WrongState(f"version {number} was moved or unloaded meanwhile: ask once more")
            standing, events = standing.rolled_back(to, who=who, why=why, reason=reason)
            self._ledger.standing = standing
            await self.apply()  # first of all: what is wrong stops now
            await self._ledger.keep_anyway(standing, events)
        self.trim()
        return self._ledger.standing[number]

    async def apply(self) -> None:
        """Let the traffic go as the standing says; what is under way goes on where it is."""
        routes, standing, lanes = self._forecaster.routes, self._ledger.standing, self._presence.lanes
        champion = lanes[standing.champion.version]
        if routes.champion is not champion:
            routes.promote(champion)
        challenger = standing.the(State.CHALLENGER)
        lane = lanes.get(challenger.version) if challenger else None
        routes.split(lane, challenger.share if challenger else 0.0)
        shadow = standing.the(State.SHADOW)
        lane = lanes.get(shadow.version) if shadow else None
        if (self._forecaster.shadow.lane if self._forecaster.shadow else None) is not lane:
            await self._hush()
            if lane is not None:
                self._shadow = AsyncExitStack()
                self._forecaster.shadow = await self._shadow.enter_async_context(
                    Shadow(lane, routes, self._forecaster.record_shadow, rows_max=self._policy.shadow_rows_max)
                )

    async def _hush(self) -> None:
        """End the shadow."""
        self._forecaster.shadow = None
        if self._shadow is not None:
            shadow, self._shadow = self._shadow, None
            await shadow.aclose()

    def trim(self) -> None:
        """Unload, soon, the former champions that no rollback needs at once, and what has failed."""
        standing = self._ledger.standing
        retired = [one for one in standing.former if standing.versions[one].state is State.RETIRED]
        kept = retired[max(0, len(retired) - self._policy.standby) :]
        for one in standing.versions.values():
            is_done = one.state in (State.RETIRED, State.FAILED) and one.version not in kept
            if one.is_loaded and is_done:
                task = asyncio.create_task(self._unload_quietly(one.version))
                self._unloads.add(task)
                task.add_done_callback(self._unloads.discard)

    async def _unload_quietly(self, version: int) -> None:
        try:
            await self.unload(version, SERVER, "no rollback needs it at once")
        except CandlecastError as error:
            log.warning("not unloaded version=%d error=%s", version, error)

    async def unload(self, version: int, who: str, why: str) -> None:
        """Wait for a version's last request, and have Triton drop it."""
        async with self._presence.lock:
            one = self._ledger.standing[version]
            lane = self._presence.lanes.get(version)
            if one.state in SERVED_STATES or not (one.is_loaded or lane is not None):
                return  # it is in traffic again, or gone
            started = time.monotonic()
            if lane is not None:
                try:
                    await asyncio.wait_for(lane.drained(), self._policy.drain_timeout_ms / 1000)
                except TimeoutError:
                    log.warning("unload version=%d with requests under way", version)
            async with self._ledger.lock:
                if self._ledger.standing[version].state in SERVED_STATES:
                    return  # a rollback went back to it meanwhile
                self._presence.lanes.pop(version, None)  # from here on none does
            if lane is not None:
                self._presence.forget(lane.model)
            await self.out(version)
            async with self._ledger.lock:
                metrics = {"unload_ms": round((time.monotonic() - started) * 1e3)}
                event = noted(self._ledger.standing[version], who, f"unloaded: {why}", metrics)
                await self._ledger.keep(self._ledger.standing.with_loaded(version, False), [event])

    async def out(self, version: int) -> None:
        """Take a version out of Triton, and write that; the caller holds the lock of the repository."""
        await self._presence.take_out(version)
        if self._ledger.standing[version].is_loaded:
            async with self._ledger.lock:
                await self._ledger.keep(self._ledger.standing.with_loaded(version, False), [])
