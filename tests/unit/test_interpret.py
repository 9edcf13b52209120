import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from candlecast.interpret import LONG, NONE, SHORT, WEIGHTS, calibrated, interpret
from candlecast.outputs import LOGITS, RETURNS, RISKS

ONES = np.ones(4)
PROBABILITIES = np.array([[0.5, 0.25, 0.25], [0.2, 0.4, 0.4], [0.6, 0.2, 0.2], [0.1, 0.1, 0.8]])


def example(probabilities=PROBABILITIES, returns=(0.001, 0.002, 0.006, -0.003), risks=(0.01, 0.02, 0.012, 0.036)):
    return np.array([[*returns, *np.log(probabilities).ravel(), *risks]], dtype=np.float32)


def test_the_hand_computed_example_long():
    meaning = interpret(example(), ONES)
    assert meaning.side[0] == LONG
    assert meaning.edge[0] == pytest.approx(0.25 * 0.25 + 0.25 * -0.2 + 0.35 * 0.4, abs=1e-6)  # 0.1525
    assert meaning.confidence[0] == pytest.approx(
        0.25 * 2 / 3 + 0.25 / 3 + 0.35 * 0.75 + 0.15 * 0.5, abs=1e-6
    )  # 0.5875
    assert meaning.agreement[0] == pytest.approx(0.25 + 0.35)
    assert meaning.move[0] == pytest.approx(0.6475, abs=1e-6)
    assert meaning.stop_loss[0] == pytest.approx(0.012, abs=1e-8)
    assert meaning.take_profit[0] == pytest.approx(0.036, abs=1e-8)
    # quality: agreement 0.6, confidence 0.5875, sum w|return| 0.0033 of 0.015, risk 0.012 / 0.048
    assert meaning.quality[0] == pytest.approx(0.35 * 0.6 + 0.30 * 0.5875 + 0.20 * 0.22 + 0.15 * 0.75, abs=1e-6)
    np.testing.assert_allclose(meaning.probabilities[0], PROBABILITIES, atol=1e-6)


def test_the_mirrored_example_is_short_with_the_same_strength_and_swapped_risks():
    long = interpret(example(), ONES)
    short = interpret(example(PROBABILITIES[:, [1, 0, 2]], risks=(0.02, 0.01, 0.036, 0.012)), ONES)
    assert short.side[0] == SHORT
    assert short.edge[0] == pytest.approx(-long.edge[0])
    for name in ("confidence", "agreement", "move", "quality", "stop_loss", "take_profit"):
        assert getattr(short, name)[0] == pytest.approx(getattr(long, name)[0], abs=1e-6), name


def test_temperature_divides_the_logits_of_its_own_horizon_only():
    hot = interpret(example(), np.array([1.0, 2.0, 1.0, 1.0]))
    flattened = np.sqrt(PROBABILITIES[1]) / np.sqrt(PROBABILITIES[1]).sum()
    np.testing.assert_allclose(hot.probabilities[0, 1], flattened, atol=1e-6)
    np.testing.assert_allclose(hot.probabilities[0, [0, 2, 3]], PROBABILITIES[[0, 2, 3]], atol=1e-6)


def test_stop_and_take_stay_within_their_bounds_and_risk_is_half_without_any():
    low = interpret(example(risks=(0, 0, 0, 0)), ONES)
    assert (low.stop_loss[0], low.take_profit[0]) == (0.005, 0.01)
    high = interpret(example(risks=(0.5, 0.5, 0.5, 0.5)), ONES)
    assert (high.stop_loss[0], high.take_profit[0]) == (0.025, 0.05)
    assert low.quality[0] == pytest.approx(high.quality[0])


def test_a_balanced_output_has_no_side():
    assert interpret(np.zeros((1, 20), dtype=np.float32), ONES).side[0] == NONE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_has_no_side_and_harms_no_other_row(bad):
    rows = np.repeat(example(), 3, axis=0)
    rows[1, 7] = bad
    meaning = interpret(rows, ONES)
    assert meaning.finite.tolist() == [True, False, True]
    assert meaning.side.tolist() == [LONG, NONE, LONG]
    assert np.isnan(meaning.confidence[1])
    assert meaning.quality[2] == interpret(example(), ONES).quality[0]


