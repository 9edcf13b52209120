"""The embedded PostgreSQL from outside: what runs, what is left, what it says."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest

from candlecast.errors import ConfigurationError, StorageUnavailable
from candlecast.store import embedded
from candlecast.store.cluster import _programs as programs
from candlecast.store.cluster import password_of
from candlecast.store.embedded import EmbeddedPostgres
from tests.integration.conftest import copy, is_root

root_only = pytest.mark.skipif(not is_root(), reason="needs root")

PARENT = """
import asyncio, sys
from pathlib import Path
from candlecast.errors import ConfigurationError
from candlecast.store.embedded import EmbeddedPostgres

async def main():
    directory = Path(sys.argv[1])
    try:
        async with EmbeddedPostgres(directory / "data", directory / "log") as server:
            print(server.pid, server.dsn, flush=True)
            await server.wait()
    except ConfigurationError as error:
        print("ConfigurationError", error, flush=True)

asyncio.run(main())
"""


_strangers: set[Path] = set()


@pytest.fixture
def directory(cluster, tmp_path):
    copy(cluster, tmp_path / "copy")
    return tmp_path / "copy"


def server(directory, **options):
    return EmbeddedPostgres(directory / "data", directory / "log", **options)


@pytest.fixture(autouse=True)
def strangers():
    """What servers of others left behind before."""
    _strangers.clear()
    _strangers.update(Path("/dev/shm").glob("PostgreSQL.*"))


def shared_memory_of(pid):
    """Return the segments that a process made, System V by creator, and new ones of PostgreSQL's that nobody uses."""
    segments = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    forgotten = set(Path("/dev/shm").glob("PostgreSQL.*")) - _strangers
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "postgres":  # others may run beside
            with contextlib.suppress(psutil.Error, OSError):
                forgotten -= {Path(region.path) for region in process.memory_maps()}
    return [segment for segment in segments if segment[4] == str(pid)] + sorted(forgotten)


def running_in(directory):
    found = []
    for process in psutil.process_iter():
        try:
            found += [process] if process.cwd() == str(directory / "data") else []
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def effective_capabilities(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("CapEff:\t")[1].split()[0], 16)


async def until(true, timeout_s=10.0):
    async with asyncio.timeout(timeout_s):
        while True:
            if true():
                return
            await asyncio.sleep(0.01)


async def ask(dsn, statement):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def run_parent(directory, *before, env=None):
    command = [*before, sys.executable, "-c", PARENT, str(directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})


def stopped_parent(process):
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()


async def test_it_is_version_18_for_one_role_that_is_no_superuser(postgres):
    assert (await ask(postgres.dsn, "SHOW server_version")).startswith("18.")
    assert await ask(postgres.dsn, "SELECT current_user || ' ' || current_database()") == "candlecast candlecast"
    assert await ask(postgres.dsn, "SHOW is_superuser") == "off"
    assert await ask(postgres.dsn, "SELECT inet_server_addr()") is None
    with pytest.raises(asyncpg.PostgresError, match=r"no pg_hba\.conf entry"):
        await asyncpg.connect(postgres.dsn, user="postgres", password="x")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.dsn, password="wrong")


async def test_what_is_secret_is_closed_to_others(directory):
    async with server(directory) as running:
        password = password_of(directory / "data")
        assert len(password) == 64
        assert password not in running.dsn
        assert (directory / "data").stat().st_mode & 0o777 == 0o700
        assert (directory / "data.pgpass").stat().st_mode & 0o777 == 0o600
    assert password not in (directory / "log").read_text()


async def test_after_stop_nothing_is_left_and_what_was_written_is_there_again(directory):
    running = server(directory)
    for expected in (0, 1):
        async with running:
            await ask(running.dsn, "CREATE TABLE IF NOT EXISTS kept (n integer)")
            assert await ask(running.dsn, "SELECT count(*) FROM kept") == expected
            await ask(running.dsn, "INSERT INTO kept VALUES (1)")
            assert shared_memory_of(running.pid)
        assert running_in(directory) == []
        assert shared_memory_of(running.pid) == []
        assert not list((directory / "data").glob(".s.PGSQL*"))
        assert await running.wait() == 0


