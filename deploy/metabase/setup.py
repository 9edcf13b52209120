#!/usr/bin/env python3
"""Gives a Metabase its database, questions and dashboards, by its API; run it again after changes, nothing is doubled.

A folder beside this file is a dashboard (its README: name and description), a .sql file in it a question over our
views: first lines say how it is shown. Needs nothing but Python 3.11. From the environment:

    METABASE_URL            default http://127.0.0.1:3000
    METABASE_EMAIL, METABASE_PASSWORD   the administrator; on a new Metabase that account is made
    PGHOST, PGPORT, PGDATABASE          as Metabase reaches PostgreSQL; default postgres, 5432, candlecast
    CANDLECAST_READ_PASSWORD            of the role candlecast_read
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COLLECTION = "candlecast"
DATABASE = "candlecast"
WAIT_S = 300
"""For a Metabase that is starting."""
TIMEOUT_S = 30
GRID = 24
"""Columns of a dashboard."""
HEADER = re.compile(r"-- (\w+): (.*)")


@dataclass(frozen=True)
class Question:
    """A .sql file.

    Attributes:
        display: line, bar, row, area, scalar, table, pie, scatter.
        x, y: columns of a chart; `by` is one that splits it into several.
        size: columns and rows of the dashboard's grid.
    """

    name: str
    text: str
    display: str
    x: tuple[str, ...]
    y: tuple[str, ...]
    size: tuple[int, int]
    sql: str

    @classmethod
    def read(cls, path: Path) -> Question:
        lines = path.read_text(encoding="utf-8").splitlines()
        head = {}
        while lines and (match := HEADER.fullmatch(lines[0])):
            head[match[1]] = match[2].strip()
            lines.pop(0)
        unknown = head.keys() - {"title", "text", "display", "x", "by", "y", "size"}
        if unknown or not {"title", "display"} <= head.keys():
            raise SystemExit(f"{path}: wants title and display, knows no {sorted(unknown)}")
        wide, _, high = head.get("size", "12x6").partition("x")
        return cls(
            name=head["title"],
            text=head.get("text", ""),
            display=head["display"],
            x=tuple(_words(head.get("x", "")) + _words(head.get("by", ""))),
            y=tuple(_words(head.get("y", ""))),
            size=(int(wide), int(high)),
            sql="\n".join(lines).strip().rstrip(";"),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Return how Metabase draws it."""
        return {"graph.dimensions": list(self.x), "graph.metrics": list(self.y)} if self.x else {}


@dataclass(frozen=True)
class Dashboard:
    name: str
    text: str
    questions: tuple[Question, ...]

    @classmethod
    def read(cls, folder: Path) -> Dashboard:
        name, _, text = (folder / "README").read_text(encoding="utf-8").partition("\n")
        return cls(name.strip(), text.strip(), tuple(Question.read(path) for path in sorted(folder.glob("*.sql"))))


def dashboards(root: Path = HERE) -> list[Dashboard]:
    """Return all dashboards, in the order of their folders."""
    return [Dashboard.read(path.parent) for path in sorted(root.glob("*/README"))]


