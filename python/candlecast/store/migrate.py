"""Brings the schema up to date: forward only, each file once and in one transaction. Knows no table but its own."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from pathlib import Path

from candlecast.errors import ConfigurationError
from candlecast.settings import CHECKOUT
from candlecast.store.pool import Connection, Pool, open_pool

MIGRATIONS = CHECKOUT / "migrations"
SERVER_VERSION_MIN = 14
LOCK = 0x63616E646C65  # any number that is ours alone: "candle"
TIMEOUT_MS = 600_000
"""Longest wait for another one's migration, and longest migration."""
log = logging.getLogger(__name__)


async def migrate(dsn: str, directory: Path = MIGRATIONS) -> list[str]:
    """Apply the files of directory that the database lacks, in the order of their names; return their names.

    Raises:
        ConfigurationError: PostgreSQL is too old, an applied file was changed, or the schema is newer than the files.
        StorageUnavailable: PostgreSQL failed; what was applied before stays, the file that failed left nothing.
    """
    files = _files(directory)
    async with (
        open_pool(dsn, connections_max=1, command_timeout_ms=TIMEOUT_MS) as pool,
        pool.connection() as connection,
    ):
        version = connection.get_server_version()
        if version.major < SERVER_VERSION_MIN:
            raise ConfigurationError(f"PostgreSQL {version.major} is too old: {SERVER_VERSION_MIN} or newer is needed")
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)  # until the connection goes back
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            " name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = await _applied(connection)
        missing = _missing(applied, files)
        for path in missing:
            begin = time.monotonic()
            async with connection.transaction():
                await connection.execute(path.read_text(encoding="utf-8"))
                await connection.execute(
                    "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", path.name, _sha256(path)
                )
            log.info("migrated file=%s seconds=%.2f", path.name, time.monotonic() - begin)
        if missing and await connection.fetchval("SELECT to_regprocedure('grant_views_to_reader()') IS NOT NULL"):
            await connection.execute("SELECT grant_views_to_reader()")
    return [path.name for path in missing]


async def check_schema(pool: Pool, directory: Path = MIGRATIONS) -> None:
    """Make sure that the schema is exactly that of the files.

    Raises:
        ConfigurationError: it is older, newer, or from other files.
        StorageUnavailable.
    """
    async with pool.connection() as connection:
        found = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
        missing = _missing(await _applied(connection) if found else {}, _files(directory))
    if missing:
        raise ConfigurationError(f"the schema lacks {missing[0].name}: run `candlecast migrate`")


async def _applied(connection: Connection) -> dict[str, str]:
    rows = await connection.fetch("SELECT name, sha256 FROM schema_migrations ORDER BY name")
    return {row["name"]: row["sha256"] for row in rows}


def _files(directory: Path) -> list[Path]:
    files = sorted(path for path in directory.glob("*.sql") if re.fullmatch(r"\d{4}_\w+\.sql", path.name))
    if not files:
        raise ConfigurationError(f"{directory} holds no migrations")
    return files


def _missing(applied: dict[str, str], files: list[Path]) -> list[Path]:
    """Return the files to apply; what is applied must be the first of them, unchanged."""
    for name, path in zip(applied, files, strict=False):
        if name != path.name:
            raise ConfigurationError(
                f"the schema has {name} where we have {path.name}: use the candlecast that made it"
            )
        if applied[name] != _sha256(path):
            raise ConfigurationError(f"{path} was changed after it was applied: restore it, and write a new file")
    if len(applied) > len(files):
        newest = list(applied)[-1]
        raise ConfigurationError(f"the schema is newer than this candlecast: it has {newest}; use a newer candlecast")
    return files[len(applied) :]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
