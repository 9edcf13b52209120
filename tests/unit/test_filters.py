import numpy as np
import pytest

from candlecast.filters import Reason, Thresholds, judge
from candlecast.interpret import interpret


def outputs(*, p_long=0.9, returns=0.01, horizons=4):
    """A row that leans LONG on the first `horizons` horizons and SHORT on the rest."""
    p = [[p_long, 0.97 - p_long, 0.03] if h < horizons else [0.97 - p_long, p_long, 0.03] for h in range(4)]
    return np.array([[returns] * 4 + list(np.log(p).ravel()) + [0.01] * 4], dtype=np.float32)


def judged(row, *, state="READY", gap_filled=False, thresholds=None):
    return judge(interpret(row, np.ones(4)), [state], np.array([gap_filled]), thresholds or Thresholds())


def test_a_clear_forecast_passes_and_is_strong():
    verdicts = judged(outputs())
    assert (verdicts.direction[0], verdicts.strength[0], verdicts.reasons[0]) == (1, 2, ())


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
        assert verdicts.reasons[0] == (reason.value,)


def test_agreement_below_its_limit_makes_neutral():
    verdicts = judged(outputs(), thresholds=Thresholds(min_agreement=1.0))
    assert verdicts.direction[0] == 1
    split = judged(outputs(p_long=0.9, horizons=3), thresholds=Thresholds(min_agreement=0.9))
    assert split.reasons[0] == (Reason.LOW_AGREEMENT.value,)


def test_all_reasons_are_listed_in_order():
    verdicts = judged(outputs(p_long=0.5, returns=0), state="STALE", gap_filled=True)
    assert verdicts.reasons[0] == ("STALE", "GAP_FILLED", "LOW_CONFIDENCE", "LOW_EXPECTED_RETURN")


@pytest.mark.parametrize(("p_long", "strength"), [(0.56, 0), (0.6, 1), (0.75, 1), (0.8, 2)])
def test_strength_follows_confidence(p_long, strength):
    assert judged(outputs(p_long=p_long)).strength[0] == strength
