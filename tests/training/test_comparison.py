"""Which of two versions is better: naive sums, known winners, and no verdict where none can be known."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from candlecast import outputs
from candlecast.training import comparison
from candlecast.training.comparison import Comparison, Judged, compare, compare_stored, outcomes
from candlecast.training.labels import Labels, label
from candlecast.training.metrics import BLOCK_BARS, BLOCKS_MIN
from candlecast.values import Candles, Heard, Spoken, symbols

INTERVAL_MS = 900_000
START_MS = 1_700_000_100_000 // INTERVAL_MS * INTERVAL_MS
NAMES = ("patchtst v1", "patchtst v2")
COSTS = 0.0012
ENOUGH = BLOCKS_MIN * BLOCK_BARS


def walk(bars: int, *, symbol: str = "AAAUSDT", seed: int = 0) -> Candles:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.003, bars)))
    values = np.full((bars, 8), np.nan)
    values[:, 0], values[:, 3], values[:, 4] = close, close, 1.0
    values[:, 1], values[:, 2] = close * 1.001, close * 0.999
    return Candles(
        symbol=[symbol] * bars,
        interval_ms=np.full(bars, INTERVAL_MS, dtype=np.int64),
        open_time_ms=START_MS + INTERVAL_MS * np.arange(bars, dtype=np.int64),
        values=values,
        forming=np.zeros(bars, dtype=np.bool_),
    )


def labels_of(candles: Candles) -> Labels:
    high, low, close = (candles.values[:, k] for k in (1, 2, 3))
    return label(candles.open_time_ms, INTERVAL_MS, high, low, close)


def speaker(labels: Labels, knows: float, seed: int = 0) -> Spoken:
    """Say the class that comes with a probability that grows with `knows`, and take its side at 4h."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 0.3, (len(labels.at), 4, 3))
    logits += knows * (np.arange(3) == labels.directions[:, :, None])
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    side = np.sign(p[:, 2, 0] - p[:, 2, 1]).astype(np.int8)
    return Spoken(p, labels.returns * 0.0, np.abs(labels.risks) * 0.5, side, np.full(len(p), 2_000.0 + seed))


def heard(labels: Labels, spoken: Spoken) -> Heard:
    return Heard(symbols(["AAAUSDT"] * len(labels.at)), START_MS + INTERVAL_MS * (labels.at + 1), spoken)


