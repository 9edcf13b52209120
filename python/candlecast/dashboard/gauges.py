"""A few of the server's own gauges for the page System, read from its /metrics. Knows their names, no more."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

TIMEOUT_S: Final = 1.0
BYTES_MAX: Final = 4 * 1024 * 1024
_LINE: Final = re.compile(r"^(candlecast_\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_SHARE_FULL: Final = 0.7
"""Of a limit, from which on it is said to be bad."""

Part = dict[str, Any]


async def parts(address: str) -> list[Part]:
    """Return {name, value in words, ok} for each gauge that the server at HOST:PORT has; none when it is away."""
    if not address:
        return []
    try:
        text = await asyncio.to_thread(_fetched, f"http://{address}/metrics")
    except OSError:
        return []
    found: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        found[name] = max(float(value), found.get(name, float("-inf")))  # of several models or instances the worst
    return [part for part in _told(found) if part is not None]


def _fetched(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=TIMEOUT_S) as answer:
        data: bytes = answer.read(BYTES_MAX)
    return data.decode()


def _told(found: Mapping[str, float]) -> list[Part | None]:
    saved = found.get("candlecast_snapshot_timestamp_seconds")
    return [
        _filled(found, "Queue", "queue_rows", "", 1),
        _filled(found, "Journal", "journal_bytes", " MB", 1 / 1024**2),
        _filled(found, "Database connections", "database_connections", "", 1),
        _lag(found.get("candlecast_drain_lag_seconds")),
        _flag(found, "Journal's disk", "journal_failing", "takes records", "fails"),
        _flag(found, "Way to the database", "drain_failing", "open", "fails"),
        _flag(found, "Triton", "triton_breaker_open", "answers", "breaker open"),
        _part("Snapshot", f"{max(time.time() - saved, 0):.0f} s old", None) if saved else None,
    ]


def _filled(found: Mapping[str, float], name: str, gauge: str, unit: str, scale: float) -> Part | None:
    value, most = found.get(f"candlecast_{gauge}"), found.get(f"candlecast_{gauge}_max")
    if value is None or not most:
        return None
    is_ok = True if name == "Database connections" else value / most < _SHARE_FULL
    return _part(name, f"{value * scale:,.0f} of {most * scale:,.0f}{unit}", is_ok)


def _lag(seconds: float | None) -> Part | None:
    return None if seconds is None else _part("Behind the journal", f"{seconds:.1f} s", seconds < 60)


def _flag(found: Mapping[str, float], name: str, gauge: str, well: str, ill: str) -> Part | None:
    value = found.get(f"candlecast_{gauge}")
    return None if value is None else _part(name, ill if value else well, not value)


def _part(name: str, value: str, ok: bool | None) -> Part:
    return {"name": name, "value": value, "ok": ok}
