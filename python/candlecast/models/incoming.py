"""Bundles that other tools drop: noticed, waited for until they are whole, handed on, or set aside with the reason.

STATE_DIR/incoming/ANY_NAME/            a bundle, copied there in whatever order
STATE_DIR/incoming/refused/ANY_NAME/    one that was refused, and ANY_NAME.txt beside it says why
REPOSITORY/NAME/VERSION/                a version that something else wrote into Triton's repository

A bundle is whole when nothing of it has changed between two looks and each file is the one that its manifest names; an
ensemble when each of its members is, there or in the same repository.
Knows neither versions nor Triton: what becomes of a bundle is for `accept` to say.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from candlecast.errors import BundleError, CandlecastError, DeadlineExceeded, Overloaded, Unavailable
from candlecast.models.ensemble import asked_of, is_ensemble, member_place
from candlecast.models.folder import MANIFEST

REFUSED: Final = "refused"
REFUSED_KEPT_MAX: Final = 32
"""Of the refused the newest stay, so that a tool that drops the same again and again fills no disk."""
FILES_MAX: Final = 64
"""Files of a folder that are looked at."""
MANIFEST_BYTES_MAX: Final = 16 * 1024 * 1024
LATER: Final = (Unavailable, Overloaded, DeadlineExceeded)
"""What says nothing of a bundle: it stays, and is handed on again."""
log = logging.getLogger(__name__)

Accept = Callable[[Path, str], Awaitable[None]]
"""Takes a whole bundle and why it is there; raises CandlecastError for one that is refused."""
Sizes = Mapping[str, tuple[int, int]]
"""By file: bytes, and when it was changed."""


@dataclass(slots=True)
class _Seen:
    """A folder as it was at the last look."""

    sizes: Sizes
    since: float  # monotonic, of the last change
    lacks: str | None = None  # to be whole; None: not looked at yet
    complaint: str = ""  # last thing that was said of it


class Incoming:
    """Looks every poll_ms while it is entered.

    Args:
        folder: `incoming`; made if absent.
        accept: what is done with a bundle.
        written: versions in the repository that nobody has accepted yet; they stay there when they are.
        poll_ms: pause between two looks; a bundle has to stay as it is from one to the next.
        patience_ms: without a change for so long, a folder that is not whole is refused.
        bytes_max: of larger ones no file is read: `accept` refuses them for their size.
    """

    def __init__(
        self,
        folder: Path,
        accept: Accept,
        *,
        written: Callable[[], Awaitable[Iterable[Path]]] | None = None,
        poll_ms: int,
        patience_ms: int,
        bytes_max: int,
    ) -> None:
        self._folder = folder
        self._accept = accept
        self._written = written
        self._poll_s = poll_ms / 1000
        self._patience_s = patience_ms / 1000
        self._bytes_max = bytes_max
        self._seen: dict[Path, _Seen] = {}
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._watcher is not None, "not entered"
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except OSError as error:  # a full disk, a folder without permission: the next look may find it mended
                log.warning("incoming folder=%s error=%s", self._folder, error)
            await asyncio.sleep(self._poll_s)

    async def look(self) -> None:
        """Look once: hand on what is whole, set aside what is refused.

        Raises:
            OSError: the folders cannot be read or written.
        """
        places = await asyncio.to_thread(self._places)
        if self._written is not None:
            places |= dict.fromkeys(await self._written(), True)
        self._seen = {path: seen for path, seen in self._seen.items() if path in places}
        for path, stays in places.items():
            if await asyncio.to_thread(self._has_settled, path):
                await self._take(path, stays)

    def _places(self) -> dict[Path, bool]:
        """Return the folders to look at, and whether they stay where they are once they are accepted."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        dropped = [
            path
            for path in sorted(self._folder.iterdir())
            if path.is_dir() and not path.is_symlink() and path.name != REFUSED and not path.name.startswith(".")
        ]
        return dict.fromkeys(dropped, False)

    def _has_settled(self, path: Path) -> bool:
        """Say whether nothing of a folder has changed since the last look."""
        try:
            sizes = _sizes_of_all(path)
        except OSError:  # it is being moved away
            return False
        seen = self._seen.get(path)
        if seen is not None and seen.sizes == sizes:
            return True
        self._seen[path] = _Seen(sizes, time.monotonic())
        return False

    async def _take(self, path: Path, stays: bool) -> None:
        seen = self._seen[path]
        if seen.lacks is None and sum(size for size, _ in seen.sizes.values()) <= self._bytes_max:
            seen.lacks = await asyncio.to_thread(_lacks, path, seen.sizes)
        if seen.lacks:  # somebody may still be writing it
            waited_s = time.monotonic() - seen.since
            if waited_s >= self._patience_s:
                why = f"DAMAGED: {path} lacks {seen.lacks}, and nothing of it has changed for {waited_s:.0f} s"
                await asyncio.to_thread(self._set_aside, path, why)
            return
        try:
            await self._accept(path, f"found in {path.parent}")
        except LATER as error:
            if str(error) != seen.complaint:
                log.warning("incoming waits bundle=%s error=%s", path.name, error)
            seen.complaint = str(error)
        except CandlecastError as error:
            await asyncio.to_thread(self._set_aside, path, str(error))
        except Exception as error:  # it must not keep the others out
            log.error("incoming bundle=%s: a mistake of ours", path.name, exc_info=error)
            await asyncio.to_thread(self._set_aside, path, repr(error))
        else:
            self._seen.pop(path, None)
            if not stays:
                await asyncio.to_thread(shutil.rmtree, path)
            log.info("incoming taken bundle=%s", path)

    def _set_aside(self, path: Path, why: str) -> None:
        refused = self._folder / REFUSED
        refused.mkdir(exist_ok=True, mode=0o700)
        now = datetime.now(UTC)
        name = f"{path.name}-{now:%Y%m%dT%H%M%S.%f}"
        place = refused / name
        # The reason first: whoever finds the folder finds it, too.
        (refused / f"{name}.txt").write_text(f"{now.isoformat(timespec='seconds')} {path}\n{why}\n")
        if path.exists():  # what Triton did not load was taken out of its repository already
            shutil.move(path, place)
        self._seen.pop(path, None)
        log.warning("incoming refused bundle=%s moved=%s why=%s", path, place, why)
        kept = sorted(refused.glob("*.txt"), key=lambda one: one.stem.rpartition("-")[2])
        for old in kept[:-REFUSED_KEPT_MAX]:
            shutil.rmtree(refused / old.stem, ignore_errors=True)
            old.unlink()
            log.info("incoming refused removed=%s kept=%d", old.stem, REFUSED_KEPT_MAX)


