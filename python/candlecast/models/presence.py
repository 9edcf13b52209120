"""Which versions Triton has, and the way to each: published, loaded, warmed, dropped. Knows no state and no traffic."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final, Protocol

import numpy as np

from candlecast.errors import (
    BundleError,
    CandlecastError,
    DeadlineExceeded,
    ModelRefused,
    ModelUnavailable,
    Overloaded,
    Refusal,
)
from candlecast.forecaster import Forecaster
from candlecast.models import ensemble
from candlecast.models.age import described
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble
from candlecast.models.library import Library
from candlecast.routing import Lane
from candlecast.triton.control import READY, UNLOADING, Control
from candlecast.values import F32, F64, Model
from candlecast.watch import Watch

log = logging.getLogger(__name__)

WARM_SHARES: Final = (1 / 16, 1 / 4, 1, 1)
"""Of a full batch: what a version runs before it answers."""
WARM_REST: Final = 4
"""Times as long as a run took it rests behind it, for those who answer meanwhile; not above WARM_REST_MAX_S."""
WARM_REST_MAX_S: Final = 1.0
TIMED_RUNS: Final = 4
CHECK_TRIES: Final = 5
CHECK_PAUSE_S: Final = 0.2
"""Between golden checks of a Triton that is busy."""
DROPPED_POLL_S: Final = 0.1


class Connected(Protocol):
    """One version behind Triton's door; see server.serving.Answering."""

    @property
    def absent(self) -> Mapping[str, CandlecastError]: ...

    async def ask(self, windows: F32) -> F32: ...

    async def check(self) -> None: ...

    async def check_fit(self) -> None: ...


