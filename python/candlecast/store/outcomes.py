"""What happened after forecasts, written series by series, each pass one transaction. Knows not when it is due."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast import outcomes, outputs
from candlecast.outcomes import EXITS, UNKNOWN, Bars, Fills, Outcomes, Said
from candlecast.store import outcome_rows
from candlecast.store.copied import row_type, rows_of
from candlecast.store.outcome_rows import EPOCH_MS, ms_of
from candlecast.store.pool import Connection
from candlecast.store.queries import statements
from candlecast.store.records import COPY_HEADER, COPY_TRAILER
from candlecast.values import I64, Bool

STATEMENTS: Final = statements("outcomes.sql")
OWN_STRATEGY: Final = "candlecast"
"""The name that the server's own signals are logged under; nobody else may use it."""
SURE_S: Final = 60
"""Once a candle has been stored so long, nothing older comes: a candle would be late, a forecast has been given up."""
TIMEOUT_MS: Final = 60_000
"""Longest statement of a pass."""
CANDLES_MIN: Final = 2 * max(outputs.HORIZON_BARS)
"""Of a series in a pass: fewer would not reach from a forecast to its last outcome."""
LAST: Final = max(outputs.HORIZON_BARS) - 1
NEVER_MS: Final = -EPOCH_MS
"""Before everything: 1940."""
DAY_MS: Final = 86_400_000
EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
EXPECTED_BYTES: Final = 4 * outcomes.HORIZONS
PROBABILITY_BYTES: Final = 4 * outcomes.HORIZONS * len(outputs.CLASSES)
SIDES: Final = {1: "LONG", -1: "SHORT"}
CANDLE: Final = row_type(
    {"series": ">i4", "open_time": ">i8", "stored_at": ">i8"} | dict.fromkeys(("open", "high", "low", "close"), ">f8")
)
FORECAST: Final = row_type(
    {"series": ">i4", "close_time": ">i8", "model": ">i8", "version": ">i4", "close": ">f8", "side": ">i2"}
    | dict.fromkeys(("size_multiplier", "confidence", "quality", "stop_loss", "take_profit"), ">f8")
    | {"expected": f"V{EXPECTED_BYTES}", "probabilities": f"V{PROBABILITY_BYTES}", "shadow": "?"}
)
COUNT: Final = row_type(
    {"speaker": ">i4", "series": ">i4", "day": ">i4", "horizon_bars": ">i2", "bin": ">i2"}
    | dict.fromkeys(outcomes.COUNTED, ">i8")
    | dict.fromkeys(outcomes.SUMMED, ">f8")
)
"""A row of outcome_count."""

Series = tuple[str, int]
"""Symbol and interval in ms."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass has done."""

    forecasts: int  # that learnt of something
    unfinished: tuple[Series, ...]  # with more candles than were looked at
    stuck: tuple[Series, ...]  # the same, but nothing can be done before they are sure


@dataclass(frozen=True, slots=True)
class _Found:
    """What a pass has found out of N forecasts."""

    rows: NDArray[Any]  # [N] of FORECAST
    said: Said
    known: Outcomes  # with what is new
    added: Bool  # [N, 4] returns that are new
    is_new: Bool  # [N] anything is
    is_there: Bool  # [N] it had a row
    signals: I64  # [M] which are LONG or SHORT, and had not ended before
    fills: Fills  # [M]


async def prepare(connection: Connection) -> None:
    """Make a connection ready for passes; it is of no other use then."""
    await connection.execute("SET plan_cache_mode = force_custom_plan; SET enable_mergejoin = off")
    await connection.execute(STATEMENTS["outcome_rooms"])


