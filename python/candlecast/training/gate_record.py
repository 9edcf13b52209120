"""A training of the gate on record in PostgreSQL when it ends, however it ends: a row of ml_training_log.

    with gate_record.opened(database_url) as record:
        trained = gate_recipe.train(…)
        record.ended(version=1, data_points=…, metrics=…)

Without a URL nothing is kept; a database that does not take it is warned of.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from candlecast.errors import CandlecastError
from candlecast.models.gate_bundle import NAME
from candlecast.store import registry
from candlecast.store.pool import open_pool
from candlecast.store.registry import Logged
from candlecast.training.record import DATABASE_TIMEOUT_MS

TOLD: Final = ("auc", "log_loss", "brier", "precision", "recall", "f1", "approval_rate")
"""Metrics that are kept beside their bases."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Record:
    """What is known of a training so far. Made by `opened`."""

    status: str = "failed"
    error: str | None = "it ended without a gate"
    version: int | None = None
    data_points: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def ended(
        self, *, version: int | None, data_points: int | None = None, metrics: Mapping[str, Any], **more: Any
    ) -> None:
        """Take note of how it ended; `more` stands beside the metrics."""
        pairs = {name: metrics[name] for name in TOLD if name in metrics}
        self.status, self.error = "finished", None
        self.version, self.data_points = version, data_points
        self.metadata = {"family": NAME, "metrics": pairs} | more

    def failed(self, error: BaseException) -> None:
        """Take note of why it failed, unless it had ended."""
        if self.status == "failed":
            interrupted = isinstance(error, KeyboardInterrupt)
            self.status = "interrupted" if interrupted else "failed"
            self.error = "interrupted" if interrupted else str(error) or type(error).__name__


@contextmanager
def opened(url: str | None) -> Iterator[Record]:
    """Keep the training that the body runs on record in the database at `url`."""
    record, began = Record(), time.monotonic()
    try:
        yield record
    except BaseException as error:
        record.failed(error)
        raise
    finally:
        if url is not None:
            _keep(url, record, time.monotonic() - began)


def _keep(url: str, record: Record, duration_s: float) -> None:
    row = Logged(
        key=f"gate:{uuid4()}",
        strategy=NAME,
        status=record.status,
        version=record.version,
        logged_at=datetime.now(UTC),
        duration_s=duration_s,
        data_points=record.data_points,
        error=record.error,
        metadata=record.metadata,
    )

    async def write() -> None:
        async with open_pool(
            url, connections_max=1, command_timeout_ms=DATABASE_TIMEOUT_MS, connect_timeout_ms=DATABASE_TIMEOUT_MS
        ) as pool:
            await registry.log_training(pool, row)

    try:
        asyncio.run(write())
    except CandlecastError as error:
        log.warning("training of the gate not on record: %s", error)
