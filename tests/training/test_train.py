"""The recipe end to end on a simulated market: it learns what is there to learn, and says so honestly."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from candlecast import cli
from candlecast.cli import train as command
from candlecast.errors import BundleError, CandlecastError, ConfigurationError
from candlecast.features import NAMES, feature_set_hash
from candlecast.interpret import interpret
from candlecast.models.bundle import Bundle, Manifest
from candlecast.settings import CHECKOUT
from candlecast.store import history as store_history
from candlecast.training import export, networks, record, report
from candlecast.training import fit as fitting
from candlecast.training import train as recipe
from candlecast.training.config import Config
from candlecast.training.data import Samples
from candlecast.training.evaluate import measure
from candlecast.training.family import Fitted, families
from candlecast.training.fit import FitConfig, fit
from candlecast.training.labels import Labels, base_rates
from candlecast.training.lstm import LstmConfig
from candlecast.training.patchtst import NetworkConfig, PatchTST
from candlecast.training.search import Search
from candlecast.training.splits import EMBARGO_BARS, Split
from candlecast.training.temperature import fit_leans, fit_temperatures, leaning, log_loss
from candlecast.training.train import train
from candlecast.values import F64
from tests.training.conftest import INTERVAL_MS, SMALL, START_MS, SYMBOLS, simulate


def test_it_learns_the_planted_signal(trained: Bundle) -> None:
    mean = trained.manifest.metrics["walk_forward"]["mean"]

    for horizon in ("1h", "4h"):
        metrics = mean["horizons"][horizon]
        assert metrics["log_loss"]["model"] < metrics["log_loss"]["base"] - 0.05
        assert metrics["brier"]["model"] < metrics["brier"]["base"]
        assert metrics["balanced_accuracy"]["model"] > 0.4
        assert metrics["balanced_accuracy"]["base"] == pytest.approx(1 / 3, abs=1e-6)


def test_the_bundle_is_what_it_says(trained: Bundle, market: list[Path]) -> None:
    manifest = trained.manifest

    trained.check_feature_set()
    assert manifest.feature_set.columns == list(NAMES)
    assert manifest.feature_set.optional_inputs == ["reference"]
    assert manifest.feature_set.reference_symbol == "AAAUSDT"
    assert trained.feature_set_hash == feature_set_hash(["reference"])
    assert manifest.data["symbols"] == list(SYMBOLS)
    assert [file["name"] for file in manifest.data["files"]] == [path.name for path in market]
    assert [file["rows"] for file in manifest.data["files"]] == [5000] * 3
    assert len(manifest.metrics["walk_forward"]["folds"]) == SMALL.folds
    assert manifest.training["shipped"]["fit"] == "last fit"
    answers = export.run((trained.path / "model.onnx").read_bytes(), trained.golden_inputs)
    np.testing.assert_allclose(answers, trained.golden_outputs, atol=1e-6)
    assert len(np.unique(trained.golden_outputs.round(4), axis=0)) == 4


def test_the_report_of_a_training_shows_its_folds_calibration_equity_and_importance(
    trained: Bundle, tmp_path: Path
) -> None:
    manifest = trained.manifest
    fold = manifest.metrics["walk_forward"]["folds"][0]

    report.write(tmp_path / "r.html", report.of_training(manifest))

    page, text = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    for plot in ("skill and intervals", "reliability", "equity and drawdown", "importance of features"):
        assert f'<img alt="{plot}' in page
    assert text.startswith("**Suspicious: the side accuracy at ")  # a planted signal is better than any market's
    assert "**The skill over the base rate lies above 0 at 15m, 1h, 4h, 12h" in text.partition("\n## ")[0]
    loss = fold["horizons"]["4h"]["log_loss"]
    assert f"{loss['model']:.4f} [base {loss['base']:.4f}]" in text
    days = (fold["spans"]["test"]["from"], fold["spans"]["test"]["before"])
    span = np.diff(np.array([day[:19] for day in days], dtype="datetime64[D]")).astype(int)[0]
    assert 0 <= span - len(fold["pnl"]["days"]) + 1 <= 2
    assert any(fold["pnl"]["days"])


def test_a_leak_is_in_the_manifest_and_opens_the_report(trained: Bundle, tmp_path: Path) -> None:
    walked = trained.manifest.metrics["walk_forward"]
    folds = [walked["folds"][0] | {"suspicions": ["suspicious: the skill at 4h is 0.90 (limit 0.25)"]}]
    metrics = trained.manifest.metrics | {"walk_forward": walked | {"folds": folds}}

    report.write(tmp_path / "r.html", report.of_training(dataclasses.replace(trained.manifest, metrics=metrics)))

    assert (tmp_path / "r.md").read_text().startswith("**Suspicious: the skill at 4h is 0.90 (limit 0.25), in fold 1**")


def test_no_path_of_this_machine_is_in_the_bundle(trained: Bundle, market: list[Path]) -> None:
    for file in trained.path.iterdir():
        content = file.read_bytes()
        for place in (str(CHECKOUT), str(market[0].parent), str(Path.home()) + "/", "/tmp/"):
            assert place.encode() not in content, f"{place} in {file.name}"


def interrupting(monkeypatch: pytest.MonkeyPatch, fit_number: int, step: int) -> None:
    """Press Ctrl-C at that step of that fit."""
    fits = 0

    def pressed(*args: object) -> Fitted:
        nonlocal fits
        fits += 1
        mine, on_step = fits, args[-2]

        def watched(at: int, *numbers: object) -> None:
            on_step(at, *numbers)  # type: ignore[operator]
            if mine == fit_number and at == step:
                raise KeyboardInterrupt

        return fit(*args[:-2], watched, args[-1])  # type: ignore[arg-type]

    monkeypatch.setattr(networks, "fit", pressed)


@pytest.fixture
def unexported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the export out, which takes longer than a small fit."""
    golden, answers = np.zeros((4, 96, len(NAMES)), np.float32), np.zeros((4, 20), np.float32)
    monkeypatch.setattr(recipe, "_exported", lambda *args: recipe.Exported(b"onnx", None, golden, answers, {}))


