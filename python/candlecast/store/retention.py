"""Monthly partitions: made ahead; old ones taken out, written to Parquet and dropped. Knows not when it is due.

The steps of a month, each of which may be the last before the process is killed, and all of which may be repeated:

1. It is detached and renamed to `retired_…` in one transaction: from then on nobody reads or writes it, and a late row
   gets a new partition of its own.
2. Its rows go into a file under another name, which is synced, read again and compared, and renamed.
3. It is dropped. What was left retired by a run before begins again with step 2, into the same file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import asyncpg
import numpy as np
import polars as pl

from candlecast import tables
from candlecast.errors import CandlecastError, StorageUnavailable
from candlecast.store.pool import Connection
from candlecast.store.queries import statements

STATEMENTS: Final = statements("retention.sql")
TABLES: Final = ("candles", "ml_predictions", "order_flow_features")
VIEWED: Final = {"ml_predictions": ("ml_prediction_rows", "ml_outcome_rows")}
"""A view and the tables behind it, the first with each of its rows: a month of all goes into one file of the view."""
ARCHIVE_ROWS: Final = 16_384
"""In memory at once."""
TIMEOUT_MS: Final = 600_000
"""Longest statement."""
LOCK_TIMEOUT_MS: Final = 1_000
"""Writers wait for so long, at most, behind a month that waits for readers."""
LOCK_ATTEMPTS_MAX: Final = 10
LOCK_PAUSE_S: Final = 2.0
FILES_MAX: Final = 1_000
"""Of one month, which comes back each time old rows are stored again."""
DIGESTS: Final = 1 << 64
MARK: Final = "candlecast.table"
"""In a file's metadata: the retired table whose rows it holds."""
TYPES: Final[Mapping[str, Any]] = {
    "text": pl.String,
    "bigint": pl.Int64,
    "integer": pl.Int32,
    "smallint": pl.Int16,
    "double precision": pl.Float64,
    "real": pl.Float32,
    "boolean": pl.Boolean,
    "bytea": pl.Binary,
    "timestamp with time zone": pl.Datetime("us", "UTC"),
    "text[]": pl.List(pl.String),
}
log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Hears how many rows of how many are written."""


@dataclass(frozen=True, slots=True)
class Part:
    """One month of a table."""

    table: str
    month: date
    name: str  # of the partition, or of what it became
    bytes: int  # on PostgreSQL's disk, indexes included
    retired: bool  # it was detached by a run before


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, the oldest months first."""

    ahead: tuple[tuple[str, date], ...]  # partitions to make: table and month
    old: tuple[Part, ...]  # months to take out


@dataclass(frozen=True, slots=True)
class Archived:
    """What became of a month."""

    rows: int
    file: Path
    bytes: int  # of the file


async def plan(connection: Connection, months_kept: Mapping[str, int], ahead_months: int, today: date) -> Plan:
    """Say what is to be done.

    Args:
        months_kept: for each of TABLES, whole months before this one; 0: all.
        ahead_months: after this one.

    Raises:
        asyncpg's errors.
    """
    this = today.replace(day=1)
    wanted = [month_after(this, n) for n in range(ahead_months + 1)]
    ahead, old = list[tuple[str, date]](), list[Part]()
    for table in TABLES:
        first, *others = _behind(table)
        for name in dict.fromkeys((first, table)):  # what was left before there was a view has its name
            for row in await connection.fetch(STATEMENTS["retired"], name):
                year, number = map(int, row["name"].split("_")[-3:-1])
                old.append(Part(table, date(year, number, 1), row["name"], row["bytes"], True))
        found = await connection.fetch(STATEMENTS["partitions"], first)
        there = {row["month"] for row in found}
        for other in others:
            there &= {row["month"] for row in await connection.fetch(STATEMENTS["partitions"], other)}
        ahead += [(table, month) for month in wanted if month not in there]
        if kept := months_kept[table]:
            last = month_after(this, -kept)
            old += [Part(table, row["month"], row["name"], row["bytes"], False) for row in found if row["month"] < last]
    return Plan(tuple(ahead), tuple(old))


