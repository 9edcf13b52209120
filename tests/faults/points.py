"""Kills of the server at chosen points of its work, seen from outside: no hook in the product, only its files and its
database. Each function kills it and returns what it hit; "any time" when the moment did not come within its limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil

from tests.faults.invariants import connected, size_of
from tests.faults.load import Load
from tests.stack import Stack

LIMIT_S = 10.0
BACKLOG_S = 2.5
"""Rows that wait so long are more than travel without COPY."""
WRITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'candlecast' AND state = 'active'"
    " AND pid <> pg_backend_pid()"
)
FEW_ROWS = "-- One round trip"
"""How the statement begins that writes a few rows (store/queries.sql)."""
TRIES = 10
FROZEN_S = 1.0
"""Whoever asks a server that is frozen for longer is told that it is not ready, and rightly."""
ANY_TIME = "any time"


async def at_any_time(stack: Stack, load: Load, server: psutil.Process) -> str:
    server.kill()
    return ANY_TIME


async def after_append(stack: Stack, load: Load, server: psutil.Process) -> str:
    """Kill it as soon as the journal has grown: before the reply, or while it leaves."""
    journal, deadline = stack.state_dir / "journal", time.monotonic() + LIMIT_S
    await load.until_answered(1)
    before = size_of(journal)
    while size_of(journal) <= before:
        if time.monotonic() > deadline:
            return await at_any_time(stack, load, server)
        await asyncio.sleep(0)
    server.kill()
    return "after append"


async def in_insert(stack: Stack, load: Load, server: psutil.Process) -> str:
    """Kill it while PostgreSQL is in the middle of its statement."""
    async with _locked(stack) as (connection, _):
        if not await _seen(connection, f"{WRITING} AND wait_event_type = 'Lock'"):
            return await at_any_time(stack, load, server)
        server.kill()
        return "in an INSERT"


async def in_copy(stack: Stack, load: Load, server: psutil.Process) -> str:
    """Let rows wait until they travel by COPY; freeze the server in it, and kill it there."""
    async with _locked(stack) as (connection, release):
        await asyncio.sleep(BACKLOG_S)
        await release()
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            server.suspend()
            if await connection.fetchval(f"{WRITING} AND query LIKE 'COPY%'"):
                server.kill()
                return "in a COPY"
            server.resume()
            await asyncio.sleep(0.001)
        return await at_any_time(stack, load, server)


async def after_commit(stack: Stack, load: Load, server: psutil.Process) -> str:
    """Freeze it while its statement waits for a lock, let PostgreSQL commit, and kill it before it moves its mark.

    A few rows are one statement, which is its own transaction; what comes by COPY would wait for a frozen server.
    """
    mark, waits = stack.state_dir / "journal" / "mark", f"{WRITING} AND wait_event_type = 'Lock'"
    for _ in range(TRIES):
        async with _locked(stack) as (connection, release):
            if not await _seen(connection, waits):
                break
            if not await connection.fetchval(f"{waits} AND query LIKE '{FEW_ROWS}%'"):
                continue
            server.suspend()
            marked = mark.read_bytes()
            count = "SELECT (SELECT count(*) FROM candles) + (SELECT count(*) FROM ml_predictions)"
            before = await connection.fetchval(count)
            await release()
            grown = await _seen(connection, f"SELECT ({count}) > {before}", FROZEN_S)  # not if all were there already
            hit = grown and mark.read_bytes() == marked
            server.kill()
            return "after commit, before mark" if hit else ANY_TIME
    return await at_any_time(stack, load, server)


POINTS: tuple[Callable[[Stack, Load, psutil.Process], Awaitable[str]], ...] = (
    at_any_time,
    after_append,
    in_insert,
    in_copy,
    after_commit,
)


@asynccontextmanager
async def _locked(stack: Stack) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[None]]]]:
    """Keep everybody from writing forecasts; yield another connection, and what releases the lock."""
    holder, other = await connected(stack), await connected(stack)
    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("LOCK TABLE ml_predictions IN EXCLUSIVE MODE")
        yield other, transaction.rollback
    finally:
        holder.terminate()
        other.terminate()


async def _seen(connection: Any, question: str, limit_s: float = LIMIT_S) -> bool:
    deadline = time.monotonic() + limit_s
    while not await connection.fetchval(question):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.001)
    return True
