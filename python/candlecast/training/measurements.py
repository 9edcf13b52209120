"""An evaluation or a backtest on record in PostgreSQL when it ends, however it ends. Knows no statement.

    with measurements.recorded(database_url, "evaluate", [path], {"stride": 4}) as record:
        subject = Subject.load(path)
        record.loaded([subject])
        record.measured(0, {"rows": …, "spans": …, "horizons": …}, verdict="No edge: …")

Who was not measured when the body ends failed, or was interrupted by Ctrl-C. Without a URL nothing is kept; a database
that does not take it is warned of, for what was measured is worth its output all the same.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from candlecast.errors import CandlecastError
from candlecast.store import registry
from candlecast.store.pool import open_pool
from candlecast.store.registry import Measurement, Performance
from candlecast.training import record_rows
from candlecast.training.record import DATABASE_TIMEOUT_MS
from candlecast.training.record_rows import Measured
from candlecast.training.subject import Subject

Part = tuple[int, Mapping[str, Any]]
"""The number of a fold, and metrics as `evaluate.measure` lays them out."""
log = logging.getLogger(__name__)


class Record:
    """What is known so far of the measurements of one command, one for each path. Made by `recorded`."""

    def __init__(self, source: str, paths: Sequence[Path], config: Mapping[str, Any]) -> None:
        self._began = time.monotonic()
        self._runs = [
            Measurement(
                id=uuid4(),
                source=source,
                bundle_path=str(path),
                status="running",
                measured_at=datetime.now(UTC),
                duration_s=0.0,
                config=config,
                host=platform.node(),
            )
            for path in paths
        ]
        self._performance: list[Performance] = []

    def loaded(self, subjects: Sequence[Subject]) -> None:
        """Take note of who stands at the paths."""
        self._runs = [
            replace(run, model=one.name, version=one.version, bundle_sha256=bytes.fromhex(one.sha256))
            for run, one in zip(self._runs, subjects, strict=True)
        ]

    def measured(self, k: int, whole: Mapping[str, Any], parts: Sequence[Part] = (), **known: Any) -> None:
        """Take note of what the k-th reached.

        Args:
            whole: what it reached on all the data, as `record_rows.metric_rows` takes it.
            parts: what it reached on parts of it, each with the number of its fold.
            known: further fields of `Measurement`.
        """
        run = self._runs[k]
        assert run.model is not None and run.version is not None and run.bundle_sha256 is not None
        who = Measured(run.model, run.version, run.bundle_sha256.hex(), run.source, run.measured_at)
        span = whole["spans"]["test"]
        self._performance += record_rows.metric_rows(who, [(0, whole), *parts])
        self._runs[k] = replace(
            run, status="finished", data_from=span["from"], data_to=span["before"], data_points=whole["rows"], **known
        )

    def failed(self, error: BaseException) -> None:
        """Take note of why those that were not measured were not."""
        interrupted = isinstance(error, KeyboardInterrupt)
        text = "interrupted" if interrupted else str(error) or type(error).__name__
        self._runs = [
            replace(run, status="interrupted" if interrupted else "failed", error=text)
            if run.status == "running"
            else run
            for run in self._runs
        ]

    async def write(self, url: str) -> None:
        """Write all of it.

        Raises:
            StorageUnavailable, ConfigurationError.
        """
        self.failed(CandlecastError("it ended without a result"))
        took = time.monotonic() - self._began
        async with open_pool(
            url, connections_max=1, command_timeout_ms=DATABASE_TIMEOUT_MS, connect_timeout_ms=DATABASE_TIMEOUT_MS
        ) as pool:
            await registry.record_performance(pool, self._performance)
            await registry.record_measurements(pool, [replace(run, duration_s=took) for run in self._runs])


@contextmanager
def recorded(url: str | None, source: str, paths: Sequence[Path], config: Mapping[str, Any]) -> Iterator[Record]:
    """Keep what the body measures of those at `paths` on record in the database at `url`."""
    record = Record(source, paths, config)
    try:
        yield record
    except BaseException as error:
        record.failed(error)
        raise
    finally:
        if url is not None:
            try:
                asyncio.run(record.write(url))
            except CandlecastError as error:
                log.warning("measurement not on record: %s", error)
