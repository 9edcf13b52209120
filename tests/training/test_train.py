"""The recipe end to end on a simulated market: it learns what is there to learn, and says so honestly."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from candlecast.errors import BundleError, CandlecastError, ConfigurationError
from candlecast.features import NAMES, feature_set_hash
from candlecast.models.bundle import Bundle, Manifest
from candlecast.settings import CHECKOUT
from candlecast.training import export, networks, report
from candlecast.training import fit as fitting
from candlecast.training import train as recipe
from candlecast.training.config import Config
from candlecast.training.data import Samples
from candlecast.training.family import Fitted
from candlecast.training.fit import FitConfig, fit
from candlecast.training.lstm import LstmConfig
from candlecast.training.patchtst import NetworkConfig, PatchTST
from candlecast.training.search import Search
from candlecast.training.splits import EMBARGO_BARS, Split
from candlecast.training.train import train
from tests.training.conftest import INTERVAL_MS, SMALL, START_MS, SYMBOLS, simulate


def test_it_learns_the_planted_signal(trained: Bundle) -> None:
    mean = trained.manifest.metrics["walk_forward"]["mean"]

    for horizon in ("1h", "4h"):
        metrics = mean["horizons"][horizon]
        assert metrics["log_loss"]["model"] < metrics["log_loss"]["base"] - 0.05
        assert metrics["brier"]["model"] < metrics["brier"]["base"]
        assert metrics["balanced_accuracy"]["model"] > 0.4
        assert metrics["balanced_accuracy"]["base"] == pytest.approx(1 / 3, abs=1e-6)
        assert metrics["balanced_accuracy_called"]["model"] > 0.4


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
    assert manifest.training["export"]["rows"] >= 1000  # real windows, of which the file answered each as the model
    assert manifest.training["shipped"]["fit"] == "last fit"
    fold, walked = manifest.metrics["walk_forward"]["folds"][0], trained.fold(1)
    assert walked is not None and not (trained.path / "fold-2.onnx").exists()
    assert len(fold["temperatures"]) == 4 and all(0 < threshold < 1 for threshold in fold["thresholds"])
    assert not np.allclose(export.run(walked.read_bytes(), trained.golden_inputs), trained.golden_outputs, atol=1e-3)
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
    monkeypatch.setattr(recipe, "_folds", lambda runs, samples: [b"onnx" for run in runs if run.measured])


TINY = dataclasses.replace(
    SMALL,
    stride=12,
    network=NetworkConfig(width=16, layers=1, heads=2, feedforward=16),
    lstm=LstmConfig(width=16, layers=1),
    fit=FitConfig(epochs=1, batch_rows=64, threads=1),
)


@pytest.mark.usefixtures("unexported")
def test_ctrl_c_keeps_the_best_checkpoint(market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupting(monkeypatch, fit_number=2, step=10)

    manifest = train("patchtst", market, tmp_path / "out", config=TINY).manifest

    shipped = manifest.training["shipped"]
    assert shipped["fit"] == "last fit" and shipped["interrupted"] and shipped["steps"] == 10
    assert 0 < shipped["best_step"] <= 10
    assert Bundle.load(tmp_path / "out").manifest.metrics["walk_forward"]["mean"]["rows"] > 0


@pytest.mark.usefixtures("unexported")
def test_ctrl_c_early_in_the_last_fit_keeps_the_fold_before(
    market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, fit_number=2, step=2)

    shipped = train("patchtst", market, tmp_path / "out", config=TINY).manifest.training["shipped"]

    assert shipped["fit"] == "fold 1" and not shipped["interrupted"]
    assert Bundle.load(tmp_path / "out").manifest.training["shipped"] == shipped


def test_ctrl_c_before_the_first_checkpoint_writes_nothing_and_says_so(
    market: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, fit_number=1, step=2)

    with pytest.raises(KeyboardInterrupt, match="before a first best step: no bundle was written"):
        train("patchtst", market, tmp_path / "out", config=SMALL)

    assert not (tmp_path / "out").exists()


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
        ConfigurationError,
        match="fold 1: all 131 labels of its train part at 15m are NEUTRAL: there is nothing to learn",
    ):
        train("patchtst", [flat(tmp_path)], tmp_path / "out", config=dataclasses.replace(TINY, stride=5))

    assert f"of {len(NAMES)} columns never move and tell the model nothing: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_labels_of_one_class_in_validation_alone_are_refused(tmp_path: Path) -> None:
    flat_from = pl.int_range(pl.len()) >= 1000
    frame = simulate(1, 3000).with_columns(
        **{name: pl.when(flat_from).then(100.0).otherwise(pl.col(name)) for name in ("open", "high", "low", "close")}
    )
    frame.write_parquet(tmp_path / "HALF-15m.parquet")

    with pytest.raises(ConfigurationError, match="labels of its validation part at 15m are NEUTRAL"):
        train("lstm", [tmp_path / "HALF-15m.parquet"], tmp_path / "out", config=TINY)


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


def test_the_same_seed_gives_the_same_network() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        weights.append(PatchTST(SMALL.network, 3).trunk.embed.weight.detach().numpy())
    np.testing.assert_array_equal(*weights)


def test_what_is_used_is_said(market: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match="more data"):
        train("patchtst", market, tmp_path / "out", end_ms=START_MS + 1000 * INTERVAL_MS, reference_symbol="BBBUSDT")

    assert "optional inputs: reference (BBBUSDT); the model is served with these" in capsys.readouterr().err


def test_a_place_that_is_no_bundle_is_refused_before_any_training(market: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(BundleError, match=r"notes\.txt"):
        train("patchtst", market, tmp_path, config=dataclasses.replace(SMALL, folds=49))