def _sizes(path: Path) -> Sizes:
    """Return size and time of change of the files in a folder, and in the folders of it.

    Raises:
        OSError: they cannot be read, as while they are moved.
    """
    sizes = {}
    for file in sorted(islice(path.rglob("*"), FILES_MAX)):
        found = file.lstat()
        sizes[str(file.relative_to(path))] = found.st_size, found.st_mtime_ns
    return sizes


def _sizes_of_all(path: Path) -> Sizes:
    """Return `_sizes`, of an ensemble those of members that lie beside it, too."""
    sizes = dict(_sizes(path))
    if sizes.get(MANIFEST, (MANIFEST_BYTES_MAX + 1, 0))[0] > MANIFEST_BYTES_MAX or not is_ensemble(path):
        return sizes
    with suppress(BundleError):  # whoever accepts it says what is wrong
        for member in asked_of(path):
            place = member_place(path, member)
            if path not in place.parents:
                beside = _sizes(place).items()
                sizes |= {f"../{member.name}/{member.version}/{name}": found for name, found in beside}
    return sizes


def _lacks(path: Path, sizes: Sizes) -> str:
    """Say what a folder lacks to be whole, nothing if it is; a bundle that is none is found out by who accepts it."""
    manifest = path / MANIFEST
    if not manifest.is_file() or sizes.get(MANIFEST, (0, 0))[0] > MANIFEST_BYTES_MAX:
        return f"a {MANIFEST} of at most {MANIFEST_BYTES_MAX:,} bytes"
    try:
        document = json.loads(manifest.read_bytes())
        named = dict(document.get("files", {})) if isinstance(document, dict) else {}
        members = asked_of(path) if isinstance(document, dict) and "members" in document else []
    except BundleError:  # whoever accepts it says what is wrong
        return ""
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return f"a {MANIFEST} that can be read ({type(error).__name__})"
    lacking = [f"the {name} that its manifest names" for name in named if not _is(path / name, named[name])]
    for member in members:
        name, place = f"{member.name}/{member.version}", member_place(path, member)
        if not _is(place / MANIFEST, member.sha256):
            lacking.append(f"the member {name} that its manifest names")
        elif lacks := _lacks(place, _sizes(place)):
            lacking.append(f"of its member {name} {lacks}")
    return ", ".join(lacking)


def _is(file: Path, sha256: object) -> bool:
    """Say whether it is a file of this SHA-256."""
    try:
        if not file.is_file():  # nobody waits for a pipe
            return False
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == sha256
    except OSError:
        return False
