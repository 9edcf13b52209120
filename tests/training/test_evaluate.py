"""`candlecast evaluate`: a finished bundle on other candles, as a person calls it."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlecast.cli import evaluate as command
from candlecast.errors import BundleError, CandlecastError, ConfigurationError
from candlecast.interpret import interpret
from candlecast.models import bundle as bundles
from candlecast.models import ensemble
from candlecast.models.bundle import Bundle
from candlecast.training import data, finished
from candlecast.training.subject import Subject
from candlecast.training.temperature import log_loss
from tests.bundles import answering_another_question
from tests.training.conftest import INTERVAL_MS, START_MS, SYMBOLS, simulate

NAMES = {
    "log_loss",
    "base_rate_log_loss",
    "skill",
    "brier",
    "calibration_error",
    "balanced_accuracy",
    "rows",
}


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return candles of after those that the bundle was trained on."""
    folder = tmp_path_factory.mktemp("later")
    for seed, symbol in enumerate(SYMBOLS[:2], 50):
        frame = simulate(seed, 2600)
        frame.with_columns(ts=frame["ts"] + 6000 * INTERVAL_MS).write_parquet(folder / f"{symbol}-15m.parquet")
    return sorted(folder.iterdir())


def evaluate(*given: object) -> int:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    return command.run(parser.parse_args(["evaluate", *map(str, given)]))


@pytest.fixture(scope="module")
def told(
    trained: Bundle, later: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path, str]:
    """Return the JSON, the report and standard error of one evaluation."""
    page = tmp_path_factory.mktemp("report") / "report.html"
    with pytest.MonkeyPatch.context() as patch, _Captured() as captured:
        patch.setattr("sys.stdout", captured.out)
        patch.setattr("sys.stderr", captured.err)
        assert evaluate(trained.path, "--data", *later, "--stride", 3, "--json", "--out", page) == 0
    return json.loads(captured.out.getvalue()), page, captured.err.getvalue()


class _Captured:
    def __enter__(self) -> _Captured:
        import io

        self.out, self.err = io.StringIO(), io.StringIO()
        return self

    def __exit__(self, *_: object) -> None: ...


def test_json_alone_has_the_agreed_names_per_horizon(told: tuple[dict[str, Any], Path, str]) -> None:
    document, _, _ = told

    assert list(document["horizons"]) == ["15m", "1h", "4h", "12h"]
    for numbers in document["horizons"].values():
        assert set(numbers) >= NAMES
        assert numbers["skill"] == pytest.approx(1 - numbers["log_loss"] / numbers["base_rate_log_loss"], abs=1e-5)
        assert numbers["rows"] == document["metrics"]["rows"] > 900
    assert document["horizons"]["4h"]["skill"] > 0.05  # the planted signal
    assert document["data"]["overlaps_training"] is False


def test_the_numbers_are_those_of_the_windows_that_serving_computes(
    told: tuple[dict[str, Any], Path, str], trained: Bundle, later: list[Path], tmp_path: Path
) -> None:
    subject = Subject.of(trained)
    history = finished.history_for(subject, later, None, None, None)
    assert (history.optional_inputs, history.reference_symbol) == (["reference"], SYMBOLS[0])
    samples = data.prepare(history, tmp_path, 3, lambda symbol: None)
    counted: list[int] = []

    (answers,) = finished.answers(subject, samples, counted.append)

    assert sum(counted) == len(samples) == told[0]["metrics"]["rows"]
    p = interpret(answers, np.array(trained.manifest.temperatures)).probabilities
    directions = samples.labels.directions
    frequencies = np.stack([(directions == c).mean(axis=0) for c in range(3)], axis=1)
    for h, numbers in enumerate(told[0]["horizons"].values()):
        assert numbers["log_loss"] == pytest.approx(log_loss(p, directions)[h], abs=2e-6)
        entropy = -(frequencies[h] * np.log(frequencies[h])).sum()  # the base: no constant scores better
        assert numbers["base_rate_log_loss"] == pytest.approx(entropy, abs=2e-6)


def test_the_report_is_one_page_and_its_markdown(told: tuple[dict[str, Any], Path, str]) -> None:
    document, page, said = told
    text = page.read_text()

    assert text.count("<img") == 4 and text.count("src=") == text.count('src="data:image/svg+xml;base64,')
    assert document["verdict"] in page.with_suffix(".md").read_text()
    assert str(page) in said


