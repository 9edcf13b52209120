"""Evaluations and backtests on record in a real PostgreSQL, as a person runs them: those that failed, too."""

import json
import socket

import numpy as np
import polars as pl
import pytest

from candlecast.cli import main
from candlecast.models import bundle as bundles
from candlecast.training import finished
from candlecast.training.sources import utc
from tests.bundles import small_bundle, small_ensemble
from tests.integration.filled import fill_candles
from tests.integration.test_training_record import fetch
from tests.market_simulator import candles

SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candles")
    for seed, symbol in enumerate(SYMBOLS):
        given = candles(symbol, 760, seed=seed)
        columns = dict(zip(("open", "high", "low", "close", "volume"), given.values.T, strict=False))
        pl.DataFrame({"ts": given.open_time_ms, **columns}).write_parquet(folder / f"{symbol}-15m.parquet")
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small_ensemble(tmp_path_factory.mktemp("repository"))


def runs(dsn):
    return fetch(dsn, "SELECT * FROM ml_measurements ORDER BY measured_at, model")


def test_an_evaluation_is_on_record_with_its_numbers_beside_their_bases(dsn, files, whole, capsys):
    assert main(["evaluate", str(whole.path), "--data", *files, "--json", "--database", dsn]) == 0
    document = json.loads(capsys.readouterr().out)

    (run,) = runs(dsn)
    assert (run["source"], run["status"], run["error"]) == ("evaluate", "finished", None)
    assert (run["model"], run["version"], run["bundle_sha256"]) == ("ensemble", 1, whole.sha256)
    assert (run["verdict"], run["warnings"]) == (document["verdict"], document["warnings"])
    assert run["data_points"] == document["metrics"]["rows"] > 10
    assert json.loads(run["config"])["stride"] == 4
    assert run["duration_s"] > 0
    rows = fetch(
        dsn,
        "SELECT horizon, metric, value, base, persistence, fold, measured_at, data_from, data_to"
        " FROM ml_model_performance WHERE model = 'ensemble' AND source = 'evaluate'",
    )
    found = {(row["horizon"], row["metric"]): row for row in rows}
    for horizon, numbers in document["horizons"].items():
        row = found[horizon, "log_loss"]
        assert (row["value"], row["base"]) == (numbers["log_loss"], numbers["base_rate_log_loss"])
        assert row["persistence"] == numbers["persistence_log_loss"]
        assert (row["fold"], row["measured_at"]) == (0, run["measured_at"])
        assert (row["data_from"], row["data_to"]) == (run["data_from"], run["data_to"])
    assert {"max_rally_4h"} <= {horizon for horizon, _ in found}
    assert ("4h", "f1.LONG") in found


def test_a_backtest_is_on_record_model_by_model_beside_buying_and_holding(dsn, files, whole, capsys):
    models = [str(whole.path), str(whole.members[0].path)]
    flags = ["--filters", "none", "--fees", "0.001", "--json", "--database", dsn]
    assert main(["backtest", "--data", *files, "--models", *models, *flags]) == 0
    told = json.loads(capsys.readouterr().out)

    assert [(run["model"], run["status"]) for run in runs(dsn)] == [("ensemble", "finished"), ("patchtst", "finished")]
    assert [run["verdict"] for run in runs(dsn)] == told["verdicts"]
    assert json.loads(runs(dsn)[0]["config"])["rules"]["fees"] == 0.001
    for name, numbers in (("ensemble", told["models"]["ensemble v1"]), ("patchtst", told["models"]["patchtst v1"])):
        rows = fetch(dsn, "SELECT * FROM ml_model_performance WHERE model = $1 AND horizon = 'all'", name)
        found = {row["metric"]: row for row in rows}
        assert {row["source"] for row in rows} == {"backtest"}
        for metric in ("return", "sharpe", "max_drawdown"):
            assert found[metric]["value"] == pytest.approx(numbers[metric])
            assert found[metric]["base"] == pytest.approx(told["buy_and_hold"][metric])
        assert found["trades"]["value"] == numbers["trades"] > 5
        assert found["trades"]["base"] is None


