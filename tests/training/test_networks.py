"""Both networks in the one loop: resumed to the bit, refused what is not theirs, explained completely."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from candlecast import outputs
from candlecast.errors import CandlecastError, ConfigurationError
from candlecast.training import attribution, export, loss, networks
from candlecast.training import fit as fitting
from candlecast.training.config import Config
from candlecast.training.data import Samples
from candlecast.training.feed import Feed
from candlecast.training.fit import FitConfig, start
from candlecast.training.labels import I8, Labels, starting_point
from candlecast.training.lstm import Lstm, LstmConfig
from candlecast.training.networks import Network, Networks
from candlecast.training.patchtst import NetworkConfig, PatchTST
from candlecast.values import F32, F64

FEATURES = 12
CONFIG = Config(
    network=NetworkConfig(width=16, layers=1, heads=2, feedforward=16, dropout=0.3),
    lstm=LstmConfig(width=16, layers=2, dropout=0.3),
    fit=FitConfig(epochs=3, batch_rows=32, learning_rate=3e-3, checks_per_epoch=2, threads=1, device="cpu"),
)
KEEN = dataclasses.replace(
    CONFIG,
    network=dataclasses.replace(CONFIG.network, dropout=0.0),
    lstm=dataclasses.replace(CONFIG.lstm, dropout=0.0, layers=1),
    fit=dataclasses.replace(CONFIG.fit, learning_rate=1e-2, epochs=6),
)
KINDS = ("patchtst", "lstm")
TRAIN, VALIDATION = np.arange(300), np.arange(300, 400)


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Return samples whose directions follow feature 3, which keeps its sign for a while."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((600, FEATURES)).astype(np.float32)
    rows[:, 3] = np.where(np.arange(600) // 37 % 2, 1.0, -1.0)
    end = np.arange(100, 500)
    directions = np.repeat((rows[end - 1, 3] < 0)[:, None], 4, axis=1).astype(np.int8)
    returns = (0.01 * rng.standard_normal((400, 4))).astype(np.float32)
    return Samples(rows, end, end * 900_000, Labels(end, returns, directions, np.abs(returns)))


def fitted(
    kind: str,
    samples: Samples,
    checkpoint: Path | None = None,
    stop_at: int = -1,
    config: Config = CONFIG,
    seed: int = 1,
) -> Network:
    def on_step(step: int, *numbers: object) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    return Networks(kind, config).fit(samples, TRAIN, VALIDATION, seed, on_step, checkpoint)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_fit_goes_on_to_the_same_bits(kind: str, samples: Samples, tmp_path: Path) -> None:
    whole = fitted(kind, samples)
    path = tmp_path / "kept" / "fold-1.checkpoint"

    cut = fitted(kind, samples, path, stop_at=13)  # between two checks, in the second epoch
    torch.rand(7)  # what happens between two runs
    resumed = fitted(kind, samples, path)

    assert cut.fitted.interrupted and cut.fitted.steps == 13
    assert not resumed.fitted.interrupted
    told = dataclasses.replace(resumed.fitted, seconds=0, feeding_share=0)
    assert told == dataclasses.replace(whole.fitted, seconds=0, feeding_share=0)
    assert resumed.fitted.seconds > cut.fitted.seconds
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_finished_fit_is_not_run_again(samples: Samples, tmp_path: Path) -> None:
    path = tmp_path / "fold-1.checkpoint"
    once = fitted("patchtst", samples, path)

    again = fitted("patchtst", samples, path, stop_at=once.fitted.steps)

    assert not again.fitted.interrupted  # no step was made
    assert again.fitted == once.fitted
    np.testing.assert_array_equal(again.predict(samples, VALIDATION), once.predict(samples, VALIDATION))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_takes_back_what_its_validation_part_does_not_bear_out(
    kind: str, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "fit_leans", lambda answers, directions: np.array([0.0, 1.0, 0.0, 1.0]))

    network = fitted(kind, samples)

    logits = network.predict(samples, VALIDATION)[:, outputs.LOGITS].reshape(-1, 4, 3)
    lean = np.abs(logits[..., 0] - logits[..., 1]).max(axis=0)
    assert (lean[[0, 2]] < 1e-5).all() and (lean[[1, 3]] > 1e-3).all()
    assert network.described()["leans"] == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_scaler_and_units_know_the_train_part_alone(kind: str, samples: Samples) -> None:
    rows, returns = samples.rows.copy(), samples.labels.returns.copy()
    rows[samples.end[TRAIN[-1]] :] += 50
    returns[VALIDATION] *= 1000
    moved = dataclasses.replace(samples, rows=rows, labels=dataclasses.replace(samples.labels, returns=returns))

    network = fitted(kind, moved, stop_at=9).network

    known = samples.newest(TRAIN).astype(np.float64)
    np.testing.assert_allclose(network.mean, known.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(network.std, known.std(axis=0), rtol=1e-5)
    right = starting_point(samples.labels.take(TRAIN))[1]
    np.testing.assert_allclose(network.unit, right, rtol=1e-5)


def test_leans_are_fitted_on_what_is_answered_in_the_validation_part(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fit_leans(answers: F32, directions: I8) -> F64:
        asked.append((answers, directions))
        return np.ones(4)  # nothing is taken back

    monkeypatch.setattr(networks, "fit_leans", fit_leans)

    network = fitted("lstm", samples)

    ((answers, directions),) = asked
    np.testing.assert_array_equal(directions, samples.labels.directions[VALIDATION])
    np.testing.assert_allclose(answers, network.predict(samples, VALIDATION), atol=1e-6)


def test_the_rate_rises_to_its_height_and_falls_as_a_cosine(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    rates, step = list[float](), fitting._step

    def watched(*args: Any) -> float:
        loss = step(*args)
        rates.extend(group["lr"] for group in args[3].param_groups)
        return loss

    monkeypatch.setattr(fitting, "_step", watched)
    config = dataclasses.replace(CONFIG.fit, warmup_share=0.2)  # 6 of the 30 steps

    fitted("lstm", samples, config=dataclasses.replace(CONFIG, fit=config))

    height = CONFIG.fit.learning_rate
    assert len(rates) == 30
    np.testing.assert_allclose(rates[:7], height * np.array([1, 2, 3, 4, 5, 6, 6]) / 6)
    at = {12: 0.5 + np.sqrt(0.125), 18: 0.5, 24: 0.5 - np.sqrt(0.125)}  # a quarter, a half, three quarters of the way
    assert [rates[k] / height for k in at] == pytest.approx(list(at.values()))
    assert rates[29] / height == pytest.approx(0.5 * (1 + np.cos(np.pi * 23 / 24)))


def test_a_gradient_is_clipped_to_its_largest_norm(samples: Samples) -> None:
    def moved(clip_norm: float) -> float:
        torch.manual_seed(0)
        model = Lstm(CONFIG.lstm, FEATURES)
        start(model, samples, TRAIN)
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        plain = torch.optim.SGD(model.parameters())
        config = dataclasses.replace(CONFIG.fit, clip_norm=clip_norm, bfloat16=False)
        fitting._step(model, Feed(samples, "cpu"), TRAIN[:32], plain, config, 1.0)
        return float((torch.cat([p.detach().flatten() for p in model.parameters()]) - before).norm())

    whole = moved(1e9)

    assert moved(whole / 4) == pytest.approx(whole / 4, rel=1e-3)
    assert moved(whole * 4) == pytest.approx(whole, rel=1e-6)


def test_a_fit_stops_when_no_check_is_better_for_a_while(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 0.9, 0.95, 0.8, 0.85, 0.8, 0.7])  # the start, then every 5 steps
    monkeypatch.setattr(fitting, "_validate", lambda *_: next(losses))
    impatient = dataclasses.replace(CONFIG, fit=dataclasses.replace(CONFIG.fit, patience_checks=2))

    found = fitted("lstm", samples, config=impatient).fitted

    assert (found.best_step, found.steps, found.planned) == (15, 25, 30)
    assert (found.start_loss, found.validation_loss) == (1.0, 0.8)
    assert not found.interrupted


def test_a_checkpoint_of_another_fit_is_refused(samples: Samples, tmp_path: Path) -> None:
    path = tmp_path / "fold-1.checkpoint"
    fitted("lstm", samples, path, stop_at=9)
    other = dataclasses.replace(CONFIG, lstm=dataclasses.replace(CONFIG.lstm, dropout=0.1))
    moved = dataclasses.replace(samples, open_time_ms=samples.open_time_ms + 900_000)

    for refused in (
        lambda: fitted("patchtst", samples, path),
        lambda: fitted("lstm", samples, path, config=other),
        lambda: fitted("lstm", samples, path, seed=2),
        lambda: fitted("lstm", moved, path),
    ):
        with pytest.raises(ConfigurationError, match="of another configuration, seed or data"):
            refused()


def test_a_damaged_checkpoint_is_refused_and_nothing_is_unpickled(samples: Samples, tmp_path: Path) -> None:
    path = tmp_path / "fold-1.checkpoint"
    fitted("lstm", samples, path, stop_at=9)
    content = path.read_bytes()
    torch.save({"key": Path("/"), "generators": {}}, tmp_path / "stranger")  # an object: only a pickle holds one

    for damaged in (b"", content[: len(content) // 2], b"garbage", (tmp_path / "stranger").read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(ConfigurationError, match="the checkpoint is damaged; train without --resume"):
            fitted("lstm", samples, path)


def test_a_checkpoint_that_cannot_be_written_ends_the_fit_in_one_clear_line(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fold-1.checkpoint"
    fitted("lstm", samples, path, stop_at=9)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CandlecastError, match=r"checkpoint cannot be written .*No space left on device.*make room"):
        fitted("lstm", samples, path)

    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_that_diverges_says_what_to_do(kind: str, samples: Samples) -> None:
    wild = dataclasses.replace(CONFIG, fit=dataclasses.replace(CONFIG.fit, learning_rate=1e37, warmup_share=0.0))

    with pytest.raises(
        CandlecastError, match=r"the loss is (nan|inf) at step \d+: the fit diverged; lower learning_rate"
    ):
        fitted(kind, samples, config=wild)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_column_breaks_nothing(kind: str, samples: Samples) -> None:
    rows = samples.rows.copy()
    rows[:, 5], rows[:, 6] = 0.0, 1e7
    still = dataclasses.replace(samples, rows=rows)

    model = fitted(kind, still, stop_at=9)

    assert still.constant_columns() == [5, 6]
    assert model.network.std[5] == 1 and model.network.std[6] == 1
    rows[450:, 5] = 100.0  # it moves after all
    assert np.isfinite(model.predict(still, np.arange(400))).all()
    assert model.importance(samples, TRAIN)[5] >= 0


def test_each_block_of_outputs_has_its_loss() -> None:
    answers, unit = torch.zeros(2, 20), torch.ones(20)
    answers[:, outputs.RETURNS], unit[outputs.RETURNS] = 0.01, 0.02  # half a deviation off
    answers[:, outputs.RISKS], unit[outputs.RISKS] = 0.06, 0.02  # three off
    labels = (torch.zeros(2, 4), torch.tensor([[0, 1, 2, 0]] * 2), torch.zeros(2, 4))

    parts = [loss.total(answers, labels, unit, weights).item() for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]

    assert parts == pytest.approx([0.5 * 0.5**2, np.log(3), 3 - 0.5])
    assert loss.total(answers, labels, unit, (2, 3, 5)).item() == pytest.approx(np.dot(parts, (2, 3, 5)))


@pytest.mark.parametrize("kind", KINDS)
def test_attributions_add_up_to_how_far_the_forecast_moved(kind: str, samples: Samples) -> None:
    model = fitted(kind, samples, config=KEEN)
    windows = torch.from_numpy(samples.windows(VALIDATION[:16]))

    found = attribution.attributions(model.network, windows, steps=256)

    distances = attribution.distances(model.network, windows)
    assert found.shape == windows.shape
    assert (distances >= 0).all() and distances.max() > 0.05
    torch.testing.assert_close(found.sum(dim=(1, 2)), distances, rtol=0.01, atol=2e-3)
    at_mean = model.network.mean.expand(1, 96, FEATURES)
    assert attribution.distances(model.network, at_mean).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_importance_finds_the_feature_that_matters(kind: str, samples: Samples) -> None:
    shares = fitted(kind, samples, config=KEEN).importance(samples, VALIDATION)

    assert shares.shape == (FEATURES,) and (shares >= 0).all() and shares.sum() == pytest.approx(1)
    assert shares.argmax() == 3


def test_an_untrained_network_prefers_no_feature(samples: Samples) -> None:
    network = PatchTST(CONFIG.network, FEATURES)
    start(network, samples, TRAIN)

    np.testing.assert_allclose(attribution.shares(network, Feed(samples, "cpu"), TRAIN), 1 / FEATURES)


def test_rows_that_lie_on_the_device_give_the_same_windows(samples: Samples) -> None:
    gathered, resident = Feed(samples, "cpu"), Feed(samples, "cpu")
    resident._rows = torch.from_numpy(samples.rows)
    some = np.array([7, 0, 399, 7])

    assert torch.equal(gathered.windows(some), resident.windows(some))
    assert gathered.seconds > 0


def lstm() -> Lstm:
    torch.manual_seed(0)
    model = Lstm(LstmConfig(width=64), FEATURES)
    constant = torch.linspace(0.001, 0.02, outputs.COUNT)
    model.start_from(torch.randn(FEATURES), torch.rand(FEATURES) + 0.5, torch.full((20,), 0.01), constant)
    return model.eval()


def test_an_lstm_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="96 must be a multiple of patch"):
        LstmConfig(patch=5)
    with pytest.raises(ConfigurationError, match="dropout at least 0 and below 1"):
        LstmConfig(dropout=1.0)


def test_the_lstm_starts_at_the_constant_and_spoils_only_what_is_no_number() -> None:
    model, x = lstm(), torch.randn(5, 96, FEATURES)
    x[2, 50, 7], x[4, 95, 0] = torch.nan, torch.inf

    with torch.no_grad():
        answers = model(x).numpy()

    np.testing.assert_allclose(answers[[0, 1, 3]], np.tile(np.linspace(0.001, 0.02, 20), (3, 1)), rtol=1e-4)
    assert np.isnan(answers[[2, 4]]).all()
    assert sum(p.numel() for p in Lstm(LstmConfig(), 240).parameters()) < 500_000


def test_the_lstms_file_holds_halves_and_agrees_with_fp32() -> None:
    import onnx

    model = lstm()
    torch.nn.init.normal_(model.trunk.head.weight, std=0.2)
    x = np.random.default_rng(1).standard_normal((65, 96, FEATURES)).astype(np.float32) * 2
    right = export.truth(model, x)

    exported = export.to_onnx(model)

    export.check_parity("the file", export.run(exported, x), right)
    graph = onnx.load_from_string(exported).graph
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) > 10_000]
    assert len(large) == 4 and all(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in large)
    assert [node.op_type for node in graph.node].count("LSTM") == 2
    wild = np.stack([np.full((96, FEATURES), 3e38), np.full((96, FEATURES), -3e38)]).astype(np.float32)
    assert np.isfinite(export.run(exported, wild)).all()
    x[3, 7, 7] = np.nan
    answers = export.run(exported, x)
    assert np.isnan(answers[3]).all() and np.isfinite(np.delete(answers, 3, axis=0)).all()