class Metabase:
    """Its API, as JSON in and out."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: str | None = None

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(f"{self._url}/api/{path}", method=method)
        request.add_header("Content-Type", "application/json")
        if self._session:
            request.add_header("X-Metabase-Session", self._session)
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, data, TIMEOUT_S) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:500]
            raise SystemExit(f"Metabase refuses {method} {path}: {error.code} {said}") from error
        return json.loads(text) if text else None

    def until_ready(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                if self.call("GET", "health")["status"] == "ok":
                    return
            except (OSError, SystemExit, KeyError, TypeError):
                pass  # it is starting: nobody listens, or it says 503
            if time.monotonic() > deadline:
                raise SystemExit(f"Metabase at {self._url} is not ready within {WAIT_S} s")
            time.sleep(1)

    def enter(self, email: str, password: str) -> None:
        """Log in; a Metabase that was never set up gets this administrator first."""
        found = self.call("GET", "session/properties")
        if not found.get("has-user-setup", True) and (token := found.get("setup-token")):
            user = {"email": email, "password": password, "first_name": "candlecast", "last_name": "admin"}
            about = {"site_name": "candlecast", "site_locale": "en", "allow_tracking": False}
            user["site_name"] = "candlecast"
            self._session = self.call("POST", "setup", {"token": token, "user": user, "prefs": about})["id"]
        else:
            self._session = self.call("POST", "session", {"username": email, "password": password})["id"]

    def put_database(self, details: dict[str, Any]) -> int:
        """Return the id of our database, made or brought up to date."""
        body = {"engine": "postgres", "name": DATABASE, "details": details, "is_full_sync": True}
        found = self.call("GET", "database")
        existing = [one["id"] for one in found["data"] if one["name"] == DATABASE]
        if existing:
            self.call("PUT", f"database/{existing[0]}", body)
            return int(existing[0])
        return int(self.call("POST", "database", body)["id"])

    def put_collection(self) -> int:
        existing = [one["id"] for one in self.call("GET", "collection") if one["name"] == COLLECTION]
        return int(existing[0] if existing else self.call("POST", "collection", {"name": COLLECTION})["id"])

    def items(self, collection: int, model: str) -> dict[str, int]:
        """Return the ids of what a collection has of a kind, by name."""
        found = self.call("GET", f"collection/{collection}/items?models={model}&limit=500")
        return {one["name"]: int(one["id"]) for one in found["data"]}

    def put_question(self, question: Question, database: int, collection: int, existing: dict[str, int]) -> int:
        body = {
            "name": question.name,
            "description": question.text or None,
            "display": question.display,
            "dataset_query": {"type": "native", "database": database, "native": {"query": question.sql}},
            "visualization_settings": question.settings,
            "collection_id": collection,
        }
        if question.name in existing:
            self.call("PUT", f"card/{existing[question.name]}", body)
            return existing[question.name]
        return int(self.call("POST", "card", body)["id"])

    def put_dashboard(self, board: Dashboard, cards: list[int], collection: int, existing: dict[str, int]) -> int:
        """Make a dashboard, or lay an existing one anew."""
        about = {"name": board.name, "description": board.text or None, "collection_id": collection}
        number = existing.get(board.name) or int(self.call("POST", "dashboard", about)["id"])
        self.call("PUT", f"dashboard/{number}", {**about, "dashcards": laid_out(board, cards)})
        return number


def laid_out(board: Dashboard, cards: list[int]) -> list[dict[str, Any]]:
    """Return where each question goes: from left to right, and on in the next line."""
    placed = []
    column = row = height = 0
    for number, (question, card) in enumerate(zip(board.questions, cards, strict=True), 1):
        wide, high = question.size
        if column + wide > GRID:
            column, row, height = 0, row + height, 0
        # Negative ids are those of cards that Metabase does not know yet.
        place = {"id": -number, "card_id": card, "col": column, "row": row, "size_x": wide, "size_y": high}
        placed.append({**place, "parameter_mappings": [], "visualization_settings": {}})
        column, height = column + wide, max(height, high)
    return placed


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _wanted(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SystemExit(f"set {name}; {__doc__}")
    return value


def main() -> None:
    boards = dashboards()
    email, password = _wanted("METABASE_EMAIL"), _wanted("METABASE_PASSWORD")
    details = {
        "host": os.environ.get("PGHOST", "postgres"),
        "port": int(os.environ.get("PGPORT", "5432")),
        "dbname": os.environ.get("PGDATABASE", "candlecast"),
        "user": "candlecast_read",
        "password": _wanted("CANDLECAST_READ_PASSWORD"),
        "ssl": False,
    }
    metabase = Metabase(os.environ.get("METABASE_URL", "http://127.0.0.1:3000"))
    metabase.until_ready()
    metabase.enter(email, password)
    database, collection = metabase.put_database(details), metabase.put_collection()
    cards, existing = metabase.items(collection, "card"), metabase.items(collection, "dashboard")
    for board in boards:
        numbers = [metabase.put_question(question, database, collection, cards) for question in board.questions]
        number = metabase.put_dashboard(board, numbers, collection, existing)
        print(f"{board.name}: {len(numbers)} questions, dashboard {number}", file=sys.stderr)


if __name__ == "__main__":
    main()
