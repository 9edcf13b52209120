"""The role of those who look: candlecast_read, made by a migration, sees views only. Here it gets its password."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

from candlecast.errors import ConfigurationError
from candlecast.store.cluster import READER
from candlecast.store.pool import open_pool

ITERATIONS: Final = 4096
PASSWORD_MIN: Final = 12
"""Characters."""


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """Return what PostgreSQL stores of an ASCII password (RFC 5803): the password itself is never sent to it."""
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    words = (base64.b64encode(data).decode() for data in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(ITERATIONS, *words)


async def let_reader_in(dsn: str, password: str) -> int:
    """Let candlecast_read log in with a password, and see every view; return how many there are.

    Raises:
        ConfigurationError: the password is short or not ASCII, or the role is missing or not ours to change.
        StorageUnavailable.
    """
    if len(password) < PASSWORD_MIN or not (password.isascii() and password.isprintable()):
        raise ConfigurationError(f"the reader's password: {PASSWORD_MIN} or more printable ASCII characters, please")
    async with open_pool(dsn, connections_max=1) as pool, pool.connection() as connection:
        may = await connection.fetchval(
            "SELECT r.rolsuper OR pg_has_role(current_user, found.oid, 'MEMBER') OR r.rolcreaterole"
            " FROM pg_roles AS found, pg_roles AS r WHERE found.rolname = $1 AND r.rolname = current_user",
            READER,
        )
        if not may:
            why = "is missing" if may is None else "is not ours to change"
            raise ConfigurationError(
                f"the role {READER} {why}: an administrator runs CREATE ROLE {READER} LOGIN PASSWORD …, and then"
                " SELECT grant_views_to_reader()"
            )
        # A verifier has neither quotes nor backslashes.
        await connection.execute(f"ALTER ROLE {READER} LOGIN PASSWORD '{scram_verifier(password)}'")
        granted: int = await connection.fetchval("SELECT grant_views_to_reader()")
        return granted