@pytest.mark.usefixtures("unexported")
def test_ctrl_c_keeps_the_best_checkpoint(market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupting(monkeypatch, fit_number=2, step=40)

    manifest = train("patchtst", market, tmp_path / "out", config=SMALL).manifest

    shipped = manifest.training["shipped"]
    assert shipped["fit"] == "last fit" and shipped["interrupted"] and shipped["steps"] == 40
    assert 0 < shipped["best_step"] <= 40
    assert Bundle.load(tmp_path / "out").manifest.metrics["walk_forward"]["mean"]["rows"] > 0


@pytest.mark.usefixtures("unexported")
def test_ctrl_c_early_in_the_last_fit_keeps_the_fold_before(
    market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, fit_number=2, step=2)

    shipped = train("patchtst", market, tmp_path / "out", config=SMALL).manifest.training["shipped"]

    assert shipped["fit"] == "fold 1" and not shipped["interrupted"]
    assert Bundle.load(tmp_path / "out").manifest.training["shipped"] == shipped


def test_ctrl_c_before_the_first_checkpoint_writes_nothing_and_says_so(
    market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, fit_number=1, step=2)

    with pytest.raises(KeyboardInterrupt, match="before a first best step: no bundle was written"):
        train("patchtst", market, tmp_path / "out", config=SMALL)

    assert not (tmp_path / "out").exists()


TINY = dataclasses.replace(
    SMALL,
    stride=12,
    network=NetworkConfig(width=16, layers=1, heads=2, feedforward=16),
    lstm=LstmConfig(width=16, layers=1),
    fit=FitConfig(epochs=1, batch_rows=64, threads=1),
)


def known(manifest: Manifest) -> list[object]:
    """Return what two trainings to the same bits have in common."""
    return [manifest.metrics["walk_forward"]["mean"], manifest.metrics["importance"], manifest.temperatures]


@pytest.mark.usefixtures("unexported")
def test_a_disk_that_is_full_leaves_the_bundle_that_was_there_and_the_fits(
    market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "patchtst"
    before = train("patchtst", market[:1], out, config=TINY)
    assert not (tmp_path / "patchtst.resume").exists()

    with monkeypatch.context() as full:

        def sync(descriptor: int) -> None:
            if ".checkpoint" not in str(Path(f"/proc/self/fd/{descriptor}").readlink()).replace(".new", ".checkpoint"):
                raise OSError(28, "No space left on device")

        full.setattr("os.fsync", sync)
        with pytest.raises(CandlecastError, match=r"No space left on device\); what was there stays.*with --resume"):
            train("patchtst", market[:1], out, config=TINY, version=2)

    assert Bundle.load(out).sha256 == before.sha256
    kept = {file.name for file in (tmp_path / "patchtst.resume").iterdir()}
    assert kept == {"fold-1.checkpoint", "last-fit.checkpoint"}
    monkeypatch.setattr(fitting, "_step", lambda *args: pytest.fail("a step was made again"))
    again = train("patchtst", market[:1], out, config=TINY, version=2, resume=True)
    assert again.manifest.version == 2
    assert known(again.manifest) == known(before.manifest)
    assert {file.name for file in tmp_path.iterdir()} == {"patchtst"}


@pytest.mark.usefixtures("unexported")
def test_an_interrupted_training_is_resumed_or_given_up(
    market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train("lstm", market[:1], tmp_path / "whole", config=TINY).manifest
    with monkeypatch.context() as patch:
        interrupting(patch, fit_number=2, step=3)
        cut = train("lstm", market[:1], tmp_path / "out", config=TINY).manifest
    assert cut.training["shipped"]["interrupted"]
    kept = tmp_path / "out.resume" / "last-fit.checkpoint"
    parts = torch.load(kept, weights_only=True)
    parts["standing"]["seconds"] += 1000
    torch.save(parts, kept)

    resumed = train("lstm", market[:1], tmp_path / "out", config=TINY, resume=True).manifest

    assert known(resumed) == known(whole)
    assert resumed.training["shipped"]["best_step"] == whole.training["shipped"]["best_step"]
    assert resumed.training["seconds"] > 1000  # those before the break count
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="--resume goes on"):
        interrupting(patch, fit_number=2, step=3)
        train("lstm", market[:1], tmp_path / "out", config=TINY)
    with pytest.raises(ConfigurationError, match="of another configuration, seed or data"):
        train("lstm", market[:1], tmp_path / "out", config=dataclasses.replace(TINY, seed=3), resume=True)
    capsys.readouterr()
    train("lstm", market[:1], tmp_path / "out", config=dataclasses.replace(TINY, seed=3))
    assert "out.resume: an interrupted training is given up; --resume would" in capsys.readouterr().err


def test_what_an_interrupted_training_leaves_is_said_and_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **rest: object) -> None:
        raise KeyboardInterrupt("interrupted: the bundle that was at x stays")

    monkeypatch.setattr(recipe, "train", interrupted)

    assert cli.main(["train", "lstm", "--data", "a.csv", "--out", "x"]) == 130
    assert "candlecast: interrupted: the bundle that was at x stays" in capsys.readouterr().err


@pytest.mark.usefixtures("unexported")
def test_the_manifest_says_how_it_was_trained_and_what_it_looks_at(market: list[Path], tmp_path: Path) -> None:
    manifest = train("lstm", market[:1], tmp_path / "lstm", config=TINY).manifest

    assert manifest.name == "lstm"
    training, found = manifest.training, manifest.metrics["importance"]
    assert 0 < training["feeding_share"] < 1 and training["parameters"] > 1000
    assert (training["device"], training["config"]["lstm"]["width"]) == ("cpu", 16)
    assert found["method"] == "integrated_gradients" and len(found["features"]) == len(NAMES)
    assert sum(row["score"] for row in found["features"]) == pytest.approx(1, abs=1e-5)


def flat(folder: Path) -> Path:
    """Write a market that does not move."""
    frame = simulate(1, 3000).with_columns(**{name: pl.lit(100.0) for name in ("open", "high", "low", "close")})
    frame.write_parquet(folder / "FLAT-15m.parquet")
    return folder / "FLAT-15m.parquet"


def test_labels_of_one_class_are_refused_and_columns_that_never_move_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        ConfigurationError, match="fold 1: all 131 labels at 15m are NEUTRAL: there is nothing to learn"
    ):
        train("patchtst", [flat(tmp_path)], tmp_path / "out", config=dataclasses.replace(TINY, stride=5))

    assert f"of {len(NAMES)} columns never move and tell the model nothing: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_too_few_candles_for_the_folds_are_refused(market: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="too few for 1 folds; give more data or fewer folds"):
        train("lstm", market[:1], tmp_path / "out", end_ms=START_MS + 1300 * INTERVAL_MS, config=TINY)


