"""Rows of PostgreSQL: killed, frozen, slow, its schema changed under the server. Serving goes on in all of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import psutil

from candlecast.store.migrate import MIGRATIONS
from tests.faults.invariants import connected
from tests.faults.readiness import serving
from tests.faults.scene import Scene, Seen, backend, drained, part, row
from tests.stack import CANDLECAST, free_port

MORE = "CREATE TABLE fault_22 (n integer); INSERT INTO fault_22 VALUES (1)"
MIGRATE = """
import asyncio, sys
from pathlib import Path
from candlecast.store.migrate import migrate
print(asyncio.run(migrate(sys.argv[1], Path(sys.argv[2]))))
"""


@row(5, "kill -9 PostgreSQL: postmaster, one backend", 12, stays_ready=True, restarts_max=12)
async def kill_postgres(scene: Scene) -> Seen:
    seen = Seen()
    for i in range(scene.times):
        victim = backend(scene) if i % 3 else part(scene, "postgres")
        with suppress(psutil.NoSuchProcess):
            victim.kill()
        since_s = time.monotonic()
        await scene.load.until_answered(5, 10)  # serving goes on
        connection = await connected(scene.stack)
        await connection.close()
        seen.add(recover_s=time.monotonic() - since_s)
        await asyncio.sleep(scene.dice.uniform(0, 0.5))
    return seen


@row(6, "PostgreSQL frozen", 2, stays_ready=True)
async def freeze_postgres(scene: Scene) -> Seen:
    seen = Seen(notes={"p99_ratio": []})
    for i in range(scene.times):
        normal = await p99(scene, 15 if scene.full else 1)
        seconds = 60 if scene.full and i == 0 else 5
        postmaster = part(scene, "postgres")
        with frozen([*postmaster.children(recursive=True), postmaster]):
            during = await p99(scene, seconds)
            assert await serving(scene.stack.grpc), "PostgreSQL away is no reason not to serve"
        thawed_s = time.monotonic()
        await drained(scene, 30)
        seen.add(recover_s=time.monotonic() - thawed_s)
        seen.notes["p99_ratio"].append(round(during / normal, 2))
    return seen


@row(7, "PostgreSQL slow: 50 ms to 5 s a statement", 9, stays_ready=True)
async def slow_postgres(scene: Scene) -> Seen:
    seen = Seen(notes={"p99_ratio": {}})
    for i in range(scene.times):
        delay_s = (0.05, 0.5, 5.0)[i % 3]
        normal = await p99(scene, 15 if scene.full else 2)
        connection = await connected(scene.stack)
        await connection.execute(f"""
            CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep({delay_s}); RETURN NULL; END $$;
            CREATE OR REPLACE TRIGGER dawdle BEFORE INSERT ON ml_prediction_rows EXECUTE FUNCTION dawdle()""")
        during = await p99(scene, 15 if scene.full else max(3, 1.5 * delay_s))
        async with asyncio.timeout(30):
            await connection.execute("DROP TRIGGER dawdle ON ml_prediction_rows")
        await connection.close()
        since_s = time.monotonic()
        await drained(scene, 30)
        seen.add(recover_s=time.monotonic() - since_s)
        seen.notes["p99_ratio"].setdefault(f"{delay_s:g} s", []).append(round(during / normal, 2))
    ratio = float(np.median([ratio for ratios in seen.notes["p99_ratio"].values() for ratio in ratios]))
    assert ratio <= (1.1 if scene.full else 2), seen.notes  # seconds on a machine that may do other things say less
    return seen


@contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


async def p99(scene: Scene, seconds: float) -> float:
    """Return the 99th percentile of the replies of the next seconds, ms."""
    start = len(scene.load.latencies_ms)
    await asyncio.sleep(seconds)
    await scene.load.until_answered(1)
    return float(np.percentile(scene.load.latencies_ms[start:], 99))


@row(22, "kill -9 in the middle of a migration; a newer schema", 6, stays_ready=True, restarts_max=6)
async def broken_migration(scene: Scene) -> Seen:
    """Of a migration that is broken off nothing stays, the next one goes through; older programs refuse its schema."""
    seen = Seen(notes={"killed": {}, "refused": 0})
    for i in range(scene.times):
        files = shutil.copytree(MIGRATIONS, scene.directory / f"migrations{i}")
        added, victim = files / "9000_fault.sql", ("migration", "its backend", "postmaster")[i % 3]
        added.write_text(f"{MORE}; SELECT pg_sleep(3);")
        url = scene.stack.database_url
        migration = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, url, str(files), stderr=asyncio.subprocess.DEVNULL
        )
        backend = await _in_migration(scene)
        {"migration": migration, "its backend": backend, "postmaster": part(scene, "postgres")}[victim].kill()
        since_s = time.monotonic()
        assert await migration.wait() != 0
        connection = await connected(scene.stack)
        assert not await connection.fetchval("SELECT to_regclass('fault_22') IS NOT NULL"), "half a migration stays"
        added.write_text(f"{MORE};")
        code, said = await _run([sys.executable, "-c", MIGRATE, url, str(files)])
        assert (code, said.strip()) == (0, "['9000_fault.sql']"), said
        seen.add(recover_s=time.monotonic() - since_s)
        assert await connection.fetchval("SELECT count(*) FROM fault_22") == 1
        other = {"CANDLECAST_STATE_DIR": str(scene.directory / "other"), "DATABASE_URL": url}
        triton = (scene.stack.state_dir / "triton_address").read_text().strip()
        for command in (["migrate"], ["serve", "--grpc", f"127.0.0.1:{free_port()}", "--triton", triton]):
            code, said = await _run([*CANDLECAST, *command], other)
            assert code == 78 and "newer than this candlecast" in said, (code, said)
            seen.notes["refused"] += 1
        await connection.execute("DROP TABLE fault_22; DELETE FROM schema_migrations WHERE name = '9000_fault.sql'")
        await connection.close()
        await scene.load.until_answered(5, 10)
        seen.notes["killed"][victim] = seen.notes["killed"].get(victim, 0) + 1
    return seen


async def _in_migration(scene: Scene) -> psutil.Process:
    """Return the backend that is in the middle of the added file."""
    connection = await connected(scene.stack)
    question = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%fault_22%'"
    try:
        async with asyncio.timeout(30):
            while (pid := await connection.fetchval(question)) is None:
                await asyncio.sleep(0.02)
    finally:
        await connection.close()
    return psutil.Process(pid)


async def _run(command: list[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | (environment or {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")
