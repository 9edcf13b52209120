"""Tabular models: they find what is planted and nothing else, and their bundle says what they are."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from candlecast.cli import main
from candlecast.errors import BundleError, ConfigurationError
from candlecast.features import NAMES
from candlecast.models.bundle import Bundle
from candlecast.server.app import newest_bundle
from candlecast.training import export, tabular, tabular_measures
from candlecast.training.config import Config
from candlecast.training.data import Samples, prepare
from candlecast.training.folds import Shown
from candlecast.training.labels import FUTURE_BARS, Labels
from candlecast.training.sources import read_history
from candlecast.training.tabular_recipe import train_tabular
from candlecast.training.targets import Target
from candlecast.training.trees import TreesConfig
from tests.training.conftest import INTERVAL_MS, SYMBOLS

QUICK = TreesConfig(rounds_max=25, learning_rate=0.3, depth=3, leaves=8, colsample=1.0, patience_rounds=10, threads=2)
ROWS, COLUMNS = 4000, 12
PLANTED = 7
"""The column that knows what comes."""


def samples(target: Target, seed: int = 0) -> Samples:
    """Random rows of which one column says something of what comes."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((ROWS + 96, COLUMNS)).astype(np.float32)
    end = np.arange(96, ROWS + 96)
    signal = rows[end - 1, PLANTED]
    noise = rng.standard_normal(ROWS)
    match target.name:
        case "direction":
            after = np.digitize(signal + 0.5 * noise, [-0.5, 0.5]).astype(float)
        case "profitable":
            after = (signal + 0.5 * noise > 0.3).astype(float)
        case "volatility":
            after = 0.01 * np.exp(0.5 * signal + 0.1 * noise)
    labels = Labels(
        end, rng.normal(0, 0.01, (ROWS, 4)).astype(np.float32), np.zeros((ROWS, 4), np.int8), np.ones((ROWS, 4))
    )
    asked = np.column_stack([after, rng.permutation(after)])
    return Samples(rows, end, INTERVAL_MS * np.arange(ROWS), labels, asked)


BORDER = (("train", "before"), ("validation", "from"))
TRAIN, VALIDATION, TEST = np.split(np.arange(ROWS), [2400, 3000])


def fitted(kind: str, target: Target, given: Samples) -> tabular.TabularModel:
    return tabular.fit(kind, target, given, TRAIN, VALIDATION, QUICK, 0, lambda *_: None)


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("name", ["direction", "volatility", "profitable"])
def test_a_planted_signal_is_found_and_exported_as_it_is(kind: str, name: str) -> None:
    target = Target(name)
    given = samples(target)

    model = fitted(kind, target, given)

    answers = model.predict(given, TEST)
    metrics = tabular_measures.measure(target, answers, given, TEST, TRAIN)["horizons"]["24h"]
    loss = metrics["mae" if name == "volatility" else "log_loss"]
    assert loss["model"] < 0.75 * min(loss["base"], loss["persistence"])
    assert answers.shape == (len(TEST), target.outputs)
    if name == "direction":
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)
    for share in (model.importance(given, TEST[:200]), model.gain()):
        assert share.argmax() == PLANTED
        assert share.sum() == pytest.approx(1)
    windows = given.windows(TEST)
    np.testing.assert_allclose(export.run(model.to_onnx(), windows), answers, rtol=1e-5, atol=1e-6)
    windows[1, -1, 3] = np.nan
    poisoned = export.run(model.to_onnx(), windows)
    assert np.isnan(poisoned[1]).all()
    assert np.isfinite(np.delete(poisoned, 1, axis=0)).all()


@pytest.mark.parametrize("name", ["direction", "volatility", "profitable"])
def test_shuffled_answers_score_no_better_than_the_base_rate(name: str) -> None:
    target = Target(name)
    given = samples(target)
    assert given.asked is not None
    given = replace(given, asked=np.random.default_rng(1).permutation(given.asked))

    model = fitted("lightgbm", target, given)

    metrics = tabular_measures.measure(target, model.predict(given, TEST), given, TEST, TRAIN)["horizons"]["24h"]
    loss = metrics["mae" if name == "volatility" else "log_loss"]
    assert loss["model"] > 0.98 * loss["base"]


def test_metrics_by_hand() -> None:
    given = samples(Target("profitable"))
    asked = np.zeros((ROWS, 2))
    asked[TRAIN[:600], 0] = 1  # a quarter of 2,400
    asked[TRAIN[:300], 1] = 1  # after a yes it was yes each time; after a no in 300 of 2,100
    asked[TEST[:2]] = [[1, 1], [0, 0]]
    given = replace(given, asked=asked)

    metrics = tabular_measures.measure(
        Target("profitable"), np.array([[0.8], [0.4]], np.float32), given, TEST[:2], TRAIN
    )["horizons"]["24h"]

    assert metrics["log_loss"]["model"] == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2, abs=1e-5)
    assert metrics["log_loss"]["base"] == pytest.approx(-(np.log(0.25) + np.log(0.75)) / 2, abs=1e-5)
    assert metrics["log_loss"]["persistence"] == pytest.approx(
        -(np.log(300 / 300.5) + np.log(1800 / 2100)) / 2, abs=1e-5
    )
    assert metrics["brier"]["model"] == pytest.approx((2 * 0.2**2 + 2 * 0.4**2) / 2, abs=1e-6)
    assert metrics["accuracy"] == {"model": 1.0, "base": 0.5, "persistence": 1.0}
    assert metrics["auc"] == {"model": 1.0, "base": 0.5, "persistence": 1.0}


