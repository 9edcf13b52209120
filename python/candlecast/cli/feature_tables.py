"""What `candlecast features` prints as tables, on standard output. Computes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from candlecast.feature_checks import Causality, Recursion

_NAMES_SHOWN_MAX = 20
_LEFT = ("name", "group", "column", "formula", "computed with", "range")


def tally(summary: dict[str, Any]) -> None:
    """Print what became of the candles."""
    table = _table("name", "value")
    table.show_header = False
    for name, value in summary.items():
        if isinstance(value, dict):
            for reason, count in value.items():
                table.add_row(f"  {'no row' if name == 'not_accepted' else name}: {reason}", f"{count:,}")
        else:
            table.add_row(name.replace("_per_", "/").replace("_", " "), f"{value:,}")
    _print(table)


def causality(found: Causality) -> None:
    """Print the ways of computing and the columns that differ."""
    from candlecast.features import NAMES

    table = _table("computed with", "rows compared", "columns that differ")
    table.title = f"{len(NAMES)} columns, {found.candles:,} candles, {len(found.cuts_ms)} cut points"
    for name, way in found.ways.items():
        table.add_row(name, f"{way.rows:,}", f"{len(way.differs_at_ms):,}" if way.differs_at_ms else "none")
    _print(table)
    for name in found.differing[:_NAMES_SHOWN_MAX]:
        first = min(way.differs_at_ms[name] for way in found.ways.values() if name in way.differs_at_ms)
        print(f"{name} differs, first at the candle that opens at {utc(first)}")
    if len(found.differing) > _NAMES_SHOWN_MAX:
        print(f"… and {len(found.differing) - _NAMES_SHOWN_MAX} more: --json has all")
    print("some rows know their future" if found.differing else "no row knows its future: all are equal bit by bit")


def recursion(found: Recursion) -> None:
    """Print the recursive columns, slowest first."""
    recursive = [column for column in found.columns if not column.is_windowed]
    recursive.sort(key=lambda column: (column.bars is not None, -(column.bars or 0)))
    ready = found.ready_bars
    table = _table("column", "warm-up", "equal from", "moved", f"from {ready:,}", f"from {2 * ready:,}")
    print(f"{found.candles:,} candles, {len(found.starts_ms)} later beginnings, READY after {ready:,} bars. By column:")
    print("from which bar on it is the same float32, how far it moved from its warm-up and from later bars on.")
    for column in recursive[:_NAMES_SHOWN_MAX]:
        table.add_row(
            column.name,
            f"{column.warmup_bars:,}",
            f"not by {found.observed_bars:,}" if column.bars is None else f"{column.bars:,}",
            *(f"{moved:.2g}" for moved in (column.moves_from_warmup, column.moves_from_ready)),
            f"{column.moves_from_twice_ready:.2g}",
        )
    if recursive:
        _print(table)
    if len(recursive) > _NAMES_SHOWN_MAX:
        print(f"… and {len(recursive) - _NAMES_SHOWN_MAX} that are faster: --json has all")
    windowed = len(found.columns) - len(recursive)
    print(f"{windowed} of {len(found.columns)} columns are equal from their warm-up on")


def columns(records: list[dict[str, Any]]) -> None:
    """Print the catalogue."""
    from candlecast.feature_page import memory, value_range

    table = _table("#", "name", "group", "warm-up", "memory", "range", "formula")
    for record in records:
        known = (str(record["index"]), record["name"], record["group"], str(record["warmup_bars"]))
        table.add_row(*known, memory(record), value_range(record), record["formula"])
    _print(table)


def utc(ms: int) -> str:
    """Return milliseconds since 1970 as ISO 8601 UTC; as they are where the calendar ends."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return f"{ms} ms"


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title_justify="left")
    for title in titles:
        table.add_column(title, justify="left" if title in _LEFT else "right", no_wrap=title != "formula")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console(markup=False)
    if not console.is_terminal:  # a pipe has no width: no cell is cut, wrapped or padded to the right
        console.width = console.measure(table, options=console.options.update(width=10_000)).maximum
    with console.capture() as printed:
        console.print(table)
    print("\n".join(line.rstrip() for line in printed.get().splitlines()))
