"""A bundle's folder: files checked against the sha256 that manifest.json names, replaced as a whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from candlecast.errors import BundleError, Refusal
from candlecast.values import F32

MANIFEST: Final = "manifest.json"


def read(path: Path, name: str) -> bytes:
    """Return a file of the bundle at `path`.

    Raises:
        BundleError: it cannot be read.
    """
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {name} cannot be read ({error.strerror}); this is not a complete bundle") from error


def read_checked(path: Path, names: Collection[str], sha256: Mapping[str, str]) -> dict[str, bytes]:
    """Return those files by name.

    Raises:
        BundleError: one cannot be read, or is not what its manifest names.
    """
    contents = {name: read(path, name) for name in names}
    for name, content in contents.items():
        _require_same(path, name, hashlib.sha256(content).hexdigest(), sha256)
    return contents


def check(path: Path, names: Collection[str], sha256: Mapping[str, str]) -> None:
    """Compare files that nobody needs here: they may be larger than memory.

    Raises:
        BundleError: one cannot be read, or is not what its manifest names.
    """
    for name in names:
        try:
            with (path / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BundleError(
                f"{path}: {name} cannot be read ({error.strerror}); this is not a complete bundle"
            ) from error
        _require_same(path, name, found, sha256)


def _require_same(path: Path, name: str, found: str, sha256: Mapping[str, str]) -> None:
    if found != sha256[name]:
        raise BundleError(
            f"{path}: {name} is not the file its manifest names (sha256 differs); restore the bundle",
            Refusal.SHA256_MISMATCH,
        )


def array(path: Path, name: str, content: bytes, shape: tuple[int, ...]) -> F32:
    """Return the array in a .npy file.

    Raises:
        BundleError: it is none, of another shape or dtype, or not finite.
    """
    try:
        found = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:  # a header may promise more than there is
        raise BundleError(f"{path}: {name} is no array: {error}") from error
    if found.dtype != np.float32 or found.shape != shape or not np.isfinite(found).all():
        raise BundleError(f"{path}: {name} is {found.dtype} {list(found.shape)}, expected finite float32 {list(shape)}")
    return found  # type: ignore[no-any-return]


def npy(values: F32) -> bytes:
    """Return an array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()


def as_json(value: Any) -> bytes:
    """Return a JSON file; a NaN in it is a ValueError."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def check_place(path: Path, files: Collection[str]) -> None:
    """Raise BundleError when `path` holds something that a bundle of these files may not replace."""
    strangers = sorted(file.name for file in path.iterdir() if file.name not in files) if path.is_dir() else []
    if strangers or (path.exists() and not path.is_dir()):
        raise BundleError(f"{path}: not a bundle ({', '.join(strangers) or 'a file'}); choose another folder")


def replace(
    path: Path, contents: Mapping[str, bytes], manifest: Mapping[str, Any], check: Callable[[Path], Any]
) -> None:
    """Write the files to folder `path`, replacing what is there, with a manifest that names the sha256 of each.

    Everything is written, synced and checked beside `path` first: on any error what was there stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    whole = {**contents, MANIFEST: as_json({**manifest, "files": hashes})}
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    new, old = scratch / "new", scratch / "old"
    try:
        new.mkdir()
        for name, content in whole.items():
            with (new / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(new)
        check(new)
        if path.exists():
            path.rename(old)
        new.rename(path)
        _sync(path.parent)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(scratch, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
