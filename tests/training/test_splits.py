"""Walk-forward splits: the past only, and no bar is shared across a border by a window or a label."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from candlecast.errors import ConfigurationError
from candlecast.training.labels import FUTURE_BARS
from candlecast.training.splits import EMBARGO_BARS, Split, walk_forward

M15 = 900_000
T0 = 1_704_067_200_000
BARS = 20_000
WINDOW = 96


def parts(split: Split) -> list[np.ndarray]:
    time = T0 + M15 * np.arange(BARS)
    return [span.of(time) for span in (split.train, split.validation, split.test) if span]


def shares_a_bar(earlier: np.ndarray, later: np.ndarray) -> bool:
    """Say whether a window or label of `earlier` [N] bars touches a bar of a window or label of `later`."""
    touched = earlier.max() + FUTURE_BARS
    first = later.min() - (WINDOW - 1)
    return bool(touched >= first)


def overlaps(splits: list[Split]) -> bool:
    return any(shares_a_bar(a, b) for split in splits for a, b in itertools.pairwise(parts(split)))


@pytest.mark.parametrize("rolling_bars", [0, 2000])
@pytest.mark.parametrize("folds", [1, 3, 6])
def test_no_window_or_label_overlaps_the_next_part(folds: int, rolling_bars: int) -> None:
    splits = walk_forward(T0, T0 + M15 * BARS, M15, folds, rolling_bars=rolling_bars)

    assert not overlaps(splits)
    for split in splits:
        for earlier, later in itertools.pairwise(parts(split)):
            assert later.min() - earlier.max() > 48


@pytest.mark.parametrize("rolling_bars", [0, 2000])
@pytest.mark.parametrize("embargo_bars", [0, EMBARGO_BARS - 2])
def test_a_smaller_embargo_would_overlap(embargo_bars: int, rolling_bars: int) -> None:
    assert EMBARGO_BARS >= 48
    assert overlaps(walk_forward(T0, T0 + M15 * BARS, M15, 3, embargo_bars=embargo_bars, rolling_bars=rolling_bars))


def test_rolling_folds_forget_what_is_old() -> None:
    expanding, rolling = (walk_forward(T0, T0 + M15 * BARS, M15, 3, rolling_bars=bars) for bars in (0, 4500))

    assert [split.train.end_ms for split in rolling] == [split.train.end_ms for split in expanding]
    assert [len(parts(split)[0]) for split in rolling] == [len(parts(expanding[0])[0]), 4500, 4500, 4500]
    assert [(split.validation, split.test) for split in rolling] == [
        (split.validation, split.test) for split in expanding
    ]


def test_folds_expand_and_test_parts_follow_one_another_to_the_end() -> None:
    splits = walk_forward(T0, T0 + M15 * BARS, M15, 3)

    assert [len(parts(split)) for split in splits] == [3, 3, 3, 2]
    trains = [parts(split)[0] for split in splits]
    assert all(train.min() == 0 for train in trains)
    assert all(len(a) < len(b) for a, b in itertools.pairwise(trains))
    tests = [parts(split)[2] for split in splits[:3]]
    assert [(test.min() - EMBARGO_BARS, test.max() + 1) for test in tests] == [
        (5000, 10_000),
        (10_000, 15_000),
        (15_000, 20_000),
    ]
    assert parts(splits[3])[1].max() == BARS - 1
    for split in splits:
        for a, b in itertools.pairwise(parts(split)):
            assert a.max() < b.min()


def test_symbols_are_split_at_the_same_time_whatever_their_history() -> None:
    split = walk_forward(T0, T0 + M15 * BARS, M15, 3)[0]
    long, short = T0 + M15 * np.arange(BARS), T0 + M15 * np.arange(4000, BARS)

    for span in (split.train, split.validation, split.test):
        assert span is not None
        times = set(long[span.of(long)].tolist())
        assert set(short[span.of(short)].tolist()) <= times


def test_too_little_time_and_no_folds_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="1000 candles of time are too few for 3 folds"):
        walk_forward(T0, T0 + M15 * 1000, M15, 3)
    with pytest.raises(ConfigurationError, match="at least 1"):
        walk_forward(T0, T0 + M15 * BARS, M15, 0)


@pytest.mark.parametrize("rolling_bars", [500, 7000, BARS])
def test_rolling_train_parts_end_where_expanding_ones_do_and_are_no_longer(rolling_bars: int) -> None:
    expanding = walk_forward(T0, T0 + M15 * BARS, M15, 3)
    rolling = walk_forward(T0, T0 + M15 * BARS, M15, 3, rolling_bars=rolling_bars)

    assert not overlaps(rolling)
    for one, other in zip(expanding, rolling, strict=True):
        assert (one.validation, one.test, one.train.end_ms) == (other.validation, other.test, other.train.end_ms)
        length = (one.train.end_ms - one.train.start_ms) // M15
        assert (other.train.end_ms - other.train.start_ms) // M15 == min(rolling_bars, length)
