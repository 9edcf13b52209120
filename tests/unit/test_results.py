"""Candles of the client as messages and as columns: each is the other's whole."""

import numpy as np

from candlecast import packed
from candlecast.client import columns, messages
from candlecast.results import carried
from candlecast.values import Candles


def mixed() -> Candles:
    """Return candles of which one is forming and some lack an optional column."""
    values = np.random.default_rng(0).uniform(1, 100, (20, 8))
    values[::2, 5], values[::3, 7] = np.nan, np.nan
    return Candles(
        symbol=[f"S{k % 3}USDT" for k in range(20)],
        interval_ms=np.full(20, 60_000, dtype=np.int64),
        open_time_ms=60_000 * np.arange(20, dtype=np.int64),
        values=values,
        forming=np.arange(20) == 19,
    )


def test_messages_say_all_that_columns_say_forming_among_it():
    given = mixed()
    assert [message.forming for message in messages(given)] == given.forming.tolist()

    back = columns(messages(given))

    assert back is not None
    for name in Candles.__slots__:
        np.testing.assert_array_equal(getattr(back, name), getattr(given, name), err_msg=name)


def test_a_forming_candle_is_sent_as_one_whether_few_or_many_travel_with_it():
    given = messages(mixed())
    few, many = carried(given[-2:]), carried(given)
    assert [candle.forming for candle in few["candles"]] == [False, True]
    assert packed.unpack_candles(many["packed"], 0).forming.tolist() == [False] * 19 + [True]