async def settle(
    connection: Connection,
    series: Sequence[Series],
    fees: float,
    *,
    candles_max: int,
    sure_s: float = SURE_S,
) -> Pass:
    """Write the outcomes that the stored candles give to the forecasts of some series, each once.

    Args:
        connection: prepared.
        fees: what the server's own signals are charged, of the value of each fill.
        candles_max: candles of each series that are looked at, CANDLES_MIN at least.

    Raises:
        asyncpg's errors: nothing was written.
    """
    assert candles_max >= CANDLES_MIN, "too few to get on"
    columns = [symbol for symbol, _ in series], [interval_ms for _, interval_ms in series]
    interval_ms = np.array(columns[1], dtype=np.int64)

    async def run(name: str, *values: object) -> None:
        await connection.execute(STATEMENTS[name], *values, timeout=TIMEOUT_MS / 1000)

    async with connection.transaction():
        await run("outcome_begin", str(TIMEOUT_MS))
        await run("outcome_locks", *columns)
        marks = await connection.fetch(STATEMENTS["outcome_settled"], *columns, NEVER_MS)
        settled_ms = np.array([row["settled_ms"] for row in marks], dtype=np.int64)
        bars, stored_ms = await _candles(connection, columns, settled_ms, candles_max)
        counts = np.bincount(bars.series, minlength=len(series))
        newest_ms = _newest(bars, np.ones(len(stored_ms), dtype=np.bool_), len(series))
        sure_ms = _newest(bars, stored_ms < marks[0]["now_ms"] - sure_s * 1000, len(series))
        # Where more candles wait, what the next pass can do whole is left to it.
        upto_ms = newest_ms + np.where(counts >= candles_max, -LAST, 1) * interval_ms
        spans = (*columns, settled_ms.tolist(), np.where(counts > 0, upto_ms, NEVER_MS).tolist())
        found = await _find(connection, spans, interval_ms, bars, sure_ms)
        speakers, speaker = await _speakers(connection, series, found.rows)
        await _write(connection, series, speakers, speaker, found)
        await run("outcome_turn")
        if found.is_new.any():
            counted = io.BytesIO(_counted(found, speaker))
            await connection.copy_to_table("outcome_count", source=counted, format="binary", timeout=TIMEOUT_MS / 1000)
            spoke = [model for model, _ in speakers], [version for _, version in speakers]
            await run("outcome_accuracy", *spoke, *columns)
            await run("outcome_exits", *_exits(series, speakers, speaker, found))
        await run("outcome_signals", OWN_STRATEGY, fees, *_signals(series, speakers, speaker, found))
        now_ms = np.where(counts > 0, np.maximum(settled_ms, sure_ms - LAST * interval_ms), settled_ms)
        moved = np.flatnonzero(now_ms > settled_ms).tolist()
        await run("outcome_marks", *([column[k] for k in moved] for column in (*columns, now_ms.tolist())))
    more = np.flatnonzero(counts >= candles_max).tolist()
    going = set(moved)
    return Pass(
        int(found.is_new.sum()),
        tuple(series[k] for k in more if k in going),
        tuple(series[k] for k in more if k not in going),
    )


async def _candles(
    connection: Connection, columns: Sequence[Any], settled_ms: I64, candles_max: int
) -> tuple[Bars, I64]:
    """Return the candles that an outcome may need, and when each was stored."""
    statement = STATEMENTS["outcome_candles"]
    rows = await rows_of(
        connection, CANDLE, statement, *columns, settled_ms.tolist(), candles_max, what="candles for outcomes"
    )
    series, open_time_ms = rows["series"].astype(np.int64) - 1, ms_of(rows["open_time"])
    prices = (rows[name].astype(np.float64) for name in ("open", "high", "low", "close"))
    return Bars(series, open_time_ms, *prices), ms_of(rows["stored_at"])


def _newest(bars: Bars, kept: Bool, count: int) -> I64:
    """Return when the newest of the candles that are kept opened, by series."""
    newest = np.full(count, NEVER_MS)
    np.maximum.at(newest, bars.series[kept], bars.open_time_ms[kept])
    return newest


