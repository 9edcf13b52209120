"""Versions on disk: whole or not there, and of the repository nothing else is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from candlecast.errors import BundleError, ModelRefused, Refusal
from candlecast.models.bundle import Bundle
from candlecast.models.library import Library, champion_of
from candlecast.models.states import Standing, State, Version
from tests.fakes import fitting_bundle


@pytest.fixture
def library(tmp_path):
    fitting_bundle(tmp_path / "models" / "patchtst" / "1")
    (tmp_path / "models" / "patchtst" / "config.pbtxt").write_text("name: 'patchtst'")
    return Library(tmp_path / "state", tmp_path / "models", "patchtst")


def others(library, tmp_path):
    """What lies in the model's folder beside versions."""
    folder = tmp_path / "models" / "patchtst"
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if not path.name.isdigit()}


def test_a_version_goes_into_the_repository_and_out_again_and_the_library_keeps_it(library, tmp_path):
    pushed, before = fitting_bundle(tmp_path / "run", version=2), others(library, tmp_path)
    library.put(pushed.path, 2, 10**9)
    assert library.published() == [1]
    library.publish(2)
    library.publish(2)
    assert library.published() == [1, 2]
    assert Bundle.load(library.published_path(2)).sha256 == pushed.sha256
    for version in (1, 2):
        library.withdraw(version)
        library.withdraw(version)
        assert Bundle.load(library.path(version)).manifest.version == version
    assert library.published() == []
    assert others(library, tmp_path) == before


def test_a_copy_that_is_cut_off_leaves_nothing_and_what_was_there_stays(library, tmp_path, monkeypatch):
    pushed, synced = fitting_bundle(tmp_path / "run", version=2), os.fsync
    library.put(pushed.path, 2, 10**9)
    calls = []

    def fails(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "no space left on device")
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    before = others(library, tmp_path)
    with pytest.raises(OSError, match="no space"):
        library.publish(2)
    assert (library.published(), others(library, tmp_path)) == ([1], before)
    calls.clear()
    with pytest.raises(OSError, match="no space"):
        library.put(pushed.path, 2, 10**9)
    assert Bundle.load(library.path(2)).sha256 == pushed.sha256
    monkeypatch.undo()
    renamed = Path.rename

    def fails_in_place(path, to):
        if path.parent.name.startswith(".new-") and path.name == "2":
            raise OSError(5, "input/output error")
        return renamed(path, to)

    monkeypatch.setattr(Path, "rename", fails_in_place)
    with pytest.raises(OSError, match="input/output"):
        library.put(pushed.path, 2, 10**9)
    assert Bundle.load(library.path(2)).sha256 == pushed.sha256


def test_what_is_no_bundle_or_too_large_is_not_taken(library, tmp_path):
    pushed = fitting_bundle(tmp_path / "run", version=2)
    with pytest.raises(ModelRefused) as refused:
        library.put(pushed.path, 2, 1_000)
    assert refused.value.refusal is Refusal.TOO_LARGE
    with pytest.raises(ModelRefused) as refused:
        library.put(tmp_path, 2, 10**9)
    assert refused.value.refusal is Refusal.DAMAGED
    assert not library.path(2).exists()


def test_the_standing_survives_and_a_damaged_one_is_told(library, tmp_path):
    where = tmp_path / "state", tmp_path / "models", "patchtst"
    assert champion_of(*where) is None
    one = Version("patchtst", 1, "0" * 64, State.CHAMPION, 5, is_loaded=True)
    standing, events = Standing("patchtst").added(one, "tester", "first")
    library.write(standing, [], events)
    assert champion_of(*where) == 1
    assert library.read() == (standing, [], events)
    (tmp_path / "state" / "models" / "patchtst.json").write_text("{")
    with pytest.raises(BundleError, match="restore it, or remove it"):
        champion_of(*where)