def test_folds_and_unseen_bars_of_a_backtest_have_rows_of_their_own(dsn, files, tmp_path):
    made = small_bundle(tmp_path / "patchtst/1")
    at = [utc(int(candles("X", 760).open_time_ms[k])) for k in (0, 500, 700)]
    made.manifest.data.update({"from": at[0], "to": at[2]})
    made.manifest.metrics["walk_forward"] = {"folds": [{"spans": {"test": {"from": at[1], "before": at[2]}}}]}
    model = (made.path / "model.onnx").read_bytes()
    bundles.write(made.path, made.manifest, model, made.golden_inputs, made.golden_outputs)

    asked = ["--models", str(made.path), "--filters", "none", "--database", dsn]
    assert main(["backtest", "--data", *files, *asked]) == 0

    rows = fetch(
        dsn, "SELECT fold, horizon, data_from, data_to FROM ml_model_performance WHERE metric = 'trades' ORDER BY 1, 2"
    )
    assert [(row["fold"], row["horizon"]) for row in rows] == [(0, "all"), (0, "unseen"), (1, "all")]
    assert [utc(round(row["data_from"].timestamp() * 1000)) for row in rows[1:]] == [
        utc(int(candles("X", 760).open_time_ms[701])) if row["horizon"] == "unseen" else at[1] for row in rows[1:]
    ]


def test_what_failed_is_on_record_with_its_reason(dsn, files, whole, tmp_path, capsys):
    broken = small_bundle(tmp_path / "patchtst/1")
    (broken.path / "model.onnx").write_bytes(b"no longer itself")
    assert main(["evaluate", str(broken.path), "--data", *files, "--database", dsn]) == 78
    assert main(["evaluate", str(whole.path), "--data", files[1], "--database", dsn]) == 78
    models = [str(whole.path), str(broken.path)]
    assert main(["backtest", "--data", *files, "--models", *models, "--database", dsn]) == 78
    said = capsys.readouterr().err

    found = [(run["source"], run["model"], run["status"]) for run in runs(dsn)]
    assert found == [
        ("evaluate", None, "failed"),
        ("evaluate", "ensemble", "failed"),
        ("backtest", None, "failed"),
        ("backtest", None, "failed"),
    ]
    assert "sha256 differs" in runs(dsn)[0]["error"] and runs(dsn)[0]["bundle_path"] == str(broken.path)
    assert "give its candle file too" in runs(dsn)[1]["error"]
    assert "not on record" not in said
    assert fetch(dsn, "SELECT * FROM ml_model_performance") == []


def test_one_that_is_interrupted_says_so(dsn, files, whole, monkeypatch):
    def pressed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(finished, "answers", pressed)
    assert main(["evaluate", str(whole.path), "--data", *files, "--database", dsn]) == 130
    assert [(run["model"], run["status"]) for run in runs(dsn)] == [("ensemble", "interrupted")]


def test_a_database_that_is_away_costs_the_record_alone(files, whole, capsys, caplog):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"postgresql://u:s3cret@127.0.0.1:{probe.getsockname()[1]}/x"
    assert main(["evaluate", str(whole.path), "--data", *files, "--stride", "20", "--json", "--database", url]) == 0
    assert json.loads(capsys.readouterr().out)["bundle"]["name"] == "ensemble"
    assert "measurement not on record" in caplog.text and "s3cret" not in caplog.text


def test_candles_of_the_database_are_evaluated_and_traded_as_those_of_files(dsn, files, whole, capsys):
    fill_candles(dsn, [candles(symbol, 760, seed=seed) for seed, symbol in enumerate(SYMBOLS)])
    told, traded = [], []
    for data in (files, ["database"]):
        flags = ["--models", str(whole.path), "--filters", "none", "--json", "--database", dsn]
        assert main(["backtest", "--data", *data, *flags]) == 0
        traded.append(json.loads(capsys.readouterr().out))
        flags = ["--stride", "20", "--json", "--database", dsn]
        assert main(["evaluate", str(whole.path), "--data", *data, *flags]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]
    assert traded[0] == traded[1]
    assert np.isfinite(told[0]["horizons"]["4h"]["log_loss"])
