"""Those who look: a role that sees views and nothing else, and every question of Metabase and Grafana as that role."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from candlecast.errors import ConfigurationError
from candlecast.store.reader import let_reader_in, scram_verifier
from deploy.grafana.build import DASHBOARDS
from deploy.metabase.setup import dashboards
from tests.viewers import expanded


@pytest.fixture(scope="module")
async def reader(seen):
    connection = await asyncpg.connect(seen)
    try:
        yield connection
    finally:
        await connection.close()


async def named(connection, kind):
    column = kind.removeprefix("pg_").removesuffix("s")
    return [r[0] for r in await connection.fetch(f"SELECT {column}name FROM {kind} WHERE schemaname = 'looked_at'")]


async def test_the_reader_sees_every_view(reader):
    views = await named(reader, "pg_views")
    assert len(views) > 30
    for view in views:
        await reader.fetch(f"SELECT * FROM {view} LIMIT 1")  # also what the view's functions read


async def test_the_reader_sees_no_table_and_changes_nothing(reader):
    tables = await named(reader, "pg_tables")
    assert len(tables) > 15
    for table in tables:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetch(f"SELECT * FROM {table} LIMIT 1")
    await reader.execute("SET default_transaction_read_only = off")  # whoever tries
    for statement in (
        "DELETE FROM ml_candles",
        "UPDATE ml_candles SET close = 0",
        "CREATE TABLE mine (x int)",
        "SELECT grant_views_to_reader()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(statement)
    await reader.execute("RESET default_transaction_read_only")


async def test_what_the_reader_asks_is_limited(reader):
    limits = {name: await reader.fetchval(f"SHOW {name}") for name in ("statement_timeout", "lock_timeout")}
    assert limits == {"statement_timeout": "10s", "lock_timeout": "1s"}
    assert await reader.fetchval("SHOW default_transaction_read_only") == "on"


QUESTIONS = [(board.name, question) for board in dashboards() for question in board.questions]


def test_the_five_dashboards_that_users_know_are_there():
    assert [board.name for board in dashboards()] == [
        "Predictions Monitor", "Trading Performance", "Signal Quality", "Risk Analysis", "Feature Importance",
    ]  # fmt: skip
    names = [question.name for _, question in QUESTIONS]
    assert len(names) == len(set(names)), "a collection of Metabase knows questions by their names"


@pytest.mark.parametrize(("board", "question"), QUESTIONS, ids=lambda each: getattr(each, "name", each))
async def test_every_question_of_metabase_is_answered_and_has_the_columns_it_draws(reader, board, question):
    statement = await reader.prepare(question.sql)
    columns = [attribute.name for attribute in statement.get_attributes()]
    assert set(question.x + question.y) <= set(columns)
    rows = await statement.fetch()
    assert rows, "the seeded rows give something to see"
    if question.display == "scalar":
        assert (len(rows), len(columns)) == (1, 1) and rows[0][0] is not None


PANELS = [
    (board.title, panel) for board in DASHBOARDS for panel in board.panels if isinstance(panel.queries, str)
]  # fmt: skip


@pytest.mark.parametrize(("board", "panel"), PANELS, ids=lambda each: getattr(each, "title", each))
async def test_every_query_of_grafana_to_postgresql_is_answered_in_the_shape_of_its_panel(reader, board, panel):
    now = datetime.now(UTC)
    sql = expanded(panel.queries, now - timedelta(days=30), now + timedelta(days=1))
    assert "$" not in sql
    statement = await reader.prepare(sql)
    rows = await statement.fetch()
    assert rows, "the seeded rows give something to see"
    if panel.kind == "timeseries":
        first = statement.get_attributes()[0]
        assert (first.name, first.type.name) == ("time", "timestamptz")
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    if panel.kind == "stat":
        assert len(rows) == 1
    narrow = expanded(panel.queries, now - timedelta(days=3000), now - timedelta(days=2999))
    if narrow != sql and "$__timeFilter" in panel.queries:
        assert not await reader.fetch(narrow), "the time range of the dashboard holds"


def test_a_verifier_is_what_postgresql_makes_of_the_password():
    salt = bytes(range(16))
    assert scram_verifier("pencil-and-paper", salt) == scram_verifier("pencil-and-paper", salt)
    assert scram_verifier("pencil-and-paper", salt).startswith("SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$")
    assert "pencil" not in scram_verifier("pencil-and-paper")


@pytest.mark.parametrize("password", ["short", "pässword-that-is-long", "line\nbreaks-in-it"])
async def test_a_password_that_is_none_is_refused(dsn, password):
    with pytest.raises(ConfigurationError, match="12 or more"):
        await let_reader_in(dsn, password)
