"""Words and numbers of forecasts, as the tables of the command line show them. Knows no table."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any


def word(message: Any, field: str) -> str:
    """Return an enum's value without its prefix, such as LONG."""
    kind = message.DESCRIPTOR.fields_by_name[field].enum_type
    name: str = kind.values_by_number[getattr(message, field)].name
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return name.removeprefix(prefix)


def told(message: Any, field: str) -> Any:
    """Return an optional field, None when it is absent."""
    return getattr(message, field) if message.HasField(field) else None


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def number(value: float | None, digits: int) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def fraction(value: float | None) -> str:
    """Return a return, such as +0.120%."""
    return "–" if value is None or not math.isfinite(value) else f"{value:+.3%}"


def minute(ms: int) -> str:
    """Return a time in UTC to the minute."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