@pytest.mark.parametrize("name", ["direction", "volatility", "profitable"])
def test_answers_that_are_all_the_same_are_refused(name: str) -> None:
    given = replace(samples(Target(name)), asked=np.zeros((ROWS, 2)))
    with pytest.raises(ConfigurationError, match="nothing to learn"):
        fitted("xgboost", Target(name), given)


def test_a_target_keeps_the_candles_whose_answer_is_known(market: list[Path], tmp_path: Path) -> None:
    history = read_history(market[:1])
    target = Target("volatility", hours=48)

    given = prepare(history, tmp_path, 50, lambda symbol: None, target)

    candles = history.by_symbol()[SYMBOLS[0]]
    expected = target.of(candles.open_time_ms, INTERVAL_MS, candles.values[:, 3])
    at = (given.open_time_ms - candles.open_time_ms[0]) // INTERVAL_MS
    np.testing.assert_array_equal(given.asked, expected[at])
    assert np.isfinite(given.asked).all()
    assert at.max() < len(candles) - 192


def test_the_bundle_says_what_it_answers_and_is_not_served_as_a_forecaster(market: list[Path], tmp_path: Path) -> None:
    target = Target("direction", hours=24, threshold=0.01)
    out = tmp_path / "repository" / "lightgbm_direction_24h" / "1"
    seen: list[str] = []

    written = train_tabular(
        "lightgbm",
        target,
        market,
        out,
        reference_symbol=SYMBOLS[0],
        config=Config(folds=1, stride=20, trees=QUICK),
        note=lambda **where: seen.append(where["phase"]),
    )

    loaded = Bundle.load(out)
    assert (loaded.target, loaded.manifest.name) == ("direction", "lightgbm_direction_24h")
    assert loaded.manifest.outputs == {"count": 3}
    assert loaded.golden_outputs.shape == (4, 3)
    told = loaded.manifest.training["target"]
    assert told == {"name": "direction", "hours": 24, "threshold": 0.01, "costs": 0.0015, "bars": 96}
    assert loaded.manifest.training["embargo_bars"] == 96 + 96 > FUTURE_BARS + 96
    times = [datetime.fromisoformat(loaded.manifest.training["shipped"]["spans"][part][end]) for part, end in BORDER]
    assert times[1] - times[0] == timedelta(milliseconds=192 * INTERVAL_MS)
    metrics = loaded.manifest.metrics["walk_forward"]["mean"]["horizons"]["24h"]
    assert set(metrics["log_loss"]) == {"model", "base", "persistence"}
    assert len(loaded.manifest.metrics["importance"]["features"]) == len(NAMES)
    assert {"features", "fold 1", "last fit"} <= set(seen)
    np.testing.assert_allclose(
        export.run((out / "model.onnx").read_bytes(), loaded.golden_inputs), loaded.golden_outputs, atol=1e-6
    )
    with pytest.raises(BundleError, match="a model of direction with 3 outputs, no forecaster"):
        newest_bundle(out.parent)
    assert written.sha256 == loaded.sha256


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--hours", "12"], "--hours belongs to --target"),
        (["--target", "direction", "--resume"], "no --resume and no --search"),
        (["--target", "direction", "--threshold", "0"], "threshold must be above 0"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "bundle")
    assert main(["train", "lightgbm", "--data", "nothing.parquet", "--out", out, *flags]) == 78
    assert said in capsys.readouterr().err


def test_hours_that_leave_too_little_time_are_refused(market: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="too few"):
        train_tabular(
            "xgboost", Target("direction", hours=400), market[:1], tmp_path / "b", config=Config(stride=20, trees=QUICK)
        )


def test_ctrl_c_leaves_the_bundle_that_was_there(
    market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, config = tmp_path / "out", Config(folds=1, stride=12, trees=QUICK)
    before = train_tabular("lightgbm", Target("profitable"), market[:1], out, config=config)

    def pressed(step: int, *_: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Shown, "steps", lambda self, name: pressed)
    with pytest.raises(KeyboardInterrupt, match=r"the bundle that was at .* stays"):
        train_tabular("lightgbm", Target("profitable"), market[:1], out, config=config, version=2)

    assert Bundle.load(out).sha256 == before.sha256
    cut = train_tabular("lightgbm", Target("profitable"), market[:1], tmp_path / "new", config=config)
    assert cut.manifest.training["shipped"]["interrupted"]
