"""Trainings on record in a real PostgreSQL: what ended how, with which numbers; and a database that is away."""

import asyncio
import json
import logging
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import numpy as np
import pytest

from candlecast import _rust, cli
from candlecast.features import NAMES
from candlecast.models.bundle import Bundle, FeatureSet, Manifest
from candlecast.store import registry
from candlecast.store.registry import Importance, Logged, Performance, Session
from candlecast.training import record, record_rows
from tests.training.conftest import simulate

WAIT_S = 20.0
NAN = float("nan")


def pair(model, base, **more):
    return {"model": model, "base": base} | more


def fold(shift):
    metrics = {
        "log_loss": pair(1.0 + shift, 1.1, persistence=1.2, interval=[0.9, 1.15]),
        "balanced_accuracy": pair(0.4, 1 / 3),
        "recall": {"LONG": pair(0.5, 0.0)},
        "frequencies": {"LONG": 0.3},
    }
    test = {"from": "2024-02-01T00:00:00Z", "before": "2024-03-01T00:00:00Z"}
    return {
        "rows": 100,
        "spans": {"test": test},
        "horizons": {"15m": metrics, "4h": metrics},
        "risks": {"max_rally_1h": {"mae": pair(0.01, 0.02)}},
    }


def bundle(sha="ab" * 32, **changes):
    importance = [
        {"feature": name, "index": k, "rank": k + 1, "score": score, "correlation": correlation, "gain": None}
        for k, (name, score, correlation) in enumerate([("rsi_14", 0.75, -0.1), ("adx_14", 0.25, None)])
    ]
    walk_forward = {"folds": [fold(0.0), fold(0.02)], "mean": fold(0.01)}
    values = {
        "name": "patchtst",
        "version": 2,
        "created_at": "2026-01-01T00:00:00Z",
        "feature_set": FeatureSet("v1", "fedcba9876543210", ["rsi_14", "adx_14"], ["trades"], None),
        "data": {
            "files": [],
            "symbols": ["BTCUSDT"],
            "interval_ms": 900_000,
            "from": "2024-01-01T00:00:00Z",
            "to": "2024-04-01T00:00:00Z",
        },
        "code_commit": "c0ffee",
        "training": {"samples": 1234, "shipped": {"interrupted": False}},
        "metrics": {
            "walk_forward": walk_forward,
            "importance": {"method": "shap", "correlation_bars": 16, "features": importance},
        },
        "temperatures": [1.0] * 4,
    } | changes
    return Bundle(Path("/models/patchtst/2"), Manifest(**values), sha, np.zeros((4, 96, 2)), np.zeros((4, 20)))


