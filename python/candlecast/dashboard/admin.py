"""Who may change something: one bearer token. Knows only its digest, and compares in constant time."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from candlecast.dashboard.problems import Refused
from candlecast.settings import Settings

TOKEN_FILE: Final = "admin_token"
_bearer = HTTPBearer(auto_error=False, description="the admin token of the settings, or of admin_token in state_dir")


def digest_of(settings: Settings) -> str | None:
    """Return the SHA-256 of the token, as hexadecimal digits; None: there is none, and nobody may."""
    if settings.admin_token_sha256 is not None:
        return settings.admin_token_sha256
    if settings.admin_token is not None:
        return sha256(settings.admin_token.encode()).hexdigest()
    path = settings.state_dir / TOKEN_FILE
    return sha256(path.read_text().strip().encode()).hexdigest() if path.exists() else None


async def require_admin(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """Return the token of one who may.

    Raises:
        Refused: 403 when no token is set, 401 when none or another was shown.
    """
    expected = digest_of(request.app.state.settings)
    if expected is None:
        raise Refused(403, "NO_ADMIN", "no admin token is set: set CANDLECAST_ADMIN_TOKEN_SHA256 and start again")
    shown = credentials.credentials if credentials else ""
    if not hmac.compare_digest(sha256(shown.encode()).hexdigest(), expected):
        raise Refused(
            401,
            "NOT_ADMIN",
            "the admin token is missing or wrong: Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )
    return shown
