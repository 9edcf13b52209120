"""Tables in files: Parquet and CSV read in parts, Parquet written in parts, times of any unit. Knows no candles."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from candlecast.errors import CandlecastError, ConfigurationError
from candlecast.values import F64, I64

ROW_GROUP_ROWS: Final = 65_536
"""A group is held in memory until it is written, and each leaves an entry in the footer, which grows with them."""


@dataclass(frozen=True, slots=True)
class Time:
    """The column of times, and how its values become milliseconds."""

    column: str
    to_ms: int
    per_ms: int

    def ms(self, times: I64 | F64) -> I64:
        if times.dtype.kind == "f":
            return np.rint(times * self.to_ms / self.per_ms).astype(np.int64)
        return times.astype(np.int64) * self.to_ms // self.per_ms

    @classmethod
    def of_numbers(cls, column: str, largest: float) -> Time:
        """Tell seconds, milliseconds, microseconds and nanoseconds since 1970 by the largest of them."""
        if largest < 1e14:
            return cls(column, 1000 if largest < 1e11 else 1, 1)
        return cls(column, 1, 1000 if largest < 1e17 else 10**6)


def columns(path: Path) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        ConfigurationError: it is unreadable, empty, or neither .parquet nor .csv.
    """
    with _reading(path):
        return _scan(path).collect_schema().names()


def parts(path: Path, wanted: list[str], size: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file in its order, `size` at once.

    Raises:
        ConfigurationError: as `columns`.
    """
    with _reading(path):
        for part in _scan(path).select(wanted).collect_batches(chunk_size=size, lazy=True):
            if len(part):
                yield part


def times(path: Path, column: pl.Series) -> tuple[I64 | F64, bool]:
    """Return the times as they are written and True, or, where they are no numbers, in milliseconds and False.

    Raises:
        ConfigurationError: they are neither numbers nor times.
    """
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        as_ms = column.cast(pl.Datetime("ms", getattr(column.dtype, "time_zone", None)))
        return as_ms.dt.epoch("ms").to_numpy(), False
    if column.dtype == pl.String:
        for kind in (pl.Int64, pl.Float64):
            if not (cast := column.cast(kind, strict=False)).null_count():
                column = cast
                break
        else:
            return np.array([_iso_ms(path, text) for text in column.to_list()], dtype=np.int64), False
    if not column.dtype.is_numeric() or not column.is_finite().all():
        raise ConfigurationError(
            f"{path}: {column.name} is {column.dtype}, not a number of milliseconds or an ISO time"
        )
    return column.cast(pl.Float64 if column.dtype.is_float() else pl.Int64).to_numpy(), True


def numbers(path: Path, column: pl.Series) -> F64:
    """Return a column [N] as float64, NaN where it is empty.

    Raises:
        ConfigurationError: something in it is no number.
    """
    try:
        return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    except pl.exceptions.PolarsError:
        raise ConfigurationError(f"{path}: column {column.name} has something that is no number") from None


def write(
    out: Path,
    schema: Mapping[str, Any],
    frames: Iterator[pl.DataFrame],
    metadata: Mapping[str, str] | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write frames as one Parquet file, some rows at once; `out` is there when all of it is, and replaced.

    Args:
        check: raises, after the last frame, when the file shall not be.

    Raises:
        CandlecastError: `out` cannot be written, or what `frames` and `check` raise.
    """
    stopped = threading.Event()
    # Ctrl-C reaches the main thread alone, so nothing interrupts the cleaning up in the other.
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(_write, out, schema, frames, metadata, check, stopped)
        try:
            written.result()
        finally:
            stopped.set()


def _write(
    out: Path,
    schema: Mapping[str, Any],
    frames: Iterator[pl.DataFrame],
    metadata: Mapping[str, str] | None,
    check: Callable[[], None],
    stopped: threading.Event,
) -> None:
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")

    def source(*_: object) -> Iterator[pl.DataFrame]:
        for frame in frames:
            if stopped.is_set():
                raise CandlecastError("interrupted")
            yield frame

    try:
        register_io_source(source, schema=dict(schema)).sink_parquet(
            partial,
            row_group_size=ROW_GROUP_ROWS,
            metadata=dict(metadata) if metadata else None,
            sync_on_close="data",
        )
        check()
        if not stopped.is_set():
            partial.replace(out)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CandlecastError(f"{out}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _scan(path: Path) -> pl.LazyFrame:
    if path.suffix == ".parquet":
        return pl.scan_parquet(path, glob=False)
    if path.suffix == ".csv":
        # As texts: a type that is guessed from some rows may not hold for others.
        return pl.scan_csv(path, glob=False, infer_schema=False)
    raise ConfigurationError(f"{path}: files that are read are .parquet or .csv")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except pl.exceptions.NoDataError:
        raise ConfigurationError(f"{path}: the file is empty; give one with a header and rows") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error


def _iso_ms(path: Path, text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{path}: {text!r} is neither milliseconds nor an ISO time") from None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
