"""The statements of the .sql files beside this one, by name. Knows no table."""

from __future__ import annotations

import re
from importlib.resources import files


def statements(file: str) -> dict[str, str]:
    """Return the statements of a file of this package; `-- name:` begins one."""
    text = files(__package__).joinpath(file).read_text(encoding="utf-8")
    found = re.findall(r"-- name: (\w+)\n(.*?;)\n(?=\n-- name:|\Z)", text, re.DOTALL)
    return {name: statement.strip() for name, statement in found}


STATEMENTS: dict[str, str] = statements("queries.sql")