async def _find(connection: Connection, spans: Sequence[Any], interval_ms: I64, bars: Bars, sure_ms: I64) -> _Found:
    """Read the forecasts of each series in a span, and what is known of them; find out what is new."""
    rows = await rows_of(
        connection,
        FORECAST,
        STATEMENTS["outcome_forecasts"],
        *spans,
        EXPECTED_BYTES,
        PROBABILITY_BYTES,
        what="forecasts",
    )
    of = rows["series"].astype(np.int64) - 1
    said = Said(
        of,
        interval_ms[of],
        ms_of(rows["close_time"]),
        rows["close"].astype(np.float64),
        rows["side"].astype(np.int8),
        rows["confidence"].astype(np.float64),
        rows["stop_loss"].astype(np.float64),
        rows["take_profit"].astype(np.float64),
        np.frombuffer(rows["expected"].tobytes(), "<f4").astype(np.float64).reshape(-1, outcomes.HORIZONS),
        np.frombuffer(rows["probabilities"].tobytes(), "<f4")
        .astype(np.float64)
        .reshape(-1, outcomes.HORIZONS, len(outputs.CLASSES)),
    )
    stored = await rows_of(connection, outcome_rows.KNOWN, STATEMENTS["outcome_known"], *spans, what="outcomes")
    before, is_there = outcome_rows.known_of(rows, stored)
    returns = outcomes.returns_after(said, bars)
    added = np.isnan(before.returns) & ~np.isnan(returns)
    classes = outcomes.classes_of(returns)
    signals = np.flatnonzero((said.side != 0) & (before.exit_reason == UNKNOWN))
    some = _part(said, signals)
    reason, fills = outcomes.exits(some, bars, sure_ms[some.series])
    exit_reason, exit_return, exit_bars = before.exit_reason.copy(), before.exit_return.copy(), before.exit_bars.copy()
    exit_reason[signals] = reason
    exit_return[signals] = _gain(some, fills)
    exit_bars[signals] = np.where(fills.exit_open_time_ms > 0, _held(some, fills), UNKNOWN)
    known = Outcomes(
        np.where(added, returns, before.returns),
        np.where(added, classes, before.classes),
        np.where(added, outcomes.hits_of(said, classes), before.hits),
        np.where(added, outcomes.errors_of(said, returns), before.errors),
        exit_reason,
        exit_return,
        exit_bars,
    )
    is_new: Bool = np.any(added, axis=1)
    is_new[signals] |= reason != UNKNOWN
    return _Found(rows, said, known, added, is_new, is_there, signals, fills)


def _part(said: Said, at: I64) -> Said:
    return replace(said, **{field.name: getattr(said, field.name)[at] for field in fields(said)})


def _gain(said: Said, fills: Fills) -> Any:
    return said.side * (fills.exit_price / fills.entry_price - 1)


def _held(said: Said, fills: Fills) -> I64:
    return 1 + (fills.exit_open_time_ms - said.close_time_ms) // said.interval_ms


async def _speakers(
    connection: Connection, series: Sequence[Series], rows: NDArray[Any]
) -> tuple[list[tuple[str, int]], I64]:
    """Return the models and versions that spoke, and which of them each forecast is of."""
    hashes, first, model = np.unique(rows["model"], return_index=True, return_inverse=True)
    if not len(hashes):
        return [], np.empty(0, dtype=np.int64)
    examples = [(*series[int(rows["series"][k]) - 1], int(ms_of(rows["close_time"][k]))) for k in first]
    given = [list(column) for column in zip(*examples, strict=True)]
    found = await connection.fetch(STATEMENTS["outcome_models"], *given, timeout=TIMEOUT_MS / 1000)
    names = {row["hash"]: row["model"] for row in found}
    pairs, speaker = np.unique(model.astype(np.int64) << 32 | rows["version"].astype(np.int64), return_inverse=True)
    return [(names[int(hashes[pair >> 32])], pair & 0xFFFFFFFF) for pair in pairs.tolist()], speaker


async def _write(
    connection: Connection, series: Sequence[Series], speakers: Sequence[tuple[str, int]], speaker: I64, found: _Found
) -> None:
    """Write what is new: rows for forecasts that had none, and changes of others."""
    for is_there, table in ((False, "ml_outcome_rows"), (True, "outcome_change")):
        at = np.flatnonzero(found.is_new & (found.is_there == is_there))
        if not len(at):
            continue
        data = outcome_rows.copy_of(series, speakers, speaker, found.said, found.known, at)
        await connection.copy_to_table(
            table, source=data, columns=outcome_rows.COLUMNS, format="binary", timeout=TIMEOUT_MS / 1000
        )
        if is_there:
            await connection.execute(STATEMENTS["outcome_write"], timeout=TIMEOUT_MS / 1000)


