"""Where versions lie: all of them in our library, those that Triton shall have in its repository. Knows no traffic.

STATE_DIR/models/NAME/N/         every version that was pushed or adopted, an ensemble with its members in it
STATE_DIR/models/NAME.json       where each stands, and what is not in the database yet
REPOSITORY/NAME/N/               copies of those that Triton has, in its standard layout
REPOSITORY/MEMBER/M/             of an ensemble: a member, there for as long as one ensemble of the repository names it

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from candlecast import features as feature_state
from candlecast import outputs
from candlecast.errors import BundleError, ModelRefused, Refusal
from candlecast.models.bundle import FILES
from candlecast.models.ensemble import asked_of, contents, is_ensemble, member_place
from candlecast.models.folder import MANIFEST
from candlecast.models.states import Event, Standing, event_as_json, event_of_json
from candlecast.triton.repository import write_config

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
        self._models = repository
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
        _copy(folder, self.path(version), self._home, contents(folder))
        return self.path(version)

    def adopt(self, version: int) -> None:
        """Take a version into the library that lies in the repository alone."""
        if not self.path(version).exists():
            place = self.published_path(version)
            _copy(place, self.path(version), self._home, contents(place))

    def publish(self, version: int) -> None:
        """Put a version into the repository; of an ensemble the manifest first, by which a cut-off step is undone.

        Raises:
            ModelRefused: another bundle lies there under the name and version of a member.
            OSError: it cannot be written.
        """
        kept, place = self.path(version), self.published_path(version)
        if not kept.exists():
            return  # it was never pushed: all that there is of it lies in the repository
        members = asked_of(kept) if is_ensemble(kept) else []
        places = [(one, self._models / one.name / str(one.version)) for one in members]
        for one, there in places:
            if there.exists() and _sha256(there) != one.sha256:
                raise ModelRefused(
                    Refusal.WRONG_MODEL,
                    f"{there} is another {one.name} v{one.version}: give the new one another version",
                )
        if not place.exists():
            if members:
                place.parent.mkdir(parents=True, exist_ok=True)
            else:
                _configure(place.parent)
            _copy(kept, place, place.parent, [MANIFEST] if members else FILES)
        for one, there in places:
            if not there.exists():
                _configure(there.parent)
                _copy(member_place(kept, one), there, there.parent, FILES)

    def withdraw(self, version: int) -> list[tuple[str, int]]:
        """Take a version out of the repository; the library keeps it.

        Returns: models of Triton and versions of them that are there no more; others may have gone before.
        """
        place = self.published_path(version)
        if not place.exists():
            return []
        self.adopt(version)
        if not is_ensemble(place):
            _remove(place)
            return [(self.name, version)]
        needed = {
            (one.name, one.version)
            for other in self.published()
            if other != version and is_ensemble(self.published_path(other))
            for one in asked_of(self.published_path(other))
        }
        gone = [(one.name, one.version) for one in asked_of(place) if (one.name, one.version) not in needed]
        for name, number in gone:
            if (self._models / name / str(number)).exists():
                _remove(self._models / name / str(number))
        _remove(place)  # last: by it a step that was cut off is done again
        return gone

    def parts(self, version: int) -> list[tuple[str, int]]:
        """Return the models of Triton, and their versions, that answer for a published version.

        Raises:
            BundleError: it is an ensemble whose manifest is damaged.
        """
        place = self.published_path(version)
        return [(one.name, one.version) for one in asked_of(place)] if is_ensemble(place) else [(self.name, version)]

    def is_empty(self, model: str) -> bool:
        """Say whether the repository holds no version of a model of Triton any more."""
        return not versions_in(self._models / model)

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
    if (folder / MANIFEST).stat().st_size > bytes_max:
        raise ModelRefused(Refusal.TOO_LARGE, f"{folder}: {MANIFEST} has more than model_bytes_max, {bytes_max} bytes")
    try:
        files = contents(folder)
        if pipes := [name for name, file in files.items() if not file.is_file()]:
            raise BundleError(f"{folder}: {', '.join(pipes)} is no file")  # a pipe would keep its reader
        size = sum(file.stat().st_size for file in files.values())
    except (OSError, BundleError) as error:
        raise ModelRefused(Refusal.DAMAGED, f"{folder}: {error}") from error
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


def models_in(repository: Path, name: str) -> set[str]:
    """Return the models of Triton that answer for the versions of model `name` in the repository: members, or itself.

    Raises:
        BundleError: the manifest of an ensemble is damaged.
    """
    places = [repository / name / str(version) for version in versions_in(repository / name)]
    return {
        part for place in places for part in ([one.name for one in asked_of(place)] if is_ensemble(place) else [name])
    }


def _copy(source: Path, to: Path, scratch_in: Path, files: Mapping[str, Path] | Sequence[str]) -> None:
    """Copy files of a bundle to folder `to`, by way of a folder beside it in `scratch_in`, of the same disk.

    Args:
        files: by name in the copy; or names, of which those are copied that are in `source`.
    """
    if not isinstance(files, Mapping):
        files = {name: source / name for name in files if (source / name).exists()}
    to.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=scratch_in))
    try:
        new = scratch / to.name
        new.mkdir()
        for name, file in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as given, (new / name).open("wb") as copy:
                shutil.copyfileobj(given, copy, COPY_BYTES)
                copy.flush()
                os.fsync(copy.fileno())
        for folder in {new, *((new / name).parent for name in files)}:
            _sync(folder)
        if to.exists():
            to.rename(scratch / "old")
        new.rename(to)
        _sync(to.parent)
    finally:
        if (scratch / "old").exists() and not to.exists():
            (scratch / "old").rename(to)
        shutil.rmtree(scratch, ignore_errors=True)


def _remove(place: Path) -> None:
    """Remove a folder, whole or not at all for whoever looks meanwhile."""
    gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=place.parent))
    place.rename(gone / place.name)
    _sync(place.parent)
    shutil.rmtree(gone, ignore_errors=True)


def _configure(folder: Path) -> None:
    """Say how a model that is new in the repository is run; what is there already stays: any change loads all anew."""
    if (folder / "config.pbtxt").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        write_config(scratch, folder.name, feature_state.WINDOW, len(feature_state.NAMES), outputs.COUNT)
        for part in ("configs", "config.pbtxt"):
            if not (folder / part).exists():
                (scratch / part).rename(folder / part)
        _sync(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sha256(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return ""


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
