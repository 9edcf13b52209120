"""Rows into the tables in one transaction: batches by COPY, a few rows at once. Knows no caller and no queue.

From COPY_ROWS_MIN rows on, COPY fills a temporary table with the records as they are and one statement takes them from
there. Fewer travel as a parameter of the same statement, which saves three round trips.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import date, timedelta
from typing import Any, Final, Self

import asyncpg

from candlecast.errors import StorageUnavailable
from candlecast.filters import reasons_of
from candlecast.store import records
from candlecast.store.batch import Batch
from candlecast.store.pool import Connection, is_refusal
from candlecast.store.queries import STATEMENTS
from candlecast.store.records import (
    CANDLE_COLUMNS,
    COPY_HEADER,
    COPY_TRAILER,
    FLOW_COLUMNS,
    PREDICTION_COLUMNS,
    Origin,
    Records,
)
from candlecast.values import I64

COPY_ROWS_MIN = 250
COPY_BYTES: Final = 256 * 1024
"""Handed over at a time."""
DAY_MS: Final = 86_400_000
EPOCH: Final = date(1970, 1, 1)
NO_ORIGIN: Final = Origin("", 0, b"", 0, 0, ())
Refused = tuple[dict[str, Any], str]
"""A row that PostgreSQL refuses, and why."""


def _inbox(name: str, columns: dict[str, str]) -> str:
    declared = ", ".join(f"{column} {type_}" for column, type_ in columns.items())
    return f"CREATE TEMPORARY TABLE {name} ({declared}) ON COMMIT DELETE ROWS;"


INBOXES: Final = (
    _inbox("candle_inbox", CANDLE_COLUMNS)
    + _inbox("prediction_inbox", PREDICTION_COLUMNS)
    + _inbox("flow_inbox", FLOW_COLUMNS)
)
"""Where COPY puts a batch before `record` takes it from there; each connection that writes has its own."""
FEW: Final = (
    STATEMENTS["record"]
    .replace("FROM candle_inbox", "FROM unnest($13::candle_inbox[]) AS candle_inbox")
    .replace("FROM prediction_inbox", "FROM unnest($14::prediction_inbox[]) AS prediction_inbox")
    .replace("FROM flow_inbox", "FROM unnest($15::flow_inbox[]) AS flow_inbox")
)


class Writer:
    """Writes rows over one connection. Made by `on`; of no more use after an error, for it remembers partitions."""

    def __init__(self, connection: Connection, few: Any, many: Any) -> None:
        self._connection = connection
        self._few = few
        self._many = many
        self._months: set[tuple[str, date]] = set()  # (table, first day) of the partitions that are there
        self._days: set[tuple[str, int]] = set()  # (table, day since 1970) of those months, seen before

    @classmethod
    async def on(cls, connection: Connection) -> Self:
        await connection.execute("DISCARD TEMP")
        await connection.execute(INBOXES)
        async with connection.transaction():  # without, the tables would stay locked until the next statement
            return cls(connection, await connection.prepare(FEW), await connection.prepare(STATEMENTS["record"]))

    async def write(self, batch: Batch) -> list[Refused]:
        """Write rows whose key is not there yet; return those that PostgreSQL refuses, with why.

        Rows are written in one transaction. If PostgreSQL refuses one of them, they are written in halves, so that
        the others get through.
        """
        candles, predictions, flows = batch.candle_records, batch.prediction_records, batch.flow_records
        try:
            await self._create_months("candles", candles["open_time_ms"])
            for table in ("ml_prediction_rows", "ml_outcome_rows"):  # whoever writes an outcome finds its month
                await self._create_months(table, predictions["close_time_ms"])
            await self._create_months("order_flow_features", flows["ts_ms"])
            shared = _shared(batch, predictions)
            if len(candles) + len(predictions) + len(flows) < COPY_ROWS_MIN:
                await self._few.fetch(*shared, *map(records.rows, (candles, predictions, flows)))
            else:
                await self._copy(batch, shared)
            return []
        except Exception as error:
            if not is_refusal(error):
                raise
            if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name is None:
                raise StorageUnavailable("a partition has gone: creating it again") from error
            if len(batch) == 1:
                return [(row, str(error)) for row in batch.people()]
        return [row for part in batch.halves() for row in await self.write(part)]

    async def _copy(self, batch: Batch, shared: Sequence[object]) -> None:
        async with self._connection.transaction():
            inboxes = (
                ("candle_inbox", batch.candles),
                ("prediction_inbox", batch.predictions),
                ("flow_inbox", batch.flows),
            )
            for inbox, data in inboxes:
                if data:
                    await self._connection.copy_to_table(inbox, source=_stream(data), format="binary")
            await self._many.fetch(*shared)

    async def _create_months(self, table: str, times_ms: I64) -> None:
        """Create the partitions that rows need and that we have not seen yet."""
        days = {(table, day) for day in set((times_ms // DAY_MS).tolist())} - self._days
        if days:
            months = {(table, (EPOCH + timedelta(days=day)).replace(day=1)) for _, day in days}
            if missing := months - self._months:
                dates = sorted(month for _, month in missing)
                await self._connection.execute(STATEMENTS["create_months"], table, dates)
            self._months |= months
            self._days |= days


async def _stream(data: bytes) -> AsyncGenerator[bytes | memoryview, None]:
    """Yield what COPY reads, in pieces, so that the connection can hold us up; bytes as such would be a path to it."""
    yield COPY_HEADER
    view = memoryview(data)
    for start in range(0, len(data), COPY_BYTES):
        yield view[start : start + COPY_BYTES]
    yield COPY_TRAILER


def _shared(batch: Batch, predictions: Records) -> Sequence[object]:
    """Return the parameters of `record` that are not columns of rows."""
    origin = batch.origin or NO_ORIGIN
    reasons = list(set(predictions["reasons"].tolist()))
    return (
        batch.missed,
        origin.model,
        origin.version,
        origin.bundle_sha256,
        origin.feature_set_hash,
        origin.feature_count,
        origin.states,
        records.DIRECTIONS,
        records.STRENGTHS,
        reasons,
        ["{" + ",".join(reasons_of(bits)) + "}" for bits in reasons],
        origin.shadow,
    )
