"""What is traded is what serving would have said; the command from files to JSON and page."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from candlecast import cli
from candlecast.candle_files import load, merged, survey
from candlecast.errors import BundleError, ConfigurationError
from candlecast.feature_files import recording
from candlecast.features import Features
from candlecast.filters import Thresholds
from candlecast.models import bundle as bundles
from candlecast.models.ensemble import members_of
from candlecast.portfolio import Limits
from candlecast.server.serving import Several
from candlecast.training.backtest import _spans as spans_of
from candlecast.training.backtest import as_metrics, backtest
from candlecast.training.replay import replay
from candlecast.training.simulator import Rules
from candlecast.training.sources import utc
from candlecast.training.speakers import Speaker, together
from candlecast.training.subject import Subject
from tests import fakes
from tests.bundles import answering_another_question, small_bundle, small_ensemble
from tests.fakes import FakeRecorder
from tests.market_simulator import INTERVAL_MS, candles

SYMBOLS = ("AAAUSDT", "BTCUSDT", "CCCUSDT")
COUNT = 760
ROOM = {"symbols_max": 4, "conflicts_max": 3, "optional_inputs": ("reference",), "reference_symbol": "BTCUSDT"}


def ask(windows, open_time_ms=None, factor=1.0):
    """Answer so that every column of the newest row counts, those of the reference too."""
    mixed = np.sin(factor * np.cumsum(np.nan_to_num(windows[:, -1]), axis=1)[:, -20:])
    return np.column_stack([0.02 * mixed[:, :4], 8 * mixed[:, 4:16], 0.03 * np.abs(mixed[:, 16:])])


class Model:
    async def __call__(self, windows):
        return ask(windows)


def write(folder, symbol, count=COUNT, *, missing=(), seed=0):
    """Write a candle file, without the bars in `missing`."""
    values = candles(symbol, count, seed=seed)
    kept = values.take(np.setdiff1d(np.arange(count), missing))
    columns = dict(zip(("open", "high", "low", "close", "volume"), kept.values.T, strict=False))
    path = folder / f"{symbol}-15m.parquet"
    pl.DataFrame({"ts": kept.open_time_ms, **columns}).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candles")
    gaps = {"AAAUSDT": [690, 691], "BTCUSDT": [], "CCCUSDT": [5, *range(20, 40)]}
    return [write(folder, symbol, missing=gaps[symbol]) for symbol in SYMBOLS]


class Keeps(FakeRecorder):
    """A FakeRecorder that keeps what was decided, too."""

    def __init__(self):
        super().__init__()
        self.said = {}

    async def record(self, candles, forecasts, missed=(), *, durable=True):
        for i in range(len(forecasts) if forecasts is not None else 0):
            meaning = forecasts.meaning
            columns = (
                forecasts.direction,
                forecasts.strength,
                forecasts.reasons,
                meaning.confidence.astype(np.float32),
            )
            limits = (meaning.stop_loss, meaning.take_profit)
            key = forecasts.names[i], int(forecasts.close_time_ms[i])
            self.said[key] = tuple(column[i].item() for column in (*columns, *limits))
        return await super().record(candles, forecasts, missed, durable=durable)


async def live(files, model=None, limits=None):
    """Return what a Forecaster says of the files, one close at a time."""
    recorder = Keeps()
    async with fakes.forecaster(Features(**ROOM), model or Model(), recorder, limits=limits) as forecaster:
        for close in merged(load(files)):
            await forecaster.accept(close)
    return recorder.said


def used(files, symbols=None):
    surveyed = [survey(path) for path in files]
    return recording(surveyed, symbols=symbols, reference_symbol="BTCUSDT", optional_inputs=["reference"])


def said_of(files, speaker, limits=None):
    """Return what a speaker says in a replay, as it is and by symbol and close."""
    bars, [said] = replay(used(files), [speaker], Thresholds(), limits=limits)
    columns = said.direction, said.strength, said.reasons, said.confidence, said.stop_loss, said.take_profit
    return said, {
        (bars.symbols[s], int(bars.open_time_ms[t]) + INTERVAL_MS): tuple(column[t, s].item() for column in columns)
        for t, s in np.argwhere(said.is_forecast).tolist()
    }


TIGHT = Limits(
    max_signals_per_minute=2, max_correlation=0.3, min_sharpe_ratio=0.5, max_position_score=1.2, trade_cost=0.002
)


@pytest.mark.parametrize("limits", [None, TIGHT], ids=["alone", "remembering"])
def test_what_is_replayed_is_what_the_forecaster_says_live(files, limits):
    served = asyncio.run(live(files, limits=limits))
    said, replayed = said_of(files, Speaker(ask, np.ones(4)), limits)
    assert replayed == served
    assert len(served) > 200
    assert {direction for direction, *_ in served.values()} == {-1, 0, 1}
    if limits is not None:
        told = said.counts()
        assert min(told["CORRELATED_POSITION"], told["POSITION_LIMIT"]) > 10, told
    strong = said.strength == 2
    assert strong.any()
    assert (said.signals().multiplier == np.where(strong, 1.5, 1)).all()
    assert any(reasons >> 5 & 1 for _, _, reasons, *_ in served.values())  # GAP_FILLED is among them


class Member:
    """A member as the server asks it in Triton."""

    def __init__(self, bundle):
        self._ask = of_member(bundle).ask

    async def infer(self, windows):
        return SimpleNamespace(outputs=self._ask(windows, None).astype(np.float32))


def of_member(bundle):
    factor = {"patchtst": 1.0, "lstm": 2.0}[bundle.manifest.name]
    return Speaker(partial(ask, factor=factor), np.array(bundle.manifest.temperatures))


def test_an_ensemble_is_replayed_as_it_is_served(files, tmp_path):
    whole = small_ensemble(tmp_path)
    served = asyncio.run(live(files, Several([Member(bundle) for bundle in members_of(whole)], whole).ask))
    _, replayed = said_of(files, together(Subject.of(whole), of_member))
    assert replayed == served
    for bundle in whole.members:
        assert said_of(files, of_member(bundle))[1] != replayed


def test_candles_before_the_start_warm_up_and_those_behind_the_end_are_not_seen(files):
    start, end = (int(candles("X", COUNT).open_time_ms[k]) for k in (700, 750))
    model = Speaker(ask, np.ones(4))
    whole, [all_said] = replay(used(files), [model], Thresholds())
    taken = []
    recorded = used(files, ["AAAUSDT"])
    part, [said] = replay(recorded, [model], Thresholds(), start_ms=start, end_ms=end, advance=taken.append)
    assert sum(taken) == recorded.candles
    assert (part.symbols, part.open_time_ms[0], part.open_time_ms[-1]) == (("AAAUSDT",), start, end - INTERVAL_MS)
    there = slice(700, 750)
    assert said.is_forecast.all()
    np.testing.assert_array_equal(said.confidence[:, 0], all_said.confidence[there, 0])
    np.testing.assert_array_equal(part.close[:, 0], whole.close[there, 0])


def test_blocks_do_not_tear_a_close_apart_and_change_nothing(files, monkeypatch):
    model = Speaker(ask, np.ones(4))
    _, [large] = replay(used(files), [model], Thresholds())
    monkeypatch.setattr("candlecast.training.replay.BLOCK_CANDLES", 1)
    monkeypatch.setattr("candlecast.training.replay.PIECE_ROWS", 2)
    _, [small] = replay(used(files), [model], Thresholds())
    for name in type(large).__slots__:
        np.testing.assert_array_equal(getattr(large, name), getattr(small, name))


def test_a_model_gives_the_same_alone_and_beside_others(files, tmp_path):
    bundles = [
        fakes.fitting_bundle(tmp_path / name, optional_inputs=inputs, reference_symbol=reference)
        for name, inputs, reference in (
            ("a", ["reference"], "BTCUSDT"),
            ("b", [], None),
            ("c", ["reference"], "BTCUSDT"),
        )
    ]
    surveyed = [survey(path) for path in files]

    def speaker(bundle):
        return Speaker(partial(ask, factor=2.0 if bundle is bundles[2] else 1.0), np.ones(4))

    free = Thresholds(min_confidence=0, min_agreement=0, min_expected_return=0)
    beside = backtest(surveyed, bundles, Rules(), free, speaker=speaker)
    for model, test in zip(bundles, beside, strict=True):
        [alone] = backtest(surveyed, [model], Rules(), free, speaker=speaker)
        assert alone.numbers == test.numbers
        assert alone.numbers["trades"] > 5
    assert len({test.numbers["pnl"] for test in beside}) == 3
    assert len({test.name for test in beside}) == 3


@pytest.mark.parametrize(
    ("data", "share", "says"),
    [
        ({}, None, "does not say"),
        ({"from": "2023-01-01T00:00:00Z", "to": "2024-01-01T00:00:00Z"}, 1.0, "IN SAMPLE: 100%"),
        ({"from": "2022-01-01T00:00:00Z", "to": "2023-01-01T00:00:00Z"}, 0.0, None),
    ],
)
def test_a_span_that_the_model_was_trained_on_is_warned_of(files, tmp_path, data, share, says):
    seen = fakes.fitting_bundle(tmp_path / "a", optional_inputs=["reference"], reference_symbol="BTCUSDT")
    object.__setattr__(seen, "manifest", replace(seen.manifest, data=data))
    [test] = backtest(
        [survey(path) for path in files], [seen], Rules(), Thresholds(), speaker=lambda _: Speaker(ask, np.ones(4))
    )
    assert test.numbers["in_sample"] == share
    assert (says in test.warning) if says else test.warning is None


def test_the_command_compares_bundles_as_json_and_as_a_page_that_needs_nothing_else(files, tmp_path, capsys):
    for name in "ab":
        small_bundle(tmp_path / name)
    page = tmp_path / "report.html"
    flags = ["--models", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(page), "--json"]
    costs = ["--fees", "0.001", "--hold-bars", "4", "--filters", "min_confidence=0.5", "min_expected_return=0"]
    assert cli.main(["backtest", "--data", *map(str, files), *flags, *costs]) == 0
    told = json.loads(capsys.readouterr().out)
    first, second = told["models"].values()
    assert len(told["models"]) == 2  # of the same name and version: their folders tell them apart
    assert first["trades"] == second["trades"] > 10
    assert first["fees"] > 0.0005 * first["trades"]
    assert told["rules"] == {"fees": 0.001, "slippage": 0.0002, "funding": 0.0, "hold_bars": 4}
    assert told["filters"]["min_confidence"] == 0.5
    assert told["filters"]["min_agreement"] == 0.5
    text = page.read_text()
    assert text.index("may be this one") < text.index("<h1>")  # what makes it doubtful comes first
    assert text.count("data:image/svg+xml;base64,") == 2
    assert "may be this one" in page.with_suffix(".md").read_text().splitlines()[0]
    assert "http://" not in text
    assert "https://" not in text


def test_the_command_trades_an_ensemble_beside_a_member_and_refuses_who_is_no_forecaster(files, tmp_path, capsys):
    whole = small_ensemble(tmp_path)
    data = ["backtest", "--data", *map(str, files), "--filters", "none", "--json", "--models"]
    assert cli.main([*data, str(tmp_path / "ensemble/1"), str(tmp_path / "lstm/2")]) == 0
    told = json.loads(capsys.readouterr().out)["models"]
    assert list(told) == ["ensemble v1", "lstm v2"]
    together, alone = told.values()
    assert (together["bundle_sha256"], together["model"]) == (whole.sha256, "ensemble")
    assert together["members"] == {"patchtst v1": 0.6667, "lstm v2": 0.3333}
    assert together["trades"] > 10 and together["pnl"] != alone["pnl"]

    with pytest.MonkeyPatch.context() as patch:  # without --models it is what would be served
        patch.setenv("CANDLECAST_MODEL_REPOSITORY", str(tmp_path))
        patch.setenv("CANDLECAST_MODEL", "ensemble")
        assert cli.main(data[:-1]) == 0
    assert json.loads(capsys.readouterr().out)["models"]["ensemble v1"] == together

    answering_another_question(tmp_path / "xgboost_direction_24h/1")
    assert cli.main([*data, str(tmp_path / "xgboost_direction_24h/1")]) == 78
    assert "is a model of direction, which answers another question with 3 outputs" in capsys.readouterr().err


def test_the_spans_of_an_ensemble_are_those_of_any_member(tmp_path):
    whole = small_ensemble(tmp_path)
    days = [f"2024-01-0{day}T00:00:00Z" for day in range(1, 8)]
    for bundle, k in zip(whole.members, (0, 1), strict=True):
        train, validation = ({"from": days[k + j], "before": days[k + j + 1]} for j in (0, 2))
        bundle.manifest.training["shipped"] = {"spans": {"train": train, "validation": validation}}
        bundle.manifest.data.update({"from": days[k], "to": days[k + 3]})
    day_ms = 86_400_000
    times = np.arange(7) * day_ms + int(np.datetime64("2024-01-01", "ms").astype(np.int64))
    spans = {name: np.flatnonzero(mask).tolist() for name, mask in spans_of(Subject.of(whole), times).items()}
    assert spans == {"train": [0, 1], "validation": [2, 3], "unseen": [5, 6]}


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--filters", "confidence=0.7"], 78, "min_confidence"),
        (["--filters", "min_confidence=high"], 78, "min_confidence"),
        (["--from", "2024-02-01", "--to", "2024-01-01"], 78, "--from"),
        (["--from", "2034-02-01"], 78, "no candle is left"),
        (["--symbols", "NONE"], 78, "NONE"),
        (["--out", "nowhere/report.html"], 78, "nowhere"),
        (["--fees", "-1"], 2, "fraction"),
        (["--hold-bars", "0"], 2, "above 0"),
    ],
)
def test_wrong_flags_are_said(files, tmp_path, capsys, flags, code, says):
    small_bundle(tmp_path / "a")
    given = ["backtest", "--data", *map(str, files), "--models", str(tmp_path / "a"), *flags]
    if code == 2:
        with pytest.raises(SystemExit) as stopped:
            cli.main(given)
        assert stopped.value.code == 2
    else:
        assert cli.main(given) == code
    assert says in capsys.readouterr().err


def test_the_reference_alone_needs_no_others_beside_it(files, tmp_path):
    small = fakes.fitting_bundle(tmp_path / "a", optional_inputs=["reference"], reference_symbol="BTCUSDT")
    free = Thresholds(min_confidence=0, min_agreement=0, min_expected_return=0)

    def speaker(bundle):
        return Speaker(ask, np.ones(4))

    [alone] = backtest([survey(files[1])], [small], Rules(), free, symbols=["BTCUSDT"], speaker=speaker)
    [all_three] = backtest([survey(path) for path in files], [small], Rules(), free, speaker=speaker)
    assert alone.numbers["trades"] == all_three.numbers["symbols"]["BTCUSDT"]["trades"] > 0


def test_the_spans_of_the_training_are_told_apart(files, tmp_path):
    first, half, last = (utc(int(candles("X", COUNT).open_time_ms[k])) for k in (0, 650, 700))
    span = {"from": half, "before": last}
    seen = fakes.fitting_bundle(tmp_path / "a", optional_inputs=["reference"], reference_symbol="BTCUSDT")
    training = {"shipped": {"spans": {"train": {"from": first, "before": half}, "validation": span}}}
    metrics = {"walk_forward": {"folds": [{"spans": {"train": {}, "test": span}}]}}
    manifest = replace(seen.manifest, data={"from": first, "to": last}, training=training, metrics=metrics)
    object.__setattr__(seen, "manifest", manifest)
    free = Thresholds(min_confidence=0, min_agreement=0, min_expected_return=0)
    [test] = backtest(
        [survey(path) for path in files], [seen], Rules(), free, speaker=lambda _: Speaker(ask, np.ones(4))
    )
    spans = test.numbers["spans"]
    assert list(spans) == ["train", "validation", "fold 1", "unseen"]
    assert spans["fold 1"] == spans["validation"]
    assert f"{spans['validation']['return']:+.1%}" in test.warning
    assert spans["validation"]["trades"] > 0
    assert test.numbers["in_sample"] == pytest.approx(701 / COUNT)


def test_bars_for_which_a_fold_speaks_are_not_in_sample_and_those_before_them_are(files, tmp_path):
    first, half, late, last = (utc(int(candles("X", COUNT).open_time_ms[k])) for k in (0, 690, 730, COUNT - 1))
    small = small_bundle(tmp_path / "small")
    fold = {"spans": {"test": {"from": half, "before": late}}, "temperatures": [1.0] * 4}
    shipped = {"spans": {"train": {"from": first, "before": late}, "validation": {"from": late, "before": last}}}
    metrics = {"walk_forward": {"folds": [fold]}}
    data = {"from": first, "to": last}
    manifest = replace(small.manifest, data=data, training={"shipped": shipped}, metrics=metrics)
    given = (small.path / "model.onnx").read_bytes(), small.golden_inputs, small.golden_outputs
    other = (small_bundle(tmp_path / "other", seed=3).path / "model.onnx").read_bytes()
    walked = bundles.write(tmp_path / "walked", manifest, *given, folds=[other])
    plain = bundles.write(tmp_path / "plain", manifest, *given)
    free = Thresholds(min_confidence=0, min_agreement=0, min_expected_return=0)

    surveyed = [survey(path) for path in files]
    own, seen = backtest(surveyed, [walked, plain], Rules(), free)

    assert seen.numbers["in_sample"] == pytest.approx(1.0)
    assert own.numbers["in_sample"] == pytest.approx(1 - 40 / COUNT)
    assert own.numbers["spans"]["fold 1"] == own.numbers["spans"]["walk-forward"] != seen.numbers["spans"]["fold 1"]
    assert own.numbers["spans"]["walk-forward"]["trades"] > 0
    assert f"spoke, which had not seen them: {own.numbers['spans']['walk-forward']['return']:+.1%} in " in own.warning
    assert "walk-forward" not in seen.numbers["spans"] and "walk-forward" not in seen.warning
    told = {(number, next(iter(part["horizons"]))) for number, part in as_metrics(own)}
    assert {(0, "walk-forward"), (1, "all")} <= told


def test_a_bundle_whose_reference_is_missing_is_refused(files, tmp_path):
    broken = fakes.fitting_bundle(tmp_path / "a", optional_inputs=["reference"], reference_symbol="BTCUSDT")
    with pytest.raises(ConfigurationError, match="BTCUSDT"):
        backtest([survey(files[0])], [broken], Rules(), Thresholds())


def test_a_file_that_is_no_model_is_named(files, tmp_path):
    broken = fakes.fitting_bundle(tmp_path / "a", optional_inputs=["reference"], reference_symbol="BTCUSDT")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        backtest([survey(path) for path in files], [broken], Rules(), Thresholds())