def fetch(dsn, statement, *values):
    async def ask():
        connection = await asyncpg.connect(dsn)
        try:
            return [dict(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    return asyncio.run(ask())


def when(dsn, statement, wanted):
    """Return the rows of the statement once `wanted` holds of them."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if wanted(rows := fetch(dsn, statement)):
            return rows
    raise AssertionError(f"{statement}: {rows}")


def start(log, **known):
    log.started("patchtst", version=2, family="patchtst", config={"seed": 7}, **known)


def test_a_finished_training_leaves_its_session_log_model_metrics_and_importance(dsn):
    with record.opened(dsn) as log:
        start(log)
        log.finished(bundle())

    (session,) = fetch(dsn, "SELECT * FROM ml_trainings")
    assert (session["status"], session["error"], session["data_points"]) == ("finished", None, 1234)
    assert json.loads(session["config"]) == {"seed": 7}
    (logged,) = fetch(dsn, "SELECT * FROM ml_training_status")
    assert (logged["strategy"], logged["status"], logged["model_accuracy"]) == ("patchtst", "finished", 0.4)
    (model,) = fetch(dsn, "SELECT * FROM ml_models")
    assert (model["state"], model["target"], model["horizon_bars"]) == ("TRAINED", "forecast", [1, 4, 16, 48])
    assert model["feature_set_hash"] % 2**64 == 0xFEDCBA9876543210
    assert (model["features"], model["session_id"]) == (["rsi_14", "adx_14"], session["id"])
    assert model["bundle_sha256"].hex() == session["bundle_sha256"] == "ab" * 32
    skills = fetch(dsn, "SELECT * FROM ml_model_skill WHERE horizon = '4h' ORDER BY fold")
    assert [(row["fold"], row["log_loss"], row["base_log_loss"]) for row in skills] == [
        (0, 1.01, 1.1),
        (1, 1.0, 1.1),
        (2, 1.02, 1.1),
    ]
    assert skills[1]["skill"] == pytest.approx(1 - 1 / 1.1)
    assert (skills[1]["low"], skills[1]["high"]) == (0.9, 1.15)
    metrics = fetch(
        dsn, "SELECT DISTINCT horizon, metric FROM ml_model_performance WHERE horizon <> '15m' ORDER BY 1, 2"
    )
    assert [tuple(row.values()) for row in metrics] == [
        ("4h", "balanced_accuracy"),
        ("4h", "log_loss"),
        ("4h", "recall.LONG"),
        ("max_rally_1h", "mae"),
    ]
    rows = fetch(dsn, "SELECT feature, score, rank, correlation FROM ml_feature_importance_now ORDER BY rank")
    assert [tuple(row.values()) for row in rows] == [("rsi_14", 0.75, 1, -0.1), ("adx_14", 0.25, 2, None)]
    features = fetch(dsn, "SELECT name FROM ml_features ORDER BY index")
    assert [row["name"] for row in features] == list(NAMES)


def test_a_training_that_fails_leaves_its_error_in_session_and_log(dsn):
    with pytest.raises(ValueError, match="loss is NaN"), record.opened(dsn) as log:
        start(log)
        log.progress(phase="fold 1", step=3, steps=9, loss=NAN, validation_loss=1.5)
        raise ValueError("loss is NaN at step 3")

    (session,) = fetch(dsn, "SELECT * FROM ml_trainings")
    assert (session["status"], session["error"]) == ("failed", "loss is NaN at step 3")
    assert (session["phase"], session["step"], session["loss"], session["validation_loss"]) == ("fold 1", 3, None, 1.5)
    (logged,) = fetch(dsn, "SELECT status, error, session_id FROM ml_training_log")
    assert tuple(logged.values()) == ("failed", "loss is NaN at step 3", session["id"])
    assert fetch(dsn, "SELECT * FROM ml_models") == []


def test_a_training_that_ends_without_a_bundle_has_failed(dsn):
    with record.opened(dsn) as log:
        start(log)
    (row,) = fetch(dsn, "SELECT status, error FROM ml_training_log")
    assert tuple(row.values()) == ("failed", "it ended without a bundle")


def test_ctrl_c_is_interrupted_with_or_without_a_bundle(dsn):
    with pytest.raises(KeyboardInterrupt), record.opened(dsn) as log:
        start(log)
        raise KeyboardInterrupt
    with record.opened(dsn) as log:
        start(log)
        log.finished(bundle(training={"shipped": {"interrupted": True}}))

    rows = fetch(dsn, "SELECT status, bundle_sha256 IS NULL AS bare FROM ml_training_sessions ORDER BY started_at")
    assert [tuple(row.values()) for row in rows] == [("interrupted", True), ("interrupted", False)]


def test_progress_is_there_while_the_training_runs(dsn):
    with record.opened(dsn) as log:
        start(log)
        log.progress(phase="fold 1", step=1, steps=50, loss=1.25)
        (row,) = when(
            dsn, "SELECT status, phase, step, steps, loss FROM ml_trainings", lambda rows: rows and rows[0]["step"]
        )
        assert tuple(row.values()) == ("running", "fold 1", 1, 50, 1.25)
        log.finished(bundle())


def test_a_training_without_progress_gives_signs_of_life(dsn, monkeypatch):
    monkeypatch.setattr(record, "WRITE_PAUSE_S", 0.01)
    monkeypatch.setattr(record, "HEARTBEAT_S", 0.05)
    with record.opened(dsn) as log:
        start(log)
        (first,) = when(dsn, "SELECT updated_at FROM ml_trainings", bool)
        when(dsn, "SELECT updated_at FROM ml_trainings", lambda rows: rows[0]["updated_at"] > first["updated_at"])
        log.finished(bundle())


def test_what_a_step_costs_is_next_to_nothing_and_writes_are_few(dsn, monkeypatch):
    writes = []
    save = registry.save_session
    monkeypatch.setattr(registry, "save_session", lambda pool, session: writes.append(session) or save(pool, session))
    began = time.monotonic()
    with record.opened(dsn) as log:
        start(log)
        for step in range(20_000):
            log.progress(step=step, steps=20_000, loss=1.0)
        steps_s = time.monotonic() - began
        log.finished(bundle())
    assert steps_s < 2
    assert len(writes) <= steps_s / record.WRITE_PAUSE_S + 2
    assert writes[-1].status == "finished"


def test_a_database_that_is_away_stops_nothing_and_is_warned_of(caplog):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"postgresql://u:s3cret@127.0.0.1:{probe.getsockname()[1]}/x"
    began = time.monotonic()
    with caplog.at_level(logging.WARNING), record.opened(url, finish_timeout_s=0.5) as log:
        start(log)
        log.progress(step=1)
        log.finished(bundle())
    assert time.monotonic() - began < 5
    assert "not on record for now" in caplog.text
    assert "could not be written within 0.5 s" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_database_without_the_tables_says_how_to_get_them(empty_dsn, caplog):
    with record.opened(empty_dsn, finish_timeout_s=0.1) as log:
        start(log)
        log.finished(bundle())
    assert "candlecast migrate" in caplog.text


def test_a_database_that_comes_back_gets_everything(dsn, monkeypatch):
    refused = threading.Event()
    save = registry.save_session

    async def first_refuse(pool, session):
        if not refused.is_set():
            refused.set()
            raise record.CandlecastError("away")
        await save(pool, session)

    monkeypatch.setattr(record, "RETRY_PAUSE_S", 0.01)
    monkeypatch.setattr(registry, "save_session", first_refuse)
    with record.opened(dsn) as log:
        start(log)
        assert refused.wait(WAIT_S)
        log.finished(bundle())
    assert [row["status"] for row in fetch(dsn, "SELECT status FROM ml_trainings")] == ["finished"]
    assert len(fetch(dsn, "SELECT * FROM ml_models")) == 1


def test_without_a_url_or_a_start_nothing_is_kept_and_nothing_fails(dsn):
    with record.opened(None) as log:
        start(log)
        log.progress(step=1)
        log.finished(bundle())
    with record.opened(dsn) as log:
        log.progress(step=1)
    assert fetch(dsn, "SELECT * FROM ml_training_sessions") == []


def session_of(**changes):
    fields = {
        "id": uuid4(),
        "model": "m",
        "version": 1,
        "family": "f",
        "horizon_bars": [1],
        "started_at": datetime.now(UTC),
    }
    return Session(**fields | changes)


def test_a_training_of_another_target_is_on_record_from_the_command(dsn, tmp_path):
    simulate(1, 2500).write_parquet(tmp_path / "AAAUSDT-15m.parquet")
    (tmp_path / "quick.toml").write_text("stride = 5\nfolds = 1\n[trees]\nrounds_max = 5\nlearning_rate = 0.3\n")
    flags = ["--target", "direction", "--hours", "6", "--threshold", "0.01", "--config", str(tmp_path / "quick.toml")]
    place = ["--data", str(tmp_path / "AAAUSDT-15m.parquet"), "--out", str(tmp_path / "out"), "--database", dsn]

    assert cli.main(["train", "lightgbm", *flags, *place]) == 0

    (session,) = fetch(dsn, "SELECT * FROM ml_trainings")
    name = "lightgbm_direction_6h"
    assert (session["model"], session["status"], session["target"]) == (name, "finished", "direction")
    (model,) = fetch(dsn, "SELECT * FROM ml_models")
    sha256 = Bundle.load(tmp_path / "out").sha256
    assert (model["name"], model["target"], model["bundle_sha256"].hex()) == (name, "direction", sha256)
    rows = fetch(dsn, "SELECT DISTINCT fold, horizon FROM ml_model_performance WHERE metric = 'log_loss' ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [(0, "6h"), (1, "6h")]
    assert fetch(dsn, "SELECT count(*) FROM ml_feature_importance WHERE model = 'lightgbm_direction_6h'") == [
        {"count": len(NAMES)}
    ]
    (logged,) = fetch(dsn, "SELECT * FROM ml_training_log")
    assert (logged["strategy"], logged["status"]) == (name, "finished")


async def test_everything_may_be_written_again(pool):
    session = session_of(metadata={"note": "a\0b"})
    entry = bundle()
    rows = record_rows.performance(entry)
    for _ in range(2):
        await registry.register_features(pool, "v1", _rust.catalog())
        await registry.save_session(pool, session)
        await registry.log_training(pool, Logged("k", "m", "finished", metadata={"loss": NAN}))
        await registry.register_model(pool, record_rows.trained(entry, session))
        await registry.record_performance(pool, rows)
        await registry.record_importance(pool, record_rows.importance(entry))
    counts = {
        table: (await pool.fetch(f"SELECT count(*) FROM {table}"))[0][0]
        for table in ("ml_features", "ml_training_sessions", "ml_training_log", "ml_models", "ml_feature_importance")
    }
    assert list(counts.values()) == [len(NAMES), 1, 1, 1, 2]
    assert (await pool.fetch("SELECT count(*) FROM ml_model_performance"))[0][0] == len(rows)


async def test_a_session_that_ended_does_not_run_again(pool):
    session = session_of()
    await registry.save_session(pool, replace(session, status="failed", error="no"))
    await registry.save_session(pool, replace(session, step=5))
    assert (await pool.fetch("SELECT status, step FROM ml_trainings"))[0]["status"] == "failed"


async def test_a_session_without_a_sign_of_life_is_lost(pool):
    await registry.save_session(pool, session_of())
    assert (await pool.fetch("SELECT status FROM ml_trainings"))[0][0] == "running"
    await pool.fetch("UPDATE ml_training_sessions SET updated_at = updated_at - interval '3 minutes'")
    assert (await pool.fetch("SELECT status FROM ml_trainings"))[0][0] == "lost"


async def test_a_bundle_trained_again_under_its_version_is_another_model(pool):
    session = session_of()
    await registry.save_session(pool, session)
    ids = [
        await registry.register_model(pool, record_rows.trained(bundle(sha * 32), session))
        for sha in ("aa", "bb", "aa")
    ]
    assert ids[0] == ids[2] != ids[1]


async def test_a_metric_that_is_not_finite_is_left_out(pool):
    row = Performance("m", 1, b"", "evaluate", datetime.now(UTC), 0, "4h", "auc", NAN, base=0.5)
    await registry.record_performance(pool, [row, replace(row, metric="brier", value=0.2, base=NAN)])
    rows = await pool.fetch("SELECT metric, base FROM ml_model_performance")
    assert [tuple(row) for row in rows] == [("brier", None)]


async def test_the_evolution_of_importance_shows_what_changed(pool):
    day = datetime(2026, 1, 1, tzinfo=UTC)
    for version, (score, rank) in enumerate([(0.1, 5), (0.3, 2)], 1):
        row = Importance("m", version, day + timedelta(days=version), "rsi_14", 0, score, rank, "shap")
        await registry.record_importance(pool, [row])
    rows = await pool.fetch(
        "SELECT version, score_change, ranks_gained FROM ml_feature_importance_evolution ORDER BY calculated_at"
    )
    assert [tuple(row) for row in rows] == [(1, None, None), (2, pytest.approx(0.2), 3)]