def _counted(found: _Found, speaker: I64) -> bytes:
    """Return what COPY reads into outcome_count."""
    said = found.said
    groups = np.column_stack([speaker, said.series, said.close_time_ms // DAY_MS])
    counts = outcomes.accuracy(said, groups, found.added, found.known.classes, found.known.returns)
    made = np.zeros(len(counts.keys), COUNT)
    names = COUNT.names or ()
    made["fields"] = len(names) // 2
    for size, name in zip(names[1::2], names[2::2], strict=True):
        made[size] = COUNT[name].itemsize
    speakers, series, day, horizon, bins = counts.keys.T
    made["speaker"], made["series"], made["day"], made["bin"] = speakers + 1, series + 1, day, bins
    made["horizon_bars"] = np.array(outputs.HORIZON_BARS)[horizon]
    for name, column in counts.sums.items():
        made[name] = column
    return COPY_HEADER + made.tobytes() + COPY_TRAILER


def _exits(
    series: Sequence[Series], speakers: Sequence[tuple[str, int]], speaker: I64, found: _Found
) -> list[list[Any]]:
    """Return the columns of `outcome_exits`."""
    ended = np.flatnonzero(found.known.exit_reason[found.signals] != UNKNOWN)
    at = found.signals[ended]
    said = _part(found.said, at)
    spoke, of = speaker[at].tolist(), said.series.tolist()
    bars = np.where(found.known.exit_bars[at] == UNKNOWN, np.nan, found.known.exit_bars[at])
    return [
        [speakers[k][0] for k in spoke],
        [speakers[k][1] for k in spoke],
        [series[k][1] for k in of],
        [series[k][0] for k in of],
        _dates((said.close_time_ms // DAY_MS).tolist(), 0),
        [SIDES[side] for side in said.side.tolist()],
        [EXITS[code] for code in found.known.exit_reason[at].tolist()],
        *map(_listed, (found.known.exit_return[at], bars, said.stop_loss, said.take_profit)),
    ]


def _signals(
    series: Sequence[Series], speakers: Sequence[tuple[str, int]], speaker: I64, found: _Found
) -> list[list[Any]]:
    """Return the columns of `outcome_signals`, those of forecasts that were answers."""
    kept = np.flatnonzero(~found.rows["shadow"][found.signals])
    at = found.signals[kept]
    said, rows, fills = _part(found.said, at), found.rows[at], found.fills
    spoke, of, exit_time_ms = speaker[at].tolist(), said.series.tolist(), fills.exit_open_time_ms[kept]
    closed_ms = np.where(exit_time_ms > 0, exit_time_ms + said.interval_ms, 0).tolist()
    return [
        [speakers[k][0] for k in spoke],
        [speakers[k][1] for k in spoke],
        [series[k][1] for k in of],
        [series[k][0] for k in of],
        said.close_time_ms.tolist(),
        [SIDES[side] for side in said.side.tolist()],
        said.close.tolist(),
        rows["size_multiplier"].tolist(),
        *map(_listed, (said.confidence, rows["quality"], fills.entry_price[kept], fills.exit_price[kept])),
        [ms or None for ms in closed_ms],
        [None if code == UNKNOWN else EXITS[code] for code in found.known.exit_reason[at].tolist()],
    ]


def _dates(days: Sequence[int], first: int) -> list[date]:
    """Return days since 1970, each so many after `first`."""
    made = {day: date.fromordinal(EPOCH_DAY + first + day) for day in set(days)}
    return [made[day] for day in days]


def _listed(column: NDArray[Any]) -> list[float | None]:
    """Return numbers, None for NaN."""
    return [None if value != value else value for value in column.tolist()]


async def series_after(connection: Connection, last: Series, limit: int) -> list[Series]:
    """Return the next series that have candles, in order; the first ones after ("", 0)."""
    rows = await connection.fetch(STATEMENTS["candle_series_after"], *last, limit, timeout=TIMEOUT_MS / 1000)
    return [(symbol, interval_ms) for symbol, interval_ms in rows]