async def begin(connection: Connection) -> None:
    """Be the only one who does this, until the connection ends.

    Raises:
        CandlecastError: somebody else does it.
    """
    if not await connection.fetchval(STATEMENTS["only_one"]):
        raise CandlecastError("another `candlecast retention` is under way here: let it end")


async def make_ahead(connection: Connection, ahead: tuple[tuple[str, date], ...]) -> None:
    """Make partitions."""
    for table in TABLES:
        if months := [month for name, month in ahead if name == table]:
            for behind in _behind(table):
                await connection.execute(STATEMENTS["make_ahead"], behind, months)


async def retire(connection: Connection, part: Part) -> Part:
    """Take a month out of its table; one that is out already is returned as it is.

    Raises:
        StorageUnavailable: it was in use for too long; nothing has changed.
    """
    if part.retired:
        return part
    for _ in range(LOCK_ATTEMPTS_MAX):
        with suppress(asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                # A writer that makes partitions looks for this name: it must find the partition or nothing.
                await connection.execute(STATEMENTS["no_new_partitions"])
                oid = await connection.fetchval("SELECT to_regclass($1)::oid::bigint", part.name)
                name = f"retired_{part.name}_{oid}"
                for table, old, new in zip(
                    _behind(part.table), _names(part, part.name), _names(part, name), strict=True
                ):
                    if await connection.fetchval("SELECT to_regclass($1)", old):
                        await connection.execute(f"ALTER TABLE {table} DETACH PARTITION {old}")
                        await connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
            return Part(part.table, part.month, name, part.bytes, True)
        await asyncio.sleep(LOCK_PAUSE_S)
    raise StorageUnavailable(f"{part.name} is in use: somebody reads {part.table} for too long; try again later")


async def archive(
    connection: Connection, part: Part, directory: Path, progress: Progress = lambda done, of: None
) -> Archived:
    """Write a retired month into a file of the directory that is whole, on disk, and has been read again.

    Raises:
        CandlecastError: the file cannot be written, or is not what was written; the month stays where it is.
    """
    assert part.retired, "rows may still come"
    schema, source = await _source(connection, part)
    out = await asyncio.to_thread(_place, directory, part)
    stopped, loop = threading.Event(), asyncio.get_running_loop()
    read, sums = 0, 0
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows: int = await connection.fetchval(f"SELECT count(*) FROM {part.name}")
        cursor = await connection.cursor(f"SELECT {', '.join(schema)} FROM {source}")

        def frames() -> Iterator[pl.DataFrame]:
            nonlocal read, sums
            while not stopped.is_set():
                some = asyncio.run_coroutine_threadsafe(cursor.fetch(ARCHIVE_ROWS), loop).result(TIMEOUT_MS / 1000)
                if not some:
                    return
                frame = pl.DataFrame([tuple(row) for row in some], schema=schema, orient="row")
                read, sums = read + len(frame), (sums + _sum(frame)) % DIGESTS
                progress(read, rows)
                yield frame

        def check() -> None:
            if read != rows:
                raise CandlecastError(f"{part.name}: {rows} rows were counted, {read} were read")

        try:
            await asyncio.to_thread(tables.write, out, schema, frames(), {MARK: part.name}, check)
        finally:
            stopped.set()
    await asyncio.to_thread(_verify, out, rows, sums)
    return Archived(rows, out, out.stat().st_size)


async def drop(connection: Connection, part: Part) -> None:
    """Drop a retired month.

    Raises:
        StorageUnavailable: somebody still reads it; it is left for the next run.
    """
    assert re.fullmatch(r"retired_\w+", part.name), "only what is out of its table"
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS * LOCK_ATTEMPTS_MAX}")
            await connection.execute(f"DROP TABLE IF EXISTS {', '.join(_names(part, part.name))}")
    except asyncpg.LockNotAvailableError as error:
        raise StorageUnavailable(f"{part.name} is still read by somebody; the next run drops it") from error


def month_after(month: date, count: int) -> date:
    """Return the first day of the month so many after, or before, the one of `month`."""
    years, months = divmod(month.month - 1 + count, 12)
    return date(month.year + years, months + 1, 1)


