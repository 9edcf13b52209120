"""Metrics against scikit-learn, SciPy and the naive loop; intervals against resampling by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from candlecast import outputs
from candlecast.interpret import interpret
from candlecast.training import metrics
from candlecast.training.evaluate import average, base, by_day, measure, persistence, simple_pnl, verdict
from candlecast.training.labels import LONG, NEUTRAL, SHORT, UNKNOWN, Labels, base_rates
from candlecast.training.metrics import BLOCK_BARS, RANGES, RESAMPLES

BARS, SYMBOLS = 1000, 2
TEMPERATURES = np.array([0.7, 1.0, 1.5, 2.0])


def simulated(seed: int, knows: float = 1.0) -> tuple[np.ndarray[Any, Any], Labels, np.ndarray[Any, Any]]:
    """Return outputs [N, 20], labels [N] that follow them when `knows` is 1, and the bars [N]."""
    rng = np.random.default_rng(seed)
    rows = BARS * SYMBOLS
    answers = rng.standard_normal((rows, 20)).astype(np.float32)
    answers[:, :4] *= 0.01
    answers[:, 4:16:3] += 0.4
    answers[:, 16:] = np.abs(answers[:, 16:]) * 0.01
    p = interpret(answers * np.float32(knows), TEMPERATURES).probabilities
    directions = (p.cumsum(axis=2) < rng.random((rows, 4, 1))).sum(axis=2).clip(0, 2).astype(np.int8)
    returns = (knows * answers[:, :4] + 0.02 * rng.standard_normal((rows, 4))).astype(np.float32)
    returns = returns.round(3)  # ties
    labels = Labels(np.arange(rows), returns, directions, np.abs(rng.standard_normal((rows, 4)) * 0.01))
    return answers, labels, np.repeat(np.arange(BARS), SYMBOLS)


def test_every_metric_is_that_of_the_well_kept_libraries() -> None:
    answers, labels, _ = simulated(1)
    train = simulated(2)[1]
    p = interpret(answers, TEMPERATURES).probabilities

    measured = measure(answers, labels, TEMPERATURES, base_rates(train), train)

    for h, horizon in enumerate(outputs.HORIZONS):
        found, came, said = measured["horizons"][horizon], labels.directions[:, h], p[:, h].argmax(axis=1)
        expected = {
            "log_loss": oracle.log_loss(came, p[:, h], labels=[0, 1, 2]),
            "brier": ((p[:, h] - np.eye(3)[came]) ** 2).sum(axis=1).mean(),
            "accuracy": oracle.accuracy_score(came, said),
            "balanced_accuracy": oracle.balanced_accuracy_score(came, said),
            "side_accuracy": np.mean(
                (p[:, h, SHORT] > p[:, h, LONG])[came != NEUTRAL] == (came == SHORT)[came != NEUTRAL]
            ),
            "return_mae": oracle.mean_absolute_error(labels.returns[:, h], answers[:, h]),
            "return_mse": oracle.mean_squared_error(labels.returns[:, h], answers[:, h]),
            "return_ic": stats.spearmanr(labels.returns[:, h], answers[:, h]).statistic,
            "calibration_error": naive_calibration_error(p[:, h], came),
            "calibration_error_raw": naive_calibration_error(interpret(answers, np.ones(4)).probabilities[:, h], came),
        }
        assert {name: found[name]["model"] for name in expected} == pytest.approx(expected, abs=2e-6)
        scores = oracle.precision_recall_fscore_support(came, said, labels=[0, 1, 2], zero_division=0)
        for c, name in enumerate(outputs.CLASSES):
            assert [found[key][name]["model"] for key in ("precision", "recall", "f1")] == pytest.approx(
                [score[c] for score in scores[:3]], abs=2e-6
            )
            assert found["auc"][name]["model"] == pytest.approx(oracle.roc_auc_score(came == c, p[:, h, c]), abs=2e-6)
            assert found["auc"][name]["base"] == 0.5
        assert found["skill"]["model"] == pytest.approx(1 - expected["log_loss"] / found["log_loss"]["base"], abs=2e-6)
        assert found["return_ic"]["base"] == 0
    for k, name in enumerate(outputs.RISK_NAMES):
        risk, truth = measured["risks"][name], labels.risks[:, k]
        loss = oracle.mean_pinball_loss(truth, answers[:, 16 + k], alpha=metrics.RISK_QUANTILE)
        assert risk["quantile_loss"]["model"] == pytest.approx(loss, abs=2e-6)
        assert risk["covered"]["model"] == pytest.approx((answers[:, 16 + k] >= truth).mean(), abs=2e-6)
        assert risk["covered"]["base"] == pytest.approx(0.5, abs=0.05)


def naive_calibration_error(p: np.ndarray[Any, Any], came: np.ndarray[Any, Any]) -> float:
    confidence, hit = p.max(axis=1), p.argmax(axis=1) == came
    error = 0.0
    for k in range(15):
        inside = (confidence >= k / 15) & (confidence < (k + 1) / 15 if k < 14 else confidence <= 1)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - hit[inside].mean())
    return error


def test_classes_that_are_never_said_or_never_come_divide_by_nothing() -> None:
    answers, labels, _ = simulated(1)
    answers[:, 4:16:3] = -100  # LONG is never said
    labels = Labels(
        labels.at, labels.returns, np.where(labels.directions == SHORT, NEUTRAL, labels.directions), labels.risks
    )

    found = measure(answers, labels, np.ones(4), base_rates(labels), labels)["horizons"]["1h"]

    assert (
        found["precision"]["LONG"]["model"] == found["recall"]["SHORT"]["model"] == found["f1"]["SHORT"]["model"] == 0
    )
    assert found["auc"]["SHORT"]["model"] == 0.5
    assert np.isfinite(found["log_loss"]["model"])


def test_the_bootstrap_draws_whole_blocks_of_all_symbols() -> None:
    answers, labels, bars = simulated(3)
    train = simulated(4)[1]

    measured = measure(answers, labels, TEMPERATURES, base_rates(train), train, bars=bars + 77, seed=5)

    p = interpret(answers, TEMPERATURES).probabilities
    starts = np.random.default_rng(5).integers(BARS, size=(RESAMPLES, -(-BARS // BLOCK_BARS)))
    exact: dict[str, list[float]] = {"log_loss": [], "balanced_accuracy": [], "return_ic": [], "auc": [], "skill": []}
    for row in starts[:300]:
        drawn_bars = (row[:, None] + np.arange(BLOCK_BARS)).ravel() % BARS
        drawn = (drawn_bars[:, None] * SYMBOLS + np.arange(SYMBOLS)).ravel()
        came, q = labels.directions[drawn, 1], p[drawn, 1]
        exact["log_loss"].append(-np.log(q[np.arange(len(q)), came]).mean())
        exact["skill"].append(1 - exact["log_loss"][-1] / -np.log(base_rates(train)[1][came]).mean())
        exact["balanced_accuracy"].append(float(np.mean([(q.argmax(axis=1) == c)[came == c].mean() for c in range(3)])))
        exact["return_ic"].append(stats.spearmanr(answers[drawn, 1], labels.returns[drawn, 1]).statistic)
        exact["auc"].append(oracle.roc_auc_score(came == LONG, q[:, LONG]))
    found = measured["horizons"]["1h"]
    for name, values in exact.items():
        entry = found[name]["LONG"] if name == "auc" else found[name]
        outside = (1 - (metrics.SKILL_COVERAGE if name == "skill" else metrics.COVERAGE)) / 2
        width = np.subtract(*np.quantile(values, [1 - outside, outside]))
        assert entry["low"] < entry["model"] < entry["high"]
        assert entry["high"] - entry["low"] == pytest.approx(width, rel=0.15), name
    assert measured == measure(answers, labels, TEMPERATURES, base_rates(train), train, bars=bars, seed=5)
    assert measured != measure(answers, labels, TEMPERATURES, base_rates(train), train, bars=bars, seed=6)


def test_no_interval_reaches_where_its_metric_cannot_lie() -> None:
    answers, labels, bars = simulated(4)
    answers[:, 4 + LONG : 16 : 3] -= 4  # LONG is hardly ever said
    measured = measure(answers, labels, TEMPERATURES, base_rates(labels), labels, bars=bars)
    touched = []

    def check(numbers: dict[str, Any], metric: str) -> None:
        if "low" in numbers and metric in RANGES:
            least, most = RANGES[metric]
            assert least <= numbers["low"] <= numbers["model"] <= numbers["high"] <= most, metric
            touched.append(numbers["low"] == least)
        for key, value in numbers.items():
            if isinstance(value, dict):
                check(value, key if key in RANGES else metric)

    for found in (measured, average([measured, measured])):
        for part in ("horizons", "risks"):
            check(found[part], "")
    assert 0 < sum(touched) < len(touched) / 2
    assert measured["horizons"]["4h"]["skill"]["low"] < 0  # that one may


def test_rows_that_hang_together_in_time_widen_the_interval() -> None:
    answers, labels, bars = simulated(3)
    rates = base_rates(labels)
    calm = measure(answers, labels, TEMPERATURES, rates, labels, bars=bars)["horizons"]["1h"]["log_loss"]
    order = np.argsort(labels.directions[:, 1], kind="stable")  # what comes, comes in one long run each

    runs = Labels(labels.at, labels.returns[order], labels.directions[order], labels.risks[order])
    found = measure(answers[order], runs, TEMPERATURES, rates, runs, bars=bars)["horizons"]["1h"]["log_loss"]

    assert found["model"] == calm["model"]
    assert found["high"] - found["low"] > 2 * (calm["high"] - calm["low"])


def test_a_calibration_error_stands_beside_what_chance_makes_of_right_probabilities() -> None:
    answers, labels, bars = simulated(3)
    rates = base_rates(labels)
    p = interpret(answers, TEMPERATURES).probabilities[:, 1]
    rng = np.random.default_rng(0)
    drawn = [(p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1).clip(0, 2) for _ in range(100)]
    expected = np.mean([naive_calibration_error(p, came) for came in drawn])

    right = measure(answers, labels, TEMPERATURES, rates, labels, bars=bars)["horizons"]["1h"]["calibration_error"]
    wrong = measure(answers, labels, np.full(4, 0.3), rates, labels, bars=bars)["horizons"]["1h"]["calibration_error"]

    assert right["chance"] == pytest.approx(expected, rel=0.2)
    assert right["model"] < 2 * right["chance"]
    assert wrong["model"] > 5 * wrong["chance"]
    half = Labels(*(np.repeat(getattr(labels, name)[::2], 2, axis=0) for name in Labels.__slots__))  # in pairs
    pairs = measure(np.repeat(answers[::2], 2, axis=0), half, TEMPERATURES, rates, labels, bars=bars)
    assert pairs["horizons"]["1h"]["calibration_error"]["chance"] > 1.2 * right["chance"]


def test_too_little_time_gives_no_interval_and_no_verdict() -> None:
    answers, labels, bars = simulated(3)

    measured = measure(answers, labels, TEMPERATURES, base_rates(labels), labels, bars=bars // 2)

    assert all("low" not in numbers["skill"] for numbers in measured["horizons"].values())
    assert verdict(measured).startswith("Cannot be told")


def test_persistence_is_what_followed_the_same_past_in_the_train_part() -> None:
    def of(*rows: int) -> Labels:
        directions = np.repeat(np.array(rows, dtype=np.int8)[:, None], 4, axis=1)
        return Labels(np.arange(len(rows)), np.zeros((len(rows), 4)), directions, np.full((len(rows), 4), 0.02))

    train, before = of(LONG, LONG, SHORT, NEUTRAL, LONG), of(LONG, LONG, LONG, SHORT, UNKNOWN)
    rates = np.tile([0.5, 0.2, 0.3], (4, 1))

    guess = persistence(rates, train, before, of(LONG, SHORT, NEUTRAL, UNKNOWN))

    after_long = (np.array([2, 1, 0]) + rates[0]) / 4
    after_short = (np.array([0, 0, 1]) + rates[0]) / 2
    for h in range(4):
        np.testing.assert_allclose(guess.probabilities[:, h], [after_long, after_short, rates[0], rates[0]])
    assert (guess.returns == 0).all()
    unknown = of(LONG)
    unknown.risks[:] = np.nan
    np.testing.assert_allclose(persistence(rates, train, before, unknown).risks, base(rates, train, 1).risks)


def test_persistence_stands_beside_and_wins_where_things_go_on() -> None:
    rng = np.random.default_rng(9)
    runs = np.repeat(rng.integers(3, size=(BARS // 10, 4)), 10, axis=0).astype(np.int8)
    now, before = (
        Labels(np.arange(BARS - 1), np.zeros((BARS - 1, 4)), part, np.zeros((BARS - 1, 4)))
        for part in (runs[1:], runs[:-1])
    )
    answers = np.zeros((BARS - 1, 20), dtype=np.float32)

    measured = measure(
        answers, now, np.ones(4), base_rates(now), now, past=before, train_past=before, bars=np.arange(BARS - 1)
    )

    for numbers in measured["horizons"].values():
        assert numbers["skill"]["persistence"] > 0.5 > numbers["skill"]["model"]
        assert numbers["skill_over_persistence"]["high"] < 0


def test_the_mean_over_folds_adds_rows_and_bins_and_joins_intervals() -> None:
    folds = []
    for seed in (3, 4, 5):
        answers, labels, bars = simulated(seed)
        folds.append(measure(answers, labels, TEMPERATURES, base_rates(labels), labels, bars=bars))

    mean = average(folds)

    assert mean["rows"] == 3 * BARS * SYMBOLS == sum(mean["reliability"]["1h"]["scaled"]["rows"])
    skills = [fold["horizons"]["1h"]["skill"] for fold in folds]
    joined = mean["horizons"]["1h"]["skill"]
    assert joined["model"] == pytest.approx(np.mean([skill["model"] for skill in skills]), abs=1e-6)
    width = np.sqrt(sum((skill["model"] - skill["low"]) ** 2 for skill in skills)) / 3
    assert joined["low"] == pytest.approx(joined["model"] - width, abs=2e-6)
    assert verdict(mean).startswith("The skill over the base rate lies above 0 at 15m, 1h, 4h, 12h")


def test_a_model_that_knows_nothing_has_no_edge_and_one_that_knows_volatility_knows_no_side() -> None:
    answers, labels, bars = simulated(6, knows=0.0)
    assert verdict(measure(answers, labels, TEMPERATURES, base_rates(labels), labels, bars=bars)).startswith("No edge")
    move = np.random.default_rng(1).random(len(bars)) < 0.5
    side = np.random.default_rng(2).random((len(bars), 4)) < 0.5
    directions = np.where(move[:, None], side, NEUTRAL).astype(np.int8)
    answers[:, 4:16] = np.tile(np.where(move[:, None], [1, 1, 0], [0, 0, 1]), 4)
    labels = Labels(labels.at, labels.returns, directions, labels.risks)

    said = verdict(measure(answers, labels, np.ones(4), base_rates(labels), labels, bars=bars))

    assert "knowledge of volatility, not of direction" in said


def sided(*sides: int) -> np.ndarray[Any, Any]:
    """Return outputs [N, 20] that are sure of these sides on every horizon: 1 LONG, -1 SHORT, 0 of none."""
    answers = np.full((len(sides), 20), 0.01, np.float32)
    for row, side in enumerate(sides):
        answers[row, outputs.RETURNS] = 0.02 * (side or 1)
        answers[row, outputs.LOGITS] = np.tile([3.0 * (side > 0), 3.0 * (side < 0), 3.0 * (side == 0)], 4)
    return answers


def came(*returns: float) -> Labels:
    """Return labels whose return at 4h is this, and which went the other way on all other horizons."""
    table = np.outer(returns, [-1, -1, 1, -1]).astype(np.float32)
    return Labels(np.arange(len(returns)), table, np.zeros(table.shape, np.int8), np.abs(table))


def test_simple_pnl_is_the_mean_of_a_bar_by_side_and_a_sixteenth_of_the_capital() -> None:
    hour, day = 3_600_000, 86_400_000
    times = np.array([day, day, day + hour, day + hour, 3 * day + hour])
    answers, labels = sided(1, -1, -1, 0, 1), came(0.02, -0.04, 0.08, 0.5, -0.032)

    bars, pnl = simple_pnl(answers, labels, np.ones(4), times)

    assert bars.tolist() == [day, day + hour, 3 * day + hour]
    # both right; a short that lost, beside one that was not traded; a long that lost
    np.testing.assert_allclose(pnl, [(0.02 + 0.04) / 2 / 16, -0.08 / 2 / 16, -0.032 / 16], rtol=1e-6)
    assert by_day(bars, pnl) == {"from_ms": day, "days": [-0.000625, 0.0, -0.002]}
