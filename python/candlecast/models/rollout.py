"""Brings versions of the served model in and out of traffic while it flows. Knows neither gRPC nor SQL.

What a version may do next is `states`, where it lies `library`, whether it may be shown to Triton `verify`. A version
is loaded beside those that are there; traffic moves in the forecaster's routes; an old one is unloaded after its last
request.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import numpy as np

from candlecast.errors import (
    BundleError,
    CandlecastError,
    DeadlineExceeded,
    InvalidRequest,
    ModelRefused,
    ModelUnavailable,
    Overloaded,
    Refusal,
    StorageUnavailable,
    Unavailable,
    WrongState,
)
from candlecast.forecaster import Forecaster
from candlecast.models.age import described
from candlecast.models.bundle import Bundle
from candlecast.models.folder import MANIFEST
from candlecast.models.library import KEPT_EVENTS_MAX, Library, require_size
from candlecast.models.states import Event, Standing, State, Version, newest_first, noted, now_ms
from candlecast.models.verify import Trials, verify
from candlecast.routing import Lane
from candlecast.shadow import Shadow
from candlecast.triton.control import READY, UNLOADING, Control
from candlecast.values import F32, Model
from candlecast.watch import Limits, Traffic, Watch, fault

log = logging.getLogger(__name__)

SERVER: Final = "candlecast"
"""Who acts when nobody asked for it."""
GUARD_MS: Final = 250
"""Between two looks at the versions in traffic."""
OUTBOX_PAUSE_S: Final = 2.0
OUTBOX_EVENTS: Final = 100
WARM_RUNS: Final = 4
CHECK_TRIES: Final = 5
CHECK_PAUSE_S: Final = 0.2
"""Between golden checks of a Triton that is busy."""
DROPPED_POLL_S: Final = 0.1
SERVED_STATES: Final = (State.WARM, State.SHADOW, State.CHALLENGER, State.CHAMPION)


class Connected(Protocol):
    """One version behind Triton's door; see server.serving.Answering."""

    async def ask(self, windows: F32) -> F32: ...

    async def check(self) -> None: ...

    async def check_fit(self) -> None: ...


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
        self._control = control
        self._forecaster = forecaster
        self._first = first
        self._connect = connect
        self._trials = trials
        self._record = record
        self._policy = policy or Policy()
        self._forget = forget
        self._standing = Standing(library.name)
        self._lanes: dict[int, Lane] = {}
        self._ways = {first.manifest.version: way}
        self._shadow: AsyncExitStack | None = None
        self._recorded: tuple[Event, ...] = ()
        self._pending: tuple[Event, ...] = ()
        self._moving = asyncio.Lock()  # the standing, and what is written of it
        self._loading = asyncio.Lock()  # the repository, and what Triton makes of it
        self._some_pending = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: set[tuple[int, str]] = set()
        self._doubted: set[int] = set()  # versions whose failures may have been an outage

    async def __aenter__(self) -> Self:
        """Take up what was written; what was in traffic beside the champion comes back by itself.

        Raises:
            BundleError: what was written is damaged.
            OSError: the library cannot be written.
        """
        found = await asyncio.to_thread(self._library.read)
        number = self._first.manifest.version
        if found is None:
            self._standing, events = await asyncio.to_thread(self._begin)
            await self._keep(self._standing, events)
        else:
            self._standing, self._recorded, self._pending = found[0], tuple(found[1]), tuple(found[2])
        assert self._standing.champion.version == number, "the forecaster answers with the champion"
        champion = self._standing.champion
        if champion.sha256 != self._first.sha256:  # trained again in its place while nobody served it
            await asyncio.to_thread(self._library.drop, number)
            replaced = replace(champion, sha256=self._first.sha256)
            standing = replace(self._standing, versions={**self._standing.versions, number: replaced})
            await self._keep(standing, [noted(replaced, SERVER, "its bundle was replaced while no server ran", {})])
        self._lanes[number] = self._forecaster.routes.champion
        self._some_pending.set()
        for work in (self._restore, self._guard, self._send):
            self._spawn(work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hush()
        for way in list(self._ways.values()):
            await way.aclose()

    # What is there

    async def list(self) -> Sequence[Version]:
        """Return every version, by number."""
        return [self._standing.versions[number] for number in sorted(self._standing.versions)]

    async def get(self, version: int) -> Version:
        """Return one version."""
        return self._standing[version]

    async def events(self, version: int | None = None, limit: int = 100) -> Sequence[Event]:
        """Return what happened, newest first; the last KEPT_EVENTS_MAX are known here, all of them to the database."""
        events = [one for one in (*self._recorded, *self._pending) if version in (None, one.version)]
        return newest_first(events)[:limit]

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
        name, number, sha256 = await asyncio.to_thread(_identity, folder, self._trials.bytes_max)
        if name != self._library.name:
            raise ModelRefused(Refusal.WRONG_MODEL, f"{folder} is a model {name}; {self._library.name} is served")
        known = self._standing.versions.get(number)
        if known is not None and known.sha256 == sha256 and known.state is not State.REFUSED:
            return await self.verify(number, who=who, why=why) if known.state is State.PUSHED else known
        pushed = Version(name, number, sha256, State.PUSHED, now_ms())
        async with self._moving:
            standing, events = self._standing.added(pushed, who, why)
            refused: ModelRefused | None = None
            try:
                await asyncio.to_thread(self._library.put, folder, number, self._trials.bytes_max)
            except ModelRefused as error:
                refused = error
            except OSError as error:
                raise StorageUnavailable(f"state_dir: {error}: nothing was taken") from error
            await self._keep(standing, events)
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
            async with self._loading:  # or the next start of Triton would load it
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
        async with self._loading:
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
        await self._well(self._lanes[version])
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
                sha256 = _identity(path, self._trials.bytes_max)[2]
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
        name, started = self._library.name, time.monotonic()
        is_standby = version in self._lanes
        try:
            if not is_standby:
                bundle = await asyncio.to_thread(self._published, version)
                await self._control.load(name)
                state, reason = (await self._control.versions(name)).get(version, ("absent", ""))
                if state != READY:
                    raise ModelRefused(Refusal.NOT_LOADED, f"Triton has version {version} as {state} {reason}")
                load_ms = round((time.monotonic() - started) * 1e3)
                await self._move(version, State.LOADED, who=who, why=why, is_loaded=True, metrics={"load_ms": load_ms})
                await self._open(bundle)
            started = time.monotonic()
            await self._warm(self._lanes[version])
        except (CandlecastError, OSError) as error:
            refused = error if isinstance(error, ModelRefused) else ModelRefused(_refusal(error), str(error))
            await self._move(version, State.FAILED, who=who, why=why, reason=str(refused))
            await self._take_out(version)
            if isinstance(error, Unavailable) and await self._is_away():
                raise
            raise refused from error
        metrics = {"warm_ms": round((time.monotonic() - started) * 1e3)}
        return await self._move(version, State.WARM, who=who, why=why, metrics=metrics)

    def _published(self, version: int) -> Bundle:
        try:
            bundle = Bundle.load(self._library.path(version) if self._library.path(version).exists()
                                 else self._library.published_path(version))  # fmt: skip
        except BundleError as error:
            raise ModelRefused(error.refusal, str(error)) from error
        if bundle.sha256 != self._standing[version].sha256:
            raise ModelRefused(Refusal.SHA256_MISMATCH, f"{bundle.path} is not the bundle that was verified")
        self._library.publish(version)
        return bundle

    async def _open(self, bundle: Bundle) -> None:
        """Connect to a version that Triton has."""
        manifest = bundle.manifest
        way = AsyncExitStack()
        try:
            connected = await way.enter_async_context(self._connect(bundle))
            await connected.check_fit()
            lane = self._forecaster.lane(
                connected.ask,
                model=described(bundle),
                temperatures=np.asarray(manifest.temperatures),
                check=connected.check,
                watch=Watch(self._policy.window_s),
            )
            await way.enter_async_context(lane)
        except BaseException:
            await way.aclose()
            raise
        self._ways[manifest.version], self._lanes[manifest.version] = way, lane

    async def _warm(self, lane: Lane) -> None:
        """Compare golden values on each instance, and run some full batches."""
        await self._well(lane)
        inputs = (await asyncio.to_thread(self._bundle_of, lane.model.version)).golden_inputs
        rows: F32 = np.resize(inputs, (self._policy.batch_rows_max, *inputs.shape[1:]))
        for _ in range(WARM_RUNS):
            await lane.ask(rows)
        lane.watch = Watch(self._policy.window_s)  # that was no traffic

    async def _well(self, lane: Lane) -> None:
        """Compare golden values now.

        Raises:
            ModelUnavailable: they differ, or there is no answer.
        """
        for attempt in range(CHECK_TRIES):
            try:
                await lane.check()
                return
            except Overloaded:
                if attempt == CHECK_TRIES - 1:
                    raise
                await asyncio.sleep(CHECK_PAUSE_S)

    def _bundle_of(self, version: int) -> Bundle:
        return Bundle.load(self._library.published_path(version))

    async def _is_away(self) -> bool:
        """Say whether nothing at all can be had from Triton."""
        try:
            await self._control.versions(self._library.name)
        except CandlecastError:
            return True
        return False

    async def _roll_back(self, to: State, *, who: str, why: str, reason: str = "") -> Version:
        number = self._standing.rollback_target
        if number not in self._lanes:
            await self.load(number, who=who, why=why)
        await self._well(self._lanes[number])
        async with self._moving:
            standing, events = self._standing.rolled_back(to, who=who, why=why, reason=reason)
            self._standing = standing
            await self._apply()  # first of all: what is wrong stops now
            try:
                await self._keep(standing, events)
            except StorageUnavailable as error:  # written with the next step
                self._pending = (*self._pending, *events)
                log.error("rollback not written error=%s", error)
        self._trim()
        return self._standing[number]

    async def _move(
        self, version: int, to: State, *, who: str, why: str, reason: str = "", share: float = 0.0,
        metrics: Mapping[str, Any] | None = None, is_loaded: bool | None = None,
    ) -> Version:  # fmt: skip
        """Take one step: write it, then let the traffic follow."""
        async with self._moving:
            standing, events = self._standing.moved(
                version, to, who=who, why=why, reason=reason, share=share, metrics=metrics
            )
            if is_loaded is not None:
                standing = standing.with_loaded(version, is_loaded)
            await self._keep(standing, events)
            await self._apply()
        return self._standing[version]

    async def _keep(self, standing: Standing, events: Sequence[Event]) -> None:
        """Write the standing with its events, and then be there."""
        pending = (*self._pending, *events)
        try:
            await asyncio.to_thread(self._library.write, standing, self._recorded, pending)
        except OSError as error:
            raise StorageUnavailable(f"state_dir: {error}: nothing was changed") from error
        self._standing, self._pending = standing, pending
        for one in events:
            before = one.from_state.value if one.from_state else "-"
            log.info(
                "model version=%d from=%s to=%s who=%s why=%s",
                one.version,
                before,
                one.to_state.value,
                one.who,
                one.why,
            )
        self._some_pending.set()

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
        async with self._loading:
            one = self._standing[version]
            if one.state in SERVED_STATES or not (one.is_loaded or version in self._lanes):
                return  # it is in traffic again, or gone
            started = time.monotonic()
            if (lane := self._lanes.get(version)) is not None:
                try:
                    await asyncio.wait_for(lane.drained(), self._policy.drain_timeout_ms / 1000)
                except TimeoutError:
                    log.warning("unload version=%d with requests under way", version)
            await self._take_out(version)
            async with self._moving:
                metrics = {"unload_ms": round((time.monotonic() - started) * 1e3)}
                event = noted(self._standing[version], who, f"unloaded: {why}", metrics)
                await self._keep(self._standing.with_loaded(version, False), [event])

    async def _take_out(self, version: int) -> None:
        """Withdraw a version from the repository and from Triton, and close the way to it; the caller is loading.

        Raises:
            Unavailable: Triton is away; when it comes back, it has the version no more.
        """
        if (lane := self._lanes.pop(version, None)) is not None:
            self._forget(lane.model)
        if (way := self._ways.pop(version, None)) is not None:
            await way.aclose()  # first: Triton keeps a version for as long as a stream that asked it is open
        await asyncio.to_thread(self._library.withdraw, version)
        try:
            await self._control.load(self._library.name)
            await self._dropped(version)
        except CandlecastError as error:
            log.warning("triton reload after version=%d went error=%s", version, error)
        if self._standing[version].is_loaded:
            async with self._moving:
                await self._keep(self._standing.with_loaded(version, False), [])

    async def _dropped(self, version: int) -> None:
        """Return once Triton has ended a version, or is not done in time."""
        deadline = time.monotonic() + self._policy.drain_timeout_ms / 1000
        while (await self._control.versions(self._library.name)).get(version, ("", ""))[0] in (READY, UNLOADING):
            if time.monotonic() > deadline:
                log.warning("triton still has version=%d", version)
                return
            await asyncio.sleep(DROPPED_POLL_S)

    # By itself

    async def _restore(self) -> None:
        """Bring back what was loaded beside the champion before the server stopped."""
        for one in sorted(self._standing.versions.values(), key=lambda one: one.version):
            number = one.version
            if number in self._lanes:
                continue
            try:
                async with self._loading:
                    if one.is_loaded or one.state in SERVED_STATES:
                        bundle = await asyncio.to_thread(self._published, number)
                        if (await self._control.versions(self._library.name)).get(number, ("", ""))[0] != READY:
                            await self._control.load(self._library.name)
                        await self._open(bundle)
                        await self._well(self._lanes[number])
                        async with self._moving:
                            await self._apply()
                    elif number in await asyncio.to_thread(self._library.published):
                        await self._take_out(number)  # a step that was cut off
            except Exception as error:
                log.warning("not restored version=%d error=%s", number, error)
                if one.state in (State.SHADOW, State.CHALLENGER, State.WARM, State.LOADED):
                    why = "it did not come back after a restart"
                    await self._move(number, State.FAILED, who=SERVER, why=why, reason=str(error))
                self._trim()

    async def _guard(self) -> None:
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
            if why and await self._is_its_own(lane, why, self._forecaster.routes.champion):
                await self._move(one.version, State.FAILED, who=SERVER, why=why, reason=why)
                self._trim()
        champion = now.champion
        if (why := fault(answers, self._before(champion), limits)) is None:
            return
        try:
            other = self._lanes.get(self._standing.rollback_target)
            if await self._is_its_own(self._lanes[champion.version], why, other):
                await self._roll_back(State.FAILED, who=SERVER, why=why, reason=why)
        except CandlecastError as error:  # no other is better
            word = why.partition(":")[0]
            if (champion.version, word) not in self._told:
                self._told.add((champion.version, word))
                log.error("no rollback from version=%d for %s: %s", champion.version, why, error)
                async with self._moving:
                    event = noted(champion, SERVER, f"no rollback: {error}", {"fault": why})
                    await self._keep(self._standing, [event])

    async def _is_its_own(self, lane: Lane, why: str, other: Lane | None) -> bool:
        """Say whether a version is at fault, or what all of them run on: then what was counted is forgotten."""
        version = lane.model.version
        match why.partition(":")[0]:
            case "ERRORS":
                if other is not None and not await self._is_well(other):
                    lane.watch = Watch(self._policy.window_s)
                    return False
                if await self._is_well(lane) and version not in self._doubted:
                    self._doubted.add(version)  # it may have been an outage: once more, and it was none
                    lane.watch = Watch(self._policy.window_s)
                    return False
                return True
            case "LATENCY":
                if other is None:
                    return False
                ours_s, theirs_s = await self._seconds(lane), await self._seconds(other)
                if ours_s <= self._policy.limits.latency_ratio * theirs_s:
                    lane.watch = Watch(self._policy.window_s)
                    return False
                return True
            case _:
                return True

    async def _is_well(self, lane: Lane) -> bool:
        try:
            await self._well(lane)
        except CandlecastError:
            return False
        return True

    async def _seconds(self, lane: Lane) -> float:
        """Return how long a version takes now for a full batch, the best of some."""
        inputs = (await asyncio.to_thread(self._bundle_of, lane.model.version)).golden_inputs
        rows: F32 = np.resize(inputs, (self._policy.batch_rows_max, *inputs.shape[1:]))
        took_s = []
        for _ in range(WARM_RUNS):
            begun = time.monotonic()
            await lane.ask(rows)
            took_s.append(time.monotonic() - begun)
        return min(took_s)

    def _before(self, champion: Version) -> Traffic | None:
        """Return what the champion is compared with, for some time after it was promoted."""
        before = champion.metrics.get("before")
        if before is None or now_ms() - champion.since_ms > self._policy.compared_s * 1000:
            return None
        figures: dict[str, Any] = {name: math.nan if value is None else value for name, value in before.items()}
        return Traffic(**figures)

    async def _send(self) -> None:
        """Have events recorded, whenever the database takes them."""
        while True:
            await self._some_pending.wait()
            self._some_pending.clear()
            while some := self._pending[:OUTBOX_EVENTS]:
                try:
                    await self._record(some)
                except CandlecastError as error:
                    log.info("events wait pending=%d error=%s", len(self._pending), error)
                    await asyncio.sleep(OUTBOX_PAUSE_S)
                    continue
                async with self._moving:
                    self._recorded = (*self._recorded, *some)[-KEPT_EVENTS_MAX:]
                    self._pending = self._pending[len(some) :]
                    try:
                        await self._keep(self._standing, [])
                    except (
                        StorageUnavailable
                    ) as error:  # they will be told once more after a restart, which is harmless
                        log.warning("events not noted as recorded error=%s", error)
                self._some_pending.clear()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _identity(folder: Path, bytes_max: int) -> tuple[str, int, str]:
    """Return name, version and SHA-256 of the manifest in a folder.

    Raises:
        ModelRefused: there is none that says them.
    """
    require_size(folder, bytes_max)
    try:
        text = (folder / MANIFEST).read_bytes()
        document = json.loads(text)
        name, version = document["name"], document["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelRefused(Refusal.DAMAGED, f"{folder}: {MANIFEST} cannot be read: {error!r}") from error
    if not isinstance(name, str) or type(version) is not int or version < 1:
        raise ModelRefused(Refusal.DAMAGED, f"{folder}: {MANIFEST}: name {name!r} or version {version!r} is none")
    return name, version, hashlib.sha256(text).hexdigest()


def _refusal(error: Exception) -> Refusal:
    """Return the code for what went wrong in Triton."""
    if isinstance(error, ModelUnavailable):
        words = str(error)
        if "not finite" in words:
            return Refusal.NOT_FINITE
        if "wrong values" in words:
            return Refusal.GOLDEN_MISMATCH
    if isinstance(error, DeadlineExceeded):
        return Refusal.TIMED_OUT
    return Refusal.WRONG_TENSORS if isinstance(error, BundleError) else Refusal.NOT_LOADED


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as JSON takes them: NaN is None."""
    return {name: None if value != value else value for name, value in values.items()}
