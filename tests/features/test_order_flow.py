"""The order-flow core from Python: the naive definition on real trades, and real books rebuilt from differences."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlecast import _rust
from candlecast.settings import CHECKOUT

BOOK = CHECKOUT.parent / "shared" / "data" / "book"
real = pytest.mark.skipif(not BOOK.exists(), reason="the real recordings are not here")
NAMES = ("tick_ratio", "depth_ratio", "price_dist", "price", "vwap", "std_dev", "bid_vol", "ask_vol")


def trades_of(path: Path) -> tuple[np.ndarray, ...]:
    table = pl.read_parquet(path).sort("ts", "trade_id")
    return tuple(table[name].to_numpy() for name in ("ts", "trade_id", "price", "qty"))


def quotes_of(path: Path) -> tuple[np.ndarray, ...]:
    table = pl.read_parquet(path).sort("ts", maintain_order=True)
    return tuple(table[name].to_numpy() for name in ("ts", "bid", "bid_sz", "ask", "ask_sz"))


def depth_of(path: Path) -> tuple[np.ndarray, ...]:
    table = pl.read_parquet(path)
    columns = [table[name].to_numpy() for name in ("ts", "U", "u", "pu")]
    side, snapshot = table["side"].to_numpy().astype(np.int8), table["is_snapshot"].to_numpy().astype(bool)
    return (*columns, side, table["price"].to_numpy(), table["qty"].to_numpy(), snapshot)


def naive(trades, quotes, stale_ms):
    """Return the eight columns of each trade by the words of their definition."""
    ts, _, price, qty = trades
    sign = np.sign(np.diff(price, prepend=price[0]))
    for i in range(1, len(sign)):
        if sign[i] == 0:
            sign[i] = sign[i - 1]
    rows = np.full((len(ts), len(NAMES)), np.nan)
    for i in range(len(ts)):
        inside = np.arange(max(0, i - 599), i + 1)
        inside = inside[ts[inside] > ts[i] - 30_000]
        vwap = np.average(price[inside], weights=qty[inside])
        sigma = np.sqrt(np.average((price[inside] - vwap) ** 2, weights=qty[inside]))
        rows[i, 0] = sign[max(0, i - 49) : i + 1].mean()
        if np.ptp(price[inside]) == 0:
            vwap, sigma = price[i], 0.0  # but for rounding
        rows[i, 2] = (price[i] - vwap) / sigma if sigma > 0 else np.nan
        rows[i, 3:6] = price[i], vwap, sigma
        k = np.searchsorted(quotes[0], ts[i], side="right") - 1
        if k >= 0 and ts[i] - quotes[0][k] <= stale_ms:
            bid, ask = quotes[2][k], quotes[4][k]
            rows[i, 1] = (bid - ask) / (bid + ask) if bid + ask else 0.0
            rows[i, 6:] = bid, ask
    return rows


@real
def test_features_of_real_trades_are_those_of_the_naive_definition():
    stale_ms = 200  # short, so that some quotes of this busy market are too old
    trades = trades_of(BOOK / "binance-usdm-ETHUSDT-20240808-trades.parquet")
    quotes = quotes_of(BOOK / "binance-usdm-ETHUSDT-20240808-bbo.parquet")
    trades = tuple(column[:6_000] for column in trades)
    pushed = _rust.OrderFlow(stale_ms=stale_ms).push("ETHUSDT", trades=trades, quotes=quotes)
    assert (pushed.trades == 0).all() and (pushed.quotes == 0).all()
    expected = naive(trades, quotes, stale_ms)
    for k, name in enumerate(NAMES):
        np.testing.assert_allclose(pushed.rows[:, k], expected[:, k], rtol=1e-9, atol=1e-9, err_msg=name)
    assert 0 < np.isnan(expected[:, 1]).sum() < len(expected)
    np.testing.assert_array_equal(pushed.undefined[:, 1] != 0, np.isnan(expected[:, 1]))
    np.testing.assert_array_equal(pushed.undefined[:, 0] != 0, np.isnan(expected[:, 2]))


@real
def test_batches_of_any_size_give_the_same_bits_as_one():
    trades = trades_of(BOOK / "binance-spot-BTCUSDT-20240808-trades.parquet")
    quotes = quotes_of(BOOK / "binance-spot-BTCUSDT-20240808-bbo.parquet")
    whole = _rust.OrderFlow().push("BTCUSDT", trades=trades, quotes=quotes)
    flow, rows, start, quote = _rust.OrderFlow(), [], 0, 0
    sizes = np.random.default_rng(5).integers(1, 300, 10_000)
    for size in sizes:
        part = tuple(column[start : start + size] for column in trades)
        if not len(part[0]):
            break
        until = int(np.searchsorted(quotes[0], part[0][-1], side="right"))
        rows.append(
            flow.push("BTCUSDT", trades=part, quotes=tuple(column[quote:until] for column in quotes)).rows,
        )
        start, quote = start + size, until
    np.testing.assert_array_equal(np.concatenate(rows), whole.rows)
    status = flow.status("BTCUSDT")
    assert (status.trades, status.late, status.duplicates, status.refused) == (len(trades[0]), 0, 0, 0)


@real
@pytest.mark.parametrize("market", ["spot-BTCUSDT", "usdm-BTCUSDT", "usdm-ETHUSDT"])
def test_a_book_rebuilt_from_differences_equals_the_recorded_one(market):
    depth = depth_of(BOOK / f"binance-{market}-20240808-depthdiff.parquet")
    book10 = pl.read_parquet(BOOK / f"binance-{market}-20240808-book10.parquet")
    at_update = {row[0]: row[1:] for row in book10.drop("ts", "recv_ts").iter_rows()}
    keys = np.stack([depth[1], depth[2], depth[7]], axis=1)
    starts = np.flatnonzero(np.append(True, (np.diff(keys.astype(np.int64), axis=0) != 0).any(axis=1)))
    flow, compared = _rust.OrderFlow(), 0
    for start, stop in zip(starts, [*starts[1:], len(keys)], strict=True):
        flow.push(market.upper(), depth=tuple(column[start:stop] for column in depth))
        recorded = at_update.get(int(depth[2][start]))
        book = flow.book(market.upper(), 10)
        if recorded is None or book is None or depth[7][start]:
            continue
        bids, asks = book
        flat = [x for level in bids for x in level] + [x for level in asks for x in level]
        assert flat == list(recorded), int(depth[2][start])
        compared += 1
    assert compared > 0.99 * len(at_update), (compared, len(at_update))
    assert flow.status(market.upper()).gaps == 0


def test_what_nobody_knows_is_nan_with_a_reason_and_never_zero():
    flow = _rust.OrderFlow(symbols_max=1)
    rows, why = flow.at(["BTCUSDT"], 0)
    assert np.isnan(rows).all()
    assert [[_rust.FLOW_UNDEFINED[code] for code in codes] for codes in why] == [["NO_TRADES", "NO_BOOK"]]
    none = np.zeros(0)
    flow.push("BTCUSDT", trades=(none.astype(np.int64), none.astype(np.int64), none, none))
    with pytest.raises(OverflowError, match="symbols_max"):
        flow.push("ETHUSDT")
    with pytest.raises(ValueError, match="price"):
        flow.push("BTCUSDT", trades=(np.arange(2), np.arange(2), np.ones(1), np.ones(2)))
    with pytest.raises(TypeError, match="float64"):
        flow.push("BTCUSDT", trades=(np.arange(2), np.arange(2), np.ones(2, dtype=np.float32), np.ones(2)))