@pytest.mark.usefixtures("unexported")
def test_a_fit_that_diverges_leaves_the_bundle_that_was_there(market: list[Path], tmp_path: Path) -> None:
    before = train("lstm", market[:1], tmp_path / "out", config=TINY)
    wild = dataclasses.replace(TINY, fit=dataclasses.replace(TINY.fit, learning_rate=1e37, warmup_share=0.0))

    with pytest.raises(CandlecastError, match="the fit diverged"):
        train("lstm", market[:1], tmp_path / "out", config=wild, version=2)

    assert Bundle.load(tmp_path / "out").sha256 == before.sha256


def test_rows_that_find_no_room_are_one_clear_line(
    market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recipe, "prepare", full)
    with pytest.raises(
        CandlecastError, match=r"rows cannot be written \(No space left on device\); make room there, or set T"
    ):
        train("lstm", market[:1], tmp_path / "out", config=TINY)


class Stopped(Exception):
    """What was to be seen has been."""


def handed_on(market: list[Path], out: Path, config: Config, searched: Search | None = None) -> tuple[Any, list[Split]]:
    """Return the split that was searched on and those that are fitted; nothing is fitted."""
    seen: dict[str, Any] = {}

    def search(kind: str, samples: Samples, split: Split, config: Config, *_: object) -> tuple[Config, dict[str, Any]]:
        seen["searched"] = split
        return config, {}

    def run_all(samples: Samples, splits: list[Split], *_: object) -> None:
        seen["splits"] = splits
        raise Stopped

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(recipe.search, "run", search)
        patch.setattr(recipe, "run_all", run_all)
        train("lstm", market[:1], out, config=config, searched=searched)
    return seen.get("searched"), seen["splits"]