def test_data_the_bundle_was_trained_on_is_called_so(
    trained: Bundle, market: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(trained.path, "--data", *market, "--symbols", SYMBOLS[1], "--stride", 20, "--to", "2024-02-05")

    shown = capsys.readouterr()
    assert "overlaps what the bundle was trained on" in shown.err
    assert "base rate" in shown.out and "12h" in shown.out


def test_the_reference_symbol_alone_is_evaluated_without_a_reference(
    trained: Bundle, later: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(trained.path, "--data", later[0], "--stride", 20, "--json")

    assert json.loads(capsys.readouterr().out)["horizons"]["1h"]["rows"] > 80


def test_what_does_not_fit_is_said_with_what_to_do(trained: Bundle, later: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="compares every symbol with AAAUSDT: give its candle file too"):
        evaluate(trained.path, "--data", later[1])
    with pytest.raises(ConfigurationError, match=r"is HTML; name it r\.html"):
        evaluate(trained.path, "--data", *later, "--out", "r.pdf")
    with pytest.raises(ConfigurationError, match="no candle is left"):
        evaluate(trained.path, "--data", *later, "--from", "2030-01-01")
    hourly = []
    for path in later:
        frame = simulate(1, 2000)
        hourly.append(tmp_path / path.name.replace("15m", "1h"))
        frame.with_columns(ts=START_MS + (frame["ts"] - START_MS) * 4).write_parquet(hourly[-1])
    with pytest.raises(ConfigurationError, match="candles of 3600000 ms, the bundle was trained on 900000 ms"):
        evaluate(trained.path, "--data", *hourly)
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        evaluate(tmp_path, "--data", *later)
    other = shutil.copytree(trained.path, tmp_path / "other")
    manifest = (other / "manifest.json").read_text().replace(trained.manifest.feature_set.hash, "0" * 16)
    (other / "manifest.json").write_text(manifest)
    with pytest.raises(BundleError, match="was trained on feature set v1 0x0000000000000000"):
        evaluate(other, "--data", *later)


def test_answers_that_are_not_finite_are_left_out_and_counted(
    trained: Bundle, later: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(subject: Subject, samples: data.Samples, on_rows: object) -> np.ndarray[Any, Any]:
        answers = np.zeros((1, len(samples), 20), dtype=np.float32)
        answers[0, :7, 3] = np.nan
        return answers

    monkeypatch.setattr(finished, "answers", broken)
    evaluate(trained.path, "--data", *later, "--stride", 20, "--json")

    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert "7 answers of the model are not finite" in shown.err
    assert document["verdict"].startswith("No edge")
    monkeypatch.setattr(
        finished, "answers", lambda subject, samples, on: np.full((1, len(samples), 20), np.nan, np.float32)
    )
    with pytest.raises(BundleError, match="no answer of its model is finite"):
        evaluate(trained.path, "--data", *later, "--stride", 20)


def again(trained: Bundle, folder: Path, name: str, **changes: Any) -> Bundle:
    """Write the trained bundle anew, with another manifest."""
    manifest = replace(trained.manifest, name=name, **changes)
    model = (trained.path / "model.onnx").read_bytes()
    return bundles.write(folder / name / "1", manifest, model, trained.golden_inputs, trained.golden_outputs)


def test_an_ensemble_is_evaluated_by_the_average_of_its_members_calibrated_probabilities(
    trained: Bundle, later: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walked = trained.manifest.metrics["walk_forward"]
    worse = {h: {"log_loss": {"model": 1.0, "base": 1.05}} for h in walked["mean"]["horizons"]}
    half = {"walk_forward": {"folds": [], "mean": {"horizons": worse}}}
    members = [
        again(trained, tmp_path, "patchtst"),
        again(trained, tmp_path, "lstm", temperatures=[4.0, 4.0, 4.0, 4.0], metrics=half),
    ]
    whole = ensemble.write(tmp_path / "ensemble" / "1", ensemble.weigh(members, 1))
    page = tmp_path / "report.html"

    evaluate(whole.path, "--data", *later, "--stride", 20, "--json", "--out", page)

    document = json.loads(capsys.readouterr().out)
    assert document["bundle"] == {"name": "ensemble", "version": 1, "sha256": whole.sha256}
    assert list(document["members"]) == ["patchtst v1", "lstm v1"]
    weights = [member["weight"] for member in document["members"].values()]
    assert weights == pytest.approx(whole.weights.tolist(), abs=1e-4)
    assert f"| lstm v1 | {weights[1]:.3f} |" in page.with_suffix(".md").read_text()
    history = finished.history_for(Subject.of(trained), later, None, None, None)
    samples = data.prepare(history, tmp_path, 20, lambda symbol: None)
    (answers,) = finished.answers(Subject.of(trained), samples, lambda rows: None)
    p = [interpret(answers, np.array(bundle.manifest.temperatures)).probabilities for bundle in members]
    by_hand = log_loss(whole.weights[0] * p[0] + whole.weights[1] * p[1], samples.labels.directions)
    for h, (horizon, numbers) in enumerate(document["horizons"].items()):
        assert numbers["log_loss"] == pytest.approx(by_hand[h], abs=2e-6)
        for probabilities, member in zip(p, document["members"].values(), strict=True):
            alone = log_loss(probabilities, samples.labels.directions)[h]
            assert member["log_loss"][horizon] == pytest.approx(alone, abs=2e-6)
        assert numbers["log_loss"] != pytest.approx(log_loss(p[0], samples.labels.directions)[h], abs=1e-4)


def test_what_was_suspicious_in_the_training_opens_the_report(
    trained: Bundle, later: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walked = trained.manifest.metrics["walk_forward"]
    assert all("suspicions" in fold for fold in walked["folds"])
    leak = "suspicious: column rsi_14 alone: rank correlation with the return at 4h is 0.91 (limit 0.30)"
    folds = [walked["folds"][0] | {"suspicions": [leak]}]
    leaky = again(trained, tmp_path, "patchtst", metrics={"walk_forward": walked | {"folds": folds}})

    evaluate(leaky.path, "--data", *later, "--stride", 20, "--json", "--out", tmp_path / "r.html")

    said = capsys.readouterr()
    told = f"{leak}, in fold 1 of the training of patchtst v1"
    assert told in json.loads(said.out)["warnings"]
    assert told in said.err
    text = (tmp_path / "r.md").read_text()
    assert text.startswith("**Suspicious: ") and f"\n**S{told[1:]}**\n" in text.partition("\n## ")[0]


def test_rows_that_find_no_room_are_one_clear_line(
    trained: Bundle, later: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data, "prepare", full)
    with pytest.raises(CandlecastError, match=r"rows cannot be written \(No space left on device\); make room there"):
        evaluate(trained.path, "--data", *later)


def test_a_model_that_answers_another_question_is_refused(later: list[Path], tmp_path: Path) -> None:
    other = answering_another_question(tmp_path / "xgboost_direction_24h" / "1")
    with pytest.raises(BundleError, match="model of direction, which answers another question with 3 outputs: only"):
        evaluate(other.path, "--data", *later)
