"""Where each version of a model stands, and which steps lead on: pure. Knows no file, no Triton and no traffic.

PUSHED → VERIFIED → LOADED → WARM → SHADOW → CHALLENGER → CHAMPION → RETIRED, forward only but for what `NEXT` names;
SHADOW and CHALLENGER may be left out. What does not pass is REFUSED before Triton has seen it, FAILED after that.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, Final, Self

from candlecast.errors import InvalidRequest, WrongState


class State(Enum):
    """A step of a version's way; the values are those of `ml_model_events` and of the wire."""

    PUSHED = "PUSHED"  # its files lie in our library
    VERIFIED = "VERIFIED"  # hashes, features, tensors, golden values and speed are right
    LOADED = "LOADED"  # Triton has it beside the others
    WARM = "WARM"  # Triton gives its golden values, on each instance
    SHADOW = "SHADOW"  # it hears every burst; nobody hears it
    CHALLENGER = "CHALLENGER"  # it answers a share of the symbols
    CHAMPION = "CHAMPION"  # it answers the others
    RETIRED = "RETIRED"  # it answered once, or was unloaded
    REFUSED = "REFUSED"  # it does not pass, and never was in Triton
    FAILED = "FAILED"  # Triton could not load it, or it was taken out of traffic for what it did there


_IN_TRITON: Final = (State.WARM, State.SHADOW, State.CHALLENGER)
NEXT: Final[Mapping[State, frozenset[State]]] = {
    State.PUSHED: frozenset({State.VERIFIED, State.REFUSED}),
    State.VERIFIED: frozenset({State.LOADED, State.REFUSED, State.FAILED}),
    State.LOADED: frozenset({State.WARM, State.FAILED, State.RETIRED}),
    State.WARM: frozenset({State.SHADOW, State.CHALLENGER, State.CHAMPION, State.RETIRED, State.FAILED}),
    State.SHADOW: frozenset({State.WARM, State.CHALLENGER, State.CHAMPION, State.RETIRED, State.FAILED}),
    State.CHALLENGER: frozenset({State.WARM, State.SHADOW, State.CHAMPION, State.RETIRED, State.FAILED}),
    State.CHAMPION: frozenset(),  # it answers until another is promoted, or rolled back to
    # A standby is still warm; another goes through Triton again.
    State.RETIRED: frozenset({State.LOADED, State.WARM, State.CHAMPION, State.REFUSED, State.FAILED}),
    State.REFUSED: frozenset({State.PUSHED}),
    State.FAILED: frozenset({State.VERIFIED, State.REFUSED}),
}
"""Where a version may go from where it is."""
ALONE: Final = (State.SHADOW, State.CHALLENGER, State.CHAMPION)
"""States that one version has at a time; another that takes one sends the former back, to `AFTER`."""
AFTER: Final = {State.SHADOW: State.WARM, State.CHALLENGER: State.WARM, State.CHAMPION: State.RETIRED}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model and where it stands."""

    name: str
    version: int
    sha256: str  # of its manifest, hence of everything
    state: State
    since_ms: int
    is_loaded: bool = False  # Triton has it
    reason: str = ""  # why REFUSED or FAILED: a code of Refusal, a colon, words
    share: float = 0.0  # of the symbols, while it is the CHALLENGER
    metrics: Mapping[str, Any] = field(default_factory=dict)  # of the step that brought it here


@dataclass(frozen=True, slots=True)
class Event:
    """One step of one version: a row of `ml_model_events`."""

    id: str  # a UUID: told twice, it is recorded once
    at_ms: int
    model: str
    version: int
    bundle_sha256: str
    from_state: State | None  # None: it was not known before
    to_state: State
    who: str
    why: str
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """All versions of one model."""

    name: str
    versions: Mapping[int, Version] = field(default_factory=dict)
    former: tuple[int, ...] = ()  # champions of before, the last one last: where a rollback goes

    def __getitem__(self, version: int) -> Version:
        """Return a version.

        Raises:
            InvalidRequest: there is none of this number.
        """
        if version not in self.versions:
            known = ", ".join(map(str, sorted(self.versions))) or "none"
            raise InvalidRequest("version", f"{self.name} has no version {version}; known: {known}")
        return self.versions[version]

    def the(self, state: State) -> Version | None:
        """Return the version that has this state, of those of ALONE, alone."""
        return next((one for one in self.versions.values() if one.state is state), None)

    @property
    def champion(self) -> Version:
        """Return the version that answers."""
        champion = self.the(State.CHAMPION)
        assert champion is not None, "a model that is served has a champion"
        return champion

    def added(self, version: Version, who: str, why: str) -> tuple[Standing, list[Event]]:
        """Return the standing with a version that was not known, or that is pushed again after it was REFUSED.

        Raises:
            WrongState: another of its number is there.
        """
        known = self.versions.get(version.version)
        if known is not None and known.state is not State.REFUSED:
            raise WrongState(
                f"{self.name} version {version.version} is there already ({known.state.value}): give the new one"
                " another version"
            )
        event = _event(version, known.state if known else None, who, why, version.metrics)
        return replace(self, versions={**self.versions, version.version: version}), [event]

    def moved(
        self, number: int, to: State, *, who: str, why: str, reason: str = "", share: float = 0.0,
        metrics: Mapping[str, Any] | None = None,
    ) -> tuple[Standing, list[Event]]:  # fmt: skip
        """Return the standing after one version went on, and the events of it and of whom it replaced.

        Raises:
            InvalidRequest: there is no such version.
            WrongState: no step leads there from where it is.
        """
        before = self[number]
        if to not in NEXT[before.state] and not (to is before.state is State.CHALLENGER):  # another share
            possible = ", ".join(sorted(state.value for state in NEXT[before.state])) or "that of another"
            raise WrongState(f"{self.name} version {number} is {before.state.value}, not {to.value} next: {possible}")
        versions, events, former = dict(self.versions), list[Event](), self.former
        replaced = self.the(to) if to in ALONE else None
        if replaced is not None and replaced.version != number:
            versions[replaced.version] = _at(replaced, AFTER[to])
            because = f"version {number} is {to.value} now"
            events.append(_event(versions[replaced.version], replaced.state, who, because, {}))
        if to is State.CHAMPION:
            former = (*(one for one in former if one != number), *([replaced.version] if replaced else []))
        found = metrics or {}
        versions[number] = replace(_at(before, to), reason=reason, share=share, metrics=found)
        events.append(_event(versions[number], before.state, who, why, found))
        return replace(self, versions=versions, former=former), events

    def rolled_back(self, to: State, *, who: str, why: str, reason: str = "") -> tuple[Standing, list[Event]]:
        """Return the standing after the former champion took over again; the one of now goes to RETIRED or FAILED.

        Raises:
            WrongState: there is no former champion.
        """
        bad, number = self.champion, self.rollback_target
        versions = dict(self.versions)
        versions[bad.version] = replace(_at(bad, to), reason=reason)
        back = versions[number]
        versions[number] = _at(back, State.CHAMPION)
        events = [
            _event(versions[bad.version], bad.state, who, why, {}),
            _event(versions[number], back.state, who, f"rollback: {why}", {}),
        ]
        return replace(self, versions=versions, former=tuple(one for one in self.former if one != number)), events

    @property
    def rollback_target(self) -> int:
        """Return the number of the former champion.

        Raises:
            WrongState: there is none that may answer again.
        """
        able = [one for one in self.former if self.versions[one].state in (State.RETIRED, *_IN_TRITON)]
        if not able:
            raise WrongState(f"{self.name} has no former champion to go back to")
        return able[-1]

    def with_loaded(self, number: int, is_loaded: bool) -> Standing:
        """Return the standing in which Triton has this version, or has it no more."""
        version = replace(self[number], is_loaded=is_loaded)
        return replace(self, versions={**self.versions, number: version})

    def as_json(self) -> dict[str, Any]:
        """Return what a JSON file holds."""
        versions = [asdict(one) | {"state": one.state.value} for one in self.versions.values()]
        return {"name": self.name, "former": list(self.former), "versions": versions}

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the standing of such a file.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        versions = [Version(**one | {"state": State(one["state"])}) for one in document["versions"]]
        numbered = {one.version: one for one in versions}
        return cls(document["name"], numbered, tuple(one for one in document["former"] if one in numbered))


def event_as_json(event: Event) -> dict[str, Any]:
    """Return an event as a JSON file has it."""
    before = event.from_state.value if event.from_state else None
    return asdict(event) | {"from_state": before, "to_state": event.to_state.value}


def event_of_json(document: Mapping[str, Any]) -> Event:
    """Return the event; errors as of Standing.of_json."""
    before = document["from_state"]
    states = {"from_state": State(before) if before else None, "to_state": State(document["to_state"])}
    return Event(**{**document, **states})


def now_ms() -> int:
    """Return the wall clock in ms since 1970."""
    return time.time_ns() // 1_000_000


def noted(version: Version, who: str, why: str, metrics: Mapping[str, Any]) -> Event:
    """Return an event of a version that stays where it is."""
    return _event(version, version.state, who, why, metrics)


def newest_first(events: Sequence[Event]) -> list[Event]:
    """Return events, the newest first; of one time the later step first."""
    return sorted(events, key=lambda event: event.at_ms)[::-1]


def _at(version: Version, state: State) -> Version:
    return replace(version, state=state, since_ms=now_ms(), share=0.0, reason="", metrics={})


def _event(version: Version, before: State | None, who: str, why: str, metrics: Mapping[str, Any]) -> Event:
    return Event(
        uuid.uuid4().hex, now_ms(), version.name, version.version, version.sha256, before, version.state, who, why,
        metrics,
    )  # fmt: skip
