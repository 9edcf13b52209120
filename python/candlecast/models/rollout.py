"""Brings versions of the served model in and out of traffic while it flows. Knows neither gRPC nor SQL.

What a version may do next is `states`, where it lies `library`, whether it may be shown to Triton `verify`, what Triton
has `presence`, whose fault a fault is `guard`, what is written `ledger`. A version is loaded beside those that are
there; traffic moves in the forecaster's routes; an old one is unloaded after its last request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from candlecast.errors import (
    CandlecastError,
    InvalidRequest,
    ModelRefused,
    Refusal,
    StorageUnavailable,
    Unavailable,
    WrongState,
)
from candlecast.forecaster import Forecaster
from candlecast.models.bundle import Bundle
from candlecast.models.guard import Guard
from candlecast.models.ledger import Ledger
from candlecast.models.library import Library, identity
from candlecast.models.presence import Connected, Presence, refusal_of
from candlecast.models.states import Event, Standing, State, Version, noted, now_ms
from candlecast.models.verify import Trials, verify
from candlecast.routing import Lane
from candlecast.shadow import Shadow
from candlecast.triton.control import Control
from candlecast.values import Model
from candlecast.watch import Limits, Traffic, fault

log = logging.getLogger(__name__)

SERVER: Final = "candlecast"
"""Who acts when nobody asked for it."""
GUARD_MS: Final = 250
"""Between two looks at the versions in traffic."""
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


class Rollouts:
    """The versions of the one model that is served; an async context, entered before traffic flows.

    Every step names who wants it and why; it is in `events`, and in the database when that is there. All steps raise
    InvalidRequest for a version that is not known, WrongState when the step does not begin where the version is,
    ModelRefused when the version does not pass (it is REFUSED or FAILED then, and what answers goes on), Unavailable
    when Triton is away, and StorageUnavailable when the step cannot be written down.

    Args:
        first: the bundle that the forecaster answers with.
        way: to it; closed when it is unloaded.
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
        first: Bundle,
        way: AsyncExitStack,
        connect: Callable[[Bundle], AbstractAsyncContextManager[Connected]],
        trials: Trials,
        record: Callable[[Sequence[Event]], Awaitable[None]],
        policy: Policy | None = None,
        forget: Callable[[Model], None] = lambda model: None,
    ) -> None:
        self._library = library
        self._forecaster = forecaster
        self._first = first
        self._trials = trials
        self._policy = policy = policy or Policy()
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
        self._guard = Guard(self._presence, policy.limits, policy.compared_s)
        self._presence.ways[first.manifest.version] = way
        self._shadow: AsyncExitStack | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def _standing(self) -> Standing:
        return self._ledger.standing

    @property
    def _lanes(self) -> Mapping[int, Lane]:
        return self._presence.lanes

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
        for work in (self._restore, self._look_again_and_again, self._ledger.send):
            self._spawn(work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hush()
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
        lane = self._lanes.get(version)
        return lane.watch.of_late() if lane else None

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
            await self._move(number, State.REFUSED, who=who, why=why, reason=str(refused))
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
        """Check a version's hashes, features, tensors, golden values and speed, in a process apart."""
        before = self._standing[version]
        if before.state is State.VERIFIED:
            return before
        if before.state not in (State.PUSHED, State.FAILED):
            raise WrongState(f"{before.name} version {version} is {before.state.value}: it was verified before")
        try:
            _, metrics = await verify(self._library.path(version), version, self._trials)
        except ModelRefused as error:
            await self._move(version, State.REFUSED, who=who, why=why, reason=str(error))
            raise
        return await self._move(version, State.VERIFIED, who=who, why=why, metrics=metrics)

    async def load(self, version: int, *, who: str, why: str) -> Version:
        """Bring a version into Triton beside the others, and warm it; what is there stays as it is."""
        one = self._standing[version]
        if one.state in SERVED_STATES:
            return one
        if one.state in (State.PUSHED, State.FAILED):
            one = await self.verify(version, who=who, why=why)
        if one.state is State.REFUSED:
            raise WrongState(f"{one.name} version {version} is REFUSED: {one.reason}")
        async with self._presence.lock:
            if self._standing[version].state in SERVED_STATES:
                return self._standing[version]
            return await self._load(version, who, why)

    async def shadow(self, version: int, *, who: str, why: str) -> Version:
        """Let a version hear every burst without being heard; who was shadow before is WARM again."""
        await self.load(version, who=who, why=why)
        if self._standing[version].state is State.SHADOW:
            return self._standing[version]
        return await self._move(version, State.SHADOW, who=who, why=why)

    async def split(self, version: int, share: float, *, who: str, why: str) -> Version:
        """Let a version answer a share of the symbols; who did so before is WARM again."""
        if not 0 < share <= 1:
            raise InvalidRequest("share", f"{share:g} is not above 0 and at most 1")
        await self.load(version, who=who, why=why)
        return await self._move(version, State.CHALLENGER, who=who, why=why, share=share, metrics={"share": share})

    async def promote(self, version: int, *, who: str, why: str) -> Version:
        """Let a version answer; the champion of before stays loaded for a rollback, as many as `standby` says."""
        await self.load(version, who=who, why=why)
        await self._presence.well(self._lanes[version])
        if self._standing[version].state is State.CHAMPION:
            return self._standing[version]
        before = asdict(self._forecaster.routes.champion.watch.of_late())
        champion = await self._move(
            version, State.CHAMPION, who=who, why=why, metrics={"before": _finite(before)} if before["rows"] else {}
        )
        self._trim()
        return champion

    async def rollback(self, *, who: str, why: str) -> Version:
        """Let the former champion answer again."""
        return await self._roll_back(State.RETIRED, who=who, why=why)

    async def unload(self, version: int, *, who: str, why: str) -> Version:
        """Take a version out of traffic and, after its last request, out of Triton; the library keeps it."""
        one = self._standing[version]
        if one.state is State.CHAMPION:
            raise WrongState(f"{one.name} version {version} answers: promote another version first")
        if one.state in (*SERVED_STATES, State.LOADED):
            await self._move(version, State.RETIRED, who=who, why=why)
        await self._unload(version, who, why)
        return self._standing[version]

    # How

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

    async def _load(self, version: int, who: str, why: str) -> Version:
        """Publish a version, have Triton load it, connect and warm it; on failure it is withdrawn."""
        started = time.monotonic()
        try:
            if version not in self._lanes:
                bundle = await self._presence.load(version, self._standing[version].sha256)
                metrics = {"load_ms": round((time.monotonic() - started) * 1e3)}
                await self._move(version, State.LOADED, who=who, why=why, is_loaded=True, metrics=metrics)
                await self._presence.open(bundle)
            started = time.monotonic()
            await self._presence.warm(self._lanes[version])
        except (CandlecastError, OSError) as error:
            refused = error if isinstance(error, ModelRefused) else ModelRefused(refusal_of(error), str(error))
            await self._move(version, State.FAILED, who=who, why=why, reason=str(refused))
            await self._out(version)
            if isinstance(error, Unavailable) and await self._presence.is_away():
                raise
            raise refused from error
        metrics = {"warm_ms": round((time.monotonic() - started) * 1e3)}
        return await self._move(version, State.WARM, who=who, why=why, metrics=metrics)

    async def _roll_back(self, to: State, *, who: str, why: str, reason: str = "") -> Version:
        number = self._standing.rollback_target
        if number not in self._lanes:
            await self.load(number, who=who, why=why)
        await self._presence.well(self._lanes[number])
        async with self._ledger.lock:
            standing, events = self._standing.rolled_back(to, who=who, why=why, reason=reason)
            self._ledger.standing = standing
            await self._apply()  # first of all: what is wrong stops now
            await self._ledger.keep_anyway(standing, events)
        self._trim()
        return self._standing[number]

    async def _move(
        self, version: int, to: State, *, who: str, why: str, reason: str = "", share: float = 0.0,
        metrics: Mapping[str, Any] | None = None, is_loaded: bool | None = None,
    ) -> Version:  # fmt: skip
        """Take one step: write it, then let the traffic follow."""
        async with self._ledger.lock:
            if to is self._standing[version].state is State.CHAMPION:
                return self._standing[version]  # a rollback was quicker
            standing, events = self._standing.moved(
                version, to, who=who, why=why, reason=reason, share=share, metrics=metrics
            )
            if is_loaded is not None:
                standing = standing.with_loaded(version, is_loaded)
            await self._ledger.keep(standing, events)
            await self._apply()
        return self._standing[version]

    async def _apply(self) -> None:
        """Let the traffic go as the standing says; what is under way goes on where it is."""
        routes, standing = self._forecaster.routes, self._standing
        champion = self._lanes[standing.champion.version]
        if routes.champion is not champion:
            routes.promote(champion)
        challenger = standing.the(State.CHALLENGER)
        lane = self._lanes.get(challenger.version) if challenger else None
        routes.split(lane, challenger.share if challenger else 0.0)
        shadow = standing.the(State.SHADOW)
        lane = self._lanes.get(shadow.version) if shadow else None
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

    def _trim(self) -> None:
        """Unload, soon, the former champions that no rollback needs at once, and what has failed."""
        standing = self._standing
        retired = [one for one in standing.former if standing.versions[one].state is State.RETIRED]
        kept = retired[max(0, len(retired) - self._policy.standby) :]
        for one in standing.versions.values():
            is_done = one.state in (State.RETIRED, State.FAILED) and one.version not in kept
            if one.is_loaded and is_done:
                self._spawn(self._unload_quietly(one.version))

    async def _unload_quietly(self, version: int) -> None:
        try:
            await self._unload(version, SERVER, "no rollback needs it at once")
        except CandlecastError as error:
            log.warning("not unloaded version=%d error=%s", version, error)

    async def _unload(self, version: int, who: str, why: str) -> None:
        """Wait for a version's last request, and have Triton drop it."""
        async with self._presence.lock:
            one = self._standing[version]
            if one.state in SERVED_STATES or not (one.is_loaded or version in self._lanes):
                return  # it is in traffic again, or gone
            started = time.monotonic()
            if (lane := self._lanes.get(version)) is not None:
                try:
                    await asyncio.wait_for(lane.drained(), self._policy.drain_timeout_ms / 1000)
                except TimeoutError:
                    log.warning("unload version=%d with requests under way", version)
            await self._out(version)
            async with self._ledger.lock:
                metrics = {"unload_ms": round((time.monotonic() - started) * 1e3)}
                event = noted(self._standing[version], who, f"unloaded: {why}", metrics)
                await self._ledger.keep(self._standing.with_loaded(version, False), [event])

    async def _out(self, version: int) -> None:
        """Take a version out of Triton, and write that; the caller holds the lock of the repository."""
        await self._presence.take_out(version)
        if self._standing[version].is_loaded:
            async with self._ledger.lock:
                await self._ledger.keep(self._standing.with_loaded(version, False), [])

    # By itself

    async def _restore(self) -> None:
        """Bring back what was loaded beside the champion before the server stopped."""
        for one in sorted(self._standing.versions.values(), key=lambda one: one.version):
            number = one.version
            if number in self._lanes:
                continue
            try:
                async with self._presence.lock:
                    if one.is_loaded or one.state in SERVED_STATES:
                        await self._presence.open(await self._presence.load(number, one.sha256))
                        await self._presence.well(self._lanes[number])
                        async with self._ledger.lock:
                            await self._apply()
                    elif number in await asyncio.to_thread(self._library.published):
                        await self._out(number)  # a step that was cut off
            except Exception as error:
                log.warning("not restored version=%d error=%s", number, error)
                if one.state in (State.SHADOW, State.CHALLENGER, State.WARM, State.LOADED):
                    why = "it did not come back after a restart"
                    await self._move(number, State.FAILED, who=SERVER, why=why, reason=str(error))
                self._trim()

    async def _look_again_and_again(self) -> None:
        """Look at the versions in traffic, again and again, and take out what is not to be borne."""
        while True:
            await asyncio.sleep(GUARD_MS / 1000)
            try:
                await self.look()
            except Exception as error:  # it has to go on looking
                log.warning("guard error=%r", error)
                await asyncio.sleep(1)

    async def look(self) -> None:
        """Take a version out of traffic that does what is not to be borne: the champion for the one before it."""
        limits, now = self._policy.limits, self._standing
        answers = self._forecaster.routes.champion.watch.of_late()
        for state in (State.SHADOW, State.CHALLENGER):
            one = now.the(state)
            if one is None or (lane := self._lanes.get(one.version)) is None:
                continue
            why = fault(lane.watch.of_late(), answers, limits)
            if not why or not await self._guard.is_its_own(lane, why, self._forecaster.routes.champion):
                continue
            if self._standing[one.version].state is state:  # it may have gone on meanwhile
                await self._move(one.version, State.FAILED, who=SERVER, why=why, reason=why)
                self._trim()
        champion = now.champion
        if (why := fault(answers, self._guard.before(champion), limits)) is None:
            return
        try:
            other = self._lanes.get(self._standing.rollback_target)
            if await self._guard.is_its_own(self._lanes[champion.version], why, other):
                await self._roll_back(State.FAILED, who=SERVER, why=why, reason=why)
        except CandlecastError as error:  # no other is better
            if self._guard.is_news(champion.version, why):
                log.error("no rollback from version=%d for %s: %s", champion.version, why, error)
                async with self._ledger.lock:
                    event = noted(champion, SERVER, f"no rollback: {error}", {"fault": why})
                    await self._ledger.keep(self._standing, [event])

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as JSON takes them: NaN is None."""
    return {name: None if value != value else value for name, value in values.items()}
