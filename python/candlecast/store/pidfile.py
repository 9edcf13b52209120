"""What a data directory's pid file and /proc say of its server. Knows how to start none."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

IPC_RMID = 0


def pid_in(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def is_ready(path: Path) -> bool:
    """Tell whether the server that wrote the pid file takes logins: the last of its eight lines says so."""
    try:
        return path.read_text(encoding="ascii").endswith("ready   \n")
    except FileNotFoundError:
        return False


def runs_in(pid: int, directory: Path) -> bool:
    """Tell whether a process is a server in this directory, and not a stranger who has got its number."""
    process = Path(f"/proc/{pid}")
    try:
        _, name, state = re.split(r"[()]", (process / "stat").read_text(encoding="ascii"), maxsplit=2)
        if name != "postgres" or state.split()[0] == "Z":
            return False
        return (process / "cwd").samefile(directory)
    except PermissionError:  # root in a container may not look: a server in any case
        return True
    except OSError:
        return False


def forget_stranger(pid: int, path: Path) -> None:
    """Remove a pid file whose number is a stranger's by now, as after a restart of a container.

    The server would take the stranger for its like. That any other pid file is stale it knows by itself, and shared
    memory keeps two from running in one directory.
    """
    if Path(f"/proc/{pid}").exists():
        path.unlink(missing_ok=True)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def remove_memory(path: Path) -> bool:
    """Remove the shared memory that a killed server left behind, and tell whether it is gone.

    It stays while a process uses it: by that a next server sees that the last one's work has not ended.
    """
    lines = path.read_text(encoding="ascii").split("\n")
    if len(lines) < 7 or len(identity := lines[6].split()) != 2:  # killed before it had any
        return True
    segment = identity[1]
    for line in Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()[1:]:
        *found, _, _, _, _, users = line.split()[:7]
        if found == identity:
            return users == "0" and ctypes.CDLL(None).shmctl(int(segment), IPC_RMID, None) == 0
    return True
