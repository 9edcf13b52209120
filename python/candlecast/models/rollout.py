"""The versions of the served model, brought in and out of traffic while it flows. Knows neither gRPC nor SQL.

What a version may do next is `states`, where it lies `library`, whether it may be shown to Triton `verify`, what Triton
has `presence`, one version moved by one step `moves`, what is written `ledger`, who is taken out by itself `guard`. A
version is loaded beside those that are there; traffic moves in the forecaster's routes; an old one is unloaded after
its last request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from candlecast.errors import CandlecastError, InvalidRequest, ModelRefused, Refusal, StorageUnavailable, WrongState
from candlecast.forecaster import Forecaster
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble
from candlecast.models.guard import Guard
from candlecast.models.ledger import Ledger
from candlecast.models.library import Library, identity
from candlecast.models.moves import SERVED_STATES, SERVER, Moves, Policy
from candlecast.models.presence import Connected, Presence
from candlecast.models.states import Event, Standing, State, Version, noted, now_ms
from candlecast.models.verify import Trials, verify
from candlecast.triton.control import Control
from candlecast.values import Model
from candlecast.watch import Traffic

log = logging.getLogger(__name__)


class Rollouts:
    """The versions of the one model that is served; an async context, entered before traffic flows.

    Every step names who wants it and why; it is in `events`, and in the database when that is there. All steps raise
    InvalidRequest for a version that is not known, WrongState when the step does not begin where the version is,
    ModelRefused when the version does not pass (it is REFUSED or FAILED then, and what answers goes on), Unavailable
    when Triton is away, and StorageUnavailable when the step cannot be written down.

    Args:
        first: the bundle, or the ensemble, that the forecaster answers with.
        connected, way: to it; closed when it is unloaded.
        connect: opens the way to a version that Triton has.
        record: stores events; it may fail, and is given them again.
        forget: is told which version speaks no more.
    """

    def __init__(
        self,
        library: Library,
        control: Control,
        forecaster: Forecaster,
        *,
        first: Bundle | Ensemble,
        connected: Connected,
        way: AsyncExitStack,
        connect: Callable[[Bundle | Ensemble], AbstractAsyncContextManager[Connected]],
        trials: Trials,
        record: Callable[[Sequence[Event]], Awaitable[None]],
        policy: Policy | None = None,
        forget: Callable[[Model], None] = lambda model: None,
    ) -> None:
        self._library = library
        self._forecaster = forecaster
        self._first = first
        self._trials = trials
        policy = policy or Policy()
        self._ledger = Ledger(library, record)
        self._presence = Presence(
            library,
            control,
            forecaster,
            connect,
            forget,
            batch_rows_max=policy.batch_rows_max,
            window_s=policy.window_s,
            drop_timeout_ms=policy.drain_timeout_ms,
        )
        self._moves = Moves(self._ledger, self._presence, forecaster, policy)
        self._guard = Guard(
            self._ledger,
            self._presence,
            self._moves,
            forecaster,
            limits=policy.limits,
            compared_s=policy.compared_s,
        )
        number = first.manifest.version
        self._presence.ways[number], self._presence.connected[number] = way, connected
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def _standing(self) -> Standing:
        return self._ledger.standing

    async def __aenter__(self) -> Self:
        """Take up what was written; what was in traffic beside the champion comes back by itself.

        Raises:
            BundleError: what was written is damaged.
            OSError: the library cannot be written.
        """
        number = self._first.manifest.version
        if not await self._ledger.read():
            await self._ledger.keep(*await asyncio.to_thread(self._begin))
        assert self._standing.champion.version == number, "the forecaster answers with the champion"
        champion = self._standing.champion
        if champion.sha256 != self._first.sha256:  # trained again in its place while nobody served it
            await asyncio.to_thread(self._library.drop, number)
            replaced = replace(champion, sha256=self._first.sha256)
            standing = replace(self._standing, versions={**self._standing.versions, number: replaced})
            event = noted(replaced, SERVER, "its bundle was replaced while no server ran", {})
            await self._ledger.keep(standing, [event])
        self._presence.lanes[number] = self._forecaster.routes.champion
        for work in (self._restore, self._guard.again_and_again, self._ledger.send):
            self._tasks.append(asyncio.create_task(work()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._moves.close()
        await self._presence.close()

    # What is there

    async def list(self) -> Sequence[Version]:
        """Return every version, by number."""
        return [self._standing.versions[number] for number in sorted(self._standing.versions)]

    async def get(self, version: int) -> Version:
        """Return one version."""
        return self._standing[version]

    async def events(self, version: int | None = None, limit: int = 100) -> Sequence[Event]:
        """Return what happened, newest first; the last KEPT_EVENTS_MAX are known here, all of them to the database."""
        return self._ledger.events(version, limit)

    def traffic(self, version: int) -> Traffic | None:
        """Return what a version did of late; None: it is not in Triton."""
        lane = self._presence.lanes.get(version)
        return lane.watch.of_late() if lane else None

    def absent(self, version: int) -> Mapping[str, CandlecastError]:
        """Return the members of an ensemble that are not well, and why; forecasts of the others are degraded."""
        connected = self._presence.connected.get(version)
        return connected.absent if connected else {}

    @property
    def absent_now(self) -> int:
        """Return how many members of the version that answers are not well."""
        return len(self.absent(self._standing.champion.version))

    @property
    def not_heard(self) -> int:
        """Return how many windows the shadow of now did not hear."""
        return self._forecaster.shadow.not_heard if self._forecaster.shadow else 0

    # Steps

    async def push(self, folder: Path, *, who: str, why: str) -> Version:
        """Take a copy of the bundle in `folder` and verify it; the same bundle again changes nothing."""
        name, number, sha256 = await asyncio.to_thread(identity, folder, self._trials.bytes_max)
        if name != self._library.name:
            raise ModelRefused(Refusal.WRONG_MODEL, f"{folder} is a model {name}; {self._library.name} is served")
        known = self._standing.versions.get(number)
        if known is not None and known.sha256 == sha256 and known.state is not State.REFUSED:
            return await self.verify(number, who=who, why=why) if known.state is State.PUSHED else known
        pushed = Version(name, number, sha256, State.PUSHED, now_ms())
        async with self._ledger.lock:
            standing, events = self._standing.added(pushed, who, why)
            refused: ModelRefused | None = None
            try:
                await asyncio.to_thread(self._library.put, folder, number, self._trials.bytes_max)
            except ModelRefused as error:
                refused = error
            except OSError as error:
                raise StorageUnavailable(f"state_dir: {error}: nothing was taken") from error
            await self._ledger.keep(standing, events)
        if refused is not None:
            await self._moves.move(number, State.REFUSED, who=who, why=why, reason=str(refused))
            raise refused
        return await self.verify(number, who=who, why=why)

    async def adopt(self, version: int, *, who: str, why: str) -> Version:
        """Take a version into the library that somebody else put into the repository, and verify it."""
        place = self._library.published_path(version)
        if version in self._standing.versions or not place.is_dir():
            raise WrongState(f"{self._library.name} version {version} is known already, or not in the repository")
        try:
            return await self.push(place, who=who, why=why)
        except ModelRefused:
            async with self._presence.lock:  # or the next start of Triton would load it
                await asyncio.to_thread(self._library.withdraw, version)
            raise

    async def strangers(self) -> Sequence[int]:
        """Return the versions in the repository that nobody pushed."""
        published = await asyncio.to_thread(self._library.published)
        return [number for number in published if number not in self._standing.versions]

    async def verify(self, version: int, *, who: str, why: str) -> Version:
        """Check hashes, features, tensors, golden values, speed and weights of a version, in a process apart."""
        before = self._standing[version]
        if before.state is State.VERIFIED:
            return before
        if before.state not in (State.PUSHED, State.FAILED):
            raise WrongState(f"{before.name} version {version} is {before.state.value}: it was verified before")
        try:
            metrics = await verify(self._library.path(version), version, self._trials)
        except ModelRefused as error:
            await self._moves.move(version, State.REFUSED, who=who, why=why, reason=str(error))
            raise
        return await self._moves.move(version, State.VERIFIED, who=who, why=why, metrics=metrics)

    async def load(self, version: int, *, who: str, why: str) -> Version:
        """Bring a version into Triton beside the others, and warm it; what is there stays as it is."""
        one = self._standing[version]
        if one.state in SERVED_STATES:
            return one
        if one.state in (State.PUSHED, State.FAILED):
            one = await self.verify(version, who=who, why=why)
        if one.state is State.REFUSED:
            raise WrongState(f"{one.name} version {version} is REFUSED: {one.reason}")
        return await self._moves.load(version, who=who, why=why)

    async def shadow(self, version: int, *, who: str, why: str) -> Version:
        """Let a version hear every burst without being heard; who was shadow before is WARM again."""
        await self.load(version, who=who, why=why)
        if self._standing[version].state is State.SHADOW:
            return self._standing[version]
        return await self._moves.move(version, State.SHADOW, who=who, why=why)

    async def split(self, version: int, share: float, *, who: str, why: str) -> Version:
        """Let a version answer a share of the symbols; who did so before is WARM again."""
        if not 0 < share <= 1:
            raise InvalidRequest("share", f"{share:g} is not above 0 and at most 1")
        await self.load(version, who=who, why=why)
        return await self._moves.move(
            version, State.CHALLENGER, who=who, why=why, share=share, metrics={"share": share}
        )

    async def promote(self, version: int, *, who: str, why: str) -> Version:
        """Let a version answer; the champion of before stays loaded for a rollback, as many as `standby` says."""
        await self.load(version, who=who, why=why)
        if (lane := self._presence.lanes.get(version)) is not None:
            await self._presence.whole(lane)
        if self._standing[version].state is State.CHAMPION:
            return self._standing[version]
        before = asdict(self._forecaster.routes.champion.watch.of_late())
        champion = await self._moves.move(
            version, State.CHAMPION, who=who, why=why, metrics={"before": _finite(before)} if before["rows"] else {}
        )
        self._moves.trim()
        return champion

    async def rollback(self, *, who: str, why: str) -> Version:
        """Let the former champion answer again."""
        return await self._moves.roll_back(State.RETIRED, who=who, why=why)

    async def unload(self, version: int, *, who: str, why: str) -> Version:
        """Take a version out of traffic and, after its last request, out of Triton; the library keeps it."""
        one = self._standing[version]
        if one.state in (*SERVED_STATES, State.LOADED):
            if one.state is not State.CHAMPION:
                one = await self._moves.move(version, State.RETIRED, who=who, why=why, only_from=one.state)
            if one.state is not State.RETIRED:
                raise WrongState(f"{one.name} version {version} answers: promote another version first")
        await self._moves.unload(version, who, why)
        return self._standing[version]

    async def look(self) -> None:
        """Take out now what is not to be borne; it is done again and again by itself."""
        await self._guard.look()

    # At the start

    def _begin(self) -> tuple[Standing, Sequence[Event]]:
        """Return the standing of a repository that nobody has kept one of: its newest version answers."""
        number, name = self._first.manifest.version, self._library.name
        standing, events = Standing(name), tuple[Event, ...]()
        for other in self._library.published():
            path = self._library.published_path(other)
            try:
                sha256 = identity(path, self._trials.bytes_max)[2]
            except ModelRefused as error:
                log.warning("not taken up: %s", error)
                continue
            state = State.CHAMPION if other == number else State.RETIRED
            known = Version(name, other, sha256, state, now_ms(), is_loaded=True)
            standing, more = standing.added(known, SERVER, "it was in the repository at the first start")
            events += tuple(more)
        former = tuple(one for one in sorted(standing.versions) if one != number)
        return replace(standing, former=former), events

    async def _restore(self) -> None:
        """Bring back what was loaded beside the champion before the server stopped."""
        for one in sorted(self._standing.versions.values(), key=lambda one: one.version):
            number = one.version
            if number in self._presence.lanes:
                continue
            try:
                async with self._presence.lock:
                    if one.is_loaded or one.state in SERVED_STATES:
                        await self._presence.open(await self._presence.load(number, one.sha256))
                        await self._presence.well(self._presence.lanes[number])
                        async with self._ledger.lock:
                            await self._moves.apply()
                    elif number in await asyncio.to_thread(self._library.published):
                        await self._moves.out(number)  # a step that was cut off
            except Exception as error:
                log.warning("not restored version=%d error=%s", number, error)
                if one.state in (State.SHADOW, State.CHALLENGER, State.WARM, State.LOADED):
                    why = "it did not come back after a restart"
                    await self._moves.move(number, State.FAILED, who=SERVER, why=why, reason=str(error))
                self._moves.trim()


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as JSON takes them: NaN is None."""
    return {name: None if value != value else value for name, value in values.items()}
