"""The admin's door: who brings the token may change what answers. Knows no method; roles will take its place."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any, Final

import grpc

from candlecast.errors import ConfigurationError, Unauthenticated
from candlecast.settings import Settings

FILE: Final = "admin_token"
"""In the state directory, mode 0600."""
WHO_HEADER: Final = "candlecast-who"
WHO_MAX: Final = 100
Context = grpc.aio.ServicerContext[Any, Any]


class Admin:
    """Lets pass whoever brings the token of this digest; with None, nobody."""

    def __init__(self, sha256: str | None) -> None:
        self._sha256 = sha256

    def require(self, context: Context) -> str:
        """Return who calls, as the audit has it.

        Raises:
            Unauthenticated.
        """
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        if self._sha256 is None:
            raise Unauthenticated(
                "this server has no admin token: set admin_token_sha256, or let `candlecast up` make one"
            )
        scheme, _, token = metadata.get("authorization", "").partition(" ")
        given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        if not (hmac.compare_digest(given, self._sha256) and scheme.lower() == "bearer"):
            raise Unauthenticated("this needs the admin's token: metadata `authorization: Bearer TOKEN`")
        said = "".join(c for c in metadata.get(WHO_HEADER, "") if c.isprintable())[:WHO_MAX]
        return f"admin {said}".strip()


def digest_of(settings: Settings) -> str | None:
    """Return the SHA-256 of the admin's token; None: there is none."""
    if settings.admin_token_sha256 is not None:
        return settings.admin_token_sha256
    token = token_of(settings)
    return hashlib.sha256(token.encode()).hexdigest() if token else None


def token_of(settings: Settings) -> str | None:
    """Return the admin's token: the setting, or what the state directory keeps.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    if settings.admin_token is not None:
        return settings.admin_token
    path = settings.state_dir / FILE
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error


def made_token(state_dir: Path) -> None:
    """Make a token for this installation, if it has none."""
    path = state_dir / FILE
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        return
