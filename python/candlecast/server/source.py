"""A model repository in an object store: its newest versions, brought to the one on this disk before anything starts.

The first version comes into the repository; a newer one, or a newer gate, into `incoming`, where the running server
tries it before Triton sees it. The store is not written, and once a version is here it may be away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from candlecast.errors import BundleError, CandlecastError, ConfigurationError, Refusal
from candlecast.models import gate_bundle
from candlecast.models.library import Library, identity, versions_in
from candlecast.models.remote import Remote
from candlecast.server.dropped import INCOMING
from candlecast.settings import Settings
from candlecast.triton.repository import write_gate_config

log = logging.getLogger(__name__)


async def synced(settings: Settings, say: Callable[[str], None]) -> None:
    """Bring what is newer in `model_source`, if the model repository has one.

    Raises:
        ConfigurationError: it cannot be read, or holds no version of the model while there is none here either.
        ModelRefused, BundleError, Unavailable, DeadlineExceeded: the first version does not come.
        OSError: it cannot be written.
    """
    if not settings.model_source:
        return
    remote = Remote(
        settings.model_source,
        bytes_max=settings.model_bytes_max,
        timeout_s=settings.model_sync_timeout_ms / 1000,
        say=say,
    )
    library = Library(settings.state_dir, settings.model_repository, settings.model)
    standing = await asyncio.to_thread(library.read)
    known = {*await asyncio.to_thread(library.published), *(standing[0].versions if standing else ())}
    try:
        await _model(settings, remote, library, known)
        await _gate(settings, remote)
    except (CandlecastError, OSError) as error:
        if not known:
            raise
        log.warning("not synced source=%s error=%s", settings.model_source, error)
        say(f"{settings.model_source} was not synced, what is here goes on: {error}")


async def _model(settings: Settings, remote: Remote, library: Library, known: set[int]) -> None:
    found = await remote.versions(settings.model)
    newer = [number for number in found if number > max(known, default=0)]
    if not newer:
        if not known:
            raise ConfigurationError(f"{settings.model_source} holds no version of {settings.model}")
        return
    place = remote.at(f"{settings.model}/{newer[-1]}")
    if known:
        await place.bring(settings.state_dir / INCOMING / f"{settings.model}-{newer[-1]}")
        return
    folder = await place.bring(library.path(newer[-1]))
    name, number, _ = await asyncio.to_thread(identity, folder, settings.model_bytes_max)
    if (name, number) != (settings.model, newer[-1]):
        await asyncio.to_thread(library.drop, newer[-1])
        raise BundleError(f"{place.url} is {name} version {number}", Refusal.WRONG_MODEL)
    await asyncio.to_thread(library.publish, newer[-1])


async def _gate(settings: Settings, remote: Remote) -> None:
    folder = settings.model_repository / gate_bundle.NAME
    here = await asyncio.to_thread(versions_in, folder)
    found = await remote.versions(gate_bundle.NAME)
    if not found or found[-1] <= max(here, default=0):
        return
    place = remote.at(f"{gate_bundle.NAME}/{found[-1]}")
    if here:
        await place.bring(settings.state_dir / INCOMING / f"{gate_bundle.NAME}-{found[-1]}")
        return
    await place.bring(folder / str(found[-1]))
    await asyncio.to_thread(_configured, folder)


def _configured(folder: Path) -> None:
    if not (folder / "config.pbtxt").exists():
        write_gate_config(folder)
