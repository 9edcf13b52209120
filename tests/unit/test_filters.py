import numpy as np
import pytest

from candlecast.filters import BIT, Reason, Thresholds, held_back, judge, reasons_of, size_multiplier
from candlecast.interpret import interpret


def outputs(*, p_long=0.9, returns=0.01, horizons=4):
    """A row that leans LONG on the first `horizons` horizons and SHORT on the rest."""
    p = [[p_long, 0.97 - p_long, 0.03] if h < horizons else [0.97 - p_long, p_long, 0.03] for h in range(4)]
    return np.array([[returns] * 4 + list(np.log(p).ravel()) + [0.01] * 4], dtype=np.float32)


def judged(row, *, state="READY", gap_filled=False, thresholds=None):
    states = ("COLD", "WARMING", "READY", "STALE", "QUARANTINED")
    code = np.array([states.index(state)], dtype=np.uint8)
    meaning = interpret(row, np.ones(4))
    return judge(meaning, code, np.array([gap_filled]), thresholds or Thresholds(), states=states)


def test_a_clear_forecast_passes_and_is_strong():
    verdicts = judged(outputs())
    assert (verdicts.direction[0], verdicts.strength[0], reasons_of(int(verdicts.reasons[0]))) == (1, 2, ())


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"row": outputs(p_long=0.55)}, Reason.LOW_CONFIDENCE),
        ({"row": outputs(p_long=0.96, horizons=1), "thresholds": Thresholds(min_confidence=0)}, None),
        ({"row": outputs(returns=0.0014)}, Reason.LOW_EXPECTED_RETURN),
        ({"row": outputs(), "state": "STALE"}, Reason.STALE),
        ({"row": outputs(), "state": "QUARANTINED"}, Reason.QUARANTINED),
        ({"row": outputs(), "state": "WARMING"}, Reason.NOT_READY),
        ({"row": outputs(), "gap_filled": True}, Reason.GAP_FILLED),
        ({"row": outputs() * np.nan}, Reason.OUTPUT_NOT_FINITE),
    ],
)
def test_each_filter_alone_makes_neutral_and_says_why(case, reason):
    verdicts = judged(**case)
    if reason is None:
        assert verdicts.direction[0] == -1  # the three other horizons outweigh the first
    else:
        assert verdicts.direction[0] == 0
        assert reasons_of(int(verdicts.reasons[0])) == (reason.value,)


def test_agreement_below_its_limit_makes_neutral():
    verdicts = judged(outputs(), thresholds=Thresholds(min_agreement=1.0))
    assert verdicts.direction[0] == 1
    split = judged(outputs(p_long=0.9, horizons=3), thresholds=Thresholds(min_agreement=0.9))
    assert reasons_of(int(split.reasons[0])) == (Reason.LOW_AGREEMENT.value,)


def test_all_reasons_are_listed_in_order():
    verdicts = judged(outputs(p_long=0.5, returns=0), state="STALE", gap_filled=True)
    assert reasons_of(int(verdicts.reasons[0])) == ("STALE", "GAP_FILLED", "LOW_CONFIDENCE", "LOW_EXPECTED_RETURN")


@pytest.mark.parametrize(("p_long", "strength"), [(0.56, 0), (0.6, 1), (0.75, 1), (0.8, 2)])
def test_strength_follows_confidence(p_long, strength):
    assert judged(outputs(p_long=p_long)).strength[0] == strength


def test_each_row_has_its_own_reasons():
    rows = np.concatenate([outputs(), outputs(p_long=0.55), outputs() * np.nan])
    meaning = interpret(rows, np.ones(4))
    state = np.array([0, 0, 1], dtype=np.uint8)
    verdicts = judge(meaning, state, np.array([False, True, False]), Thresholds(), states=("READY", "STALE"))
    assert verdicts.direction.tolist() == [1, 0, 0]
    assert [reasons_of(bits) for bits in verdicts.reasons.tolist()] == [
        (),
        ("GAP_FILLED", "LOW_CONFIDENCE"),
        ("OUTPUT_NOT_FINITE", "STALE"),
    ]


def test_a_strong_signal_is_half_as_large_again_and_nothing_is_larger():
    strength = np.array([0, 1, 2], dtype=np.uint8)
    assert size_multiplier(strength).tolist() == [1.0, 1.0, 1.5]
    assert size_multiplier(strength, 1.2).tolist() == [1.0, 1.0, 1.2]
    assert size_multiplier(strength, 3.0).tolist() == [1.0, 1.0, 1.5]


def test_a_further_reason_makes_neutral_and_stands_beside_the_others():
    verdicts = held_back(judged(outputs()), np.array([BIT[Reason.RATE_LIMITED]], dtype=np.uint32))
    assert (verdicts.direction[0], reasons_of(int(verdicts.reasons[0]))) == (0, ("RATE_LIMITED",))
    both = held_back(judged(outputs(p_long=0.55)), np.array([BIT[Reason.POSITION_LIMIT]], dtype=np.uint32))
    assert reasons_of(int(both.reasons[0])) == ("LOW_CONFIDENCE", "POSITION_LIMIT")
