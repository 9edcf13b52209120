"""A model trained again: heard when it may be better, promoted when it is, and otherwise what serves is kept.

train on all but the newest candles → compare with the champion on these, which neither was trained on
    better         pushed, heard as shadow, promoted
    not yet known  pushed, and heard as shadow until its live forecasts tell (`judge`)
    worse          kept where it was written; nobody hears it

Knows no command line, and of a server only what `Rollout` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from candlecast.models.bundle import Bundle
from candlecast.training.comparison import Comparison


class Step(StrEnum):
    """What became of a version."""

    PROMOTED = "promoted"
    SHADOW = "shadow"  # it is heard, and judged later
    KEPT = "kept"  # the champion is


@dataclass(frozen=True, slots=True)
class Standing:
    """One version a server knows, and since when it is what it is."""

    version: int
    state: str  # as of `models.states`
    since_ms: int


class Rollout(Protocol):
    """What a running server does with versions of its model; each raises CandlecastError."""

    def versions(self) -> Sequence[Standing]: ...

    def push(self, folder: Path, why: str) -> None:
        """Bring a bundle; it is verified, and refused if it does not hold."""

    def shadow(self, version: int, why: str) -> None: ...

    def promote(self, version: int, why: str) -> None: ...

    def unload(self, version: int, why: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Said:
    """What a run did, and why."""

    step: Step
    why: str
    champion: int
    version: int | None = None  # the one it is about; None: nothing was trained
    comparison: Comparison | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what a JSON line holds."""
        return asdict(self) | {"step": self.step.value}


def retrain(
    rollout: Rollout,
    train: Callable[[int], Bundle],
    compare: Callable[[int, Bundle], Comparison],
    *,
    shadow_ms_max: int,
    now_ms: int,
) -> Said:
    """Train the next version and roll it out as far as it has earned.

    Args:
        train: makes the bundle of this version.
        compare: compares it with this version, the champion.
        shadow_ms_max: so long a shadow of before is waited for, before another takes its place.

    Raises:
        CandlecastError: training failed, the server is away, or the new version does not hold; the champion serves on.
    """
    known = rollout.versions()
    champion = champion_of(known)
    heard = _the(known, "SHADOW") or _the(known, "CHALLENGER")
    if heard is not None and now_ms - heard.since_ms < shadow_ms_max:
        why = f"version {heard.version} is {heard.state} and not judged yet: nothing was trained"
        return Said(Step.KEPT, why, champion, heard.version)
    version = max(one.version for one in known) + 1
    bundle = train(version)
    found = compare(champion, bundle)
    if found.verdict == "worse":
        return Said(Step.KEPT, found.sentence, champion, version, found)
    rollout.push(bundle.path, f"retrained: {found.sentence}")
    rollout.shadow(version, found.sentence)
    if found.verdict == "better":
        rollout.promote(version, found.sentence)
        return Said(Step.PROMOTED, found.sentence, champion, version, found)
    return Said(Step.SHADOW, found.sentence, champion, version, found)


def judge(rollout: Rollout, compare: Callable[[int, int, int], Comparison], *, shadow_ms_max: int, now_ms: int) -> Said:
    """Promote the shadow or challenger if its live forecasts are better, unload it if they are worse or tell nothing.

    Args:
        compare: compares two versions, the champion first, by what was stored since a time in ms.
        shadow_ms_max: so long it may be heard without being known to be better.

    Raises:
        CandlecastError: the server or the database is away.
    """
    known = rollout.versions()
    champion = champion_of(known)
    heard = _the(known, "CHALLENGER") or _the(known, "SHADOW")
    if heard is None:
        return Said(Step.KEPT, "no version is SHADOW or CHALLENGER: there is nothing to judge", champion)
    found = compare(champion, heard.version, heard.since_ms)
    if found.verdict == "better":
        rollout.promote(heard.version, found.sentence)
        return Said(Step.PROMOTED, found.sentence, champion, heard.version, found)
    why = found.sentence
    days = (now_ms - heard.since_ms) / 86_400_000
    if found.verdict == "not yet known":
        if now_ms - heard.since_ms < shadow_ms_max:
            return Said(Step.SHADOW, why, champion, heard.version, found)
        why = f"{why} It was heard for {days:.0f} days, which was to be enough."
    rollout.unload(heard.version, why)
    return Said(Step.KEPT, why, champion, heard.version, found)


def champion_of(known: Sequence[Standing]) -> int:
    """Return the version that answers."""
    champion = _the(known, "CHAMPION")
    assert champion is not None, "a model that is served has a champion"
    return champion.version


def _the(known: Sequence[Standing], state: str) -> Standing | None:
    return next((one for one in known if one.state == state), None)
