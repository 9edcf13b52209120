"""How root runs a program as an ordinary user, below directories which that user may not enter. Knows no PostgreSQL.

Dropping root is not enough: a state directory or a clone made by `mktemp -d` is 0700 root, and so closed to the other
user. The program then keeps the one capability that passes it through (ambient, so that it survives exec), with
SECBIT_NO_SETUID_FIXUP, because access(2) ignores the capabilities of an ordinary user without it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from candlecast.errors import ConfigurationError

ACCOUNTS = ("postgres", "nobody")
"""Whom root becomes: the first that exists."""
DAC_OVERRIDE, DAC_READ_SEARCH, SETPCAP = 1, 2, 8
"""Capability numbers of Linux: pass every check, enter and read everything, change what children inherit."""


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int


def account_for(directory: Path) -> Account | None:
    """Return who shall own the directory and run in it; None: whoever we are, for we are not root.

    Raises:
        ConfigurationError: we are not root and the directory is another user's, or there is no ordinary user.
    """
    owner = directory.stat().st_uid if directory.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise ConfigurationError(
                f"{directory} belongs to user {owner}: run as that user or choose another state_dir"
            )
        return None
    try:
        if owner:
            entry = pwd.getpwuid(owner)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        entry = next(names[name] for name in ACCOUNTS if name in names)
    except (KeyError, StopIteration) as error:
        raise ConfigurationError(
            f"no user for {directory}: root needs one of the users {', '.join(ACCOUNTS)}"
        ) from error
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def command_prefix(account: Account | None, programs: Iterable[Path], directories: Iterable[Path]) -> list[str]:
    """Return the words before a command line that run it as the account; it gets SIGINT when its parent dies.

    Args:
        programs: absolute, resolved; what the account must be able to run.
        directories: absolute, resolved; where the account must be able to go.

    Raises:
        ConfigurationError: setpriv is missing, or a directory is closed and no capability opens it.
    """
    if account is None:
        return []
    setpriv = shutil.which("setpriv", path=os.environ.get("PATH", os.defpath) + ":/usr/bin:/bin")
    if setpriv is None:
        raise ConfigurationError("setpriv is missing: install util-linux, or set DATABASE_URL to a PostgreSQL of yours")
    # Whom to signal is forgotten when the user changes, so it is said again here.
    prefix = [setpriv, "--pdeathsig", "INT", "--reuid", str(account.uid), "--regid", str(account.gid)]
    prefix += ["--clear-groups", "--no-new-privs"]
    programs = list(programs)
    closed = [parent for path in (*programs, *directories) for parent in path.parents if not _may(account, parent, 1)]
    not_runnable = [program for program in programs if not _may(account, program, 5)]
    if not closed and not not_runnable:
        return prefix
    held = _capabilities()
    for number, name in ((DAC_READ_SEARCH, "dac_read_search"), (DAC_OVERRIDE, "dac_override")):
        if {number, SETPCAP} <= held and not (not_runnable and number == DAC_READ_SEARCH):
            only = f"-all,+{name}"
            prefix += ["--securebits", "+no_setuid_fixup", "--inh-caps", only]
            return [*prefix, "--ambient-caps", only, "--bounding-set", only]
    where = (closed + not_runnable)[-1]
    raise ConfigurationError(
        f"user {account.name} may not enter {where}, and this root has no capability to let it:"
        f" `chmod o+x {where}`, choose another state_dir, or set DATABASE_URL to a PostgreSQL of yours"
    )


def _may(account: Account, path: Path, bits: int) -> bool:
    """Tell whether the mode of path grants the bits (4 read, 1 execute or enter); asks no access control list."""
    found = path.stat()
    shift = 6 if found.st_uid == account.uid else 3 if found.st_gid == account.gid else 0
    return stat.S_IMODE(found.st_mode) >> shift & bits == bits


def _capabilities() -> set[int]:
    """Return the numbers of the capabilities we hold and may hand on."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if line.startswith("Cap"))
    mask = int(fields["CapPrm"], 16) & int(fields["CapBnd"], 16)
    return {number for number in range(64) if mask >> number & 1}
