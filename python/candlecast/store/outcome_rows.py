"""Outcomes as rows of ml_outcome_rows in PostgreSQL's binary COPY, both ways. Knows no connection.

A NULL has no bytes there, so rows of the same width are made together: those that lack the same numbers, of symbols of
the same length and one model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast import outputs
from candlecast.outcomes import HORIZONS, TIMES, UNKNOWN, Outcomes, Said
from candlecast.store.copied import row_type
from candlecast.store.records import COPY_HEADER, COPY_TRAILER
from candlecast.values import I64, SYMBOL_BYTES, Bool

EPOCH_MS: Final = 946_684_800_000
"""PostgreSQL's: 2000-01-01."""
BARS_MAX: Final = 2**15 - 1
_BARS: Final = outputs.HORIZON_BARS
KEY: Final = {"symbol": "", "interval_ms": ">i8", "close_time": ">i8", "model": "", "version": ">i4"}
"""Texts have the width of what they hold."""
VALUES: Final = (
    {f"actual_return_{bars}": ">f4" for bars in _BARS}
    | {f"actual_class_{bars}": ">i2" for bars in _BARS}
    | {f"hit_{bars}": "i1" for bars in _BARS}
    | {f"error_{bars}": ">f4" for bars in _BARS}
    | {"exit_code": ">i2", "exit_return": ">f4", "exit_bars": ">i2"}
)
COLUMNS: Final = [*KEY, *VALUES]
KNOWN: Final = row_type(
    {"series": ">i4", "close_time": ">i8", "model": ">i8", "version": ">i4"}
    | VALUES
    | {f"hit_{bars}": ">i4" for bars in _BARS}
)


def ms_of(time: NDArray[Any]) -> I64:
    """Return times of PostgreSQL in ms since 1970."""
    return time.astype(np.int64) // 1000 + EPOCH_MS


def known_of(forecasts: NDArray[Any], stored: NDArray[Any]) -> tuple[Outcomes, Bool]:
    """Return what is stored of N forecasts, and of which anything is.

    Args:
        forecasts: [N] with series, close_time, model and version.
        stored: [K] of KNOWN, each with the key of one of them.
    """
    known, is_there = Outcomes.none(len(forecasts)), np.zeros(len(forecasts), dtype=np.bool_)
    if not len(stored):
        return known, is_there
    own = stored["series"].astype(np.int64) * TIMES + ms_of(stored["close_time"])
    order = np.argsort(own, kind="stable")
    own, stored = own[order], stored[order]
    wanted = forecasts["series"].astype(np.int64) * TIMES + ms_of(forecasts["close_time"])
    first, end = np.searchsorted(own, wanted), np.searchsorted(own, wanted, side="right")
    place = np.zeros(len(forecasts), dtype=np.int64)
    for more in range(int((end - first).max(initial=0))):  # as many as models and versions spoke of one close
        at = np.minimum(first + more, len(own) - 1)
        is_same = (first + more < end) & (stored["model"][at] == forecasts["model"])
        is_same &= stored["version"][at] == forecasts["version"]
        place[is_same] = at[is_same]
        is_there |= is_same
    rows = stored[place[is_there]]
    for values, name in (
        (known.returns, "actual_return"),
        (known.classes, "actual_class"),
        (known.hits, "hit"),
        (known.errors, "error"),
    ):
        values[is_there] = np.column_stack([rows[f"{name}_{bars}"] for bars in _BARS])
    known.exit_reason[is_there] = rows["exit_code"]
    known.exit_return[is_there] = rows["exit_return"]
    known.exit_bars[is_there] = rows["exit_bars"]
    return known, is_there


async def copy_of(
    series: Sequence[tuple[str, int]],
    speakers: Sequence[tuple[str, int]],
    speaker: I64,
    said: Said,
    known: Outcomes,
    at: I64,
) -> AsyncIterator[bytes]:
    """Yield what COPY reads into COLUMNS for the forecasts `at`.

    Args:
        series: symbols and intervals in ms, by their numbers in `said`.
        speakers: models and versions.
        speaker: [N] which of them each forecast is of.
    """
    yield COPY_HEADER
    symbol = np.array([name.encode() for name, _ in series], dtype=f"S{SYMBOL_BYTES}")
    width = np.array([len(name) for name, _ in series], dtype=np.int64)
    columns = _columns(known, at)
    given = np.column_stack([is_given for is_given, _ in columns.values()])
    # In the order of time within a symbol, so that the key's index is filled from left to right.
    lacks = given @ (np.int64(1) << np.arange(len(columns)))
    group = (lacks * (SYMBOL_BYTES + 1) + width[said.series[at]]) * len(speakers) + speaker[at]
    groups, first, which = np.unique(group, return_index=True, return_inverse=True)
    for number in range(len(groups)):
        some = np.flatnonzero(which == number)
        model, version = speakers[speaker[at[first[number]]]]
        of = said.series[at[some]]
        row = _row(tuple(given[first[number]].tolist()), int(width[of[0]]), len(model.encode()))
        made = np.frombuffer(bytearray(_empty(row) * len(some)), row)
        made["symbol"], made["interval_ms"] = symbol[of], said.interval_ms[at[some]]
        made["close_time"] = (said.close_time_ms[at[some]] - EPOCH_MS) * 1000
        made["model"], made["version"] = model.encode(), version
        for name, (is_given, values) in columns.items():
            if is_given[first[number]]:
                made[name] = values[some]
        yield made.tobytes()
    yield COPY_TRAILER


def _columns(known: Outcomes, at: I64) -> dict[str, tuple[Bool, NDArray[Any]]]:
    """Return where the columns of VALUES are not NULL, and what they are there."""
    returns, classes, hits, errors = (one[at].T for one in (known.returns, known.classes, known.hits, known.errors))
    found: dict[str, tuple[Bool, NDArray[Any]]] = {}
    for h in range(HORIZONS):
        found[f"actual_return_{_BARS[h]}"] = ~np.isnan(returns[h]), returns[h]
        found[f"actual_class_{_BARS[h]}"] = classes[h] != UNKNOWN, classes[h]
        found[f"hit_{_BARS[h]}"] = hits[h] != UNKNOWN, hits[h]
        found[f"error_{_BARS[h]}"] = ~np.isnan(errors[h]), errors[h]
    reason, gain, bars = known.exit_reason[at], known.exit_return[at], known.exit_bars[at]
    found["exit_code"] = reason != UNKNOWN, reason
    found["exit_return"] = ~np.isnan(gain), gain
    found["exit_bars"] = bars != UNKNOWN, np.minimum(bars, BARS_MAX)
    return {name: found[name] for name in VALUES}


@cache
def _row(given: tuple[bool, ...], symbol_bytes: int, model_bytes: int) -> np.dtype[np.void]:
    """Return the row with those values; the others are a length of -1 and nothing."""
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    texts = {"symbol": f"S{symbol_bytes}", "model": f"S{model_bytes}"}
    for name, type_ in (KEY | texts).items():
        fields += [(f"{name}.bytes", ">i4"), (name, type_)]
    for (name, type_), is_given in zip(VALUES.items(), given, strict=True):
        fields += [(f"{name}.bytes", ">i4")] + [(name, type_)] * is_given
    return np.dtype(fields)


@cache
def _empty(row: np.dtype[np.void]) -> bytes:
    """Return a row without data."""
    empty, names = np.zeros(1, row), row.names or ()
    empty["fields"] = len(COLUMNS)
    for name in COLUMNS:
        empty[f"{name}.bytes"] = row[name].itemsize if name in names else -1
    return empty.tobytes()