def make_room(directory: Path, bytes_wanted: int) -> None:
    """Make the directory for files, and remove what a run that was killed left half written.

    Raises:
        CandlecastError: nothing can be written there, or not so much.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.glob(".*.part"):
            if re.fullmatch(rf"\.({'|'.join(TABLES)})_\d{{4}}_\d{{2}}[.\d]*\.parquet\.\d+\.part", path.name):
                path.unlink()
        probe = directory / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise CandlecastError(f"{directory}: cannot be written: {error.strerror}") from error
    if free < bytes_wanted:
        raise CandlecastError(
            f"{directory}: {free / 1e9:.1f} GB free, and a month has {bytes_wanted / 1e9:.1f} GB: make room"
        )


def _behind(table: str) -> tuple[str, ...]:
    return VIEWED.get(table, (table,))


def _names(part: Part, name: str) -> list[str]:
    """Return the name for a month of each table behind, given that for the first."""
    first, *others = _behind(part.table)
    return [name, *(name.replace(first, other) for other in others if first in name)]


async def _source(connection: Connection, part: Part) -> tuple[dict[str, Any], str]:
    """Return the columns of a retired month, and what to select them from: the view's definition, with its tables."""
    first, *others = _names(part, part.name)
    if not others or await connection.fetchval("SELECT to_regclass($1)", others[0]) is None:
        return await _schema(connection, first), first
    view: str = await connection.fetchval("SELECT pg_get_viewdef(to_regclass(quote_ident($1)))", part.table)
    for table, name in zip(_behind(part.table), (first, *others), strict=True):
        view = re.sub(rf"\b{table}\b", name, view)
    return await _schema(connection, part.table), f"({view.rstrip(' ;')}) AS {part.table}"


async def _schema(connection: Connection, name: str) -> dict[str, Any]:
    columns = {row["name"]: row["type"] for row in await connection.fetch(STATEMENTS["columns"], name)}
    if unknown := sorted(set(columns.values()) - set(TYPES)):
        raise CandlecastError(f"{name}: no file holds the type {', '.join(unknown)} yet; nothing was removed")
    return {column: TYPES[kind] for column, kind in columns.items()}


def _place(directory: Path, part: Part) -> Path:
    """Return the file for a month: the one that was begun for this very table, or one that is not there."""
    for number in range(1, FILES_MAX + 1):
        more = "" if number == 1 else f".{number}"
        path = directory / f"{part.table}_{part.month:%Y_%m}{more}.parquet"
        if not path.exists():
            return path
        with suppress(OSError, pl.exceptions.PolarsError):  # somebody else's file, or a damaged one, is left alone
            if pl.read_parquet_metadata(path).get(MARK) == part.name:
                return path
    raise CandlecastError(f"{directory}: {FILES_MAX} files of {part.table} of {part.month:%Y-%m}: move some away")


def _verify(path: Path, rows: int, sums: int) -> None:
    """Read a file again, row for row, and see to it that its name is on disk."""
    found, again = 0, 0
    try:
        for frame in pl.scan_parquet(path, glob=False).collect_batches(chunk_size=ARCHIVE_ROWS, lazy=True):
            found, again = found + len(frame), (again + _sum(frame)) % DIGESTS
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CandlecastError(f"{path}: cannot be read again: {error}") from error
    if (found, again) != (rows, sums):
        raise CandlecastError(f"{path}: holds {found} rows where {rows} were written, or others; its month is kept")


def _sum(frame: pl.DataFrame) -> int:
    """Return a sum over digests of the rows, whatever their order."""
    digests = frame.hash_rows(seed=0).to_numpy()
    return int(np.add.reduce(digests, dtype=np.uint64))


def log_month(part: Part, done: Archived | None, begin_s: float) -> None:
    """Say in the log what became of a month."""
    said = f"file={done.file} rows={done.rows} bytes={done.bytes}" if done else "archived=no"
    month, seconds = f"{part.month:%Y-%m}", time.monotonic() - begin_s
    log.info("retired table=%s month=%s %s seconds=%.1f", part.table, month, said, seconds)