class Presence:
    """The versions in Triton; `lock` is held by whoever changes the repository.

    Args:
        connect: opens the way to a version that Triton has.
        forget: is told which version speaks no more.
        batch_rows_max: windows of a full batch.
        window_s: that a version is judged by.
        drop_timeout_ms: longest wait for Triton to end a version.
    """

    def __init__(
        self,
        library: Library,
        control: Control,
        forecaster: Forecaster,
        connect: Callable[[Bundle | Ensemble], AbstractAsyncContextManager[Connected]],
        forget: Callable[[Model], None],
        *,
        batch_rows_max: int,
        window_s: float,
        drop_timeout_ms: int,
    ) -> None:
        self.lanes: dict[int, Lane] = {}
        self.ways: dict[int, AsyncExitStack] = {}
        self.connected: dict[int, Connected] = {}
        self.lock = asyncio.Lock()
        self._library = library
        self._control = control
        self._forecaster = forecaster
        self._connect = connect
        self.forget = forget
        self._batch_rows_max = batch_rows_max
        self._window_s = window_s
        self._drop_timeout_s = drop_timeout_ms / 1000

    async def close(self) -> None:
        """Close every way."""
        for way in list(self.ways.values()):
            await way.aclose()

    async def load(self, version: int, sha256: str) -> Bundle | Ensemble:
        """Publish a version and have Triton load what it lacks of it.

        Raises:
            ModelRefused: it is not the bundle of this hash, or Triton does not load it, or one of its members.
            ModelUnavailable, DeadlineExceeded: Triton is away, or says what is wrong.
            OSError: it cannot be published.
        """
        served = await asyncio.to_thread(self._published, version, sha256)
        for model, number in self._library.parts(version):
            if (await self._control.versions(model)).get(number, ("", ""))[0] == READY:
                continue
            await self._control.load(model)
            state, reason = (await self._control.versions(model)).get(number, ("absent", ""))
            if state != READY:
                raise ModelRefused(Refusal.NOT_LOADED, f"Triton has {model} version {number} as {state} {reason}")
        return served

    def _published(self, version: int, sha256: str) -> Bundle | Ensemble:
        kept = self._library.path(version)
        try:
            served = ensemble.load(kept if kept.exists() else self._library.published_path(version))
        except BundleError as error:
            raise ModelRefused(error.refusal, str(error)) from error
        if served.sha256 != sha256:
            raise ModelRefused(Refusal.SHA256_MISMATCH, f"{served.path} is not the bundle that was verified")
        self._library.publish(version)
        return served

    async def open(self, served: Bundle | Ensemble) -> None:
        """Connect to a version that Triton has.

        Raises:
            BundleError: what Triton has is not that.
            ModelUnavailable, DeadlineExceeded.
        """
        number = served.manifest.version
        way = AsyncExitStack()
        try:
            connected = await way.enter_async_context(self._connect(served))
            await connected.check_fit()
            lane = self._forecaster.lane(
                connected.ask,
                model=described(served),
                temperatures=temperatures_of(served),
                check=connected.check,
                watch=Watch(self._window_s),
            )
            await way.enter_async_context(lane)
        except BaseException:
            await way.aclose()
            raise
        self.ways[number], self.connected[number], self.lanes[number] = way, connected, lane

    async def warm(self, lane: Lane) -> None:
        """Compare golden values on each instance and of the set, and run some batches; raises as `whole`."""
        await self.whole(lane)
        served = await self._served(lane)
        if isinstance(served, Ensemble):
            answers = (await lane.ask(served.golden_inputs)).outputs
            if why := served.misfit(answers):
                raise ModelUnavailable(why)
        for share in WARM_SHARES:
            await asyncio.sleep(min(WARM_REST_MAX_S, WARM_REST * await self._run_s(lane, served, share)))
        self.begin_anew(lane)  # that was no traffic

    async def well(self, lane: Lane) -> None:
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

    async def whole(self, lane: Lane) -> None:
        """Compare golden values now, of every member of an ensemble; raises as `well`, also when one is absent."""
        await self.well(lane)
        for name, error in self.connected[lane.model.version].absent.items():
            raise ModelUnavailable(f"{name}: {error}") from error

    async def is_well(self, lane: Lane) -> bool:
        """Say whether its golden values are right now."""
        try:
            await self.well(lane)
        except CandlecastError:
            return False
        return True

    async def seconds(self, lane: Lane) -> float:
        """Return how long a version takes now for a full batch, the best of some; raises what the lane does."""
        served = await self._served(lane)
        return min([await self._run_s(lane, served, 1) for _ in range(TIMED_RUNS)])

    async def _run_s(self, lane: Lane, served: Bundle | Ensemble, share: float) -> float:
        """Return how long a share of a full batch takes."""
        inputs = served.golden_inputs
        rows: F32 = np.resize(inputs, (max(1, round(share * self._batch_rows_max)), *inputs.shape[1:]))
        begun = time.monotonic()
        await lane.ask(rows)
        return time.monotonic() - begun

    async def _served(self, lane: Lane) -> Bundle | Ensemble:
        return await asyncio.to_thread(ensemble.load, self._library.published_path(lane.model.version))

    def begin_anew(self, lane: Lane) -> None:
        """Forget what a version did of late."""
        lane.watch = Watch(self._window_s)

    async def is_away(self) -> bool:
        """Say whether nothing at all can be had from Triton."""
        try:
            await self._control.versions(self._library.name)
        except CandlecastError:
            return True
        return False

    async def take_out(self, version: int) -> None:
        """Close the way to a version, and withdraw it from the repository and from Triton.

        A Triton that is away has it no more when it comes back.
        """
        if (lane := self.lanes.pop(version, None)) is not None:
            self.forget(lane.model)
        if (way := self.ways.pop(version, None)) is not None:
            await way.aclose()  # first: Triton keeps a version for as long as a stream that asked it is open
        self.connected.pop(version, None)
        gone = await asyncio.to_thread(self._library.withdraw, version)
        for model, number in gone:
            try:
                await (self._control.unload if self._library.is_empty(model) else self._control.load)(model)
                await self._dropped(model, number)
            except CandlecastError as error:
                log.warning("triton reload after model=%s version=%d went error=%s", model, number, error)

    async def _dropped(self, model: str, version: int) -> None:
        """Return once Triton has ended a version, or is not done in time."""
        deadline = time.monotonic() + self._drop_timeout_s
        while (await self._control.versions(model)).get(version, ("", ""))[0] in (READY, UNLOADING):
            if time.monotonic() > deadline:
                log.warning("triton still has model=%s version=%d", model, version)
                return
            await asyncio.sleep(DROPPED_POLL_S)


def temperatures_of(served: Bundle | Ensemble) -> F64:
    """Return the calibration [4] of what is answered; members are calibrated before they are averaged."""
    return np.ones(4) if isinstance(served, Ensemble) else np.asarray(served.manifest.temperatures)


def refusal_of(error: Exception) -> Refusal:
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