async def test_after_kill_9_it_starts_again_at_the_same_address_with_what_was_committed(directory):
    running = server(directory)
    async with running:
        dsn = running.dsn
        await ask(dsn, "CREATE TABLE kept (n integer)")
        busy = asyncio.create_task(ask(dsn, "SELECT pg_sleep(30)"))
        os.kill(running.pid, signal.SIGKILL)
        assert await running.wait() == -signal.SIGKILL
    assert shared_memory_of(running.pid) == []
    async with running:
        assert running.dsn == dsn
        assert await ask(dsn, "SELECT count(*) FROM kept") == 0
    await asyncio.gather(busy, return_exceptions=True)


async def test_it_dies_with_a_parent_that_is_killed_and_leaves_nothing(directory):
    parent = run_parent(directory)
    pid = int((await asyncio.to_thread(parent.stdout.readline)).split()[0])
    assert psutil.pid_exists(pid)
    stopped_parent(parent)
    await until(lambda: not running_in(directory))
    assert shared_memory_of(pid) == []
    assert not list((directory / "data").glob(".s.PGSQL*"))


async def test_a_successor_waits_for_the_server_of_a_killed_parent(directory):
    parent = run_parent(directory)
    pid = int((await asyncio.to_thread(parent.stdout.readline)).split()[0])
    stopped_parent(parent)
    async with server(directory) as running:
        assert running.pid != pid
        assert await ask(running.dsn, "SELECT 1") == 1


async def test_a_second_one_on_the_same_directory_is_refused_and_the_first_goes_on(directory):
    async with server(directory) as first:
        with pytest.raises(ConfigurationError, match=f"data is in use by process {os.getpid()}"):
            async with server(directory):
                pass
        assert await ask(first.dsn, "SELECT 1") == 1


async def test_a_server_that_somebody_else_runs_there_is_named(directory, monkeypatch):
    async with server(directory) as first:
        (directory / "data.lock").unlink()  # as if it had not been started by us
        with pytest.raises(ConfigurationError, match=f"PostgreSQL with pid {first.pid}: stop it first"):
            async with server(directory, stop_timeout_ms=50):
                pass
        assert await ask(first.dsn, "SELECT 1") == 1


async def test_a_pid_file_whose_number_is_a_strangers_by_now_does_not_stop_the_start(directory):
    stranger = psutil.Popen(["sleep", "60"], cwd="/", user=(directory / "data").stat().st_uid)
    try:
        (directory / "data" / "postmaster.pid").write_text(f"{stranger.pid}\n{directory / 'data'}\n1\n5432\n.\n\n")
        async with server(directory) as running:
            assert await ask(running.dsn, "SELECT 1") == 1
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_server_that_is_frozen_is_killed_with_all_its_processes_at_the_limit(directory):
    async with server(directory, stop_timeout_ms=50) as running:
        family = [psutil.Process(running.pid), *psutil.Process(running.pid).children()]
        assert len(family) > 3
        for process in family:
            process.suspend()
    assert shared_memory_of(running.pid) == []
    await until(lambda: not any(process.is_running() for process in family))


async def test_a_lost_password_file_is_made_anew_and_a_wrong_one_is_named(directory):
    (directory / "data.pgpass").unlink()
    async with server(directory) as running:
        assert await ask(running.dsn, "SELECT 1") == 1
    (directory / "data.pgpass").write_text("*:*:candlecast:candlecast:wrong\n")
    with pytest.raises(ConfigurationError, match=r"data\.pgpass has another password: remove it"):
        async with server(directory):
            pass
    assert running_in(directory) == []


async def test_the_password_of_another_database_in_the_environment_does_no_harm(directory, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "of-another-database")
    async with server(directory) as running:
        assert psutil.pid_exists(running.pid)


async def test_a_directory_of_other_things_or_of_another_version_is_not_touched(directory):
    (directory / "other").mkdir()
    (directory / "other" / "letter").write_text("dear")
    with pytest.raises(ConfigurationError, match="no PostgreSQL data directory, nor empty"):
        async with EmbeddedPostgres(directory / "other", directory / "log"):
            pass
    (directory / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(ConfigurationError, match="is of PostgreSQL 17, this is 18"):
        async with server(directory):
            pass


async def test_a_start_that_was_interrupted_is_begun_anew(tmp_path):
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "half").write_text("")
    starting = asyncio.create_task(server(tmp_path).__aenter__())
    await until((tmp_path / "data.new" / "PG_VERSION").exists)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert not (tmp_path / "data").exists()
    async with server(tmp_path) as running:
        assert await ask(running.dsn, "SELECT 1") == 1


