"""Stored candles as a training reads them: all of them, in time order, exactly as they were stored."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from candlecast.errors import ConfigurationError, StorageUnavailable
from candlecast.store.history import read_candles
from candlecast.values import Candles
from tests.integration.conftest import INTERVAL_MS, START_MS, candles
from tests.recorders import Store


@pytest.fixture
async def stored(dsn, pool):
    """Candles of three symbols that overlap, stored in no order of time; and the same in time order."""
    parts = [
        candles(2000 - 300 * seed, symbol=symbol, seed=seed, start_ms=START_MS + seed * 5 * 86_400_000)
        for seed, symbol in ((2, "CCCUSDT"), (0, "AAAUSDT"), (1, "BBBUSDT"))
    ]
    with tempfile.TemporaryDirectory() as directory:
        async with Store(Path(directory), pool) as store:
            for part in parts:
                await store.record(part, None)
            await store.caught_up()
    joined = Candles.joined([parts[1], parts[2], parts[0]])
    return joined.take(np.argsort(joined.open_time_ms, kind="stable"))


def same(found, wanted):
    assert found.names == wanted.names
    np.testing.assert_array_equal(found.open_time_ms, wanted.open_time_ms)
    np.testing.assert_array_equal(found.interval_ms, wanted.interval_ms)
    np.testing.assert_array_equal(found.values, wanted.values)
    assert not found.forming.any()


def test_all_candles_come_in_time_order_with_what_is_absent(dsn, stored):
    same(read_candles(dsn, interval_ms=INTERVAL_MS), stored)


def test_symbols_and_times_are_those_asked_for(dsn, stored):
    start, end = (int(stored.open_time_ms[k]) for k in (700, 3000))
    mask = np.isin(stored.names, ["AAAUSDT", "BBBUSDT"]) & (stored.open_time_ms >= start) & (stored.open_time_ms < end)
    found = read_candles(
        dsn, symbols=["BBBUSDT", "AAAUSDT", "AAAUSDT"], interval_ms=INTERVAL_MS, start_ms=start, end_ms=end
    )
    assert set(found.names) == {"AAAUSDT", "BBBUSDT"}
    same(found, stored.take(mask))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"interval_ms": 60_000}, "none of any symbol at an interval of 60000 ms"),
        ({"interval_ms": INTERVAL_MS, "symbols": ["AAAUSDT", "XXXUSDT"]}, "none of XXXUSDT at"),
        ({"interval_ms": INTERVAL_MS, "end_ms": START_MS}, "to 2023-11-14 22:15; check symbols, interval and times"),
    ],
)
def test_nothing_to_read_says_what_was_asked(dsn, stored, asked, said):
    with pytest.raises(ConfigurationError, match=said):
        read_candles(dsn, **asked)


def test_a_database_without_the_table_says_how_to_get_it(empty_dsn):
    with pytest.raises(StorageUnavailable, match="candlecast migrate"):
        read_candles(empty_dsn, interval_ms=INTERVAL_MS)