def test_a_search_sees_nothing_that_a_fold_is_tested_on(market: list[Path], tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, folds=2)

    searched, splits = handed_on(market, tmp_path / "out", config, Search(3))

    tested = [split.test for split in splits if split.test]
    assert len(tested) == 2
    border = min(test.start_ms for test in tested) - EMBARGO_BARS * INTERVAL_MS
    assert max(searched.train.end_ms, searched.validation.end_ms) <= border


def test_rolling_train_parts_are_no_longer_than_asked_for_and_others_begin_at_the_first_candle(
    market: list[Path], tmp_path: Path
) -> None:
    config = dataclasses.replace(TINY, folds=2)

    _, whole = handed_on(market, tmp_path / "out", config)
    _, rolling = handed_on(market, tmp_path / "out", dataclasses.replace(config, rolling_bars=300))

    assert len({split.train.start_ms for split in whole}) == 1
    for split, short in zip(whole, rolling, strict=True):
        assert short.train.end_ms - short.train.start_ms == 300 * INTERVAL_MS
        assert short.train.end_ms == split.train.end_ms
        assert (short.validation, short.test) == (split.validation, split.test)


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


def test_the_same_seed_gives_the_same_network() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        weights.append(PatchTST(SMALL.network, 3).trunk.embed.weight.detach().numpy())
    np.testing.assert_array_equal(*weights)


