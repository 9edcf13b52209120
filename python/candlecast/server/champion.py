"""Which version answers, as the last rollout left it, and whether Triton computes it. Knows no traffic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from candlecast import outputs
from candlecast.errors import BundleError, ModelRefused
from candlecast.models.bundle import FORECAST, Bundle
from candlecast.models.ensemble import Ensemble, is_ensemble
from candlecast.models.library import Library, champion_of, models_in, versions_in
from candlecast.server.serving import Answering, answering
from candlecast.settings import Settings
from candlecast.triton.watchdog import Canary


def served(settings: Settings) -> Bundle | Ensemble:
    """Load what answers: the champion, or of a repository without a rollout the newest version.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    number = champion_of(settings.state_dir, settings.model_repository, settings.model)
    directory = settings.model_repository / settings.model
    if number is None:
        return newest(directory)
    try:
        Library(settings.state_dir, settings.model_repository, settings.model).publish(number)
    except (OSError, ModelRefused) as error:
        raise BundleError(f"{directory} lacks version {number}, which answers: {error}") from error
    if not (directory / str(number)).is_dir():
        raise BundleError(
            f"{directory} lacks version {number}, which answered last: put it back, or remove"
            f" {settings.state_dir / 'models' / settings.model}.json to begin with the newest version"
        )
    return _load(directory / str(number))


def models_of(settings: Settings) -> set[str]:
    """Return the models of Triton that every version in the repository of what is served needs.

    Raises:
        BundleError: the manifest of an ensemble is damaged.
    """
    return models_in(settings.model_repository, settings.model)


def newest(directory: Path) -> Bundle | Ensemble:
    """Load the bundle, or the ensemble, of the highest version in a model's folder of the repository.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    return _load(_newest_version(directory))


def newest_bundle(directory: Path) -> Bundle:
    """Load the bundle of the highest version in a model's folder of the repository.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    return _forecaster(_newest_version(directory))


@asynccontextmanager
async def champion_check(address: str, settings: Settings) -> AsyncIterator[Canary]:
    """Give what asks the Triton at `address` for the golden outputs of whatever version answers by then.

    One well member of an ensemble is enough.
    """
    async with AsyncExitStack() as last:
        way = await last.enter_async_context(AsyncExitStack())
        asked: int | None = None
        model: Answering | None = None

        async def check() -> None:
            nonlocal asked, model
            number = await asyncio.to_thread(champion_of, settings.state_dir, settings.model_repository, settings.model)
            if model is None or number != asked:
                await way.aclose()
                bundle = await asyncio.to_thread(served, settings)
                model = await way.enter_async_context(answering(bundle, address, timeout_ms=settings.infer_timeout_ms))
                asked = number
            await model.check()

        yield check


def _load(path: Path) -> Bundle | Ensemble:
    return Ensemble.load(path) if is_ensemble(path) else _forecaster(path)


def _forecaster(path: Path) -> Bundle:
    bundle = Bundle.load(path)
    if bundle.target != FORECAST:
        raise BundleError(
            f"{bundle.path} is a model of {bundle.target} with {bundle.manifest.outputs['count']} outputs, no"
            f" forecaster with {outputs.COUNT}: serve another model"
        )
    return bundle


def _newest_version(directory: Path) -> Path:
    versions = versions_in(directory)
    if not versions:
        raise BundleError(f"{directory} holds no model version: train one with `candlecast train patchtst`")
    return directory / str(versions[-1])
