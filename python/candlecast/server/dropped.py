"""What other tools drop, brought in: a version of the forecaster as far as SHADOW, a newer gate until it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from candlecast.models import gate_bundle
from candlecast.models.folder import MANIFEST
from candlecast.models.incoming import Incoming
from candlecast.models.rollout import Rollouts
from candlecast.models.states import State
from candlecast.server.gate_versions import GateVersions
from candlecast.settings import Settings

INCOMING: Final = "incoming"
"""In the state directory, and who acts, for the record."""
IN_TRAFFIC: Final = (State.SHADOW, State.CHALLENGER, State.CHAMPION)


def incoming_of(settings: Settings, rollouts: Rollouts, gates: GateVersions) -> Incoming:
    """Return what watches the folder of dropped bundles, and the versions that others wrote into the repository."""
    repository = settings.model_repository / settings.model
    adopted: set[int] = set()  # of the repository, and not heard yet

    async def accept(folder: Path, why: str) -> None:
        if await asyncio.to_thread(_name, folder) == gate_bundle.NAME:
            await gates.take(folder, who=INCOMING, why=why)
        else:
            await _hear(folder, why)

    async def _hear(folder: Path, why: str) -> None:
        if folder.parent == repository:
            number = int(folder.name)
            if number not in adopted:
                await rollouts.adopt(number, who=INCOMING, why=why)
                adopted.add(number)
            version = await rollouts.get(number)
        else:
            version = await rollouts.push(folder, who=INCOMING, why=why)
        if version.state not in IN_TRAFFIC:
            try:
                await rollouts.shadow(version.version, who=INCOMING, why=why)
            except Exception:
                if (await rollouts.get(version.version)).state is not State.VERIFIED:
                    adopted.discard(version.version)
                raise
        adopted.discard(version.version)

    async def written() -> Iterable[Path]:
        strangers = {*await rollouts.strangers(), *adopted}
        return [*(repository / str(number) for number in strangers), *await gates.written()]

    return Incoming(
        settings.state_dir / INCOMING,
        accept,
        written=written,
        poll_ms=settings.incoming_poll_ms,
        patience_ms=settings.incoming_patience_ms,
        bytes_max=settings.model_bytes_max,
    )


def _name(folder: Path) -> str:
    """Return the model that a manifest names; nothing where it names none, which is found out by who takes it."""
    try:
        return str(json.loads((folder / MANIFEST).read_bytes())["name"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""