finite_outputs = hnp.arrays(np.float32, (5, 20), elements=st.floats(-1e4, 1e4, width=32))


@given(finite_outputs)
def test_every_number_stays_in_its_range(rows):
    m = interpret(rows, ONES)
    np.testing.assert_allclose(m.probabilities.sum(axis=2), 1)
    for name, low, high in (
        ("confidence", 0, 1),
        ("agreement", 0, 1),
        ("move", 0, 1),
        ("edge", -1, 1),
        ("quality", 0, 1),
        ("stop_loss", 0.005, 0.025),
        ("take_profit", 0.01, 0.05),
    ):
        values = getattr(m, name)
        assert (values >= low - 1e-12).all() and (values <= high + 1e-12).all(), name
    assert WEIGHTS.sum() == pytest.approx(1)


def by_columns(outputs, temperatures):
    """The definition, written down by columns."""
    raw = outputs.astype(np.float64)
    finite = np.logical_and.reduce(np.isfinite(raw), axis=1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        p = calibrated(raw[:, LOGITS].reshape(-1, 4, 3), temperatures)
        p[~finite] = np.nan
        p_long, p_short = p[:, :, 0], p[:, :, 1]
        move_h, lean = p_long + p_short, p_long - p_short
        side_h = p_long / move_h
        side_h[move_h == 0] = 0.5
        edge = lean @ WEIGHTS
        sign = np.sign(edge)[:, None]
        # s on the LONG side, 1 - s on the SHORT side; the same for the risks: drawdown is adverse to LONG.
        confidence = (0.5 + sign * (side_h - 0.5)) @ WEIGHTS
        agreement = ((np.sign(lean) == sign) & (sign != 0)) @ WEIGHTS
        returns, risks = raw[:, RETURNS], raw[:, RISKS]
        drawdown, rally = np.maximum(risks[:, 2:], 0).T
        adverse, favourable = np.where(edge < 0, (rally, drawdown), (drawdown, rally))
        both = adverse + favourable
        risk = adverse / both
        risk[both == 0] = 0.5
        size = np.minimum(np.abs(returns) @ WEIGHTS / 0.015, 1)
        quality = 0.35 * agreement + 0.30 * confidence + 0.20 * size + 0.15 * (1 - risk)
        side = np.where(finite, sign[:, 0], NONE).astype(np.int8)
    if not finite.all():
        for derived in (agreement, quality, adverse, favourable):
            derived[~finite] = np.nan
    return {
        "side": side,
        "finite": finite,
        "confidence": confidence,
        "agreement": agreement,
        "move": move_h @ WEIGHTS,
        "edge": edge,
        "quality": quality,
        "returns": returns,
        "probabilities": p,
        "risks": risks,
        "stop_loss": np.clip(adverse, 0.005, 0.025),
        "take_profit": np.clip(favourable, 0.01, 0.05),
    }


@pytest.mark.parametrize("each", [False, True])
def test_every_row_means_what_the_definition_by_columns_says(each):
    rng = np.random.default_rng(4)
    rows = rng.normal(0, 1, (500, 20)) * np.array([0.01] * 4 + [2.0] * 12 + [0.03] * 4)
    rows[:50] = np.round(rows[:50])  # ties, zeros
    rows[50:60, 3], rows[60:70, 9], rows[70:80, 17] = np.nan, np.inf, -np.inf
    rows[80:90, 4:16] *= 1e30
    outputs = rows.astype(np.float32)
    temperatures = rng.uniform(0.5, 3, (500, 4) if each else 4)
    meaning = interpret(outputs, temperatures)
    for name, column in by_columns(outputs, temperatures).items():
        np.testing.assert_allclose(getattr(meaning, name), column, rtol=1e-12, atol=1e-15, err_msg=name)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="20 columns, not 19"):
        interpret(np.zeros((2, 19), dtype=np.float32), ONES)
    with pytest.raises(ValueError, match=r"\[4\] or \[2, 4\]"):
        interpret(np.zeros((2, 20), dtype=np.float32), np.ones(3))
