"""The gate's commands on the order flow that servers stored, in a real PostgreSQL."""

import json

import numpy as np
import polars as pl
import pytest

from candlecast import gate
from candlecast.cli import main
from candlecast.errors import ConfigurationError, StorageUnavailable
from candlecast.store import copied
from candlecast.store.flow_history import read_flow
from candlecast.training import gate_data, gate_model, gate_recipe
from candlecast.training.gate_labels import Label
from candlecast.training.gate_simulated import simulated
from tests.integration.filled import fill_flow
from tests.integration.test_training_record import fetch

START_MS = 1_700_000_100_000
SECOND = 1_000
PAUSE_MS = 300_000


@pytest.fixture(scope="module")
def flow():
    """A simulated market as a server stores it, the last trade of each second: times and rows."""
    recording = simulated(trades=24_000)
    ts, rows = recording.column("ts"), recording.rows.select(gate.RECORD).to_numpy()
    last = np.flatnonzero(np.diff(ts // SECOND, append=-1))
    rows = np.ascontiguousarray(rows[last])
    rows[::97, 2], rows[::89, 1] = np.nan, np.nan  # undefined now and then
    return ts[last] - ts[0] + START_MS, rows


@pytest.fixture
def stored(dsn, flow):
    """Two symbols; the server of the first was away in the middle; each has questions to the gate in between."""
    ts, rows = flow
    half = len(ts) // 2
    paused = np.concatenate([ts[:half], ts[half:] + PAUSE_MS])
    fill_flow(dsn, "BTCUSDT", paused, rows)
    fill_flow(dsn, "ETHUSDT", ts[:400], rows[:400])
    fill_flow(dsn, "BTCUSDT", ts[:50] + 1, rows[:50], asked=True)
    return paused, rows


def test_records_come_by_symbol_in_time_order_with_what_is_undefined_and_no_questions(dsn, stored, monkeypatch):
    ts, rows = stored
    assert np.isnan(rows).any()
    for chunk in (copied.CHUNK_BYTES, 1_000):  # rows are torn wherever they are cut
        monkeypatch.setattr(copied, "CHUNK_BYTES", chunk)
        bitcoin, ether = read_flow(dsn)
        assert (bitcoin.symbol, ether.symbol, len(ether.ts_ms)) == ("BTCUSDT", "ETHUSDT", 400)
        np.testing.assert_array_equal(bitcoin.ts_ms, ts)
        np.testing.assert_array_equal(bitcoin.rows, rows)


def test_symbols_and_times_are_those_asked_for(dsn, stored):
    ts, rows = stored
    (found,) = read_flow(dsn, symbols=["BTCUSDT"], start_ms=int(ts[100]), end_ms=int(ts[200]))
    np.testing.assert_array_equal(found.ts_ms, ts[100:200])
    np.testing.assert_array_equal(found.rows, rows[100:200])


def test_of_more_records_than_there_is_room_for_the_newest_are_read_and_that_is_said(dsn, stored):
    ts, _ = stored
    said = []
    (found,) = read_flow(dsn, symbols=["BTCUSDT"], records_max=100, say=said.append)
    np.testing.assert_array_equal(found.ts_ms, ts[-100:])
    assert said[0].startswith("more than 100 records are stored: those before 20")
    assert sum(len(one.ts_ms) for one in read_flow(dsn, records_max=100)) <= 100
    read_flow(dsn, symbols=["BTCUSDT"], records_max=len(ts), say=lambda line: pytest.fail(line))


def test_nothing_to_read_says_what_was_asked(dsn, empty_dsn):
    with pytest.raises(ConfigurationError, match=r"no record of any symbol from 1970.*that order flow is sent"):
        read_flow(dsn)


def test_without_the_table_it_says_how_to_get_it(empty_dsn):
    with pytest.raises(StorageUnavailable, match="candlecast migrate"):
        read_flow(empty_dsn)


def test_nothing_is_labelled_across_a_pause_of_the_server(dsn, stored, flow):
    ts, rows = flow
    half = len(ts) // 2
    said = []
    recordings = gate_data.of_database(read_flow(dsn), said.append)
    assert [len(one.rows) for one in recordings] == [half, len(ts) - half, 400]
    assert said[0].endswith("without a pause of 60 s; 0 shorter than 30 s are left out")
    samples = gate_data.samples(recordings[:2], Label())
    horizon = Label().horizon_ms
    assert samples.ts[samples.recording == 0].max() + horizon <= ts[half - 1]
    unpaused = pl.DataFrame({"ts": ts}).hstack(pl.from_numpy(rows, schema=list(gate.RECORD)))
    whole = gate_data.samples([gate_data.Recording("whole", [], unpaused)], Label())
    assert len(whole) > len(samples) > len(whole) - 100


def test_the_commands_label_train_evaluate_and_retrain_from_the_database(dsn, stored, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(gate_model.GRIDS, "small", gate_model.Grid((5, 20), (3,), (0.1,), (0.8,)))
    monkeypatch.setattr(gate_recipe, "PARITY_ROWS", 1_000)
    monkeypatch.setenv("DATABASE_URL", dsn)
    ts, _ = stored
    until = gate_data.utc(int(ts[-600]))
    out, labelled = tmp_path / "gate" / "1", tmp_path / "labelled.parquet"

    assert main(["gate", "label", "--data", "database", "--out", str(labelled), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["recordings"]
    assert [one["recording"].split("-")[0] for one in told] == ["BTCUSDT", "BTCUSDT", "ETHUSDT"]
    rows = pl.read_parquet(labelled)
    assert len(rows) == len(ts) + 400

    flags = ["--grid", "small", "--rows", "300", "--fit-rows", "500", "--min-samples", "500", "--json"]
    asked = ["--symbol", "BTCUSDT", "--to", until]
    assert main(["gate", "train", "--data", dsn, *asked, *flags, "--out", str(out)]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert [one["files"][0]["name"] for one in manifest["data"]["recordings"]] == ["order_flow_features"] * 2
    assert not manifest["simulated"]
    (logged,) = fetch(dsn, "SELECT * FROM ml_training_log WHERE strategy = 'gate'")
    assert (logged["status"], logged["version"], logged["error"]) == ("finished", 1, None)
    assert logged["data_points"] == manifest["training"]["samples"]
    assert json.loads(logged["metadata"])["metrics"]["auc"] == manifest["metrics"]["auc"]
    assert dsn.rpartition("@")[2] not in (out / "manifest.json").read_text()

    assert main(["gate", "evaluate", str(out), "--data", "database", "--symbol", "BTCUSDT", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["rows"] > manifest["metrics"]["rows"]  # those that came later are unseen, too

    asked = ["gate", "retrain", "--data", "database", "--model", str(out.parent), *flags]
    assert main([*asked, "--margin", "0.9"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert not said["rolled_out"] and "is not better" in said["reason"]
    newest = fetch(dsn, "SELECT * FROM ml_training_log ORDER BY id")[-1]
    assert json.loads(newest["metadata"])["reason"] == said["reason"]


def test_a_training_of_the_gate_that_fails_is_on_record(dsn, flow, tmp_path, capsys):
    ts, rows = flow
    fill_flow(dsn, "BTCUSDT", ts[:60], rows[:60])
    assert main(["gate", "train", "--data", dsn, "--database", dsn, "--out", str(tmp_path / "gate" / "1")]) == 78
    (logged,) = fetch(dsn, "SELECT * FROM ml_training_status")
    assert (logged["strategy"], logged["status"]) == ("gate", "failed")
    assert "fewer than 1000: nothing is trained on so little" in logged["error"]


def test_a_table_with_too_little_keeps_the_gate_that_serves(dsn, flow, tmp_path, capsys):
    ts, rows = flow
    fill_flow(dsn, "BTCUSDT", ts[:20], rows[:20])
    asked = ["--data", dsn, "--model", str(tmp_path / "gate"), "--json"]
    assert main(["gate", "retrain", *asked]) == 0
    said = json.loads(capsys.readouterr().out)
    assert not said["rolled_out"] and said["reason"].startswith("0 trades have all features and a label")


def test_flags_that_do_not_go_together_are_refused(dsn, tmp_path, capsys):
    (tmp_path / "x-trades.csv").write_text("ts,price,qty\n1700000000000,1,1\n")
    data = ["gate", "label", "--data", str(tmp_path / "x-trades.csv")]
    for flags, says in ((["--from", "2024-01-01"], "files are taken whole"), (["--symbol", "A", "B"], "of one symbol")):
        assert main([*data, *flags]) == 78
        assert says in capsys.readouterr().err
    assert main([*data, "database"]) == 78
    assert "a database stands alone" in capsys.readouterr().err
    assert fetch(dsn, "SELECT * FROM order_flow_features") == []
