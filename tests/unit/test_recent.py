"""What was recorded last, by columns, beside the plain way: a dictionary for each series."""

import numpy as np
import pytest

from candlecast.store.recent import RECENT_MAX, Recent
from candlecast.values import symbols

MINUTE_MS = 60_000


class Naive:
    """The newest closes of each series, one row after the other."""

    def __init__(self):
        self.series = {}

    def record(self, keys, closes, done):
        """Return for each row whether it is new, and of which record the known ones are."""
        recorded, seen, new, known = {k: dict(v) for k, v in self.series.items()}, set(), [], {}
        for i, (key, close) in enumerate(zip(keys, closes, strict=True)):
            if close in recorded.get(key, {}):
                known[i] = recorded[key][close]
            new.append(i not in known and (key, close) not in seen)
            seen.add((key, close))
            if new[-1]:
                recent = self.series.setdefault(key, {})
                recent[close] = done
                if len(recent) > RECENT_MAX:
                    del recent[min(recent)]
        return new, known


@pytest.mark.parametrize("seed", range(20))
def test_it_knows_what_the_plain_way_knows(seed):
    rng = np.random.default_rng(seed)
    recent, naive = Recent(), Naive()
    names = [f"S{i}" for i in range((1, 3, 10, 200)[seed % 4])]  # few have many closes each, many few
    for record in range(60):
        rows = int(rng.integers(1, 80))
        chosen = [names[i] for i in rng.integers(0, len(names), rows)]
        intervals = rng.choice([MINUTE_MS, 5 * MINUTE_MS], rows)
        closes = rng.integers(record // 2, record // 2 + 30, rows) * MINUTE_MS
        series = recent.numbers(symbols(chosen), intervals)
        new, known = recent.find(series, closes)
        recent.keep(series[new], closes[new], record)
        keys = zip(chosen, intervals.tolist(), strict=True)
        assert (new.tolist(), known) == naive.record(list(keys), closes.tolist(), record)


def test_a_burst_of_distinct_series_is_known_again_until_16_newer_ones():
    recent = Recent()
    series = recent.numbers(symbols([f"S{i}" for i in range(500)]), np.full(500, MINUTE_MS))
    assert sorted(series.tolist()) == list(range(500))
    for i in range(RECENT_MAX + 1):
        recent.keep(series, np.full(500, i), i)
    assert recent.find(series, np.full(500, 0))[0].all()
    new, known = recent.find(series, np.full(500, 1))
    assert not new.any()
    assert known == dict.fromkeys(range(500), 1)