async def test_a_path_longer_than_a_socket_address_is_no_obstacle(cluster, tmp_path):
    long = tmp_path / ("long" * 30)
    copy(cluster, long)
    async with server(long) as running:
        assert await ask(running.dsn, "SELECT 1") == 1
        psql = await asyncio.create_subprocess_exec(programs() / "psql", running.dsn, "-Atc", "SELECT 2", stdout=-1)
        assert (await psql.communicate())[0] == b"2\n"


async def test_a_start_that_fails_says_what_the_log_says_and_leaves_nothing(directory, monkeypatch):
    monkeypatch.setitem(embedded.CONFIGURATION, "no_such_setting", "1")
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match=r"did not start: .*no_such_setting.*; see .*log") as caught:
            async with server(directory):
                pass
        assert str(caught.value).count("unrecognized") == 1
    assert running_in(directory) == []
    monkeypatch.delitem(embedded.CONFIGURATION, "no_such_setting")
    async with server(directory) as running:
        assert await ask(running.dsn, "SELECT 1") == 1


@pytest.fixture(scope="session")
def closed(tmp_path_factory):
    """A copy of the wheel in a directory that only root may enter."""
    directory = tmp_path_factory.mktemp("closed")
    directory.chmod(0o700)
    wheel = Path(programs()).parents[1]
    for name in (wheel.name, f"{wheel.name}.libs"):
        shutil.copytree(wheel.parent / name, directory / "wheel" / name, ignore=shutil.ignore_patterns("pginstall"))
    return directory


def capabilities(*names):
    """A prefix that leaves root only these capabilities."""
    kept = "".join(f",+{name}" for name in names)
    return ["setpriv", "--bounding-set", f"-all{kept}"]


DOCKER = ("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service")


@root_only
@pytest.mark.parametrize("case", ["root", "docker"])
async def test_root_starts_it_below_directories_that_only_root_may_enter(closed, cluster, case):
    if case == "docker":
        before, kept = capabilities(*DOCKER), 1 << 1
        copy(cluster, closed / case)
    else:
        before, kept = [], 1 << 2
    parent = run_parent(closed / case, *before, env={"PYTHONPATH": f"{closed / 'wheel'}:{':'.join(sys.path)}"})
    try:
        pid, dsn = (await asyncio.to_thread(parent.stdout.readline)).split()
        process = psutil.Process(int(pid))
        assert process.exe().startswith(str(closed))
        assert process.uids().real != 0
        assert effective_capabilities(pid) == kept
        assert await ask(dsn, "SELECT 1") == 1
    finally:
        stopped_parent(parent)
    await until(lambda: not process.is_running())


@root_only
async def test_root_without_the_capability_is_told_which_directory_to_open(tmp_path):
    tmp_path.chmod(0o700)
    parent = run_parent(tmp_path / "state", *capabilities("chown", "setgid", "setuid", "kill"))
    said = await asyncio.to_thread(parent.stdout.read)
    parent.stdout.close()
    parent.wait(10)
    assert said.startswith("ConfigurationError user ")
    assert "chmod o+x" in said


@root_only
async def test_an_ordinary_user_runs_it_as_itself(tmp_path):
    # The capability is for the Python interpreter alone, which may be in a directory of root's.
    only = "-all,+dac_read_search"
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--securebits", "+no_setuid_fixup"]
    nobody += ["--inh-caps", only, "--ambient-caps", only, "--bounding-set", only]
    os.chown(tmp_path, 65534, 65534)
    parent = run_parent(tmp_path / "state", *nobody)
    try:
        pid, dsn = (await asyncio.to_thread(parent.stdout.readline)).split()
        process = psutil.Process(int(pid))
        assert process.uids().real == 65534
        assert (tmp_path / "state" / "data").stat().st_uid == 65534
        assert await ask(dsn, "SELECT 1") == 1
    finally:
        stopped_parent(parent)
    await until(lambda: not process.is_running())
