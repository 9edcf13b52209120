"""What outputs are worth: metrics by hand, and what calibrates and decides on them."""

from __future__ import annotations

import numpy as np
import pytest

from candlecast.interpret import interpret
from candlecast.training.evaluate import measure
from candlecast.training.labels import LONG, NEUTRAL, SHORT, Labels, base_rates
from candlecast.training.temperature import called, fit_leans, fit_temperatures, fit_thresholds, leaning, log_loss
from candlecast.values import F64, I64


def labels(rows: int, seed: int = 0) -> Labels:
    rng = np.random.default_rng(seed)
    directions = rng.choice(3, size=(rows, 4), p=[0.2, 0.3, 0.5]).astype(np.int8)
    returns = rng.standard_normal((rows, 4)).astype(np.float32) * 0.01
    return Labels(np.arange(rows), returns, directions, np.abs(returns))


def test_a_model_that_answers_the_base_rate_measures_as_the_base_rate() -> None:
    train, test = labels(4000, 1), labels(3000, 2)
    answers = np.zeros((3000, 20), dtype=np.float32)
    answers[:, 0:4] = np.median(train.returns, axis=0)
    answers[:, 4:16] = np.log(base_rates(train)).reshape(-1)
    answers[:, 16:20] = np.median(train.risks, axis=0)

    measured = measure(answers, test, np.ones(4), base_rates(train), train)

    for metrics in measured["horizons"].values():
        for name in ("log_loss", "brier", "accuracy", "balanced_accuracy", "side_accuracy", "return_mae"):
            assert metrics[name]["model"] == pytest.approx(metrics[name]["base"], abs=2e-6)
        assert metrics["accuracy"]["base"] == pytest.approx(metrics["frequencies"]["NEUTRAL"], abs=1e-6)
    for metrics in measured["risks"].values():
        assert metrics["mae"]["model"] == pytest.approx(metrics["mae"]["base"], abs=2e-6)


def test_metrics_by_hand() -> None:
    truth = Labels(
        np.arange(2), np.zeros((2, 4), np.float32), np.array([[0] * 4, [2] * 4], np.int8), np.zeros((2, 4), np.float32)
    )
    answers = np.zeros((2, 20), dtype=np.float32)
    answers[:, 4:16] = np.log(np.tile([0.5, 0.3, 0.2], 4))
    answers[:, 0:4] = 0.01
    rates = np.tile([0.25, 0.25, 0.5], (4, 1))

    metrics = measure(answers, truth, np.ones(4), rates, truth)["horizons"]["4h"]

    assert metrics["log_loss"]["model"] == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2, abs=1e-6)
    assert metrics["log_loss"]["base"] == pytest.approx(-(np.log(0.25) + np.log(0.5)) / 2, abs=1e-6)
    brier = ((0.25 + 0.09 + 0.04) + (0.25 + 0.09 + 0.64)) / 2
    assert metrics["brier"]["model"] == pytest.approx(brier, abs=1e-6)
    assert metrics["accuracy"] == {"model": 0.5, "base": 0.5}
    assert metrics["balanced_accuracy"] == {"model": 0.5, "base": 0.5}
    assert metrics["side_accuracy"] == {"model": 1.0, "base": 1.0}
    assert metrics["return_mae"] == {"model": 0.01, "base": 0.0}


def test_side_accuracy_asks_for_the_direction_of_moves_only() -> None:
    directions = np.repeat(np.array([[0], [0], [1], [2]], np.int8), 4, axis=1)
    truth = Labels(np.arange(4), np.zeros((4, 4), np.float32), directions, np.zeros((4, 4), np.float32))
    answers = np.zeros((4, 20), dtype=np.float32)
    chosen = [[0.2, 0.1, 0.7], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]
    answers[:, 4:16] = np.log(np.tile(chosen, 4))
    rates = np.tile([0.2, 0.3, 0.5], (4, 1))

    metrics = measure(answers, truth, np.ones(4), rates, truth)["horizons"]["1h"]

    assert metrics["side_accuracy"]["model"] == pytest.approx(2 / 3, abs=1e-6)
    assert metrics["side_accuracy"]["base"] == pytest.approx(1 / 3, abs=1e-6)