def judged(labels: Labels, champion: Spoken, challenger: Spoken, **more: object) -> Comparison:
    both = [Judged(heard(labels, one), labels) for one in (champion, challenger)]
    return compare(*both, INTERVAL_MS, names=NAMES, costs=COSTS, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def labels() -> Labels:
    return labels_of(walk(ENOUGH + 48))


def test_the_numbers_are_those_of_the_naive_definition(labels: Labels) -> None:
    champion, challenger = speaker(labels, 0.2, seed=1), speaker(labels, 0.4, seed=2)

    found = judged(labels, champion, challenger)

    assert set(found.rows.values()) == {ENOUGH}
    assert (found.bars, found.symbols, found.days) == (ENOUGH, 1, 8.0)
    for who, spoken in (("champion", champion), ("challenger", challenger)):
        losses, briers, hits, net = [], [], [], []
        for n, row in enumerate(spoken.probabilities):
            came = labels.directions[n]
            losses.append([-np.log(row[h, came[h]]) for h in range(4)])
            briers.append([sum((row[h, c] - (c == came[h])) ** 2 for c in range(3)) for h in range(4)])
            hits.append([float(row[h].argmax() == came[h]) for h in range(4)])
            side = int(spoken.side[n])
            net.append(side * float(labels.returns[n, 2]) - COSTS * abs(side))
        for metric, naive in (("log_loss", losses), ("brier", briers), ("hit_rate", hits)):
            for h, horizon in enumerate(outputs.HORIZONS):
                assert found.horizons[horizon][metric][who] == pytest.approx(np.mean(naive, axis=0)[h], abs=1e-6)
            assert found.mean[metric][who] == pytest.approx(np.mean(naive), abs=1e-6)
        assert found.pnl[who] == pytest.approx(np.mean(net), abs=1e-7)
        assert found.signals[who] == np.count_nonzero(spoken.side)
    assert found.latency_ms["difference"] == pytest.approx(0.001)
    assert found.latency_p99_ms == {"champion": 2.001, "challenger": 2.002}
    json.dumps(asdict(found), allow_nan=False)


def test_one_that_knows_more_is_better_and_the_other_way_round_worse(labels: Labels) -> None:
    champion, challenger = speaker(labels, 0.0, seed=1), speaker(labels, 0.6, seed=2)

    better, worse = judged(labels, champion, challenger), judged(labels, challenger, champion)

    assert better.verdict == "better"
    assert better.sentence.startswith("patchtst v2 is better than patchtst v1: its log-loss, mean over the horizons")
    assert better.mean["log_loss"]["high"] < 0 < better.pnl["low"]
    assert worse.verdict == "worse"
    assert worse.mean["log_loss"]["low"] == pytest.approx(-better.mean["log_loss"]["high"], abs=1e-6)
    assert judged(labels, champion, challenger, margin=1.0).verdict == "not yet known"


def test_the_interval_is_of_the_difference_on_the_same_bars(labels: Labels) -> None:
    """Two versions that make the same mistakes differ with certainty by little, though each varies by much."""
    champion = speaker(labels, 0.3, seed=1)
    sharper = np.exp(1.01 * np.log(champion.probabilities))
    challenger = Spoken(
        sharper / sharper.sum(axis=2, keepdims=True),
        champion.returns, champion.risks, champion.side, champion.model_us,
    )  # fmt: skip

    found = judged(labels, champion, challenger)

    width = found.mean["log_loss"]["high"] - found.mean["log_loss"]["low"]
    assert 0 < width < 1e-3
    assert found.pnl["low"] == found.pnl["high"] == found.pnl["difference"] == 0


def test_of_two_that_know_as_much_nothing_is_known_in_nineteen_of_twenty_cases(labels: Labels) -> None:
    verdicts = []
    for seed in range(20):
        both = (speaker(labels, 0.3, seed=seed), speaker(labels, 0.3, seed=seed + 100))
        champion, challenger = (
            Spoken(one.probabilities, one.returns, one.risks, 0 * one.side, one.model_us) for one in both
        )
        found = judged(labels, champion, challenger)
        verdicts.append(found.verdict)
        if found.verdict == "not yet known":
            assert found.sentence.startswith("Not yet known whether patchtst v2 is better than patchtst v1: its log-l")

    assert verdicts.count("not yet known") >= 18


def test_an_interval_of_few_blocks_is_widened_as_students_t_says(
    labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks drawn alone call one of two equals better or worse in 11 % of 150 cases with 8 blocks; so it is 3 %."""
    for blocks in (8, 14, 28, 100):
        exact = stats.t.ppf(0.975, blocks - 1) / stats.norm.ppf(0.975) * np.sqrt(blocks / (blocks - 1))
        assert comparison._wider(blocks) == pytest.approx(exact, rel=5e-3)
    both = speaker(labels, 0.3, seed=1), speaker(labels, 0.3, seed=2)
    widths, right = [], comparison._wider(8)
    for wider in (comparison._wider, lambda blocks: 1.0):
        monkeypatch.setattr(comparison, "_wider", wider)
        entry = judged(labels, *both).mean["log_loss"]
        widths.append(entry["high"] - entry["low"])
    assert widths[0] / widths[1] == pytest.approx(right, rel=1e-4)


def test_one_that_certainly_earns_less_is_worse_whatever_its_probabilities(labels: Labels) -> None:
    champion, challenger = speaker(labels, 0.2, seed=1), speaker(labels, 0.6, seed=2)
    wrong = np.where(labels.returns[:, 2] > 0, -1, 1).astype(np.int8)
    challenger = Spoken(challenger.probabilities, challenger.returns, challenger.risks, wrong, challenger.model_us)

    found = judged(labels, champion, challenger)

    assert found.mean["log_loss"]["high"] < 0 and found.pnl["high"] < 0
    assert found.verdict == "worse"


def test_below_eight_blocks_nothing_is_known_and_the_sentence_says_what_is_missing() -> None:
    labels = labels_of(walk(ENOUGH + 47))
    found = judged(labels, speaker(labels, 0.0), speaker(labels, 2.0))

    assert found.verdict == "not yet known"
    assert found.sentence.endswith(f"{ENOUGH - 1} bars are compared, and an interval needs {ENOUGH} (8 days).")
    assert "low" not in found.mean["log_loss"] and found.mean["log_loss"]["difference"] < 0


def test_answers_that_are_not_finite_are_left_out_and_counted(labels: Labels) -> None:
    champion, challenger = speaker(labels, 0.2, seed=1), speaker(labels, 0.4, seed=2)
    broken = challenger.probabilities.copy()
    broken[[3, 7]] = np.nan
    challenger = Spoken(broken, challenger.returns, challenger.risks, challenger.side, challenger.model_us)

    found = judged(labels, champion, challenger)

    assert found.left_out == {"of patchtst v2 not finite": 2}
    assert found.rows == {"champion": ENOUGH - 2, "challenger": ENOUGH - 2}
    assert np.isfinite(found.mean["log_loss"]["difference"])


def test_an_outcome_is_the_label_of_the_same_candle_and_absent_where_the_future_is() -> None:
    first, second = walk(200, seed=1), walk(200, symbol="BBBUSDT", seed=2)
    gap = np.arange(200) != 150  # leaves those that look across it without an outcome
    candles = Candles.joined([second.take(gap), first])
    asked = [("AAAUSDT", 10), ("BBBUSDT", 20), ("AAAUSDT", 151), ("AAAUSDT", 152), ("BBBUSDT", 102), ("CCCUSDT", 5)]
    none = Spoken(
        np.full((6, 4, 3), 1 / 3), np.zeros((6, 4)), np.zeros((6, 4)), np.zeros(6, dtype=np.int8), np.arange(6.0)
    )
    times = np.array([START_MS + INTERVAL_MS * (bar + 1) for _, bar in asked])
    said = Heard(symbols([name for name, _ in asked]), times, none)

    found = outcomes(said, candles, INTERVAL_MS)

    assert sorted(found.heard.spoken.model_us) == [0, 1, 2]
    for at, returns, directions in zip(
        found.heard.spoken.model_us, found.labels.returns, found.labels.directions, strict=True
    ):
        symbol, bar = asked[int(at)]
        close = (first if symbol == "AAAUSDT" else second).values[:, 3]
        naive = [close[bar + n] / close[bar] - 1 for n in outputs.HORIZON_BARS]
        np.testing.assert_allclose(returns, naive, rtol=1e-5, atol=1e-7)
        for move, threshold, direction in zip(naive, outputs.THRESHOLDS, directions.tolist(), strict=True):
            assert direction == (0 if move > threshold else 1 if move < -threshold else 2)


def test_what_both_said_is_compared_candle_by_candle_in_whatever_order_it_came(labels: Labels) -> None:
    candles = Candles.joined([walk(ENOUGH + 48), walk(ENOUGH + 48, symbol="BBBUSDT", seed=5)])
    second = labels_of(walk(ENOUGH + 48, seed=5))
    times = START_MS + INTERVAL_MS * (labels.at + 1)
    names = symbols(["AAAUSDT"] * ENOUGH + ["BBBUSDT"] * ENOUGH)

    def told(knows: float, seed: int) -> Heard:
        one, other = speaker(labels, knows, seed), speaker(second, knows, seed + 1)
        both = (np.concatenate([getattr(part, name) for part in (one, other)]) for name in Spoken.__slots__)
        return Heard(names, np.concatenate([times, times]), Spoken(*both))

    champion, challenger = told(0.1, 1), told(0.4, 3)
    shuffled = challenger.take(np.random.default_rng(0).permutation(2 * ENOUGH)[: 2 * ENOUGH - 100])

    found = compare_stored(champion, shuffled, candles, INTERVAL_MS, names=NAMES, costs=COSTS)

    assert found.paired and found.verdict == "better"
    assert set(found.rows.values()) == {2 * ENOUGH - 100}
    assert found.symbols == 2
    whole = compare_stored(champion, challenger, candles, INTERVAL_MS, names=NAMES, costs=COSTS)
    for metric in ("log_loss", "brier"):
        assert found.mean[metric]["difference"] == pytest.approx(whole.mean[metric]["difference"], rel=0.1)


def test_of_a_split_each_is_measured_on_its_own_symbols_and_less_is_known(labels: Labels) -> None:
    candles = Candles.joined([walk(ENOUGH + 48), walk(ENOUGH + 48, symbol="BBBUSDT", seed=5)])
    second = labels_of(walk(ENOUGH + 48, seed=5))
    champion = heard(labels, speaker(labels, 0.3, seed=1))
    other = heard(second, speaker(second, 0.3, seed=2))
    challenger = Heard(symbols(["BBBUSDT"] * ENOUGH), other.close_time_ms, other.spoken)

    found = compare_stored(champion, challenger, candles, INTERVAL_MS, names=NAMES, costs=COSTS)

    assert not found.paired
    assert set(found.rows.values()) == {ENOUGH}
    same = judged(labels, champion.spoken, speaker(labels, 0.3, seed=2))
    widths = [one.mean["log_loss"]["high"] - one.mean["log_loss"]["low"] for one in (found, same)]
    assert widths[0] > widths[1]


def test_of_nothing_nothing_is_known(labels: Labels) -> None:
    some, none = heard(labels, speaker(labels, 0.1)), np.zeros(0, dtype=np.int64)

    found = compare_stored(some, some.take(none), walk(100), INTERVAL_MS, names=NAMES, costs=COSTS)

    assert (found.verdict, found.rows["challenger"]) == ("not yet known", 0)
    assert "no forecasts of both" in found.sentence
