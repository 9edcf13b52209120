"""Which versions Triton has, and the way to each: published, loaded, warmed, dropped. Knows no state and no traffic."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
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
from candlecast.models.age import described
from candlecast.models.bundle import Bundle
from candlecast.models.library import Library
from candlecast.routing import Lane
from candlecast.triton.control import READY, UNLOADING, Control
from candlecast.values import F32, Model
from candlecast.watch import Watch

log = logging.getLogger(__name__)

WARM_RUNS: Final = 4
CHECK_TRIES: Final = 5
CHECK_PAUSE_S: Final = 0.2
"""Between golden checks of a Triton that is busy."""
DROPPED_POLL_S: Final = 0.1


class Connected(Protocol):
    """One version behind Triton's door; see server.serving.Answering."""

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
        connect: Callable[[Bundle], AbstractAsyncContextManager[Connected]],
        forget: Callable[[Model], None],
        *,
        batch_rows_max: int,
        window_s: float,
        drop_timeout_ms: int,
    ) -> None:
        self.lanes: dict[int, Lane] = {}
        self.ways: dict[int, AsyncExitStack] = {}
        self.lock = asyncio.Lock()
        self._library = library
        self._control = control
        self._forecaster = forecaster
        self._connect = connect
        self._forget = forget
        self._batch_rows_max = batch_rows_max
        self._window_s = window_s
        self._drop_timeout_s = drop_timeout_ms / 1000

    async def close(self) -> None:
        """Close every way."""
        for way in list(self.ways.values()):
            await way.aclose()

    async def load(self, version: int, sha256: str) -> Bundle:
        """Publish a version and have Triton load it, if it has not.

        Raises:
            ModelRefused: it is not the bundle of this hash, or Triton does not load it.
            ModelUnavailable, DeadlineExceeded: Triton is away, or says what is wrong.
            OSError: it cannot be published.
        """
        bundle = await asyncio.to_thread(self._published, version, sha256)
        name = self._library.name
        if (await self._control.versions(name)).get(version, ("", ""))[0] == READY:
            return bundle
        await self._control.load(name)
        state, reason = (await self._control.versions(name)).get(version, ("absent", ""))
        if state != READY:
            raise ModelRefused(Refusal.NOT_LOADED, f"Triton has version {version} as {state} {reason}")
        return bundle

    def _published(self, version: int, sha256: str) -> Bundle:
        kept = self._library.path(version)
        try:
            bundle = Bundle.load(kept if kept.exists() else self._library.published_path(version))
        except BundleError as error:
            raise ModelRefused(error.refusal, str(error)) from error
        if bundle.sha256 != sha256:
            raise ModelRefused(Refusal.SHA256_MISMATCH, f"{bundle.path} is not the bundle that was verified")
        self._library.publish(version)
        return bundle

    async def open(self, bundle: Bundle) -> None:
        """Connect to a version that Triton has.

        Raises:
            BundleError: what Triton has is not that.
            ModelUnavailable, DeadlineExceeded.
        """
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
                watch=Watch(self._window_s),
            )
            await way.enter_async_context(lane)
        except BaseException:
            await way.aclose()
            raise
        self.ways[manifest.version], self.lanes[manifest.version] = way, lane

    async def warm(self, lane: Lane) -> None:
        """Compare golden values on each instance, and run some full batches; raises as `well`."""
        await self.well(lane)
        await self.seconds(lane)
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

    async def is_well(self, lane: Lane) -> bool:
        """Say whether its golden values are right now."""
        try:
            await self.well(lane)
        except CandlecastError:
            return False
        return True

    async def seconds(self, lane: Lane) -> float:
        """Return how long a version takes now for a full batch, the best of some; raises what the lane does."""
        bundle = await asyncio.to_thread(Bundle.load, self._library.published_path(lane.model.version))
        rows: F32 = np.resize(bundle.golden_inputs, (self._batch_rows_max, *bundle.golden_inputs.shape[1:]))
        took_s = []
        for _ in range(WARM_RUNS):
            begun = time.monotonic()
            await lane.ask(rows)
            took_s.append(time.monotonic() - begun)
        return min(took_s)

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
            self._forget(lane.model)
        if (way := self.ways.pop(version, None)) is not None:
            await way.aclose()  # first: Triton keeps a version for as long as a stream that asked it is open
        await asyncio.to_thread(self._library.withdraw, version)
        try:
            await self._control.load(self._library.name)
            await self._dropped(version)
        except CandlecastError as error:
            log.warning("triton reload after version=%d went error=%s", version, error)

    async def _dropped(self, version: int) -> None:
        """Return once Triton has ended a version, or is not done in time."""
        deadline = time.monotonic() + self._drop_timeout_s
        while (await self._control.versions(self._library.name)).get(version, ("", ""))[0] in (READY, UNLOADING):
            if time.monotonic() > deadline:
                log.warning("triton still has version=%d", version)
                return
            await asyncio.sleep(DROPPED_POLL_S)


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
