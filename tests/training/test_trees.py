"""Boosted trees: what they learn, what their graph answers, when they stop. Both libraries pass every test."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from candlecast import outputs
from candlecast.errors import ConfigurationError
from candlecast.interpret import interpret
from candlecast.training import boosters, export, loss
from candlecast.training.config import Config
from candlecast.training.data import Samples, prepare
from candlecast.training.family import families
from candlecast.training.labels import Labels, base_rates
from candlecast.training.sources import read_history
from candlecast.training.temperature import log_loss
from candlecast.training.trees import Trees, TreesConfig, TreesModel, entropy, huber

FEATURES, CLASS_OF, RISK_OF = 10, 3, 7
CONFIG = Config(
    trees=TreesConfig(rounds_max=25, learning_rate=0.2, rows_min=20, colsample=1.0, patience_rounds=5, threads=1)
)
TRAIN, VALIDATION = np.arange(0, 1500), np.arange(1500, 2500)


def simulated(rows: int = 2500, noise: bool = False) -> Samples:
    """Return samples whose first direction follows feature 3 and whose risks follow feature 7; all else is noise."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows + 95, FEATURES)).astype(np.float32)
    newest = rng.standard_normal((rows, FEATURES)) if noise else x[95:]
    directions = rng.integers(0, 3, (rows, 4)).astype(np.int8)
    clear = rng.random(rows) < 0.9
    directions[clear, 0] = np.digitize(newest[clear, CLASS_OF], [-0.4, 0.4])
    returns = (0.002 * rng.standard_normal((rows, 4))).astype(np.float32)
    risks = (0.01 * np.exp(0.5 * newest[:, [RISK_OF]] + 0.3 * rng.standard_normal((rows, 4)))).astype(np.float32)
    end = np.arange(96, rows + 96)
    return Samples(x, end, 900_000 * end, Labels(np.arange(rows), returns, directions, risks))


@pytest.fixture(scope="module")
def samples() -> Samples:
    return simulated()


