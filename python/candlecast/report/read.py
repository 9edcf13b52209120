"""Asks the views for what a report tells, each question within the pool's time limit. Knows no words and no plots."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from candlecast.store.pool import Pool
from candlecast.store.queries import statements

QUESTIONS = statements("report.sql")
WITHOUT_A_DAY = ("exposure", "importance")
"""What is as of now."""


async def read(pool: Pool, since: date) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rows of each question from a day on, by its name.

    Raises:
        StorageUnavailable: PostgreSQL is away, or the schema is old.
    """
    return {
        name: await pool.fetch(question, *(() if name in WITHOUT_A_DAY else (since,)))
        for name, question in QUESTIONS.items()
    }
