"""`candlecast doctor` beside real parts, well and not."""

import json
import os
import subprocess
import time

import pytest

from candlecast.cli import doctor_parts
from candlecast.settings import Settings
from candlecast.store.migrate import MIGRATIONS
from candlecast.store.pool import open_pool
from tests.stack import CANDLECAST, Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("stack") / "state")
    stack.start()
    yield stack
    assert stack.stop() == 0


def doctor(stack):
    """Return the exit code and the findings by check, as a user of `up` gets them who has set nothing."""
    command = [*CANDLECAST, "doctor", "--json", "--state-dir", str(stack.state_dir)]
    environment = {name: text for name, text in os.environ.items() if not name.endswith("DATABASE_URL")}
    done = subprocess.run(
        [*command, "--grpc", stack.grpc, "--http", stack.http],
        capture_output=True, text=True, timeout=30, env=environment,
    )  # fmt: skip
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)}


def test_a_healthy_installation_is_ok_throughout(stack):
    code, findings = doctor(stack)
    assert code == 0
    assert [finding for finding in findings.values() if finding["status"] != "ok"] == []
    assert findings["health"]["found"] == "SERVING"
    assert "golden outputs" in findings["canary"]["found"]
    assert "PostgreSQL 18" in findings["database"]["found"]


def test_a_frozen_triton_fails_the_canary(stack):
    stack.processes()["tritonserver"].suspend()
    code, findings = doctor(stack)
    assert code == 1
    assert findings["canary"]["status"] == "fail"
    assert findings["database"]["status"] == "ok"
    stack.until(lambda: stack.output.count("triton ready") == 2, "repaired", 20)


def test_a_frozen_postgresql_fails_within_the_limit(stack):
    postmaster = stack.processes()["postgres"]
    frozen = [postmaster, *postmaster.children(recursive=True)]
    for process in frozen:
        process.suspend()
    try:
        started = time.monotonic()
        code, findings = doctor(stack)
        assert time.monotonic() - started < 10
    finally:
        for process in frozen:
            process.resume()
    assert code == 1
    assert findings["database"]["status"] == "fail"
    assert {findings[check]["advice"] for check in ("schema", "clock")} == {"see `database`"}
    assert findings["canary"]["status"] == "ok"


async def findings_of(dsn, tmp_path):
    return {f.check: f for f in await doctor_parts.database(Settings(database_url=dsn, state_dir=tmp_path))}


async def test_a_schema_that_lacks_a_migration_says_which_and_how(empty_dsn, tmp_path):
    schema = (await findings_of(empty_dsn, tmp_path))["schema"]
    first = min(MIGRATIONS.glob("*.sql")).name
    assert (schema.status, schema.found, schema.advice) == (
        "fail",
        f"the schema lacks {first}",
        "run `candlecast migrate`",
    )


async def test_a_schema_of_a_newer_candlecast_is_a_failure(dsn, tmp_path):
    assert (await findings_of(dsn, tmp_path))["schema"].status == "ok"
    async with open_pool(dsn) as pool:
        await pool.fetch("INSERT INTO schema_migrations (name, sha256) VALUES ('9999_later.sql', '')")
    schema = (await findings_of(dsn, tmp_path))["schema"]
    assert (schema.status, schema.advice) == ("fail", "use a newer candlecast")


async def test_a_journal_that_waits_for_its_turn_is_ok_and_one_that_stands_still_is_not(dsn, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_parts, "JOURNAL_LOOK_S", 0.01)
    (tmp_path / "journal").mkdir()
    segment = tmp_path / "journal" / f"{0:020d}.journal"
    segment.write_bytes(bytes(1000))
    assert (await findings_of(dsn, tmp_path))["journal"].status == "ok"
    os.utime(segment, (0, time.time() - 61))
    journal = (await findings_of(dsn, tmp_path))["journal"]
    assert journal.status == "warn"
    assert "1,000 bytes wait" in journal.found
