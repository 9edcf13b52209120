"""What happened with versions of models, in ml_model_events. Knows no version and no file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from candlecast.store.pool import Pool
from candlecast.store.queries import STATEMENTS


async def record_model_events(pool: Pool, events: Sequence[Mapping[str, Any]]) -> None:
    """Write events, with times in ms as `at_ms`; those that are there stay as they are.

    Raises:
        StorageUnavailable, InvalidRequest.
    """
    rows = [
        {
            **event,
            "at": datetime.fromtimestamp(event["at_ms"] / 1000, UTC).isoformat(),
            "bundle_sha256": "\\x" + event["bundle_sha256"],
        }
        for event in events
    ]
    await pool.fetch(STATEMENTS["record_model_events"], json.dumps(rows, allow_nan=False).replace("\\u0000", ""))


async def model_events(pool: Pool, model: str, version: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Return events of a model, newest first, as they were written.

    Raises:
        StorageUnavailable.
    """
    rows = await pool.fetch(STATEMENTS["model_events"], limit, model, version)
    return [dict(row) | {"id": row["id"].hex, "metrics": json.loads(row["metrics"])} for row in rows]