def test_temperatures_undo_a_known_overconfidence() -> None:
    rng = np.random.default_rng(3)
    true = rng.standard_normal((20_000, 4, 3))
    p = np.exp(true) / np.exp(true).sum(axis=2, keepdims=True)
    directions = (p.cumsum(axis=2) < rng.random((20_000, 4, 1))).sum(axis=2).astype(np.int8)
    wanted = np.array([0.5, 1.0, 2.0, 4.0])
    answers = np.zeros((20_000, 20), dtype=np.float32)
    answers[:, 4:16] = (true * wanted[:, None]).reshape(-1, 12)

    found = fit_temperatures(answers, directions)

    np.testing.assert_allclose(found, wanted, rtol=0.06)
    at_found = log_loss(interpret(answers, found).probabilities, directions)
    assert (at_found <= log_loss(interpret(answers, np.ones(4)).probabilities, directions) + 1e-9).all()


def test_a_lean_to_a_side_that_was_learnt_by_heart_is_taken_back() -> None:
    rng = np.random.default_rng(4)
    moves, sides = (rng.standard_normal((20_000, 4)) for _ in range(2))
    wanted = np.array([0.0, 0.3, 0.6, 1.0])  # of the lean is true

    def logits(lean: F64) -> F64:
        return np.stack([lean * sides, -lean * sides, 1.5 * moves], axis=2)

    p = np.exp(logits(wanted)) / np.exp(logits(wanted)).sum(axis=2, keepdims=True)
    directions = (p.cumsum(axis=2) < rng.random((20_000, 4, 1))).sum(axis=2).astype(np.int8)
    answers = rng.standard_normal((20_000, 20)).astype(np.float32)
    answers[:, 4:16] = logits(np.ones(4)).reshape(-1, 12)

    found = fit_leans(answers, directions)

    np.testing.assert_allclose(found, wanted, atol=0.11)
    leant = leaning(answers, found)
    np.testing.assert_allclose(leant[:, 4:16], logits(found).reshape(-1, 12), atol=1e-5)
    np.testing.assert_array_equal(np.delete(leant, np.s_[4:16], axis=1), np.delete(answers, np.s_[4:16], axis=1))


def test_the_thresholds_call_the_rarer_classes_and_are_best_where_they_were_fitted() -> None:
    rng = np.random.default_rng(5)
    true = rng.standard_normal((6000, 4, 3)) + np.array([0.0, 0.0, 2.5])  # mostly NEUTRAL
    p = np.exp(true) / np.exp(true).sum(axis=2, keepdims=True)
    directions = (p.cumsum(axis=2) < rng.random((6000, 4, 1))).sum(axis=2).astype(np.int8)

    def balanced(calls: I64) -> F64:
        hits = [[(calls[directions[:, h] == c, h] == c).mean() for c in range(3)] for h in range(4)]
        return np.mean(hits, axis=1)  # type: ignore[no-any-return]

    found = fit_thresholds(p, directions)

    best = balanced(called(p, found))
    assert (best > balanced(p.argmax(axis=2)) + 0.1).all()
    for other in (0.5, 0.9, 1.1):
        assert (best > balanced(called(p, found * other)) - 0.01).all()
    assert (best > balanced(called(p, np.full(4, 0.02))) + 0.1).all()
    tied = called(np.array([[[0.3, 0.3, 0.4], [0.1, 0.2, 0.7], [0.2, 0.1, 0.7], [0.0, 0.0, 1.0]]]), np.full(4, 0.3))
    assert tied.tolist() == [[LONG, SHORT, LONG, NEUTRAL]]


def test_with_thresholds_what_is_called_is_measured_and_the_likeliest_stays_beside() -> None:
    truth = Labels(
        np.arange(3),
        np.zeros((3, 4), np.float32),
        np.array([[0] * 4, [1] * 4, [2] * 4], np.int8),
        np.zeros((3, 4), np.float32),
    )
    answers = np.zeros((3, 20), dtype=np.float32)
    rows = [[0.3, 0.1, 0.6], [0.2, 0.25, 0.55], [0.1, 0.1, 0.8]]
    answers[:, 4:16] = np.log(np.tile(rows, 4))
    rates = np.tile([0.25, 0.25, 0.5], (4, 1))

    given = measure(answers, truth, np.ones(4), rates, truth, thresholds=np.full(4, 0.35))["horizons"]["1h"]

    assert given["balanced_accuracy"]["model"] == pytest.approx(1 / 3, abs=1e-6)
    assert given["balanced_accuracy_called"] == {"model": 1.0, "base": pytest.approx(1 / 3, abs=1e-6)}
    without = measure(answers, truth, np.ones(4), rates, truth)["horizons"]["1h"]
    assert "balanced_accuracy_called" not in without
