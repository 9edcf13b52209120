"""The statements of queries.sql by name. Knows no table."""

from __future__ import annotations

import re
from importlib.resources import files

_TEXT = files(__package__).joinpath("queries.sql").read_text(encoding="utf-8")
STATEMENTS: dict[str, str] = {
    name: statement.strip()
    for name, statement in re.findall(r"-- name: (\w+)\n(.*?;)\n(?=\n-- name:|\Z)", _TEXT, re.DOTALL)
}
