"""Labels of the gate: by hand, and against the words of their definition on random paths."""

import numpy as np
import pytest

from candlecast.errors import ConfigurationError
from candlecast.training.gate_labels import Label, extreme


def naive(label, ts, price, vwap, sigma):
    """Return the labels by the words of their definition."""
    found = []
    for i in range(len(ts)):
        path = [price[j] for j in range(i + 1, len(ts)) if ts[j] <= ts[i] + label.horizon_ms]
        side = np.sign(price[i] - vwap[i])
        is_complete = ts[i] + label.horizon_ms <= ts[-1]
        is_far = sigma[i] > 0 and (label.kind == "breakout" or abs(price[i] - vwap[i]) / sigma[i] > label.distance_min)
        if not (is_complete and is_far):
            found.append(-1)
        elif label.kind == "reversion":
            reverted = [side * (price[i] - p) / sigma[i] >= label.sigmas and side * (p - vwap[i]) < 0 for p in path]
            found.append(int(any(reverted)))
        elif label.kind == "momentum":
            found.append(int(any(side * (p - price[i]) / sigma[i] >= label.sigmas for p in path)))
        else:
            found.append(int(any(abs(p - price[i]) / sigma[i] >= label.sigmas for p in path)))
    return found


@pytest.mark.parametrize("kind", ["reversion", "breakout", "momentum"])
@pytest.mark.parametrize("seed", range(4))
def test_labels_are_those_of_the_naive_definition(kind, seed):
    rng = np.random.default_rng(seed)
    ts = np.cumsum(rng.integers(0, 40, 500)).astype(np.int64)  # several of one millisecond, and holes
    price = 100 + np.cumsum(rng.integers(-1, 2, 500)) * 0.5
    vwap, sigma = price + rng.normal(0, 1, 500), rng.choice([0.0, 0.5, 1.0, np.nan], 500, p=[0.05, 0.45, 0.45, 0.05])
    label = Label(kind, horizon_ms=200, sigmas=1.5)
    found = label.of(ts, price, vwap, sigma)
    assert found.tolist() == naive(label, ts, price, vwap, sigma)
    assert {-1, 0, 1} == set(found.tolist())


def labelled(path, **about):
    """Return the label of a trade at 102, with VWAP 100 and σ 1 frozen, that `path` (seconds, price) follows."""
    ts = np.array([0, *(round(1000 * s) for s, _ in path)], dtype=np.int64)
    price = np.array([102.0, *(p for _, p in path)])
    return int(Label(**about).of(ts, price, np.full(len(ts), 100.0), np.ones(len(ts)))[0])


def test_the_label_looks_along_the_path_not_at_its_end():
    assert labelled([(20, 99.9), (59, 103.0), (60, 103.0)]) == 1


def test_a_price_that_comes_to_the_vwap_but_not_past_it_has_not_reverted():
    assert labelled([(20, 100.0), (60, 102.0)]) == 0


def test_past_the_vwap_by_less_than_the_sigmas_is_too_little():
    assert labelled([(20, 99.9), (60, 102.0)], sigmas=2.2) == 0
    assert labelled([(20, 99.8), (60, 102.0)], sigmas=2.2) == 1


def test_what_comes_after_the_horizon_does_not_count():
    assert labelled([(60, 99.0), (61, 102.0)]) == 1
    assert labelled([(60.001, 99.0), (61, 102.0)]) == 0


def test_an_incomplete_future_has_no_label_even_when_the_price_reverted_in_it():
    assert labelled([(20, 99.0), (59.999, 99.0)]) == -1
    assert labelled([(20, 99.0), (60, 99.0)]) == 1


def test_a_minute_without_a_trade_is_one_in_which_nothing_came():
    assert labelled([(3600, 99.0)]) == 0


def test_later_vwap_and_sigma_change_no_label():
    ts, price = np.arange(100, dtype=np.int64) * 1000, 100 + np.sin(np.arange(100))
    vwap, sigma = np.full(100, 100.0), np.full(100, 0.3)
    before = Label().of(ts, price, vwap, sigma)[:20]
    vwap[20:], sigma[20:] = 90.0, 5.0
    np.testing.assert_array_equal(Label().of(ts, price, vwap, sigma)[:20], before)


def test_extreme_of_any_ranges_is_their_maximum():
    rng = np.random.default_rng(3)
    values = rng.normal(size=300)
    start = rng.integers(0, 300, 1000)
    stop = np.minimum(start + rng.integers(-3, 300, 1000), 300)
    expected = [values[a:b].max() if b > a else np.nan for a, b in zip(start, stop, strict=True)]
    np.testing.assert_array_equal(extreme(values, start, stop), expected)


def test_a_label_that_asks_nothing_is_refused():
    for about in ({"kind": "up"}, {"horizon_ms": 0}, {"sigmas": 0.0}, {"distance_min": float("nan")}):
        with pytest.raises(ConfigurationError):
            Label(**about)
