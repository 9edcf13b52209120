"""Windows in shared memory: where they lie, and when their place is free again."""

import gc
import os

import numpy as np
import pytest

from candlecast.triton import shared_memory
from candlecast.triton.shared_memory import DIRECTORY, PREFIX, SharedWindows

SHAPE = (4, 16)


@pytest.fixture
def windows():
    with SharedWindows(10, SHAPE) as windows:
        yield windows


def test_a_place_is_taken_until_nobody_holds_a_part_of_it(windows):
    first = windows.room(6)
    part = first[2:4]
    assert windows.place_of(first) == 0
    assert windows.place_of(part) == 2 * 4 * 64
    del first
    gc.collect()
    assert windows.place_of(windows.room(5)) is None  # the part still holds all six
    part[:] = 7
    assert (part == 7).all()
    del part
    gc.collect()
    assert windows.place_of(windows.room(10)) == 0


def test_places_do_not_overlap_and_holes_are_filled_and_joined(windows):
    rooms = [windows.room(2) for _ in range(5)]
    for i, room in enumerate(rooms):
        room[:] = i
    assert [int(room[1, 3, 15]) for room in rooms] == list(range(5))
    assert windows.place_of(windows.room(1)) is None
    for i in (1, 3, 2):
        rooms[i] = None
    gc.collect()
    assert windows.place_of(windows.room(6)) == windows.place_of(rooms[0]) + 2 * 4 * 64
    assert (rooms[0] == 0).all() and (rooms[4] == 4).all()


def test_what_has_no_room_lies_in_ordinary_memory(windows):
    large, none = windows.room(11), windows.room(0)
    assert large.shape == (11, *SHAPE) and windows.place_of(large) is None
    assert none.shape == (0, *SHAPE)
    assert windows.place_of(np.zeros((1, *SHAPE), np.float32)) is None


def test_without_a_promise_of_the_file_system_it_lies_in_ordinary_memory(windows, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert windows.place_of(windows.room(1)) is None
    monkeypatch.undo()
    assert windows.place_of(windows.room(1)) == 0


def test_parts_are_joined_in_their_order(windows):
    parts = [np.full((n, *SHAPE), n, np.float32) for n in (1, 2, 3)]
    joined = windows.joined(parts)
    assert windows.place_of(joined) == 0
    np.testing.assert_array_equal(joined, np.concatenate(parts))


def test_the_file_goes_with_the_context_and_with_a_process_that_was_killed(monkeypatch):
    dead = DIRECTORY / f"{PREFIX}{2**22 + 1}-00ff"
    dead.touch()
    with SharedWindows(1, SHAPE) as windows:
        assert not dead.exists()
        assert (DIRECTORY / windows.name).stat().st_mode & 0o777 == 0o600
        kept = windows.room(1)
        kept[:] = 3
        shared_memory._sweep()
        assert (DIRECTORY / windows.name).exists()
    assert not (DIRECTORY / windows.name).exists()
    assert (kept == 3).all()
