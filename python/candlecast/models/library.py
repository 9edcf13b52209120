"""Where versions lie: all of them in our library, those that Triton shall have in its repository. Knows no traffic.

STATE_DIR/models/NAME/N/         every version that was pushed or adopted
STATE_DIR/models/NAME.json       where each stands, and what is not in the database yet
REPOSITORY/NAME/N/               copies of those that Triton has, in its standard layout

So a tritonserver that starts anew loads exactly those that were loaded. Everything is written beside its place, synced
and renamed: a reader sees a whole version, or none. In a model's folder of the repository nothing but versions may
change: Triton takes any other change there for one of all versions and loads them again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from candlecast.errors import BundleError, ModelRefused, Refusal
from candlecast.models.bundle import FILES
from candlecast.models.folder import MANIFEST
from candlecast.models.states import Event, Standing, event_as_json, event_of_json

KEPT_EVENTS_MAX: Final = 1_000
"""Of those that are in the database already."""
COPY_BYTES: Final = 1024 * 1024


class Library:
    """The versions of one model on disk; every method blocks.

    Args:
        state_dir: what this installation keeps on disk.
        repository: Triton's.
        name: of the model.
    """

    def __init__(self, state_dir: Path, repository: Path, name: str) -> None:
        self._home = state_dir / "models"
        self._folder = self._home / name
        self._file = self._home / f"{name}.json"
        self._repository = repository / name
        self.name = name

    def path(self, version: int) -> Path:
        """Return where a version lies in the library."""
        return self._folder / str(version)

    def published(self) -> list[int]:
        """Return the versions that lie in the repository."""
        return versions_in(self._repository)

    def published_path(self, version: int) -> Path:
        """Return where a version lies, or would, in the repository."""
        return self._repository / str(version)

    def put(self, folder: Path, version: int, bytes_max: int) -> Path:
        """Copy the bundle in `folder` into the library, replacing what is there, and return its place.

        Raises:
            ModelRefused: it has more than bytes_max, or cannot be read.
            OSError: it cannot be written.
        """
        require_size(folder, bytes_max)
        _copy(folder, self.path(version), self._home)
        return self.path(version)

    def adopt(self, version: int) -> None:
        """Take a version into the library that lies in the repository alone."""
        if not self.path(version).exists():
            _copy(self.published_path(version), self.path(version), self._home)

    def publish(self, version: int) -> None:
        """Put a version into the repository."""
        if not self.published_path(version).exists():
            _copy(self.path(version), self.published_path(version), self._repository)

    def withdraw(self, version: int) -> None:
        """Take a version out of the repository; the library keeps it."""
        place = self.published_path(version)
        if not place.exists():
            return
        self.adopt(version)
        gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=self._repository))
        place.rename(gone / place.name)
        _sync(self._repository)
        shutil.rmtree(gone, ignore_errors=True)

    def drop(self, version: int) -> None:
        """Remove a version from the library."""
        shutil.rmtree(self.path(version), ignore_errors=True)

    def read(self) -> tuple[Standing, list[Event], list[Event]] | None:
        """Return the standing, the events that are recorded, and those that are not; None: nothing was written yet.

        Raises:
            BundleError: the file is damaged.
        """
        try:
            document = json.loads(self._file.read_bytes())
            recorded, pending = ([event_of_json(one) for one in document[key]] for key in ("recorded", "pending"))
            return Standing.of_json(document["standing"]), recorded, pending
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"{self._file} cannot be read ({error!r}): restore it, or remove it to begin with the newest version in"
                f" {self._repository}"
            ) from error

    def write(self, standing: Standing, recorded: Sequence[Event], pending: Sequence[Event]) -> None:
        """Write them, in the place of what was written before, or not at all.

        Raises:
            OSError.
        """
        document: dict[str, Any] = {
            "standing": standing.as_json(),
            "recorded": [event_as_json(one) for one in recorded[-KEPT_EVENTS_MAX:]],
            "pending": [event_as_json(one) for one in pending],
        }
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self._file.with_suffix(".json.new")
        with new.open("w") as file:
            json.dump(document, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)
        _sync(self._home)


def champion_of(state_dir: Path, repository: Path, name: str) -> int | None:
    """Return the version that answers, as it was written; None: nothing was, so that it is the newest.

    Raises:
        BundleError: what was written is damaged.
    """
    found = Library(state_dir, repository, name).read()
    return found[0].champion.version if found else None


def versions_in(folder: Path) -> list[int]:
    """Return the versions in a model's folder, ascending."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()) if folder.is_dir() else []


def require_size(folder: Path, bytes_max: int) -> None:
    """Look at the size of a bundle before anything is read.

    Raises:
        ModelRefused: it is no folder with a manifest, or has more than bytes_max.
    """
    if not (folder / MANIFEST).is_file():
        raise ModelRefused(Refusal.DAMAGED, f"{folder} is no bundle: it has no {MANIFEST}")
    if pipes := [name for name in FILES if (folder / name).exists() and not (folder / name).is_file()]:
        raise ModelRefused(Refusal.DAMAGED, f"{folder}: {', '.join(pipes)} is no file")  # a pipe would keep its reader
    try:
        size = sum((folder / name).stat().st_size for name in FILES if (folder / name).exists())
    except OSError as error:
        raise ModelRefused(Refusal.DAMAGED, f"{folder}: {error.strerror}") from error
    if size > bytes_max:
        raise ModelRefused(Refusal.TOO_LARGE, f"{folder} has {size} bytes, model_bytes_max is {bytes_max}")


def identity(folder: Path, bytes_max: int) -> tuple[str, int, str]:
    """Return name, version and SHA-256 of the manifest in a folder.

    Raises:
        ModelRefused: there is none that says them.
    """
    require_size(folder, bytes_max)
    try:
        text = (folder / MANIFEST).read_bytes()
        document = json.loads(text)
        name, version = document["name"], document["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelRefused(Refusal.DAMAGED, f"{folder}: {MANIFEST} cannot be read: {error!r}") from error
    if not isinstance(name, str) or type(version) is not int or version < 1:
        raise ModelRefused(Refusal.DAMAGED, f"{folder}: {MANIFEST}: name {name!r} or version {version!r} is none")
    return name, version, hashlib.sha256(text).hexdigest()


def _copy(source: Path, to: Path, scratch_in: Path) -> None:
    """Copy the files of a bundle to folder `to`, by way of a folder beside it in `scratch_in`, of the same disk."""
    to.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=scratch_in))
    try:
        new = scratch / to.name
        new.mkdir()
        for name in FILES:
            if (source / name).exists():
                with (source / name).open("rb") as given, (new / name).open("wb") as file:
                    shutil.copyfileobj(given, file, COPY_BYTES)
                    file.flush()
                    os.fsync(file.fileno())
        _sync(new)
        if to.exists():
            to.rename(scratch / "old")
        new.rename(to)
        _sync(to.parent)
    finally:
        if (scratch / "old").exists() and not to.exists():
            (scratch / "old").rename(to)
        shutil.rmtree(scratch, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
