"""What other tools drop, brought in by the rollouts as far as SHADOW. Knows no file and no Triton."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from candlecast.models.incoming import Incoming
from candlecast.models.rollout import Rollouts
from candlecast.models.states import State
from candlecast.settings import Settings

INCOMING: Final = "incoming"
"""In the state directory, and who acts, for the record."""
IN_TRAFFIC: Final = (State.SHADOW, State.CHALLENGER, State.CHAMPION)


def incoming_of(settings: Settings, rollouts: Rollouts) -> Incoming:
    """Return what watches the folder of dropped bundles, and the versions that others wrote into the repository."""
    repository = settings.model_repository / settings.model
    adopted: set[int] = set()  # of the repository, and not heard yet

    async def accept(folder: Path, why: str) -> None:
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
        return [repository / str(number) for number in {*await rollouts.strangers(), *adopted}]

    return Incoming(
        settings.state_dir / INCOMING,
        accept,
        written=written,
        poll_ms=settings.incoming_poll_ms,
        patience_ms=settings.incoming_patience_ms,
        bytes_max=settings.model_bytes_max,
    )
