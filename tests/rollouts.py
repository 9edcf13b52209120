"""Rollouts of a model, or of an ensemble, over stand-ins for Triton: what it has loaded, and what goes wrong in it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from candlecast import outputs as layout
from candlecast.errors import BundleError, ModelUnavailable, StorageUnavailable
from candlecast.features import NAMES, WINDOW, Features
from candlecast.models import ensemble
from candlecast.models.ensemble import Ensemble
from candlecast.models.library import Library, champion_of, versions_in
from candlecast.models.moves import Policy
from candlecast.models.presence import temperatures_of
from candlecast.models.rollout import Rollouts
from candlecast.models.verify import Trials
from candlecast.server.serving import Several
from candlecast.triton.control import READY
from candlecast.watch import Limits
from tests import fakes
from tests.bundles import walked
from tests.fakes import FakeModel, FakeRecorder, fitting_bundle
from tests.market_simulator import candles

NEED = Features(symbols_max=1, conflicts_max=1).need
WHO = {"who": "tester", "why": "a test"}
LIMITS = Limits(rows_min=4, not_finite_max=3, latency_ms=5, confidence_ratio=0.2)
KINDS = ["model", "ensemble"]


class World:
    """A Triton that loads what lies in the repository, and rollouts over it.

    Version N of an ensemble has the members patchtst v N, and lstm v1, which all versions share.
    """

    def __init__(self, root, kind="model"):
        self.root = root
        self.name = "patchtst" if kind == "model" else "ensemble"
        self.triton: dict[str, set[int]] = {}  # by model: the versions it has loaded
        self.loads: list[str] = []
        self.broken: dict[int, Exception] = {}  # by version: what asking and checking raise
        self.missing: set[str] = set()  # members that do not answer
        self.unloadable: set[tuple[str, int]] = set()
        self.nan: set[int] = set()
        self.empty: set[int] = set()  # every direction is as likely
        self.delay_s: dict[int, float] = {}  # by version
        self.away = False
        self.recorded: list = []
        self.database_is_away = False
        self.open: set[int] = set()
        self.write(root / "models", 1)

    def write(self, repository, version, **more):
        """Write a version into a repository; `more` is of its patchtst."""
        metrics = walked(1.0)
        one = fitting_bundle(repository / "patchtst" / str(version), version=version, metrics=metrics, **more)
        if self.name == "patchtst":
            return one
        if not (repository / "lstm" / "1").exists():
            fitting_bundle(repository / "lstm" / "1", name="lstm", metrics=walked(1.05))
        other = fakes.bundle.Bundle.load(repository / "lstm" / "1")
        return ensemble.write(repository / "ensemble" / str(version), ensemble.weigh([one, other], version))

    def bundle(self, version):
        """Write a version to be pushed, once; return its folder."""
        place = self.root / f"run-{version}" / self.name / str(version)
        return place if place.exists() else self.write(self.root / f"run-{version}", version).path

    # Triton
    @property
    def loaded(self):
        """Return the versions of patchtst that Triton has."""
        return self.triton.get("patchtst", set())

    async def load(self, name):
        if self.away:
            raise ModelUnavailable("nobody there")
        self.loads.append(name)
        found = set(versions_in(self.root / "models" / name))
        assert found, "nobody asks to load a model without a version"
        bad = {version for version in found if (name, version) in self.unloadable}
        self.triton[name] = found - bad
        if bad:
            raise ModelUnavailable(f"load failed: {name} version {bad}")

    async def unload(self, name):
        if self.away:
            raise ModelUnavailable("nobody there")
        self.triton.pop(name)

    async def versions(self, name):
        if self.away:
            raise ModelUnavailable("nobody there")
        return dict.fromkeys(self.triton.get(name, ()), (READY, ""))

    @asynccontextmanager
    async def connect(self, served):
        number = served.manifest.version
        self.open.add(number)
        try:
            if isinstance(served, Ensemble):
                named = [(one.manifest.name, one.manifest.version) for one in served.members]
                yield Several([Member(self, number, *one) for one in named], served)
            else:
                yield One(self, number, "patchtst", number)
        finally:
            self.open.discard(number)

    async def record(self, events):
        if self.database_is_away:
            raise StorageUnavailable("no database")
        self.recorded += events

    @property
    def library(self):
        return Library(self.root / "state", self.root / "models", self.name)

    def start_triton(self):
        """Have it load what lies in the repository, as a tritonserver that starts does."""
        models = self.root / "models"
        found = {path.name: set(versions_in(path)) for path in models.iterdir() if path.name != "ensemble"}
        self.triton = {name: versions for name, versions in found.items() if versions}

    @asynccontextmanager
    async def rollouts(self, **policy):
        """Enter rollouts over a forecaster that answers with the champion, as the server does."""
        number = champion_of(self.root / "state", self.root / "models", self.name) or 1
        first = ensemble.load(self.library.published_path(number))
        self.start_triton()
        async with AsyncExitStack() as stack:
            way = await stack.enter_async_context(AsyncExitStack())
            connection = await way.enter_async_context(self.connect(first))
            features, self.recorder = Features(symbols_max=10, conflicts_max=3), FakeRecorder()
            self.forecaster = fakes.forecaster(features, connection.ask, self.recorder)
            champion = self.forecaster.routes.champion
            champion.model = fakes.Model(self.name, number, first.sha256, 0)
            champion.temperatures = temperatures_of(first)
            champion._check = connection.check
            trials = Trials(None, self.name, "BTCUSDT", 10**9, 10**9, 10_000, 50)
            rollouts = await stack.enter_async_context(
                Rollouts(
                    self.library, self, self.forecaster, first=first, connected=connection, way=way,
                    connect=self.connect, trials=trials, record=self.record,
                    policy=Policy(limits=LIMITS, batch_rows_max=4, **policy),
                )
            )  # fmt: skip
            await stack.enter_async_context(self.forecaster)
            self.given = iter(range(NEED, 10_000))
            await self.forecaster.accept(candles("BTCUSDT", NEED + 400).take(np.arange(NEED)), forecast=False)
            yield rollouts

    async def forecasts(self, count=1):
        """Close bars; return what was answered."""
        at = np.array([next(self.given) for _ in range(count)])
        return (await self.forecaster.accept(candles("BTCUSDT", NEED + 400).take(at))).forecasts

    async def bar(self, count=1):
        """Close bars; return the version that answered."""
        return (await self.forecasts(count)).model.version


class Member:
    """One model of Triton, as TritonModel; what is wrong is said by the version that it answers for."""

    def __init__(self, world, number, name, version):
        self.world, self.number, self.name, self.version, self.address = world, number, name, version, "nowhere"
        self.model = FakeModel()

    async def infer(self, windows):
        await self.check_golden()
        await asyncio.sleep(self.world.delay_s.get(self.number, 0))
        answers = await self.model(windows)
        if self.name == "lstm":
            answers = answers / 2
        if self.number in self.world.empty:
            answers[:, layout.LOGITS] = 0
        if self.number in self.world.nan:
            answers[:] = np.nan
        return SimpleNamespace(outputs=answers, version=str(self.version))

    async def check_golden(self, *_):
        if self.world.away or self.name in self.world.missing:
            raise ModelUnavailable("nobody there")
        if self.number in self.world.broken:
            raise self.world.broken[self.number]

    async def metadata(self):
        inputs = [SimpleNamespace(name="features", shape=(-1, WINDOW, len(NAMES)))]
        outputs = [SimpleNamespace(name="outputs", shape=(-1, layout.COUNT))]
        versions = tuple(map(str, self.world.triton.get(self.name, ())))
        return SimpleNamespace(versions=versions, inputs=inputs, outputs=outputs)


class One(Member):
    """One model, as server.serving.One."""

    absent: ClassVar[dict] = {}

    async def ask(self, windows):
        return (await self.infer(windows)).outputs

    async def check(self):
        await self.check_golden()

    async def check_fit(self):
        if self.version not in self.world.triton.get(self.name, ()):
            raise BundleError("not there")


async def states(rollouts):
    return {one.version: one.state for one in await rollouts.list()}
