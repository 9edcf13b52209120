"""Bundles in an object store, brought to this disk: whole and as their manifest says, or not at all. Knows no Triton.

s3://BUCKET/PATH   gs://BUCKET/PATH   az://CONTAINER/PATH   https://HOST/PATH, which has no listing

Who may read is in the environment, as AWS_ACCESS_KEY_ID, GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_…; see obstore. Files
are written beside their place, hashed while they come, synced, and renamed: what was there stays until all are right.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import posixpath
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from candlecast.errors import BundleError, ConfigurationError, DeadlineExceeded, ModelRefused, Refusal, Unavailable
from candlecast.models import bundle, gate_bundle
from candlecast.models.ensemble import asked_of, is_ensemble
from candlecast.models.folder import MANIFEST
from candlecast.settings import is_loopback

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES: Final = ("s3", "gs", "az", "https", "http")
WITHOUT_LISTING: Final = ("https", "http")
FILES: Final = frozenset((*bundle.FILES, *gate_bundle.FILES))
"""All that is ever written."""
MANIFEST_BYTES_MAX: Final = 16 * 1024 * 1024
CHUNK_BYTES: Final = 1024 * 1024
SCRATCH: Final = ".sync-"
SCRATCH_KEPT_S: Final = 24 * 3600
"""What a sync leaves that was killed, the next one removes when it is so old."""
CONNECT_TIMEOUT_S: Final = 10
RETRIES_MAX: Final = 3
IN_THE_CLEAR: Final = ("AWS_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP", "AZURE_ALLOW_HTTP")
TOLD_S: Final = 1.0
"""Between two words about one file."""
MISSING: Final = (
    "object stores are read by obstore, which is not installed: `make remote-env` in a checkout, or"
    " `pip install 'obstore>=0.12,<0.13'`"
)


class _Absent(Exception):
    """There is no such object."""


class Remote:
    """A place in an object store.

    Args:
        url: as above; a bundle, an ensemble, or a repository of them.
        bytes_max: of all files of one bundle, or of an ensemble and its members.
        timeout_s: longest sync of one.
        say: takes a line about how far it is.

    Raises:
        ConfigurationError: the URL is none of an object store, or the library is not installed.
    """

    def __init__(self, url: str, *, bytes_max: int, timeout_s: float, say: Callable[[str], None]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.netloc:
            raise ConfigurationError(f"{url}: expected {', '.join(f'{one}://…' for one in SCHEMES[:4])}")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ConfigurationError(
                f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}: expected a URL without user, query"
                " and fragment: they would be in logs; who may read is said by the environment"
            )
        if parts.scheme == "http" and not is_loopback(parts.netloc if ":" in parts.netloc else f"{parts.netloc}:80"):
            raise ConfigurationError(f"{url}: anybody on the way could change it: use https")
        self.url = url.rstrip("/")
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._path = _inside(parts.path)
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s
        self._say = say
        self._store = _store(self._root, timeout_s)
        self._bytes = 0  # that came, of this sync

    def at(self, path: str) -> Self:
        """Return another place, below this one."""
        return type(self)(f"{self.url}/{path}", bytes_max=self._bytes_max, timeout_s=self._timeout_s, say=self._say)

    async def bring(self, to: Path) -> Path:
        """Bring what lies at the URL to folder `to`, in place of what is there; an ensemble with its members in it.

        Raises:
            ConfigurationError: there is nothing, or it may not be read.
            ModelRefused: it is too large.
            BundleError: it is damaged, or was changed meanwhile.
            DeadlineExceeded: it does not come in time.
            Unavailable: the store does not answer.
            OSError: it cannot be written.
        """
        await asyncio.to_thread(_swept, to.parent)
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=SCRATCH, dir=to.parent))
        self._bytes, begun_s = 0, time.monotonic()
        try:
            with self._told():
                async with asyncio.timeout(self._timeout_s):
                    await self._folder(self._path, scratch / "new")
            await asyncio.to_thread(_replace, scratch, to)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"{self.url} did not come within {self._timeout_s:g} s ({self._bytes:,} bytes did); nothing was"
                " changed: once more, or raise model_sync_timeout_ms"
            ) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        self._say(f"{self.url}: {self._bytes / 1e6:,.1f} MB in {time.monotonic() - begun_s:.1f} s")
        return to

    async def versions(self, model: str) -> list[int]:
        """Return the versions of a model in the repository at the URL, ascending.

        Raises:
            ConfigurationError: it cannot be listed.
            DeadlineExceeded, Unavailable: as of `bring`.
        """
        if self._root.partition(":")[0] in WITHOUT_LISTING:
            raise ConfigurationError(
                f"{self.url}: {self._root.partition(':')[0]} has no listing: name a repository by s3://, gs:// or az://,"
                " or push one bundle by `candlecast models push`"
            )
        import obstore

        prefix = posixpath.join(self._path, model)
        try:
            with self._told():
                async with asyncio.timeout(self._timeout_s):
                    found = await obstore.list_with_delimiter_async(self._store, prefix)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self.url} was not listed within {self._timeout_s:g} s") from error
        except _Absent:
            return []
        names = [posixpath.basename(one.rstrip("/")) for one in found["common_prefixes"]]
        return sorted(int(name) for name in names if name.isdigit() and int(name) > 0)

    async def _folder(self, path: str, to: Path, *, is_member: bool = False) -> None:
        """Bring one bundle, and of an ensemble its members, which are none themselves."""
        await asyncio.to_thread(to.mkdir, parents=True)
        try:
            await self._file(f"{path}/{MANIFEST}", to / MANIFEST, MANIFEST_BYTES_MAX)
        except _Absent as error:
            raise ConfigurationError(f"{self._root}/{path} has no {MANIFEST}: it is no bundle") from error
        for name, sha256 in _named(to).items():
            try:
                found = await self._file(f"{path}/{name}", to / name, self._bytes_max)
            except _Absent as error:
                raise BundleError(f"{self._root}/{path} lacks {name}, which its manifest names") from error
            if found != sha256:
                raise BundleError(
                    f"{self._root}/{path}/{name} is not the file its manifest names (sha256 differs): it is damaged, or"
                    " was changed meanwhile",
                    Refusal.SHA256_MISMATCH,
                )
        if is_ensemble(to):
            if is_member:
                raise BundleError(f"{self._root}/{path} is an ensemble, and named as the member of one")
            for member in asked_of(to):
                below = f"{member.name}/{member.version}"
                try:  # in a folder of its own, or in the same repository
                    await self._member(f"{path}/{below}", to / below, member.sha256)
                except ConfigurationError:
                    beside = posixpath.join(posixpath.dirname(posixpath.dirname(path)), below)
                    await asyncio.to_thread(shutil.rmtree, to / below, ignore_errors=True)
                    await self._member(beside, to / below, member.sha256)
        await asyncio.to_thread(_sync, to)

    async def _member(self, path: str, to: Path, sha256: str) -> None:
        await self._folder(path, to, is_member=True)
        if hashlib.sha256((to / MANIFEST).read_bytes()).hexdigest() != sha256:
            raise BundleError(
                f"{self._root}/{path} is not the member that {self.url} names: weigh its members again with `candlecast"
                " ensemble`",
                Refusal.SHA256_MISMATCH,
            )

    async def _file(self, path: str, to: Path, bytes_max: int) -> str:
        """Bring one object, synced; return its SHA-256."""
        import obstore

        answer = await self._answer(obstore.get_async(self._store, path))
        size, digest, came, told_s = int(answer.meta["size"]), hashlib.sha256(), 0, time.monotonic()
        self._require_room(path, size, bytes_max)
        with to.open("wb") as file:
            async for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
                came, self._bytes = came + len(chunk), self._bytes + len(chunk)
                self._require_room(path, came, bytes_max, counted=True)
                await asyncio.to_thread(_append, file, digest, chunk)
                if time.monotonic() - told_s > TOLD_S:
                    told_s = time.monotonic()
                    self._say(f"{path}: {came / 1e6:,.1f} of {size / 1e6:,.1f} MB")
            await asyncio.to_thread(os.fsync, file.fileno())
        return digest.hexdigest()

    def _require_room(self, path: str, size: int, bytes_max: int, *, counted: bool = False) -> None:
        total = self._bytes if counted else self._bytes + size
        if size > bytes_max or total > self._bytes_max:
            raise ModelRefused(
                Refusal.TOO_LARGE,
                f"{self._root}/{path} brings {self.url} to more than model_bytes_max, {self._bytes_max} bytes"
                if size <= bytes_max
                else f"{self._root}/{path} has {size} bytes, at most {bytes_max} may come",
            )

    async def _answer(self, asked: Any) -> Any:
        try:
            return await asked
        except FileNotFoundError as error:
            raise _Absent from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what the store says in our errors."""
        from obstore.exceptions import (
            BaseError,
            PermissionDeniedError,
            UnauthenticatedError,
            UnknownConfigurationKeyError,
        )

        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError, UnknownConfigurationKeyError) as error:
            raise ConfigurationError(
                f"{self.url} may not be read: {_line(error)}; who may is said by the environment (AWS_ACCESS_KEY_ID,"
                " GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_KEY, …)"
            ) from error
        except BaseError as error:
            raise Unavailable(f"{self.url}: {_line(error)}") from error


