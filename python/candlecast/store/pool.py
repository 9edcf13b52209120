"""A bounded pool of connections whose errors say what to do. Knows no table."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs

import asyncpg

from candlecast.errors import CandlecastError, ConfigurationError, InvalidRequest, StorageUnavailable

Connection = Any
"""An asyncpg connection; asyncpg has no types."""
CLOSE_TIMEOUT_S = 2.0
LOST = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError)
"""What PostgreSQL, the way to it, or its client raise."""
log = logging.getLogger(__name__)


class Pool:
    """Lends connections. Made by `open_pool`."""

    def __init__(self, pool: asyncpg.Pool, place: str, timeout_s: float) -> None:
        self.connections_max: int = pool.get_max_size()
        self._pool = pool
        self._place = place
        self._timeout_s = timeout_s

    def connections(self) -> dict[str, float]:
        """Return how many connections are lent, and how many are open and idle."""
        idle = self._pool.get_idle_size()
        return {"lent": float(self._pool.get_size() - idle), "idle": float(idle)}

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection. One that fails, or is left in the middle of a statement, is not used again.

        Raises:
            StorageUnavailable: PostgreSQL failed or did not answer in time. What it finds wrong with the data comes
                as it is (see `is_refusal`).
        """
        try:
            connection = await self._pool.acquire(timeout=self._timeout_s)
        except LOST as error:
            raise unavailable(error, self._place) from error
        try:
            yield connection
        except BaseException as error:
            if not is_refusal(error) and not isinstance(error, CandlecastError):
                with suppress(asyncpg.InterfaceError):  # it has ended already
                    connection.terminate()
            if isinstance(error, LOST) and not is_refusal(error):
                raise unavailable(error, self._place) from error
            raise
        finally:
            try:
                await self._pool.release(connection, timeout=CLOSE_TIMEOUT_S)
            except LOST as error:
                log.info("connection dropped place=%s error=%r", self._place, error)

    async def fetch(self, statement: str, *values: object) -> list[Any]:
        """Run one statement in a transaction of its own and return its rows.

        Raises:
            StorageUnavailable.
            InvalidRequest: PostgreSQL does not take the values.
        """
        try:
            async with self.connection() as connection:
                rows: list[Any] = await connection.fetch(statement, *values)
                return rows
        except Exception as error:
            if is_refusal(error):
                raise InvalidRequest("values", _first_line(error)) from error
            raise


@asynccontextmanager
async def open_pool(
    dsn: str, *, connections_max: int = 4, command_timeout_ms: int = 5_000, connect_timeout_ms: int = 5_000
) -> AsyncIterator[Pool]:
    """Connect, and lend connections while the body runs.

    Args:
        dsn: postgresql:// URL.
        command_timeout_ms: longest statement, for the client and for the server.

    Raises:
        ConfigurationError: the URL, the login or the database is wrong.
        StorageUnavailable: nobody answers there.
    """
    place = place_of(dsn)
    settings = {"application_name": "candlecast", "jit": "off", "statement_timeout": str(command_timeout_ms)}
    try:
        pool = await asyncpg.create_pool(
            dsn, min_size=1, max_size=connections_max, timeout=connect_timeout_ms / 1000,
            command_timeout=command_timeout_ms / 1000, server_settings=settings,
        )  # fmt: skip
    except ValueError:  # its text may hold a piece of the password
        raise ConfigurationError(
            f"database: DATABASE_URL for {place} is not valid: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE,"
            " with special characters percent-encoded"
        ) from None
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise ConfigurationError(
            f"database: {place} refuses us: {error}; check user, password (PGPASSWORD goes before a password file) and"
            " database in DATABASE_URL"
        ) from error
    except LOST as error:
        raise unavailable(error, place) from error
    try:
        yield Pool(pool, place, connect_timeout_ms / 1000)
    finally:
        try:
            await asyncio.wait_for(pool.close(), CLOSE_TIMEOUT_S)
        except LOST:
            pool.terminate()


def place_of(dsn: str) -> str:
    """Return where a URL leads, for messages: host and database, never user or password."""
    rest, _, query = dsn.partition("?")
    place = rest.partition("//")[2].rpartition("@")[2]
    if host := parse_qs(query).get("host", [""])[0]:
        return f"{host}/{place.strip('/')}"
    return place if place and "@" not in query else "(no host)"  # a ? in a password: what is before it is no host


def is_refusal(error: BaseException) -> bool:
    """Tell whether PostgreSQL, or its client, will never take this data."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in {"22", "23", "54"}  # data, integrity, limits of a row
    return isinstance(error, ValueError | TypeError | OverflowError)


def unavailable(error: BaseException, place: str) -> StorageUnavailable:
    """Return the error for a caller: what happened, where, and what to do."""
    state = getattr(error, "sqlstate", None) or ""
    if state in {"42P01", "42704", "42883", "42703"}:
        advice = "the schema is missing or old: run `candlecast migrate`"
    elif state[:2] == "53":
        advice = "it is out of disk, memory or connections: make room"
    elif state == "42501":
        advice = "grant the role what it lacks"
    elif isinstance(error, TimeoutError) or state == "57014":
        advice = "it is slow or does not answer: check its load and its log"
    elif isinstance(error, asyncpg.PostgresError) and state[:2] not in {"08", "57"}:
        advice = "see its log"
    else:
        advice = "check that it runs and can be reached"
    return StorageUnavailable(f"PostgreSQL at {place}: {_first_line(error)}; {advice}")


def _first_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
