"""The gate's versions while the server runs: a newer one that holds takes over, and no decision waits for it.

A gate is judged before it comes here (`candlecast gate retrain` keeps what is not better), so it needs no shadow: it is
tried in a process apart, loaded beside the one that answers, and asked for its golden values. Knows no order flow.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from candlecast import gate
from candlecast.errors import BundleError, CandlecastError, ModelRefused, Refusal, Unavailable, WrongState
from candlecast.gatekeeper import GateModel
from candlecast.models import gate_bundle
from candlecast.models.gate_bundle import FILES, NAME, GateBundle
from candlecast.models.library import versions_in
from candlecast.models.states import Event, State, event_as_json, now_ms
from candlecast.models.verify import Trials, tried
from candlecast.server.gate_serving import ServedGate
from candlecast.settings import Settings
from candlecast.triton.client import TritonModel
from candlecast.triton.control import READY, Control
from candlecast.triton.repository import write_gate_config

log = logging.getLogger(__name__)

KEPT_MAX: Final = 2
"""Versions that stay in the repository, so that Triton has them: the one that answers and the one before."""


_Step = tuple[tuple[int, str], State | None, State, str]
"""Version and bundle, where it stood and where it stands, and why."""


class GateVersions:
    """The gate that answers, if any: it takes the place of one ServedGate in the canary. An async context.

    Args:
        trials: what the model of a version has to keep to.
    """

    def __init__(self, settings: Settings, trials: Trials) -> None:
        self._settings = settings
        self._trials = trials
        self._folder = settings.model_repository / NAME
        self._served: ServedGate | None = None
        self._way = AsyncExitStack()
        self.changed: Callable[[GateModel], None] = lambda model: None
        """Is told which model answers from now on."""
        self.record: Callable[[Sequence[Mapping[str, Any]]], Awaitable[None]] = _unrecorded
        """Takes rows of ml_model_events."""

    async def __aenter__(self) -> Self:
        """Connect to the newest gate of the repository, if there is one.

        Raises:
            BundleError: it is damaged, or was trained on a simulated market and that is not allowed.
        """
        bundle = await asyncio.to_thread(gate_bundle.newest, self._folder)
        if bundle is not None:
            bundle.check_real(self._settings.allow_simulated)
            self._served, self._way = await self._connect(bundle)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._way.aclose()

    @property
    def model(self) -> GateModel | None:
        """Return what answers; None: there is no gate."""
        return self._served.model if self._served else None

    async def check(self) -> None:
        """Compare golden values; whatever comes of it, forecasts go on."""
        if self._served is not None:
            await self._served.check()

    async def written(self) -> list[Path]:
        """Return the versions in the repository that are newer than the one that answers."""
        if self._settings.triton_backend != "onnxruntime":
            return []
        serving = self.model.version if self.model else 0
        found = await asyncio.to_thread(versions_in, self._folder)
        return [self._folder / str(number) for number in found if number > serving]

    async def take(self, folder: Path, *, who: str, why: str) -> None:
        """Let the gate in `folder` answer, if it holds and is newer; what answers goes on until then.

        Raises:
            ModelRefused: it does not hold.
            WrongState: it is not newer, another of its number is there, or Triton runs no gate.
            Unavailable: Triton is away.
        """
        bundle = await asyncio.to_thread(self._loaded, folder)
        try:
            before = await self._take(folder, bundle, why)
        except ModelRefused as error:
            await self._note([(_described(bundle), None, State.REFUSED, str(error))], who)
            raise
        steps: list[_Step] = [(_described(bundle), None, State.CHAMPION, why)]
        if before is not None:
            because = f"version {bundle.manifest.version} is CHAMPION now"
            steps.append(((before.version, before.bundle_sha256), State.CHAMPION, State.RETIRED, because))
        await self._note(steps, who)

    async def _take(self, folder: Path, bundle: GateBundle, why: str) -> GateModel | None:
        """Do it; return what answered before."""
        number, before = bundle.manifest.version, self.model
        serving = self.model.version if self.model else 0
        place = self._folder / str(number)
        if self._settings.triton_backend != "onnxruntime":
            raise WrongState(f"triton_backend {self._settings.triton_backend} runs no gate: the heuristic decides")
        if number <= serving:
            raise WrongState(f"gate version {number} is not newer than version {serving}, which answers")
        if folder != place and place.exists():
            raise WrongState(f"gate version {number} is there already: give the new one another version")
        if self._trials.python is not None:
            await tried(folder, self._trials, (len(gate.FEATURES),), "probabilities", len(gate.CLASSES))
        if folder != place:
            await asyncio.to_thread(_copy, folder, place)
        settings = self._settings
        async with Control(
            settings.triton, settings.triton_control_key, timeout_ms=settings.model_load_timeout_ms
        ) as control:
            try:
                served, way = await self._load(control, await asyncio.to_thread(GateBundle.load, place))
            except CandlecastError:
                await self._withdraw(control, place, keep=folder == place)
                raise
            old, self._served, self._way = self._way, served, way
            self.changed(served.model)
            log.info("gate version=%d instead of=%d why=%s", number, serving, why)
            await old.aclose()  # after its last answer
            if await asyncio.to_thread(self._trim):
                await _reload(control)
        return before

    async def _note(self, steps: Sequence[_Step], who: str) -> None:
        """Put steps on record; that PostgreSQL is away is no reason to take them back."""
        events = [
            Event(uuid.uuid4().hex, now_ms(), NAME, version, sha256, before, after, who, why)
            for (version, sha256), before, after, why in steps
        ]
        try:
            await self.record([event_as_json(one) for one in events])
        except CandlecastError as error:
            log.warning("gate events not recorded error=%s", error)

    def _loaded(self, folder: Path) -> GateBundle:
        try:
            bundle = GateBundle.load(folder)
            bundle.check_real(self._settings.allow_simulated)
        except BundleError as error:
            raise ModelRefused(error.refusal, str(error)) from error
        return bundle

    async def _connect(self, bundle: GateBundle) -> tuple[ServedGate, AsyncExitStack]:
        settings, way = self._settings, AsyncExitStack()
        version = str(bundle.manifest.version)
        triton = await way.enter_async_context(
            TritonModel(settings.triton, NAME, settings.infer_timeout_ms, version=version)
        )
        served = ServedGate(triton, bundle, timeout_ms=settings.gate_timeout_ms)
        await served.check()
        return served, way

    async def _load(self, control: Control, bundle: GateBundle) -> tuple[ServedGate, AsyncExitStack]:
        if not (self._folder / "config.pbtxt").exists():
            write_gate_config(self._folder)
        await control.load(NAME)
        number = bundle.manifest.version
        state, reason = (await control.versions(NAME)).get(number, ("absent", ""))
        if state != READY:
            raise ModelRefused(Refusal.NOT_LOADED, f"Triton has gate version {number} as {state} {reason}")
        served, way = await self._connect(bundle)
        if served.trouble is not None:
            await way.aclose()
            if isinstance(served.trouble, Unavailable) and await _is_away(control):
                raise served.trouble
            raise ModelRefused(Refusal.GOLDEN_MISMATCH, str(served.trouble))
        return served, way

    async def _withdraw(self, control: Control, place: Path, *, keep: bool) -> None:
        """Have Triton drop a version that it was to load; then put it back where it was found, or away."""
        aside = Path(tempfile.mkdtemp(prefix=".gone-", dir=self._folder))
        await asyncio.to_thread(place.rename, aside / place.name)
        await _reload(control)
        if keep:
            await asyncio.to_thread((aside / place.name).rename, place)
        shutil.rmtree(aside, ignore_errors=True)

    def _trim(self) -> bool:
        """Move the versions that nobody needs at once into the library; say whether there were any."""
        library = self._settings.state_dir / "models" / NAME
        old = versions_in(self._folder)[:-KEPT_MAX]
        for number in old:
            library.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.rmtree(library / str(number), ignore_errors=True)
            shutil.move(self._folder / str(number), library / str(number))
        return bool(old)


async def _unrecorded(events: Sequence[Mapping[str, Any]]) -> None: ...


def _described(bundle: GateBundle) -> tuple[int, str]:
    return bundle.manifest.version, bundle.sha256


async def _reload(control: Control) -> None:
    """Have Triton look at the repository again; what answers goes on whatever comes of it."""
    try:
        await control.load(NAME)
    except CandlecastError as error:
        log.warning("triton reload of the gate error=%s", error)


async def _is_away(control: Control) -> bool:
    try:
        await control.versions(NAME)
    except CandlecastError:
        return True
    return False


def _copy(source: Path, to: Path) -> None:
    """Copy a bundle's files by way of a folder beside it, so that it is there as a whole or not at all."""
    to.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=to.parent))
    try:
        new = scratch / to.name
        new.mkdir()
        for name in FILES:
            shutil.copyfile(source / name, new / name)
            with (new / name).open("rb") as file:
                os.fsync(file.fileno())
        new.rename(to)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