def is_remote(place: str) -> bool:
    """Say whether this names a place in an object store, and no folder."""
    return "://" in place


def _store(root: str, timeout_s: float) -> ObjectStore:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise ConfigurationError(f"{root}: {MISSING}") from error
    options: Any = {
        "connect_timeout": timedelta(seconds=min(CONNECT_TIMEOUT_S, timeout_s)),
        "timeout": timedelta(seconds=timeout_s),
    }
    # Options that are given take the place of those that the library reads from the environment.
    if root.startswith("http://") or any(os.environ.get(name, "").lower() in ("1", "true") for name in IN_THE_CLEAR):
        options["allow_http"] = True
    retries: Any = {"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=timeout_s)}
    try:
        return from_url(root, client_options=options, retry_config=retries)
    except BaseError as error:
        raise ConfigurationError(f"{root}: {_line(error)}") from error


def _inside(path: str) -> str:
    """Return a path within a store, without a slash at either end.

    Raises:
        ConfigurationError: it leads out of it.
    """
    parts = [part for part in path.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise ConfigurationError(f"{path}: a path without . and .. is expected")
    return "/".join(parts)


def _named(folder: Path) -> Mapping[str, str]:
    """Return the SHA-256 of each file that a manifest names and a server needs; that it is sound is found out by who
    loads it.
    """
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
        files = {str(name): str(sha256) for name, sha256 in document.get("files", {}).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{folder}: {MANIFEST} is damaged: {type(error).__name__}") from error
    if strangers := sorted(files.keys() - FILES - set(bundle.FOLDS) | files.keys() & {MANIFEST}):
        raise BundleError(f"{MANIFEST} names {', '.join(map(repr, strangers))}, which is no file of a bundle")
    return {name: sha256 for name, sha256 in files.items() if name not in bundle.FOLDS}


def _append(file: Any, digest: Any, chunk: Any) -> None:
    digest.update(chunk)
    file.write(chunk)


def _replace(scratch: Path, to: Path) -> None:
    old = scratch / "old"
    try:
        if to.exists():
            to.rename(old)
        (scratch / "new").rename(to)
        _sync(to.parent)
    finally:
        if old.exists() and not to.exists():
            old.rename(to)


def _swept(folder: Path) -> None:
    """Make a folder, without what killed syncs have left there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for one in folder.glob(f"{SCRATCH}*"):
        if time.time() - one.stat().st_mtime > SCRATCH_KEPT_S:
            shutil.rmtree(one, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
