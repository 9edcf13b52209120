"""Tokens of pages: the key of the last row, in a form that nobody is to read. Knows no table."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from candlecast.errors import InvalidRequest

PAGE_SIZE: Final = 100
"""Where a request does not say."""
PAGE_SIZE_MAX: Final = 1_000


def page_size(asked: int) -> int:
    """Return how many rows a page has.

    Raises:
        InvalidRequest: more than PAGE_SIZE_MAX were asked for, or fewer than none.
    """
    if not 0 <= asked <= PAGE_SIZE_MAX:
        raise InvalidRequest("page_size", f"must be 1 to {PAGE_SIZE_MAX}, or 0 for {PAGE_SIZE}")
    return asked or PAGE_SIZE


def token(*key: str | int) -> str:
    """Return the token of the page behind the row with this key."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode()


def key(token: str, kinds: tuple[type[Any], ...]) -> tuple[Any, ...] | None:
    """Return the key in a token, of values of these kinds; None for the first page, whose token is empty.

    Raises:
        InvalidRequest: no response gave this token.
    """
    if not token:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
    except (ValueError, binascii.Error, UnicodeError) as error:
        raise InvalidRequest("page_token", "is none that a response gave") from error
    if not isinstance(found, list) or [type(value) for value in found] != list(kinds):
        raise InvalidRequest("page_token", "is none that a response gave")
    return tuple(found)
