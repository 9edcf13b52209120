import asyncio
import os
import signal
import socket

import psutil
import pytest

from candlecast.errors import ConfigurationError, InvalidRequest, StorageUnavailable
from candlecast.store.embedded import EmbeddedPostgres
from candlecast.store.pool import open_pool
from tests.integration.conftest import copy


async def pid_of(pool):
    return (await pool.fetch("SELECT pg_backend_pid()"))[0][0]


async def test_nobody_there_is_unavailable_and_says_where_and_what_to_do(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StorageUnavailable, match=f"at 127.0.0.1:{port}/x: .* check that it runs") as caught:
        async with open_pool(f"postgresql://user:s3cret@127.0.0.1:{port}/x"):
            pass
    assert "s3cret" not in str(caught.value)


async def test_one_that_does_not_answer_is_unavailable_at_the_limit():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(StorageUnavailable, match="does not answer"):
            async with open_pool(f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x", connect_timeout_ms=50):
                pass


@pytest.mark.parametrize(
    "dsn",
    ["mysql://user:s3cret@host/db", "postgresql://user:s3:cr/et@host/db", "postgresql://u:s3cret@host:port/db", "text"],
)
async def test_a_url_that_is_none_is_a_wrong_configuration_and_shows_no_password(dsn):
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as caught:
        async with open_pool(dsn):
            pass
    text = str(caught.value) + str(caught.value.__cause__)
    assert not any(secret in text for secret in ("s3cret", "s3:cr", "cr/et"))


async def test_a_wrong_login_is_a_wrong_configuration(postgres, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "wr0ng")
    with pytest.raises(ConfigurationError, match=r"refuses us: .*PGPASSWORD goes before a password file") as caught:
        async with open_pool(postgres.dsn):
            pass
    assert "wr0ng" not in str(caught.value)


async def test_more_statements_than_connections_wait_for_each_other(dsn):
    async with open_pool(dsn, connections_max=2) as pool:
        pids = await asyncio.gather(*(pid_of(pool) for _ in range(20)))
    assert len({*pids}) <= 2


async def test_no_connection_within_the_limit_is_unavailable(dsn):
    async with open_pool(dsn, connections_max=1, connect_timeout_ms=500) as pool, pool.connection():
        with pytest.raises(StorageUnavailable):
            await pool.fetch("SELECT 1")


async def test_a_statement_that_takes_too_long_is_cut_off_on_both_sides(dsn):
    async with open_pool(dsn, connections_max=1, command_timeout_ms=50) as pool:
        before = await pid_of(pool)
        with pytest.raises(StorageUnavailable, match="slow or does not answer"):
            await pool.fetch("SELECT pg_sleep(60)")
        assert await pid_of(pool) != before


async def test_the_connection_of_a_caller_who_left_is_not_used_again(dsn):
    async with open_pool(dsn, connections_max=1) as pool:
        before = await pid_of(pool)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.fetch("SELECT pg_sleep(60)"), 0.05)
        assert await pid_of(pool) != before


async def test_a_killed_backend_costs_one_statement_and_the_next_one_works(cluster, tmp_path):
    copy(cluster, tmp_path / "copy")
    async with EmbeddedPostgres(tmp_path / "copy" / "data", tmp_path / "log") as server, open_pool(server.dsn) as pool:
        under_way = asyncio.create_task(pool.fetch("SELECT pg_sleep(60)"))
        backend = None
        while backend is None:
            rows = await pool.fetch("SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'")
            backend = rows[0][0] if rows else None
        os.kill(backend, signal.SIGKILL)
        with pytest.raises(StorageUnavailable):
            await under_way
        async with asyncio.timeout(20):
            while True:
                try:
                    assert (await pool.fetch("SELECT 1"))[0][0] == 1
                    break
                except StorageUnavailable:  # it recovers
                    await asyncio.sleep(0.01)
        assert psutil.pid_exists(server.pid)


async def test_a_missing_table_says_to_migrate(empty_dsn):
    async with open_pool(empty_dsn) as pool:
        with pytest.raises(StorageUnavailable, match="run `candlecast migrate`"):
            await pool.fetch("SELECT symbol FROM ml_predictions")


@pytest.mark.parametrize(
    ("statement", "value"), [("SELECT $1::text", "A\0B"), ("SELECT 1 / $1::integer", 0), ("SELECT $1::integer", "x")]
)
async def test_values_that_are_not_taken_are_an_invalid_request_and_cost_no_connection(dsn, statement, value):
    async with open_pool(dsn, connections_max=1) as pool:
        before = await pid_of(pool)
        with pytest.raises(InvalidRequest):
            await pool.fetch(statement, value)
        assert await pid_of(pool) == before
