"""State directories, plain or on small file systems of their own, and what fills those. The small ones take root."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

APART = "apart"
"""Journal, PostgreSQL's data and logs on a disk each."""
TOGETHER = "together"
"""All of the state directory, and what the supervisor says, on one disk."""
SIZES_MB = {"journal": 64, "postgres": 400, "logs": 8}
TOGETHER_MB = 700
REFILL_S = 0.02
PAGE_BYTES = 4_096


@contextmanager
def state_directory(stage: str = "") -> Iterator[tuple[Path, Path]]:
    """Yield a place for files of a test's own, and the path of a state directory that is still to be made."""
    with tempfile.TemporaryDirectory(prefix="faults", ignore_cleanup_errors=True) as temporary, ExitStack() as mounts:
        place = Path(temporary)
        place.chmod(0o755)  # PostgreSQL may run as another user
        disk = place / "disk"
        disk.mkdir()
        if stage == TOGETHER:
            mounts.enter_context(_mounted(disk, TOGETHER_MB))
        if stage == APART:
            (disk / "state").mkdir(mode=0o700)
            for name, size_mb in SIZES_MB.items():
                root = disk_of(place, name)
                root.mkdir()
                mounts.enter_context(_mounted(root, size_mb))
                if name != "postgres":  # which makes its own, and by renaming
                    (root / "data").mkdir(mode=0o700)
                (disk / "state" / name).symlink_to(root / "data")
        yield place, disk / "state"


def disk_of(place: Path, name: str) -> Path:
    """Return where a disk is mounted, by what is on it."""
    return place / ("disk" if name == TOGETHER else f"{name}-disk")


@contextmanager
def _mounted(root: Path, size_mb: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=755", "tmpfs", str(root)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


@asynccontextmanager
async def full(root: Path) -> AsyncIterator[None]:
    """Keep a disk full while the body runs: what is freed meanwhile is taken, too."""
    ballast = root / "ballast"

    def fill() -> None:
        with ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, PAGE_BYTES):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    async def refill() -> None:
        while True:
            await asyncio.sleep(REFILL_S)
            fill()

    def pad() -> None:
        for log in root.rglob("*.log"):  # the rest of a log's last page is room, too
            with suppress(OSError), log.open("ab", buffering=0) as file:
                file.write(b"\n" * (-log.stat().st_size % PAGE_BYTES))

    await asyncio.to_thread(pad)
    await asyncio.to_thread(fill)
    filler = asyncio.create_task(refill())
    try:
        yield
    finally:
        filler.cancel()
        await asyncio.gather(filler, return_exceptions=True)
        ballast.unlink()
