"""The gate's model: planted signals are found, folds do not leak, ONNX is scikit-learn, too little is refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlecast import flow_rows, gate
from candlecast.cli import main
from candlecast.errors import BundleError, CandlecastError, ConfigurationError
from candlecast.models import gate_bundle
from candlecast.models.gate_bundle import GateBundle
from candlecast.settings import CHECKOUT
from candlecast.training import gate_data, gate_metrics, gate_model, gate_recipe
from candlecast.training.gate_data import Recording, Samples, TooLittle
from candlecast.training.gate_labels import Label
from candlecast.training.gate_model import Params
from candlecast.training.gate_recipe import Config
from candlecast.training.gate_simulated import simulated

BOOK = CHECKOUT.parent / "shared" / "data" / "book"
QUICK = Config(grid="small", rows_max=300, fit_rows_max=1_000, samples_min=500)
START_MS = 1_700_000_000_000


@pytest.fixture(autouse=True)
def one_quick_combination(monkeypatch):
    """Search two combinations of few trees, which is enough to see that they are searched."""
    monkeypatch.setitem(gate_model.GRIDS, "small", gate_model.Grid((5, 20), (3,), (0.1,), (0.8,)))


def planted(trades=4_000, seed=0, wrong_share=0.1):
    """Return a recording where the price comes back, in the minute after a trade, just where the book leans to it.

    Each trade has its own VWAP, 1 σ away; a trade 30 s later goes past it, or stays.
    """
    rng = np.random.default_rng(seed)
    ts = START_MS + np.arange(trades) * 2_000
    price = np.full(trades, 100.0)
    depth = rng.uniform(-1, 1, trades)
    comes = np.where(rng.random(trades) < wrong_share, depth < 0, depth > 0)
    # The window of a trade holds 30 later ones: whether any of them is low is what its label says.
    low = np.zeros(trades, dtype=bool)
    block = np.arange(trades) // 60
    low[np.unique(block) * 60] = comes[np.unique(block) * 60]
    leads = np.arange(trades) % 60 >= 30  # those whose next 30 trades hold the first one of the next block
    price[low] = 97.0
    depth[leads] = np.where(low[np.minimum((block[leads] + 1) * 60, trades - 1)], 0.5, -0.5) + rng.normal(
        0, 0.2, leads.sum()
    )
    depth[~leads] = -0.5 + rng.normal(0, 0.2, (~leads).sum())
    rows = {"ts": ts, "tick_ratio": rng.normal(0, 0.2, trades), "depth_ratio": depth, "price_dist": (price - 99.0)}
    rows |= {"price": price, "vwap": np.full(trades, 99.0), "std_dev": np.ones(trades)}
    rows |= {"bid_vol": np.ones(trades), "ask_vol": np.ones(trades)}
    told = [{"name": f"planted-{seed}", "sha256": f"{seed:064x}"}]
    return Recording("planted", told, pl.DataFrame(rows).cast(flow_rows.SCHEMA))


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gate_model.GRIDS, "small", gate_model.Grid((5, 20), (3,), (0.1,), (0.8,)))
        return gate_recipe.train([planted()], QUICK)


def test_a_planted_signal_is_learned_and_found_in_its_feature(made):
    metrics = made.manifest.metrics
    assert metrics["auc"]["model"] > 0.9 > 0.5 == metrics["auc"]["base"]
    assert metrics["log_loss"]["model"] < metrics["log_loss"]["base"]
    assert metrics["precision"]["base"] == pytest.approx(metrics["positive_rate"], abs=1e-3)
    assert made.importance["depth_ratio"]["gain"] > 0.5
    assert made.importance["depth_ratio"]["auc_lost_when_shuffled"] > 0.3
    assert abs(made.importance["tick_ratio"]["auc_lost_when_shuffled"]) < 0.05
    low, high = metrics["auc"]["interval_95"]
    assert 0.8 < low < metrics["auc"]["model"] < high
    assert all(one["auc"] > 0.8 for one in metrics["over_time"])


def test_labels_that_are_drawn_by_chance_are_not_learned():
    samples = gate_data.samples([planted(trades=6_000)], QUICK.label)
    shuffled = np.random.default_rng(1).permutation(samples.labels)
    known = Samples(samples.ts, samples.features, shuffled, samples.recording)
    _, ranked, _ = gate_model.search(known, gate_model.GRIDS["small"], QUICK.gap_ms, 1_000, seed=0)
    assert abs(ranked[0].mean - 0.5) < 0.06


def test_no_label_of_a_train_part_and_no_feature_of_its_test_part_share_a_trade():
    rng = np.random.default_rng(2)
    ts = np.sort(rng.integers(0, 3_600_000, 5_000))
    folds = list(gate_model.purged_folds(ts, QUICK.gap_ms))
    assert len(folds) == 5
    tested = np.concatenate([test for _, test in folds])
    assert len(tested) == len(np.unique(tested)) and tested[-1] == len(ts) - 1
    for train, test in [*folds, gate_model.held_out(ts, QUICK.gap_ms, 0.2)]:
        assert ts[train].max() + QUICK.label.horizon_ms < ts[test].min() - gate_data.WINDOW_MS
        assert len(train) >= np.count_nonzero(ts < ts[test].min()) - np.count_nonzero(
            (ts >= ts[test].min() - QUICK.gap_ms) & (ts < ts[test].min())
        )


def test_fewer_trees_are_the_beginning_of_more_so_that_combinations_may_share_a_fit():
    samples = gate_data.samples([planted()], QUICK.label)
    more, less = (gate_model.fit(samples, Params(n, 3, 0.1, 0.8), 500, seed=3) for n in (20, 5))
    staged = list(more[-1].staged_predict_proba(more[0].transform(samples.features)))
    np.testing.assert_array_equal(staged[4], less.predict_proba(samples.features))


def test_the_full_grid_is_that_of_the_contract():
    grid = gate_model.GRIDS["full"]
    assert len(grid.params()) == 81 and Config().combinations == 405
    assert asdict(grid) == {
        "n_estimators": (50, 100, 200),
        "max_depth": (3, 5, 7),
        "learning_rate": (0.01, 0.1, 0.2),
        "subsample": (0.8, 0.9, 1.0),
    }


def test_onnx_answers_as_scikit_learn_on_100_000_rows_next_to_thresholds_too(made):
    samples = gate_data.samples([planted()], QUICK.label)
    pipeline = gate_model.fit(samples, Params(60, 5, 0.2, 0.8), 2_000, seed=0)
    model = gate_model.to_onnx(pipeline)
    rows = gate_model.parity_rows(samples.features, 100_000, seed=1)
    # A threshold lies between two scaled values; unscaled in float32, it hits the very edge.
    trees = [tree.tree_ for tree in pipeline[-1].estimators_[:, 0]]
    for k in range(3):
        edges = np.concatenate([tree.threshold[tree.feature == k] for tree in trees])
        rows[: len(edges), k] = (edges * pipeline[0].scale_[k] + pipeline[0].mean_[k]).astype(np.float32)
    assert gate_model.check_parity(pipeline, model, rows) <= 1e-6
    assert made.manifest.training["parity"]["rows"] == 100_000
    assert made.manifest.training["parity"]["largest_difference"] <= 1e-5


def test_a_graph_that_answers_something_else_is_refused(made):
    samples = gate_data.samples([planted()], QUICK.label)
    other = gate_model.fit(samples, Params(5, 3, 0.1, 0.8), 500, seed=9)
    with pytest.raises(BundleError, match="differs from scikit-learn"):
        gate_model.check_parity(other, made.model, samples.features)


def test_the_graph_has_features_in_and_probabilities_out_and_nothing_else(made):
    import onnxruntime

    session = onnxruntime.InferenceSession(made.model, providers=["CPUExecutionProvider"])
    assert [(node.name, node.type, node.shape[1]) for node in session.get_inputs()] == [
        ("features", "tensor(float)", 3)
    ]
    assert [(node.name, node.type, node.shape[1]) for node in session.get_outputs()] == [
        ("probabilities", "tensor(float)", 2)
    ]
    answers = gate_model.run_onnx(made.model, np.zeros((7, 3), dtype=np.float32))
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)


def test_a_bundle_says_all_that_it_is_and_is_refused_when_a_file_is_touched(made, tmp_path):
    bundle = made.write(tmp_path / "gate" / "1")
    assert {file.name for file in bundle.path.iterdir()} == set(gate_bundle.FILES)
    assert not [file for file in bundle.path.iterdir() if file.suffix in (".pkl", ".joblib")]
    manifest = bundle.manifest
    assert (manifest.name, manifest.features, manifest.threshold) == ("gate", list(gate.FEATURES), 0.65)
    assert manifest.label["kind"] == "reversion" and "1.5 σ towards VWAP" in manifest.label["means"]
    assert manifest.data["recordings"][0]["rows"] == 4_000 and manifest.data["note"].startswith("Thin: ")
    assert not manifest.simulated
    np.testing.assert_allclose(
        gate_model.run_onnx((bundle.path / "model.onnx").read_bytes(), bundle.golden_inputs), bundle.golden_outputs
    )
    tried = json.loads((bundle.path / "training_metrics.json").read_bytes())["tried"]
    assert len(tried) == 2 and tried[0]["auc"] >= tried[1]["auc"]
    assert set(json.loads((bundle.path / "feature_importance.json").read_bytes())) == set(gate.FEATURES)
    assert gate_bundle.newest(tmp_path / "gate").sha256 == bundle.sha256
    (bundle.path / "training_metrics.json").write_text("{}")
    with pytest.raises(BundleError, match=r"training_metrics\.json is not the file"):
        GateBundle.load(bundle.path)


def test_a_disk_that_is_full_leaves_the_gate_that_was_there(made, tmp_path, monkeypatch):
    before = made.write(tmp_path / "gate" / "1")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CandlecastError, match=r"No space left on device\); what was there stays"):
        made.write(tmp_path / "gate" / "1")
    assert GateBundle.load(before.path).sha256 == before.sha256
    assert [file.name for file in (tmp_path / "gate").iterdir()] == ["1"]


def test_nothing_is_trained_on_too_little_or_on_one_class():
    with pytest.raises(TooLittle, match="fewer than 500"):
        gate_recipe.train([planted(trades=300)], QUICK)
    calm = planted()
    rows = calm.rows.with_columns(price=pl.lit(100.0), price_dist=pl.lit(1.0))
    with pytest.raises(TooLittle, match="all 3970 labels are 0"):
        gate_recipe.train([Recording("calm", calm.files, rows)], QUICK)


def test_nothing_is_chosen_on_a_recording_that_is_shorter_than_the_gaps_of_its_folds():
    minute = Recording("minute", [], planted().rows.with_columns(ts=START_MS + pl.int_range(pl.len()) * 15))
    with pytest.raises(TooLittle, match=r"a gap of 30\.45 s; give longer recordings"):
        gate_recipe.train([minute], replace(QUICK, label=Label(horizon_ms=450)))


def test_a_simulated_gate_says_so_and_is_refused_unless_it_is_allowed(tmp_path):
    recording = simulated(trades=4_000)
    config = Config(grid="small", rows_max=300, samples_min=500)
    bundle = gate_recipe.train([recording], config, simulated=True).write(tmp_path / "1")
    assert bundle.manifest.simulated
    assert bundle.manifest.data["recordings"][0]["name"] == "simulated-0"
    with pytest.raises(BundleError, match="simulated market"):
        bundle.check_real()
    bundle.check_real(allow_simulated=True)


def test_retraining_keeps_what_is_there_unless_the_new_one_is_better_by_the_margin(made, tmp_path):
    folder = tmp_path / "gate"
    first = gate_recipe.retrain(folder, [planted()], QUICK)
    assert (first["rolled_out"], first["version"], first["serving"]) == (True, 1, None)
    assert first["old"] == 0.5 < first["new"]

    newer = planted(seed=5)
    later = Recording("later", newer.files, newer.rows.with_columns(pl.col("ts") + 86_400_000))
    same = gate_recipe.retrain(folder, [planted(), later], QUICK, margin=0.2)
    assert not same["rolled_out"] and "is not better" in same["reason"] and same["serving"]["version"] == 1
    assert [path.name for path in folder.iterdir()] == ["1"]

    bad = gate_data.samples([planted()], QUICK.label)
    flipped = Samples(bad.ts, bad.features, (1 - bad.labels).astype(np.int8), bad.recording)
    model = gate_model.to_onnx(gate_model.fit(flipped, Params(20, 3, 0.1, 0.8), 1_000, seed=0))
    gate_recipe.Trained(model, made.manifest, made.golden, made.tried, made.importance, made.test).write(folder / "1")
    better = gate_recipe.retrain(folder, [planted(), later], QUICK, by="log_loss")
    assert better["rolled_out"] and better["version"] == 2 and better["better_by"] > better["margin"]
    assert gate_bundle.newest(folder).manifest.version == 2


def test_retraining_compares_on_nothing_that_either_gate_was_fitted_on(made, tmp_path):
    made.write(tmp_path / "gate" / "1")
    said = gate_recipe.retrain(tmp_path / "gate", [planted()], QUICK)
    until = made.manifest.training["fitted_until_ms"] + gate_data.WINDOW_MS
    assert said["rows"] == np.count_nonzero(made.test.ts > until) == len(made.test)
    older = planted().rows.with_columns(pl.col("ts") - 86_400_000)
    said = gate_recipe.retrain(tmp_path / "gate", [Recording("older", [], older)], QUICK)
    assert not said["rolled_out"] and "0 samples are new to both" in said["reason"]


def test_retraining_on_too_little_keeps_what_is_there_and_says_why(made, tmp_path):
    made.write(tmp_path / "gate" / "1")
    said = gate_recipe.retrain(tmp_path / "gate", [planted(trades=300)], QUICK)
    assert not said["rolled_out"] and "fewer than 500" in said["reason"]
    said = gate_recipe.retrain(tmp_path / "gate", [planted()], QUICK, simulated=True)
    assert not said["rolled_out"] and "other markets" in said["reason"]


def test_metrics_at_the_threshold_are_those_counted_by_hand():
    came = np.array([1, 1, 1, 0, 0], dtype=bool)
    approved = np.array([1, 1, 0, 1, 0], dtype=bool)
    assert gate_metrics.at_threshold(came, approved) == {
        "approval_rate": 0.6,
        "precision": 0.6667,
        "recall": 0.6667,
        "f1": 0.6667,
    }
    assert gate_metrics.at_threshold(came, ~came & ~approved)["precision"] == 0.0
    assert gate_metrics.at_threshold(came, np.zeros(5, dtype=bool))["precision"] is None


@pytest.mark.skipif(not BOOK.exists(), reason="the real recordings are not here")
def test_the_command_line_labels_trains_and_measures_real_order_flow(tmp_path, capsys):
    data = [str(BOOK / f"binance-spot-BTCUSDT-20240808-{kind}.parquet") for kind in ("trades", "book10", "bbo")]
    labelled, out = tmp_path / "labelled.parquet", tmp_path / "gate" / "1"
    assert main(["gate", "label", "--data", *data, "--out", str(labelled), "--json"]) == 0
    said = capsys.readouterr()
    assert "book10.parquet is not used" in said.err
    (one,) = json.loads(said.out)["recordings"]
    assert (one["trades"], one["labelled"]) == (19_904, 15_158)
    rows = pl.read_parquet(labelled)
    assert rows["label"].null_count() > 0 and rows["label"].drop_nulls().mean() == pytest.approx(0.6129, abs=0.05)

    flags = ["--grid", "small", "--rows", "300", "--fit-rows", "500", "--out", str(out), "--json"]
    assert main(["gate", "train", "--data", str(labelled), *flags]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["training"]["samples"] == 15_158
    assert "probabilities" in (tmp_path / "gate" / "config.pbtxt").read_text()
    assert main(["gate", "evaluate", str(out), "--data", *data, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    # The gap before the test part ends at a trade, what is unseen begins at a time: a few trades lie between.
    assert 0 <= measured["rows"] - manifest["metrics"]["rows"] < 20
    assert measured["auc"]["model"] == pytest.approx(manifest["metrics"]["auc"]["model"], abs=0.01)


def test_wrong_usage_and_wrong_data_say_what_to_do(tmp_path, capsys):
    for flags in ([], ["--simulate", "--data", "x-trades.parquet"]):
        with pytest.raises(SystemExit) as stopped:
            main(["gate", "train", "--out", str(tmp_path / "1"), *flags])
        assert stopped.value.code == 2
    assert main(["gate", "label", "--data", "nowhere-trades.parquet"]) == 78
    assert "there is no such file" in capsys.readouterr().err
    trades = Path(tmp_path / "BTCUSDT-trades.csv")
    trades.write_text("ts,price,qty\n1700000000000,1,1\n")
    assert main(["gate", "label", "--data", str(trades)]) == 78
    assert "its book" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="grid"):
        Config(grid="huge")
