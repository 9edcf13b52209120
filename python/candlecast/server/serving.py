"""What answers windows: one model of Triton, or the members of an ensemble at the same time. Knows no forecasts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

from candlecast import features as feature_state
from candlecast import outputs
from candlecast.ensemble import combine
from candlecast.errors import BundleError, CandlecastError, ModelUnavailable, Overloaded
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble
from candlecast.triton.client import TritonModel
from candlecast.triton.shared_memory import SharedWindows
from candlecast.values import F32

log = logging.getLogger(__name__)

MEMBER_OPEN_MS: Final = 60_000
"""A member that failed once is left out until its golden check passes, which is tried each second; or so long."""


class Answering(Protocol):
    """A model as the server uses it."""

    @property
    def absent(self) -> Mapping[str, CandlecastError]:
        """Return those of several members that are not well, and why."""

    async def ask(self, windows: F32) -> F32:
        """Answer windows [B, 96, F] with outputs [B, 20], or with what an ensemble has: [B, 22]."""

    async def check(self) -> None:
        """Compare what Triton computes with golden values.

        Raises:
            ModelUnavailable, Overloaded: as TritonModel.check_golden; of several members only when none is well.
        """

    async def check_fit(self) -> None:
        """Compare what Triton serves with the bundles.

        Raises:
            BundleError: version or shape differ; says how.
            ModelUnavailable, DeadlineExceeded: Triton does not answer.
        """


@asynccontextmanager
async def answering(
    served: Bundle | Ensemble,
    address: str,
    *,
    timeout_ms: int,
    shared: SharedWindows | None = None,
    key: str | None = None,
) -> AsyncIterator[Answering]:
    """Connect to what is served by the Triton at `address`; arguments as of TritonModel."""

    def model(bundle: Bundle, **more: int) -> TritonModel:
        name, version = bundle.manifest.name, str(bundle.manifest.version)
        return TritonModel(address, name, timeout_ms, version=version, shared=shared, key=key, **more)

    async with AsyncExitStack() as stack:
        if isinstance(served, Bundle):
            yield One(await stack.enter_async_context(model(served)), served)
            return
        models = [
            await stack.enter_async_context(model(bundle, failures_max=1, open_ms=MEMBER_OPEN_MS))
            for bundle in served.members
        ]
        yield Several(models, served)


class One:
    """One model."""

    absent: Mapping[str, CandlecastError] = {}

    def __init__(self, model: TritonModel, bundle: Bundle) -> None:
        self._model = model
        self._bundle = bundle

    async def ask(self, windows: F32) -> F32:
        said = await self._model.infer(windows)
        if said.version != str(self._bundle.manifest.version):
            raise ModelUnavailable(f"version {said.version} answered in place of {self._bundle.manifest.version}")
        return said.outputs

    async def check(self) -> None:
        await self._model.check_golden(self._bundle.golden_inputs, self._bundle.golden_outputs)

    async def check_fit(self) -> None:
        await check_model(self._model, self._bundle)


class Several:
    """The members of an ensemble. One that fails is left out, and asked again once its golden values are right.

    `absent` are those that did not answer, or were not well, when that was last known.
    """

    def __init__(self, models: Sequence[TritonModel], ensemble: Ensemble) -> None:
        self._models = models
        self._bundles = ensemble.members
        self._weights, self._temperatures = ensemble.weights, ensemble.temperatures
        self.absent: Mapping[str, CandlecastError] = {}

    async def ask(self, windows: F32) -> F32:
        answers = await asyncio.gather(*(model.infer(windows) for model in self._models), return_exceptions=True)
        self._tell(answers)
        outputs = [None if isinstance(answer, BaseException) else answer.outputs for answer in answers]
        return combine(outputs, self._temperatures, self._weights)

    async def check(self) -> None:
        pairs = zip(self._models, self._bundles, strict=True)
        checks = (model.check_golden(bundle.golden_inputs, bundle.golden_outputs) for model, bundle in pairs)
        self._tell(await asyncio.gather(*checks, return_exceptions=True))

    async def check_fit(self) -> None:
        found = await asyncio.gather(*map(check_model, self._models, self._bundles), return_exceptions=True)
        for error in _errors(found):
            if isinstance(error, BundleError):
                raise error
        self._tell(found)

    def _tell(self, found: Sequence[object]) -> None:
        """Note which members are absent, on a change in the log too; raise when all are."""
        errors = _errors(found)
        if len(errors) == len(found):
            raise _worst(errors)
        names = (f"{bundle.manifest.name} v{bundle.manifest.version}" for bundle in self._bundles)
        # One that is busy says nothing of its values.
        away = {
            name: error
            for name, error in zip(names, found, strict=True)
            if isinstance(error, CandlecastError) and not isinstance(error, Overloaded)
        }
        if away.keys() != self.absent.keys():
            for name, error in away.items():
                log.warning("ensemble degraded member=%s error=%s", name, error)
            if not away:
                log.info("ensemble whole members=%d", len(found))
        self.absent = away


def _errors(found: Sequence[object]) -> list[CandlecastError]:
    """Return the errors of members; raise what is a mistake of ours."""
    errors = []
    for error in found:
        if isinstance(error, CandlecastError):
            errors.append(error)
        elif isinstance(error, BaseException):
            raise error
    return errors


def _worst(errors: Sequence[CandlecastError]) -> CandlecastError:
    """Return what to say when every member fails: that one is away, if one is."""
    return next((error for error in errors if isinstance(error, ModelUnavailable)), errors[0])


async def check_model(model: TritonModel, bundle: Bundle) -> None:
    """Compare what Triton serves with the bundle.

    Raises:
        BundleError: version or shape differ; says how.
        ModelUnavailable, DeadlineExceeded: Triton does not answer.
    """
    served, manifest = await model.metadata(), bundle.manifest
    where = f"Triton at {model.address} serves {model.name}"
    if str(manifest.version) not in served.versions:
        raise BundleError(
            f"{where} in versions {', '.join(served.versions)}, not {manifest.version} as the bundle says"
        )
    wanted = {
        "features": (-1, feature_state.WINDOW, len(feature_state.NAMES)),
        "outputs": (-1, outputs.COUNT),
    }
    found = {tensor.name: tensor.shape for tensor in (*served.inputs, *served.outputs)}
    if found != wanted:
        raise BundleError(f"{where} with tensors {found}; this server needs {wanted}")