def test_a_configuration_file_is_read_and_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text("stride = 8\n[network]\nlayers = 2\ndropout = 0\n[fit]\nepochs = 1\n")

    config = Config.load(path)

    assert (config.stride, config.network.layers, config.network.dropout, config.fit.epochs) == (8, 2, 0, 1)
    assert config.network.width == 256
    for text, says in (
        ("[fit]\nepoch = 1", "epoch is no setting"),
        ("stride = '8'", "expected int"),
        ("[", "Invalid"),
        ("[fit]\nepochs = 0", "epochs must be at least 1"),
        ("stride = 0", "must be at least 1"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=says):
            Config.load(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        Config.load(tmp_path / "none.toml")


def arguments(*given: str, kind: str = "patchtst") -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    return parser.parse_args(["train", kind, *given])


def test_the_command_hands_its_flags_on_and_prints_json_alone(
    trained: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = {}

    def instead(kind: str, data: list[Path], out: Path, **rest: object) -> Bundle:
        called.update(rest, kind=kind, data=data, out=out)
        return trained

    monkeypatch.setattr(recipe, "train", instead)
    flags = "--data a.csv b.csv --symbols AAA --from 2024-01-01 --to 2024-02-01T00:00Z --folds 2 --epochs 5 --stride 9"

    code = command.run(arguments(*flags.split(), "--seed", "7", "--json", "--out", str(trained.path)))

    assert code == 0
    assert json.loads(capsys.readouterr().out)["name"] == "patchtst"
    assert called["symbols"] == ["AAA"] and called["data"] == [Path("a.csv"), Path("b.csv")]
    assert called["start_ms"] == 1_704_067_200_000 and called["end_ms"] == 1_706_745_600_000
    assert (called["reference_symbol"], called["optional_inputs"]) == ("BTCUSDT", None)
    assert called["config"] == Config(folds=2, stride=9, seed=7, fit=FitConfig(epochs=5))
    assert (called["kind"], called["resume"], called["searched"]) == ("patchtst", False, None)


def test_the_command_hands_resume_search_and_rolling_on_for_every_kind(
    trained: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, object] = {}

    def instead(kind: str, *args: object, **rest: object) -> Bundle:
        called.update(rest, kind=kind)
        return trained

    monkeypatch.setattr(recipe, "train", instead)
    for kind in families():
        flags = "--data a.csv --out x --resume --rolling 900 --search 7 --storage study.journal"
        command.run(arguments(*flags.split(), kind=kind))
        assert (called["kind"], called["resume"], called["searched"]) == (kind, True, Search(7, "study.journal"))
        assert called["config"] == Config(rolling_bars=900)
    with pytest.raises(ConfigurationError, match="--storage is where --search keeps its trials"):
        command.run(arguments("--data", "a.csv", "--out", "x", "--storage", "study.journal"))


@pytest.mark.parametrize("named", ["database", "postgresql://here/db"])
def test_the_command_reads_a_database(trained: Bundle, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    called: dict[str, object] = {}
    candles = object()
    asked = []

    def read(url: str, **chosen: object) -> object:
        asked.append((url, chosen))
        if chosen.get("symbols") == ["AAA", "BTCUSDT"]:
            raise ConfigurationError("none of BTCUSDT")
        return candles

    def instead(kind: str, data: object, *args: object, **rest: object) -> Bundle:
        called.update(data=data)
        return trained

    monkeypatch.setattr(recipe, "train", instead)
    monkeypatch.setattr(store_history, "read_candles", read, raising=False)
    flags = ["--data", named, "--out", "x", "--interval-ms", "60000", "--from", "2024-01-01"]
    if named == "database":
        with pytest.raises(ConfigurationError, match="Give --database URL or set DATABASE_URL"):
            command.run(arguments(*flags))
        monkeypatch.setenv("DATABASE_URL", "postgresql://here/db")
        monkeypatch.setattr(record, "opened", lambda url, **_: contextlib.nullcontext(record.Log(None)))

    command.run(arguments(*flags))
    command.run(arguments(*flags, "--symbols", "AAA"))

    chosen = {"interval_ms": 60_000, "start_ms": 1_704_067_200_000, "end_ms": None}
    assert called["data"] is candles
    assert asked == [
        ("postgresql://here/db", chosen),
        ("postgresql://here/db", {"symbols": ["AAA", "BTCUSDT"]} | chosen),
        ("postgresql://here/db", {"symbols": ["AAA"]} | chosen),
    ]
    with pytest.raises(ConfigurationError, match="a database stands alone"):
        command.run(arguments("--data", named, "a.csv", "--out", "x"))


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [("none", []), ("reference trades", ["reference", "trades"])],
)
def test_the_command_hands_on_which_inputs_to_use(
    trained: Bundle, monkeypatch: pytest.MonkeyPatch, given: str, handed_on: list[str]
) -> None:
    called: dict[str, object] = {}

    def instead(*args: object, **rest: object) -> object:
        called.update(rest)
        return trained

    monkeypatch.setattr(recipe, "train", instead)
    monkeypatch.setenv("CANDLECAST_REFERENCE_SYMBOL", "SOLUSDT")
    flags = ["--data", "a.csv", "--out", "x", "--optional-inputs", *given.split()]

    command.run(arguments(*flags))
    assert (called["optional_inputs"], called["reference_symbol"]) == (handed_on, "SOLUSDT")
    command.run(arguments(*flags, "--reference-symbol", "ETHUSDT"))
    assert called["reference_symbol"] == "ETHUSDT"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--optional-inputs", "none", "trades"], "none stands alone"),
        (["--reference-symbol", "eth usdt"], "'eth usdt' is no symbol"),
    ],
)
def test_flags_that_contradict_or_are_malformed_are_refused(flags: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        command.run(arguments("--data", "a.csv", "--out", "x", *flags))


def test_an_unknown_optional_input_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments("--data", "a.csv", "--out", "x", "--optional-inputs", "weather")

    assert ended.value.code == 2
    assert "'weather' is none of quote_volume, trades, taker_buy_volume, reference, none" in capsys.readouterr().err


def test_what_is_used_is_said(market: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match="more data"):
        train("patchtst", market, tmp_path / "out", end_ms=START_MS + 1000 * INTERVAL_MS, reference_symbol="BBBUSDT")

    assert "optional inputs: reference (BBBUSDT); the model is served with these" in capsys.readouterr().err


def test_the_table_shows_every_number_beside_its_base_and_persistence(
    trained: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe, "train", lambda *args, **rest: trained)
    mean = trained.manifest.metrics["walk_forward"]["mean"]
    shown = ("log_loss", "brier", "accuracy", "balanced_accuracy", "side_accuracy", "return_mae")

    command.run(arguments("--data", "a.csv", "--out", "x"))

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for horizon, numbers in mean["horizons"].items():
        at = next(k for k, line in enumerate(lines) if line[:1] == [horizon])
        assert lines[at][:2] == [horizon, "model"] and lines[at + 2][0] == "persistence"
        for k, who in enumerate(("model", "base", "persistence")):
            assert lines[at + k][-6:] == [f"{numbers[name][who]:.4f}" for name in shown]
    for risk, numbers in mean["risks"].items():
        at = next(k for k, line in enumerate(lines) if line[:1] == [risk])
        for k, who in enumerate(("model", "base", "persistence")):
            assert lines[at + k][-1] == f"{numbers['mae'][who]:.4f}"


def test_the_table_leaves_persistence_out_where_it_was_not_measured(
    trained: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps(trained.manifest.metrics).replace('"persistence":', '"other":')
    manifest = dataclasses.replace(trained.manifest, metrics=json.loads(text))
    older = dataclasses.replace(trained, manifest=manifest)
    monkeypatch.setattr(recipe, "train", lambda *args, **rest: older)

    command.run(arguments("--data", "a.csv", "--out", "x"))

    out = capsys.readouterr().out
    assert "base rate" in out and "persistence" not in out


def test_a_missing_train_extra_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)

    with pytest.raises(
        ConfigurationError, match=r"^training needs torch: run `make train-env` \(uv sync --extra train\)$"
    ):
        command.run(arguments("--data", "a.csv", "--out", "x"))


def test_a_place_that_is_no_bundle_is_refused_before_any_training(market: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(BundleError, match=r"notes\.txt"):
        train("patchtst", market, tmp_path, config=dataclasses.replace(SMALL, folds=99))
