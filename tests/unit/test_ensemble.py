"""An ensemble: the average against its definition row by row, the weights, who is missing, and what a forecast says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from candlecast import ensemble as average
from candlecast import outputs as layout
from candlecast import packed, results
from candlecast.cli import main
from candlecast.ensemble import combine, parts, weights_of
from candlecast.errors import BundleError, DeadlineExceeded, ModelUnavailable, Overloaded
from candlecast.features import Features
from candlecast.interpret import interpret
from candlecast.models import ensemble
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble, is_ensemble
from candlecast.server import convert
from candlecast.server.serving import Several
from candlecast.v1 import types_pb2
from tests import fakes
from tests.fakes import FakeModel, FakeRecorder, fitting_bundle
from tests.market_simulator import candles

ONES = np.ones(4)
TEMPERATURES = np.array([[1.0, 1.2, 0.8, 2.0], [0.5, 1.0, 1.5, 1.0], [3.0, 1.0, 1.0, 0.7]])
WEIGHTS = np.array([0.5, 0.3, 0.2])
ROWS = 50


def answers(members=3, rows=ROWS, seed=0, scale=1.0):
    """What members might answer [members, rows, 20]."""
    rng = np.random.default_rng([seed, members])
    made = rng.normal(0, scale, (members, rows, 20)).astype(np.float32)
    made[:, :, layout.RETURNS] *= 0.01
    made[:, :, layout.RISKS] = np.abs(made[:, :, layout.RISKS]) * 0.02
    return made


def one_by_one(given, temperatures, weights):
    """Return (returns, probabilities, risks, agreement, degraded) of each row, by the definition alone."""
    for row in range(len(next(answer for answer in given if answer is not None))):
        here = [m for m in range(len(given)) if given[m] is not None and np.isfinite(given[m][row]).all()]
        total = sum(weights[m] for m in here)
        p, side, numbers = np.zeros((4, 3)), {}, np.zeros(20)
        for m in here:
            share = weights[m] / total
            for h in range(4):
                exponents = np.exp(given[m][row, 4 + 3 * h : 7 + 3 * h].astype(float) / temperatures[m][h])
                p[h] += share * exponents / exponents.sum()
            numbers += share * given[m][row]
            side[m] = interpret(given[m][row : row + 1], temperatures[m]).side[0]
        of_all = interpret(np.concatenate([np.zeros(4), np.log(p).ravel(), np.zeros(4)])[None], ONES).side[0]
        agreement = sum(weights[m] for m in here if side[m] == of_all) / total
        yield numbers[:4], p, numbers[16:], agreement, len(here) < len(given)


def check(given, temperatures, weights):
    outputs, agreement, degraded = parts(combine(given, temperatures, weights))
    meaning = interpret(outputs, ONES)
    for row, (returns, p, risks, agree, short) in enumerate(one_by_one(given, temperatures, weights)):
        np.testing.assert_allclose(meaning.returns[row], returns, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(meaning.probabilities[row], p, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(meaning.risks[row], risks, rtol=1e-6)
        assert (agreement[row], degraded[row]) == (pytest.approx(agree, abs=1e-6), short)


def test_each_row_is_the_weighted_average_of_what_was_calibrated():
    check(list(answers()), TEMPERATURES, WEIGHTS)
    _, agreement, degraded = parts(combine(list(answers()), TEMPERATURES, WEIGHTS))
    assert not degraded.any()
    assert len(np.unique(agreement.round(3))) > 3  # of all, of the first two, of the first alone, ...


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_without_a_member_the_others_share_its_weight_and_every_row_is_degraded(missing):
    given = list(answers())
    given[missing] = None
    check(given, TEMPERATURES, WEIGHTS)
    others = [i for i in range(3) if i != missing]
    whole = combine([given[i] for i in others], TEMPERATURES[others], WEIGHTS[others] / WEIGHTS[others].sum())
    found = combine(given, TEMPERATURES, WEIGHTS)
    np.testing.assert_allclose(found[:, : average.DEGRADED], whole[:, : average.DEGRADED], rtol=1e-5, atol=1e-7)
    assert found[:, average.DEGRADED].all()


def test_a_row_that_is_not_finite_is_missing_in_that_row_alone():
    given = answers()
    given[0, 3, 7], given[1, 9, 0] = np.nan, np.inf
    check(list(given), TEMPERATURES, WEIGHTS)
    assert parts(combine(list(given), TEMPERATURES, WEIGHTS))[2].nonzero()[0].tolist() == [3, 9]
    given[:, 5, 19] = np.nan
    outputs, agreement, degraded = parts(combine(list(given), TEMPERATURES, WEIGHTS))
    assert not interpret(outputs, ONES).finite[5]
    assert np.isnan(agreement[5])
    assert degraded[5]
    assert np.isfinite(np.delete(outputs, 5, axis=0)).all()


def test_an_ensemble_of_one_says_what_its_member_says():
    (alone,) = answers(1, scale=3)
    outputs, agreement, degraded = parts(combine([alone], TEMPERATURES[:1], np.ones(1)))
    expected, found = interpret(alone, TEMPERATURES[0]), interpret(outputs, ONES)
    for name in ("side", "confidence", "agreement", "move", "edge", "quality", "returns", "probabilities", "risks"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-6, err_msg=name)
    assert (agreement == 1).all()
    assert not degraded.any()


def test_certain_members_that_contradict_each_other_stay_finite():
    sure = np.zeros((2, 1, 20), np.float32)
    sure[0, 0, 4:16:3], sure[1, 0, 5:16:3] = 1e4, 1e4
    outputs, agreement, _ = parts(combine(list(sure), TEMPERATURES[:2], np.array([0.75, 0.25])))
    np.testing.assert_allclose(interpret(outputs, ONES).probabilities[0], [[0.75, 0.25, 0]] * 4, atol=1e-6)
    assert agreement[0] == 0.75


def test_without_a_side_nobody_agrees():
    undecided = np.zeros((2, 2, 20), np.float32)
    undecided[0, 0, 4:16], undecided[1, 0, 4:16] = [1, -1, 0] * 4, [-1, 1, 0] * 4  # in the second row all alike
    outputs, agreement, _ = parts(combine(list(undecided), np.ones((2, 4)), np.array([0.5, 0.5])))
    assert interpret(outputs, ONES).side.tolist() == [0, 0]
    assert agreement.tolist() == [0, 0]


def test_disagreement_lowers_confidence():
    def member(p_long):
        row = np.zeros((1, 20), np.float32)
        row[0, layout.LOGITS] = np.log([p_long, 0.8 - p_long, 0.2] * 4)
        return row

    def said(*members):
        outputs, agreement, _ = parts(combine(members, np.ones((2, 4)), np.array([0.5, 0.5])))
        return interpret(outputs, ONES).confidence[0], agreement[0]

    assert said(member(0.6), member(0.6)) == (pytest.approx(0.75, abs=1e-6), 1)
    assert said(member(0.6), member(0.5)) == (pytest.approx(0.6875, abs=1e-6), 1)
    assert said(member(0.6), member(0.3)) == (pytest.approx(0.5625, abs=1e-6), 0.5)  # (0.6 + 0.3) / 1.6

    # For any members: on no horizon is the average surer of a side than its surest member.
    given = answers(seed=4, scale=2)
    p = np.stack([interpret(a, t).probabilities for a, t in zip(given, TEMPERATURES, strict=True)])
    mean = interpret(parts(combine(list(given), TEMPERATURES, WEIGHTS))[0], ONES).probabilities
    side, of_members = mean[..., 0] / mean[..., :2].sum(axis=-1), p[..., 0] / p[..., :2].sum(axis=-1)
    assert (side <= of_members.max(axis=0) + 1e-6).all()
    assert (side >= of_members.min(axis=0) - 1e-6).all()


def test_weights_follow_skill_are_never_negative_and_equal_without_any():
    np.testing.assert_allclose(weights_of(np.array([0.03, 0.01, -0.5])), [0.75, 0.25, 0])
    np.testing.assert_allclose(weights_of(np.array([0.0, -0.1])), [0.5, 0.5])
    assert average.skill(0.9, 1.0) == pytest.approx(0.1)


def test_one_model_alone_has_no_agreement_and_is_never_degraded():
    (alone,) = answers(1)
    outputs, agreement, degraded = parts(alone)
    assert outputs is alone
    assert np.isnan(agreement).all()
    assert not degraded.any()


class Asked:
    """A model of Triton that answers, or fails, as told."""

    def __init__(self, answer):
        self.answer = answer

    async def infer(self, windows):
        if isinstance(self.answer, Exception):
            raise self.answer
        return SimpleNamespace(outputs=self.answer(windows[:, -1]) if callable(self.answer) else self.answer)

    async def check_golden(self, inputs, outputs):
        await self.infer(np.zeros((1, 1, 20)))


def several(*given, temperatures=TEMPERATURES):
    bundles = [
        SimpleNamespace(golden_inputs=None, golden_outputs=None, manifest=SimpleNamespace(name=name, version=1))
        for name in ("patchtst", "lstm", "xgboost")
    ]
    whole = SimpleNamespace(members=bundles[: len(given)], weights=WEIGHTS[: len(given)], temperatures=temperatures)
    return Several([Asked(answer) for answer in given], whole)


@pytest.mark.parametrize("error", [ModelUnavailable("away"), DeadlineExceeded("late"), Overloaded("full")])
async def test_a_member_that_fails_is_left_out(error):
    given = list(answers())
    found = await several(given[0], error, given[2]).ask(np.zeros((ROWS, 96, 8), np.float32))
    np.testing.assert_array_equal(found, combine([given[0], None, given[2]], TEMPERATURES, WEIGHTS))
    assert found[:, average.DEGRADED].all()


async def test_the_model_is_unavailable_when_every_member_is():
    with pytest.raises(ModelUnavailable, match="away"):
        await several(DeadlineExceeded("late"), ModelUnavailable("away")).ask(np.zeros((1, 96, 8), np.float32))
    with pytest.raises(ModelUnavailable, match="away"):
        await several(ModelUnavailable("away"), Overloaded("full")).check()


async def test_a_mistake_of_ours_is_no_absence_of_a_member():
    with pytest.raises(ZeroDivisionError):
        await several(answers()[0], ZeroDivisionError()).ask(np.zeros((ROWS, 96, 8), np.float32))


async def test_the_check_tells_who_is_absent_and_when_all_are_back(caplog):
    caplog.set_level("INFO")
    members = several(answers()[0], ModelUnavailable("unloaded: now"), Overloaded("busy"))
    for _ in range(2):
        await members.check()
        assert list(members.absent) == ["lstm v1"]
    members._models[1].answer = answers()[1]
    await members.check()
    assert not members.absent
    said = [record.message for record in caplog.records]
    assert said == ["ensemble degraded member=lstm v1 error=unloaded: now", "ensemble whole members=3"]


async def test_a_forecast_says_that_it_is_degraded_and_how_far_the_members_agree():
    features = Features(symbols_max=2, conflicts_max=3)
    mirrored = [0, 1, 2, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 16, 17, 18, 19]  # LONG and SHORT change places
    members = several(FakeModel.answer, lambda rows: FakeModel.answer(rows)[:, mirrored], temperatures=np.ones((2, 4)))
    async with fakes.forecaster(features, members.ask, FakeRecorder()) as forecaster:
        history = candles("BTCUSDT", features.need + 2)
        await forecaster.accept(history.take(np.arange(features.need)), forecast=False)
        whole = await forecaster.accept(history.take(np.array([features.need])))
        members._models[1].answer = ModelUnavailable("away")
        short = await forecaster.accept(history.take(np.array([features.need + 1])))
    for answer, is_degraded, agreement in ((whole, False, 0.625), (short, True, 1.0)):
        (message,) = convert.forecasts(answer)
        response = types_pb2.PackedResults()
        response.CopyFrom(convert.packed_results(answer, features.need))
        (result,) = results.Results(SimpleNamespace(results=[], packed=response, HasField=lambda _: True))
        for forecast in (message, result.forecast):
            assert forecast.degraded == is_degraded
            assert forecast.model_agreement == pytest.approx(agreement)
        assert len(answer.forecasts.outputs[0]) == layout.COUNT
    assert packed.RESULT.itemsize == 344


async def test_a_model_alone_says_nothing_of_agreement():
    features = Features(symbols_max=2, conflicts_max=3)
    async with fakes.forecaster(features, FakeModel(), FakeRecorder()) as forecaster:
        history = candles("BTCUSDT", features.need)
        await forecaster.accept(history.take(np.arange(features.need - 1)), forecast=False)
        answer = await forecaster.accept(history.take(np.array([features.need - 1])))
    response = convert.packed_results(answer, features.need)
    (result,) = results.Results(SimpleNamespace(results=[], packed=response, HasField=lambda _: True))
    for forecast in (*convert.forecasts(answer), result.forecast):
        assert not forecast.degraded
        assert not forecast.HasField("model_agreement")


def measured(*losses, base=1.1):
    """The metrics of a bundle whose log-loss is this at each horizon."""
    horizons = {h: {"log_loss": {"model": x, "base": base}} for h, x in zip(layout.HORIZONS, losses, strict=True)}
    return {"walk_forward": {"folds": [], "mean": {"horizons": horizons}}}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    fitting_bundle(tmp_path / "patchtst/1", metrics=measured(1.0, 1.0, 1.05, 1.1), temperatures=TEMPERATURES[0])
    fitting_bundle(tmp_path / "lstm/2", name="lstm", version=2, metrics=measured(1.05, 1.05, 1.05, 1.1))
    fitting_bundle(tmp_path / "xgboost/1", name="xgboost", metrics=measured(1.2, 1.2, 1.0, 1.2))
    return tmp_path


def bundles(repository: Path) -> list[Bundle]:
    return [Bundle.load(repository / name) for name in ("patchtst/1", "lstm/2", "xgboost/1")]


def test_members_are_weighed_by_their_walk_forward_skill_and_found_again(repository):
    manifest = ensemble.weigh(bundles(repository), 1)
    skills = [np.mean([1 - loss / 1.1 for loss in losses]) for losses in ((1, 1, 1.05, 1.1), (1.05, 1.05, 1.05, 1.1))]
    patchtst, lstm, xgboost = manifest.members
    assert (patchtst.skill, lstm.skill) == (pytest.approx(skills[0], abs=1e-6), pytest.approx(skills[1], abs=1e-6))
    assert patchtst.weight == pytest.approx(skills[0] / sum(skills), abs=1e-6)
    assert (xgboost.weight, manifest.weighting) == (0, "skill")
    assert xgboost.skill < 0

    written = ensemble.write(repository / "ensemble/1", manifest)
    assert is_ensemble(written.path)
    assert not is_ensemble(repository / "patchtst/1")
    loaded = Ensemble.load(repository / "ensemble/1")
    assert loaded.sha256 == written.sha256
    assert loaded.manifest == manifest
    assert [bundle.manifest.name for bundle in loaded.members] == ["patchtst", "lstm"]  # one without skill is not asked
    np.testing.assert_allclose(loaded.weights, [patchtst.weight, lstm.weight])
    np.testing.assert_allclose(loaded.temperatures, [TEMPERATURES[0], ONES])
    assert [path.name for path in (repository / "ensemble").iterdir()] == ["1"]


def test_without_skill_all_weigh_the_same_and_the_command_says_so(repository, capsys):
    fitting_bundle(repository / "patchtst/1", metrics=measured(1.2, 1.2, 1.2, 1.2))
    members = [str(repository / name) for name in ("patchtst/1", "xgboost/1")]
    assert main(["ensemble", *members, "--out", str(repository / "ensemble/1")]) == 0
    assert "No member beats the base rate" in capsys.readouterr().out
    assert main(["ensemble", *members, "--out", str(repository / "ensemble/1"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["weighting"] == "equal"
    assert [member["weight"] for member in said["members"]] == [0.5, 0.5]


def test_members_with_other_features_are_refused_by_name(repository):
    fitting_bundle(repository / "lstm/2", name="lstm", version=2, optional_inputs=["trades"])
    with pytest.raises(BundleError, match=r"same feature set: patchtst v1 was trained with .* but lstm v2 with"):
        ensemble.weigh(bundles(repository), 1)
    for name, symbol in (("patchtst", "BTCUSDT"), ("xgboost", "ETHUSDT")):
        fitting_bundle(repository / name / "1", name=name, optional_inputs=["reference"], reference_symbol=symbol)
    with pytest.raises(
        BundleError, match=r"same reference symbol: patchtst v1 .* BTCUSDT, but xgboost v1 with ETHUSDT"
    ):
        ensemble.weigh([Bundle.load(repository / name / "1") for name in ("patchtst", "xgboost")], 1)


def test_a_model_of_another_target_is_no_member(repository):
    bundle = Bundle.load(repository / "lstm/2")
    bundle.manifest.training["target"] = {"name": "signal"}
    with pytest.raises(BundleError, match="a model of signal, no forecaster"):
        ensemble.weigh([bundle], 1)


@pytest.mark.parametrize("metrics", [{}, {"walk_forward": {"folds": []}}, measured(1, 1, 1, float("nan"))])
def test_a_member_without_walk_forward_figures_cannot_be_weighed(repository, metrics):
    bundle = Bundle.load(repository / "lstm/2")
    bundle.manifest.metrics.clear()
    bundle.manifest.metrics.update(metrics)
    with pytest.raises(BundleError, match="walk-forward"):
        ensemble.weigh([bundle], 1)


def test_a_member_that_is_no_more_the_one_that_was_weighed_is_refused(repository):
    ensemble.write(repository / "ensemble/1", ensemble.weigh(bundles(repository), 1))
    fitting_bundle(repository / "lstm/2", name="lstm", version=2, metrics=measured(1, 1, 1, 1))
    with pytest.raises(BundleError, match="lstm/2 has changed since"):
        Ensemble.load(repository / "ensemble/1")


def test_a_failed_write_leaves_the_ensemble_that_was_there(repository, monkeypatch):
    manifest = ensemble.weigh(bundles(repository), 1)
    before = ensemble.write(repository / "ensemble/1", manifest)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BundleError, match="No space left on device"):
        ensemble.write(repository / "ensemble/1", ensemble.weigh(bundles(repository)[:1], 1))
    assert Ensemble.load(repository / "ensemble/1").sha256 == before.sha256
    assert [path.name for path in (repository / "ensemble").iterdir()] == ["1"]


def test_an_ensemble_takes_the_place_of_no_bundle(repository):
    fitting_bundle(repository / "ensemble/1", name="ensemble")
    with pytest.raises(BundleError, match="something else"):
        ensemble.write(repository / "ensemble/1", ensemble.weigh(bundles(repository), 1))


@pytest.mark.parametrize(
    "change",
    [{"format": 9}, {"members": []}, {"members": [{"name": "x"}]}, {"weighting": "skill", "more": 1}],
    ids=["format", "nobody", "half a member", "a field too many"],
)
def test_a_damaged_manifest_is_refused(repository, change):
    path = ensemble.write(repository / "ensemble/1", ensemble.weigh(bundles(repository), 1)).path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match="ensemble"):
        Ensemble.load(repository / "ensemble/1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["patchtst/1", "--out", "ensemble/one"], "ensemble/VERSION"),
        (["patchtst/1", "--out", "elsewhere/ensemble/1"], "a member lies in the ensemble's own model repository"),
        (["patchtst/1", "patchtst/1", "--out", "ensemble/1"], "named twice: patchtst v1"),
    ],
)
def test_what_cannot_be_an_ensemble_is_a_clear_error(repository, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(repository)
    assert main(["ensemble", *arguments]) == 78
    assert said in capsys.readouterr().err


def test_neither_trees_nor_an_ensemble_get_a_program(repository, capsys):
    ensemble.write(repository / "ensemble/1", ensemble.weigh(bundles(repository), 1))
    assert main(["export", str(repository / "xgboost/1")]) == 78
    assert "xgboost trees, which have no PyTorch program" in capsys.readouterr().err
    assert main(["export", str(repository / "ensemble/1")]) == 78
    assert "is an ensemble, which has no model of its own" in capsys.readouterr().err
