"""The catalogue for readers: a record of each column, and docs/features.md. Knows no candles."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from candlecast import _rust

MEMORY_FILE: Final = Path(__file__).with_name("features_memory.json")
"""How long each column remembers, as `bench/features_memory.py` measured it."""
HEAD: Final = """# The features

Generated from the catalogue by `candlecast features --list --markdown`: do not edit.

Feature set `{feature_set}` has {columns} columns, in this order. Formulas are written in the
[notation](features_notation.md) of the specification.

* **warm-up**: bars until the column has a value; NaN before, never after.
* **memory**: bars until it no longer matters where the history began. {windowed} columns are windowed, or forget so
  fast that they are equal from their warm-up on. The others, most of them recursive, remember longer: from that bar on,
  histories that began later gave the same float32 as the whole one. This is measured, not a bound: on {source}.
  `candlecast features --check-recursion FILE` measures it on your candles.
* **range**: what the column cannot leave.
* **convention**: what settles what the formula leaves open, and whose definition it is; – where nothing is open.
"""


def records() -> list[dict[str, Any]]:
    """Return what is known of each column, in their order; `memory_bars` is null where it settled nowhere in reach."""
    measured = json.loads(MEMORY_FILE.read_text())["bars"]
    return [
        {
            "index": feature.index,
            "name": feature.name,
            "group": feature.group,
            "formula": feature.formula,
            "convention": feature.convention,
            "warmup_bars": feature.warmup_bars,
            "memory_bars": measured.get(feature.name),
            "low": feature.low,
            "high": feature.high,
            "version": feature.version,
        }
        for feature in _rust.catalog()
    ]


def memory(record: dict[str, Any]) -> str:
    """Say in a word how long a column remembers where its history began."""
    bars = record["memory_bars"]
    return "not settled" if bars is None else "warm-up" if bars == record["warmup_bars"] else f"{bars:,}"


def value_range(record: dict[str, Any]) -> str:
    """Return the range as an interval."""
    return f"[{record['low']:g}, {record['high']:g}]"


def markdown() -> str:
    """Return docs/features.md."""
    columns = records()
    measured = json.loads(MEMORY_FILE.read_text())
    windowed = sum(memory(record) == "warm-up" for record in columns)
    lines = [HEAD.format(feature_set=_rust.FEATURE_SET, columns=len(columns), windowed=windowed, **measured).rstrip()]
    for group, members in groupby(columns, key=lambda record: record["group"]):
        lines += ["", f"## {group}", "", "| # | name | formula | convention | warm-up | memory | range |"]
        lines.append("|---:|---|---|---|---:|---:|---|")
        for record in members:
            cells = (
                str(record["index"]),
                _code(record["name"]),
                _code(record["formula"]),
                _escaped(record["convention"]) or "–",
                str(record["warmup_bars"]),
                memory(record),
                value_range(record),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    """Return a code span for a table cell, in which a bar must be escaped even there."""
    assert "`" not in text
    return f"`{text.replace('|', chr(92) + '|')}`"


def _escaped(text: str) -> str:
    """Return plain text for a table cell."""
    return "".join(f"\\{character}" if character in r"\`*_|<>[]" else character for character in text)