@pytest.fixture(scope="module", params=["xgboost", "lightgbm"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fitted(library: str, samples: Samples, config: Config = CONFIG, seed: int = 0) -> TreesModel:
    return Trees(library, config).fit(samples, TRAIN, VALIDATION, seed, lambda *_: None)


@pytest.fixture(scope="module")
def model(library: str, samples: Samples) -> TreesModel:
    return fitted(library, samples)


def windows_of(rows: np.ndarray) -> np.ndarray:
    """Return windows whose newest rows these are, behind older ones that must not matter."""
    windows = np.full((len(rows), 96, rows.shape[1]), np.nan, dtype=np.float32)
    windows[:, -1] = rows
    return windows


@pytest.mark.parametrize("rows", [1, 7])
def test_gradients_are_those_of_the_losses(rows: int) -> None:
    rng = np.random.default_rng(rows)
    target, came = 2 * rng.standard_normal((rows, 1)), rng.integers(0, 3, rows).astype(np.int8)
    cases = [(lambda m: huber(target, m), rng.standard_normal((rows, 1)))]
    cases += [(lambda m: entropy(came, m), rng.standard_normal((rows, 3)))]
    for of, margins in cases:
        _, gradient, hessian = of(margins)
        for at in np.ndindex(margins.shape):
            step = np.zeros_like(margins)
            step[at] = 1e-6
            slope = (of(margins + step)[0] - of(margins - step)[0]) / 2e-6
            assert slope * rows == pytest.approx(gradient[at], abs=1e-6)
        assert (hessian > 0).all()


def test_the_loss_is_that_of_the_networks(model: TreesModel, samples: Samples) -> None:
    labels = samples.labels.take(VALIDATION)
    came = torch.from_numpy(labels.returns), torch.from_numpy(labels.directions).long(), torch.from_numpy(labels.risks)
    unit = torch.from_numpy(model.unit).float()
    constant = torch.from_numpy(np.tile(model.base * model.unit, (len(VALIDATION), 1)).astype(np.float32))
    answers = torch.from_numpy(model.predict(samples, VALIDATION))
    for expected, asked in ((model.fitted.start_loss, constant), (model.fitted.validation_loss, answers)):
        assert loss.total(asked, came, unit, CONFIG.fit.weights).item() == pytest.approx(expected, rel=1e-5)


def test_it_learns_what_there_is_and_nothing_of_what_is_not(model: TreesModel, samples: Samples) -> None:
    labels = samples.labels.take(VALIDATION)
    answers = model.predict(samples, VALIDATION)
    found = log_loss(interpret(answers, np.ones(4)).probabilities, labels.directions)
    rates = np.broadcast_to(base_rates(samples.labels.take(TRAIN)), (len(VALIDATION), 4, 3))
    base = log_loss(rates, labels.directions)
    assert found[0] < 0.55 < 1 < base[0]
    assert (np.abs(found[1:] - base[1:]) < 0.02).all()
    errors = np.abs(answers[:, outputs.RISKS] - labels.risks).mean(axis=0)
    assert (errors < 0.7 * np.abs(np.median(labels.risks, axis=0) - labels.risks).mean(axis=0)).all()
    assert (answers[:, outputs.RISKS] >= 0).all()


def test_importance_and_gain_find_the_features_and_sum_to_1(model: TreesModel, samples: Samples) -> None:
    for shares in (model.importance(samples, VALIDATION), model.gain()):
        assert shares.shape == (FEATURES,) and (shares >= 0).all()
        assert shares.sum() == pytest.approx(1)
        assert set(np.argsort(shares)[-2:]) == {CLASS_OF, RISK_OF}
        assert shares[[CLASS_OF, RISK_OF]].sum() > 0.6


def test_the_graph_answers_what_the_library_answers_on_windows_of_the_core(
    library: str, market: list[Path], tmp_path: Path
) -> None:
    samples = prepare(read_history(market[:1]), tmp_path, 3, lambda _: None)
    train, validation = np.arange(0, 900), np.arange(900, 1300)
    config = Config(trees=TreesConfig(rounds_max=8, learning_rate=0.3, rows_min=20, threads=1))
    model = Trees(library, config).fit(samples, train, validation, 0, lambda *_: None)
    index = np.arange(1000)
    right = model.predict(samples, index)
    assert len(np.unique(right, axis=0)) > 500
    np.testing.assert_allclose(export.run(model.to_onnx(), samples.windows(index)), right, rtol=1e-5, atol=1e-6)


def test_values_on_the_thresholds_and_beside_them_go_the_same_way(model: TreesModel, samples: Samples) -> None:
    trees = [tree for _, booster in model._trees() for tree in booster.trees()]
    feature = np.concatenate([tree.feature for tree in trees])
    threshold = np.concatenate([tree.threshold for tree in trees])[feature >= 0]
    feature = feature[feature >= 0]
    below, above = (np.nextafter(threshold, np.float32(side)) for side in (-np.inf, np.inf))
    rows = samples.newest(np.arange(3 * len(feature)) % 2500).copy()
    rows[np.arange(len(rows)), np.tile(feature, 3)] = np.concatenate([below, threshold, above])
    np.testing.assert_allclose(export.run(model.to_onnx(), windows_of(rows)), model.answer(rows), rtol=1e-5, atol=1e-6)


def test_doubles_are_floored_so_that_no_single_changes_sides() -> None:
    rng = np.random.default_rng(0)
    thresholds = np.concatenate([rng.standard_normal(1000), [0.1, -0.1, 1e-35, -1e-35, 0.0, 1.0]])
    singles = boosters.floored(thresholds)
    for x in (singles, np.nextafter(singles, np.float32(np.inf)), thresholds.astype(np.float32)):
        np.testing.assert_array_equal(x.astype(np.float64) <= thresholds, x <= singles)


def test_a_row_that_is_not_finite_gets_nan_and_its_neighbours_their_answers(
    model: TreesModel, samples: Samples
) -> None:
    rows = samples.newest(np.arange(12)).copy()
    right = model.answer(rows)
    rows[2, 0], rows[5, 9], rows[8] = np.nan, np.inf, -np.inf
    bad, good = [2, 5, 8], [0, 1, 3, 4, 6, 7, 9, 10, 11]
    for answers in (model.answer(rows), export.run(model.to_onnx(), windows_of(rows))):
        assert np.isnan(answers[bad]).all()
        np.testing.assert_allclose(answers[good], right[good], rtol=1e-5, atol=1e-6)


def test_extreme_values_are_answered_as_the_library_does(model: TreesModel) -> None:
    largest = float(np.finfo(np.float32).max)
    rows = np.array([[x] * FEATURES for x in (1e30, -1e30, largest, -largest, 1e-42, 0.0, -0.0)], dtype=np.float32)
    answers = export.run(model.to_onnx(), windows_of(rows))
    assert np.isfinite(answers).all()
    np.testing.assert_allclose(answers, model.answer(rows), rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_file_and_another_one_another(library: str, samples: Samples) -> None:
    config = Config(trees=TreesConfig(rounds_max=4, threads=2))
    first, again, other = (fitted(library, samples, config, seed).to_onnx() for seed in (3, 3, 4))
    assert first == again != other


def test_members_stop_when_validation_no_longer_falls(library: str) -> None:
    config = Config(trees=TreesConfig(rounds_max=60, learning_rate=0.5, rows_min=5, patience_rounds=3, threads=1))
    model = fitted(library, simulated(noise=True), config)
    assert model.fitted.steps < 30
    assert model.fitted.validation_loss <= model.fitted.start_loss
    assert model.fitted.best_step == max(model.described()["rounds"].values()) <= model.fitted.steps


def test_without_a_split_it_answers_the_base_rates_and_knows_of_no_feature(library: str, samples: Samples) -> None:
    config = Config(trees=TreesConfig(rounds_max=3, learning_rate=1e-6, rows_min=10**6, threads=1))
    model = fitted(library, samples, config)
    rates = base_rates(samples.labels.take(TRAIN))
    for answers in (
        model.predict(samples, VALIDATION[:5]),
        export.run(model.to_onnx(), samples.windows(VALIDATION[:5])),
    ):
        found = interpret(answers, np.ones(4)).probabilities
        np.testing.assert_allclose(found, np.broadcast_to(rates, found.shape), atol=1e-5)
    np.testing.assert_allclose(model.importance(samples, VALIDATION), 1 / FEATURES)
    np.testing.assert_allclose(model.gain(), 1 / FEATURES)


def test_ctrl_c_keeps_what_is_best_so_far_and_is_raised_before_there_is_anything(
    library: str, samples: Samples
) -> None:
    def pressed(step: int, *_: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    family = Trees(library, CONFIG)
    model = family.fit(samples, TRAIN, VALIDATION, 0, pressed)
    assert model.fitted.interrupted and model.fitted.steps == 3 == model.fitted.best_step
    assert model.fitted.validation_loss < model.fitted.start_loss
    at_three = fitted(
        library, samples, Config(trees=TreesConfig(3, learning_rate=0.2, rows_min=20, colsample=1.0, threads=1))
    )
    np.testing.assert_array_equal(model.predict(samples, VALIDATION), at_three.predict(samples, VALIDATION))

    def grow(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("candlecast.training.trees.Member.grow", grow)
        family.fit(samples, TRAIN, VALIDATION, 0, lambda *_: None)


def test_progress_tells_each_round_and_the_loss_falls(library: str, samples: Samples) -> None:
    told: list[tuple[int, int, float, float]] = []
    Trees(library, CONFIG).fit(samples, TRAIN, VALIDATION, 0, lambda *step: told.append(step))
    assert [step for step, *_ in told] == list(range(1, len(told) + 1))
    assert {planned for _, planned, *_ in told} == {25}
    assert told[-1][2] < told[0][2]
    assert all(after[3] <= before[3] for before, after in pairwise(told))


def test_one_class_and_a_constant_column_are_no_trouble(library: str) -> None:
    samples = simulated()
    samples.labels.directions[:, 1] = 2
    samples.rows[:, 0] = 1.0
    answers = fitted(library, samples).predict(samples, VALIDATION)
    p = interpret(answers, np.ones(4)).probabilities
    assert np.isfinite(answers).all() and (p[:, 1, 2] > 0.99).all()


@pytest.mark.parametrize("what", ["row", "return"])
def test_data_that_is_not_finite_is_refused(library: str, what: str) -> None:
    samples = simulated()
    (samples.rows if what == "row" else samples.labels.returns)[500, 1] = np.nan
    with pytest.raises(ConfigurationError, match="not finite"):
        fitted(library, samples)


@pytest.mark.parametrize("wrong", [{"rounds_max": 0}, {"leaves": 1}, {"subsample": 0.0}, {"colsample": 1.5}], ids=str)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        TreesConfig(**wrong)  # type: ignore[arg-type]


def test_both_are_families(library: str) -> None:
    assert families()[library](CONFIG).name == library
