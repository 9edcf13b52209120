"""The Python door of the market: shapes, dtypes, refusals, windows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from candlecast import _rust

INTERVAL_MS = 900_000
START_MS = 1_700_000_100_000
NOW_MS = 2**62
WIDTH = len(_rust.catalog())
VALUES = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume")


def lively(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Return the eight values of n plausible candles."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.003, n)))
    open_ = np.concatenate([[100.0], close[:-1]])
    values = np.full((n, len(VALUES)), np.nan)
    values[:, 0], values[:, 3], values[:, 4] = open_, close, random.uniform(0, 1e4, n)
    values[:, 1], values[:, 2] = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
    return values


@dataclass(frozen=True)
class Batch:
    """The arguments of push, for n candles of one symbol from bar `start` on."""

    values: Any
    start: int = 0
    windows: Any = None
    symbols: Any = None
    forming: Any = None
    interval_ms: Any = field(default=None)
    open_time_ms: Any = field(default=None)

    def push(self, market: _rust.Market) -> _rust.Pushed:
        n = len(self.values)
        return market.push(
            ["BTCUSDT"] * n if self.symbols is None else self.symbols,
            np.full(n, INTERVAL_MS) if self.interval_ms is None else self.interval_ms,
            START_MS + (self.start + np.arange(n)) * INTERVAL_MS if self.open_time_ms is None else self.open_time_ms,
            self.values,
            np.zeros(n, dtype=bool) if self.forming is None else self.forming,
            NOW_MS,
            empty(0) if self.windows is None else self.windows,
        )


def empty(m: int) -> NDArray[np.float32]:
    return np.empty((m, _rust.WINDOW, WIDTH), dtype=np.float32)


def words(names: tuple[str, ...], codes: NDArray[np.uint8]) -> list[str]:
    return [names[code] for code in codes]


@pytest.fixture
def market() -> _rust.Market:
    """A market whose BTCUSDT is READY."""
    market = _rust.Market()
    Batch(lively(market.need)).push(market)
    return market


def test_names_of_codes_are_the_public_ones() -> None:
    assert _rust.VERDICTS == ("ACCEPTED", "DUPLICATE", "CONFLICT", "LATE", "REFUSED", "PEEKED")
    assert _rust.STATES == ("COLD", "WARMING", "READY", "STALE", "QUARANTINED")
    assert _rust.FIELDS[:4] == ("", "symbol", "interval_ms", "open_time_ms")
    assert _rust.FIELDS[4:] == VALUES
    assert _rust.REASONS[:5] == ("", "BAD_SYMBOL", "BAD_INTERVAL", "UNALIGNED", "IN_FUTURE")
    assert (_rust.WINDOW, _rust.FEATURE_SET) == (96, "v1")
    assert 0 < _rust.feature_set_hash() < 2**64


def test_a_ready_symbol_gets_its_window_where_the_answer_says() -> None:
    market = _rust.Market()
    n = market.need + 3
    windows = empty(n)
    pushed = Batch(lively(n), windows=windows).push(market)
    assert pushed.ready == 4
    assert pushed.window.tolist() == [-1] * (market.need - 1) + [0, 1, 2, 3]
    assert words(_rust.STATES, pushed.state[-5:]) == ["WARMING"] + ["READY"] * 4
    assert pushed.have.tolist() == list(range(1, n + 1))
    assert np.isfinite(windows[:4]).all()
    np.testing.assert_array_equal(windows[3], market.rows("BTCUSDT", INTERVAL_MS))
    np.testing.assert_array_equal(windows[0, 1:], windows[1, :-1])
    dtypes = {
        "verdict": np.uint8,
        "field": np.uint8,
        "reason": np.uint8,
        "state": np.uint8,
        "have": np.uint32,
        "gap_filled": np.bool_,
        "window": np.int32,
        "features_hash": np.uint64,
        "close": np.float64,
        "open_time_ms": np.int64,
    }
    for name, dtype in dtypes.items():
        array = getattr(pushed, name)
        assert (array.dtype, array.shape) == (dtype, (n,)), name


def test_the_features_hash_is_of_the_newest_row_and_has_56_bits(market: _rust.Market) -> None:
    windows = empty(1)
    pushed = Batch(lively(1), start=market.need, windows=windows).push(market)
    expected = xxhash.xxh3_64_intdigest(windows[0, -1].astype("<f4").tobytes()) & (2**56 - 1)
    assert pushed.features_hash.tolist() == [expected]
    without = Batch(lively(1), start=market.need + 1).push(market)
    assert (without.features_hash.tolist(), without.window.tolist()) == ([0], [-1])


def test_the_feature_set_hash_is_over_names_versions_and_optional_inputs() -> None:
    text = "".join(f"{feature.name}:{feature.version}\n" for feature in _rust.catalog()) + "optional:"
    assert _rust.feature_set_hash() == xxhash.xxh3_64_intdigest(text.encode())
    text += "quote_volume,reference"
    assert _rust.feature_set_hash(["reference", "quote_volume"]) == xxhash.xxh3_64_intdigest(text.encode())
    with pytest.raises(ValueError, match='"moon" is no optional input: there are quote_volume, trades'):
        _rust.feature_set_hash(["moon"])


def test_newest_windows_come_without_a_candle(market: _rust.Market) -> None:
    windows = empty(3)
    symbols = ["COLD", "BTCUSDT", "no symbol"]
    now_ms = START_MS + (market.need + 1) * INTERVAL_MS
    answer = market.windows_into(windows, symbols, INTERVAL_MS, now_ms)
    assert answer.window.tolist() == [-1, 0, -1]
    assert words(_rust.VERDICTS, answer.verdict) == ["DUPLICATE", "DUPLICATE", "REFUSED"]
    assert words(_rust.STATES, answer.state) == ["COLD", "READY", "COLD"]
    np.testing.assert_array_equal(windows[0], market.rows("BTCUSDT", INTERVAL_MS))
    stale = market.windows_into(windows, symbols, INTERVAL_MS, now_ms + 2 * INTERVAL_MS)
    assert (stale.ready, _rust.STATES[stale.state[1]]) == (1, "STALE")


def test_windows_and_rows_come_in_the_arrays_that_are_given(market: _rust.Market) -> None:
    wide, narrow = empty(1), np.empty((1, _rust.WINDOW, WIDTH), dtype=np.float16)
    now_ms = START_MS + market.need * INTERVAL_MS
    for out in (wide, narrow):
        assert market.windows_into(out, ["BTCUSDT"], INTERVAL_MS, now_ms).ready == 1
    np.testing.assert_array_equal(narrow, wide.astype(np.float16))
    values = lively(4, seed=1)
    values[2, 0] = np.nan
    rows = np.zeros((4, WIDTH), dtype=np.float32)
    times = START_MS + (market.need + np.array([0, 1, 2, 3])) * INTERVAL_MS
    market.push(
        ["BTCUSDT", "NEW", "BTCUSDT", "BTCUSDT"],
        np.full(4, INTERVAL_MS),
        times,
        values,
        np.array([False, False, False, True]),
        NOW_MS,
        narrow[:0],
        rows,
    )
    np.testing.assert_array_equal(rows[0], market.rows("BTCUSDT", INTERVAL_MS)[-1])
    np.testing.assert_array_equal(rows[1], market.rows("NEW", INTERVAL_MS)[-1])
    assert np.isnan(rows[2]).all()
    assert np.isfinite(rows[3]).all()
    assert market.status("BTCUSDT", INTERVAL_MS, NOW_MS).have == market.need + 1


def test_a_snapshot_goes_on_bit_by_bit_where_it_was_taken(market: _rust.Market) -> None:
    snapshot = market.snapshot("BTCUSDT", INTERVAL_MS)
    assert snapshot is not None
    assert market.snapshot("ETHUSDT", INTERVAL_MS) is None
    elsewhere = _rust.Market()
    assert elsewhere.restore(snapshot) == ("BTCUSDT", INTERVAL_MS)
    for some in (market, elsewhere):
        Batch(lively(200, seed=2), start=market.need).push(some)
    ours, theirs = (some.rows("BTCUSDT", INTERVAL_MS) for some in (market, elsewhere))
    assert ours.tobytes() == theirs.tobytes()


def test_a_damaged_or_foreign_snapshot_is_refused_with_its_reason(market: _rust.Market) -> None:
    snapshot = market.snapshot("BTCUSDT", INTERVAL_MS)
    assert snapshot is not None
    torn = bytearray(snapshot)
    torn[5_000] ^= 1
    cases = [
        (b"", "not a snapshot"),
        (b"X" + snapshot[1:], "not a snapshot"),
        (snapshot[:4] + b"\x07" + snapshot[5:], "layout 7, but this build reads 3"),
        (snapshot[:-1], "that should have"),
        (snapshot + b"0", "that should have"),
        (bytes(torn), "checksum does not match"),
    ]
    for wrong, says in cases:
        with pytest.raises(ValueError, match=says):
            market.restore(wrong)
    with pytest.raises(ValueError, match=f"feature set {_rust.feature_set_hash():016x}, not of the one in use"):
        _rust.Market(optional_inputs=["trades"]).restore(snapshot)
    with pytest.raises(ValueError, match="rows of another precision"):
        _rust.Market(ring="f16").restore(snapshot)
    with_reference = [_rust.Market(optional_inputs=["reference"], reference_symbol=name) for name in ("A", "B")]
    Batch(lively(1)).push(with_reference[0])
    of_another = with_reference[0].snapshot("BTCUSDT", INTERVAL_MS)
    assert of_another is not None
    with pytest.raises(ValueError, match="reference symbol A, not the one in use"):
        with_reference[1].restore(of_another)
    full = _rust.Market(symbols_max=1)
    Batch(lively(1), symbols=["OTHER"]).push(full)
    with pytest.raises(ValueError, match="no room"):
        full.restore(snapshot)
    assert full.status("BTCUSDT", INTERVAL_MS, NOW_MS).have == 0


def test_status_tells_where_a_symbol_stands(market: _rust.Market) -> None:
    newest = START_MS + (market.need - 1) * INTERVAL_MS
    status = market.status("BTCUSDT", INTERVAL_MS, newest)
    assert (_rust.STATES[status.state], status.have, status.need) == ("READY", market.need, market.need)
    assert (status.newest_open_time_ms, status.conflicts, status.gap_filled) == (newest, 0, False)
    cold = market.status("ETHUSDT", INTERVAL_MS, newest)
    assert (_rust.STATES[cold.state], cold.have, cold.newest_open_time_ms) == ("COLD", 0, None)
    assert market.rows("ETHUSDT", INTERVAL_MS).shape == (0, WIDTH)


def test_rows_before_the_window_is_complete_are_fewer_and_partly_nan() -> None:
    market = _rust.Market()
    Batch(lively(30)).push(market)
    rows = market.rows("BTCUSDT", INTERVAL_MS)
    assert rows.shape == (30, WIDTH)
    assert rows.dtype == np.float32
    for feature, column in zip(_rust.catalog(), rows.T, strict=True):
        assert np.isnan(column).sum() == min(feature.warmup_bars - 1, 30), feature.name


GOOD = Batch(lively(3), windows=empty(3))
WRONG: list[tuple[type[Exception], str, Callable[[], Batch]]] = [
    (ValueError, r"values must have shape \[3, 8\]", lambda: replace(GOOD, values=lively(3)[:, :5].copy())),
    (ValueError, r"values must have shape \[3, 8\]", lambda: replace(GOOD, values=lively(3)[:, :, None])),
    (ValueError, "values must be C-contiguous", lambda: replace(GOOD, values=np.asfortranarray(lively(3)))),
    (TypeError, "values must be .* float64, not float32", lambda: replace(GOOD, values=lively(3).astype(np.float32))),
    (TypeError, "values must be a NumPy array .* not list", lambda: replace(GOOD, values=lively(3).tolist())),
    (ValueError, r"interval_ms must have shape \[3\]", lambda: replace(GOOD, interval_ms=np.full(2, INTERVAL_MS))),
    (TypeError, "interval_ms must be .* int64", lambda: replace(GOOD, interval_ms=np.full(3, INTERVAL_MS, np.int32))),
    (ValueError, r"open_time_ms must have shape \[3\]", lambda: replace(GOOD, open_time_ms=np.zeros((3, 1), np.int64))),
    (ValueError, "open_time_ms must be C-contig", lambda: replace(GOOD, open_time_ms=np.zeros(6, np.int64)[::2])),
    (TypeError, "forming must be .* bool", lambda: replace(GOOD, forming=np.zeros(3, np.uint8))),
    (ValueError, r"must have shape \[2\]", lambda: replace(GOOD, symbols=["BTCUSDT"] * 2)),
    (TypeError, r"symbols\[1\] must be a str", lambda: replace(GOOD, symbols=["BTCUSDT", None, "BTCUSDT"])),
    (TypeError, "list", lambda: replace(GOOD, symbols=("BTCUSDT",) * 3)),
    (ValueError, r"windows must have shape .* not \[2, 96", lambda: replace(GOOD, windows=empty(2))),
    (ValueError, "windows must have shape", lambda: replace(GOOD, windows=empty(3)[:, :95].copy())),
    (ValueError, "windows must have shape", lambda: replace(GOOD, windows=empty(3).reshape(-1))),
    (ValueError, "windows must be C-contiguous", lambda: replace(GOOD, windows=empty(6)[::2])),
    (TypeError, "windows must be .* float32", lambda: replace(GOOD, windows=empty(3).astype(np.float64))),
    (ValueError, "windows must be writable", lambda: replace(GOOD, windows=read_only(empty(3)))),
]


def read_only(array: NDArray[np.float32]) -> NDArray[np.float32]:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(("error", "says", "wrong"), WRONG)
def test_wrong_arrays_raise_with_a_sentence_before_anything_moves(
    error: type[Exception], says: str, wrong: Callable[[], Batch]
) -> None:
    market = _rust.Market()
    with pytest.raises(error, match=says):
        wrong().push(market)
    assert market.status("BTCUSDT", INTERVAL_MS, NOW_MS).have == 0
    assert len(GOOD.push(market).verdict) == 3


def test_limits_and_names_that_make_no_sense_raise() -> None:
    for limits in ({"symbols_max": 0}, {"conflicts_max": 0}, {"threads": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            _rust.Market(**limits)
    with pytest.raises(ValueError, match="ring must be 'f32' or 'f16'"):
        _rust.Market(ring="f64")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a reference_symbol"):
        _rust.Market(optional_inputs=["reference"])
    with pytest.raises(ValueError, match="is not 1-32 characters"):
        _rust.Market(reference_symbol="btc usdt")
    with pytest.raises(ValueError, match="is not 1-32 characters"):
        _rust.Market().status("btc usdt", INTERVAL_MS, NOW_MS)
    with pytest.raises(ValueError, match="is not 1-32 characters"):
        _rust.Market().rows("", INTERVAL_MS)


def test_names_may_come_as_one_array_and_a_malformed_one_is_refused_in_its_place() -> None:
    names = ["BTCUSDT", "no", "X" * 32, "", "A\0B"]
    values, times = lively(5), np.full(5, START_MS)
    pushed = [
        Batch(values, symbols=symbols, open_time_ms=times).push(_rust.Market())
        for symbols in (names, np.array([name.encode() for name in names], dtype="S32"))
    ]
    assert words(_rust.VERDICTS, pushed[1].verdict) == ["ACCEPTED", "REFUSED", "ACCEPTED", "REFUSED", "REFUSED"]
    np.testing.assert_array_equal(pushed[0].verdict, pushed[1].verdict)
    np.testing.assert_array_equal(pushed[0].field, pushed[1].field)
    with pytest.raises(TypeError, match=r"symbols must be a list of str or a NumPy array of S32"):
        Batch(values[:1], symbols=np.array([b"BTCUSDT"], dtype="S31")).push(_rust.Market())


def test_columns_that_stand_still_are_counted_for_each_window(market: _rust.Market) -> None:
    flat = np.tile([100.0, 100, 100, 100, 0, np.nan, np.nan, np.nan], (200, 1))
    windows = empty(200)
    pushed = Batch(flat, start=market.need, windows=windows).push(market)
    expected = (windows == windows[:, :1]).all(axis=1).sum(axis=1)
    np.testing.assert_array_equal(pushed.still, expected)
    assert expected[-1] > 100 > expected[0]


def test_an_empty_batch_is_answered() -> None:
    pushed = Batch(lively(0)).push(_rust.Market())
    assert (pushed.ready, pushed.verdict.shape) == (0, (0,))


def test_an_answer_does_not_depend_on_the_callers_arrays_afterwards(market: _rust.Market) -> None:
    values, windows = lively(1), empty(1)
    Batch(values, start=market.need, windows=windows).push(market)
    before = market.rows("BTCUSDT", INTERVAL_MS)
    values[:], windows[:] = 7.0, 7.0
    np.testing.assert_array_equal(before, market.rows("BTCUSDT", INTERVAL_MS))


def test_many_threads_may_push_at_once() -> None:
    market = _rust.Market()

    def feed(symbol: str) -> None:
        values = lively(300)
        for i in range(300):
            Batch(values[i : i + 1], start=i, symbols=[symbol]).push(market)

    threads = [Thread(target=feed, args=(f"S{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [market.rows(f"S{i}", INTERVAL_MS) for i in range(4)]
    assert all(np.array_equal(rows[0], other, equal_nan=True) for other in rows)


NOT_FINITE = st.sampled_from([np.nan, np.inf, -np.inf])
NOT_A_PRICE = NOT_FINITE | st.floats(max_value=0, allow_nan=False) | st.floats(min_value=1e16, allow_nan=False)
NOT_AN_AMOUNT = st.just(-np.inf) | st.just(np.inf) | st.floats(max_value=-1e-300) | st.floats(min_value=1e25)
BAD_VALUE = st.one_of(
    st.tuples(st.sampled_from(VALUES[:4]), NOT_A_PRICE),
    st.tuples(st.just("volume"), NOT_FINITE | NOT_AN_AMOUNT),
    st.tuples(st.sampled_from(VALUES[5:]), NOT_AN_AMOUNT),
)


@given(bad=BAD_VALUE)
def test_a_malformed_value_is_refused_by_name_and_moves_nothing(bad: tuple[str, float]) -> None:
    name, value = bad
    values = lively(3)
    market, untouched = _rust.Market(), _rust.Market()
    torn = np.insert(values, 1, values[1], axis=0)
    torn[1, VALUES.index(name)] = value
    times = START_MS + np.array([0, 1, 1, 2]) * INTERVAL_MS
    pushed = Batch(torn, open_time_ms=times).push(market)
    Batch(values).push(untouched)
    assert words(_rust.VERDICTS, pushed.verdict) == ["ACCEPTED", "REFUSED", "ACCEPTED", "ACCEPTED"]
    assert _rust.FIELDS[pushed.field[1]] == name
    assert _rust.REASONS[pushed.reason[1]] in {"NOT_FINITE", "NOT_POSITIVE", "NEGATIVE", "OUT_OF_RANGE"}
    assert (pushed.field[[0, 2, 3]] == 0).all() and (pushed.reason[[0, 2, 3]] == 0).all()
    ours, theirs = (m.rows("BTCUSDT", INTERVAL_MS) for m in (market, untouched))
    assert ours.tobytes() == theirs.tobytes()


@given(symbol=st.text(max_size=40), interval_ms=st.integers(-(2**63), 2**63 - 1), time=st.integers(-(2**63), 2**63 - 1))
def test_any_name_interval_and_time_is_answered(symbol: str, interval_ms: int, time: int) -> None:
    market = _rust.Market()
    batch = Batch(
        lively(1),
        symbols=[symbol],
        interval_ms=np.array([interval_ms], dtype=np.int64),
        open_time_ms=np.array([time], dtype=np.int64),
    )
    pushed = batch.push(market)
    assert _rust.VERDICTS[pushed.verdict[0]] in {"ACCEPTED", "REFUSED"}
    assert (pushed.reason[0] == 0) == (_rust.VERDICTS[pushed.verdict[0]] == "ACCEPTED")
