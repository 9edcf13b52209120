"""What was told and what is not sent yet, in a small file that a restart goes on from. Knows no rule and no channel."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from candlecast.alert_rules import Severity

FORMAT: Final = 1
BYTES_MAX: Final = 1024 * 1024
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alert:
    key: str  # what it is about; the end of something has the key of its begin
    text: str
    firing: bool  # False: it has ended
    severity: Severity = "warning"

    def __str__(self) -> str:
        return f"FIRING ({self.severity}) {self.text}" if self.firing else f"RESOLVED {self.text}"


@dataclass(frozen=True, slots=True)
class Begun:
    """Something that somebody was told has begun."""

    text: str
    severity: Severity
    since: float  # s since 1970


@dataclass(frozen=True, slots=True)
class State:
    firing: Mapping[str, Begun] = field(default_factory=dict)
    unsent: tuple[Alert, ...] = ()
    begun: tuple[float, ...] = ()  # when, of what was told to have begun in the last hour, s since 1970


class AlertFile:
    """Reads and writes it; every method blocks. A disk that takes nothing, or a damaged file, stops no alert."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: bytes | None = None
        self._lock = threading.Lock()
        self._failed = False

    def read(self) -> State:
        """Return what was written last; nothing of a file that is not there or damaged, which is said."""
        try:
            with self._path.open("rb") as file:
                content = file.read(BYTES_MAX)
            told = json.loads(content)
            if told["format"] != FORMAT:
                raise ValueError(f"format {told['format']}")
            return State(
                {str(key): _begun(one) for key, one in told["firing"].items()},
                tuple(Alert(**one) for one in told["unsent"]),
                tuple(float(time) for time in told["begun"]),
            )
        except FileNotFoundError:
            return State()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("alerts forgotten file=%s because=%r: what goes on is told again", self._path, error)
            return State()

    def write(self, state: State) -> None:
        """Write it whole or not at all, unless nothing has changed."""
        told: dict[str, Any] = {"format": FORMAT, **asdict(state)}
        content = (json.dumps(told, indent=1) + "\n").encode()
        with self._lock:
            if content != self._written:
                self._replace(content)

    def _replace(self, content: bytes) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            if not self._failed:
                log.warning(
                    "alerts not kept file=%s because=%s: after a restart they are told again", self._path, error
                )
            self._failed = True
            return
        self._written, self._failed = content, False


def _begun(told: dict[str, Any]) -> Begun:
    return Begun(str(told["text"]), told["severity"], float(told["since"]))
