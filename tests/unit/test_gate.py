"""The gate's rule, its heuristic, and what it does not decide."""

import numpy as np
import pytest

from candlecast import gate

NAN = np.nan


def verdicts(features, probabilities, **about):
    decided = gate.decide(np.array(features, dtype=float), probabilities, **about)
    return [gate.VERDICTS[code] for code in decided.verdict], decided


def test_what_reverts_with_a_probability_above_the_threshold_is_approved():
    p = np.array([[0.30, 0.70], [0.40, 0.60], [0.35, 0.65]], dtype=np.float32)
    said, decided = verdicts([[0, 0, 1]] * 3, p)
    assert said == ["APPROVE", "REFUSE", "REFUSE"]
    assert not decided.degraded.any()
    np.testing.assert_allclose(decided.probability, p[:, 1])
    assert verdicts([[0, 0, 1]] * 3, p, threshold=0.55)[0] == ["APPROVE"] * 3


def test_without_a_model_the_heuristic_decides_and_says_so():
    features = [[0.2, -0.2, 1.0], [-0.1, 0.1, 1.0], [0.9, 0.9, -2.0], [0.9, 0.9, 1.9], [0.15, 0.15, 0.0]]
    said, decided = verdicts(features, None)
    # (|tick| + |depth|)/2 against 0.15, |dist| against 2
    assert said == ["APPROVE", "REFUSE", "REFUSE", "APPROVE", "REFUSE"]
    assert decided.degraded.all() and np.isnan(decided.probability).all()
    assert verdicts(features, None, threshold=0.59)[0][1] == "APPROVE"


def test_a_row_that_the_model_answers_with_nan_is_decided_by_the_heuristic_alone():
    p = np.array([[NAN, NAN], [0.1, 0.9]], dtype=np.float32)
    said, decided = verdicts([[0.9, 0.9, 0.0], [0.0, 0.0, 0.0]], p)
    assert said == ["APPROVE", "APPROVE"]
    assert decided.degraded.tolist() == [True, False]


@pytest.mark.parametrize("p", [None, np.full((3, 2), 0.99, dtype=np.float32)])
def test_an_undefined_feature_is_not_decided_whatever_the_model_says(p):
    said, decided = verdicts([[NAN, NAN, NAN], [0.9, NAN, 1.0], [0.9, 0.9, NAN]], p)
    assert said == ["ABSENT", "UNDECIDED", "UNDECIDED"]
    assert np.isnan(decided.probability).all() and not decided.degraded.any()


def test_the_reason_is_that_of_the_price_before_that_of_the_book():
    undefined = np.array([[0, 0], [1, 3], [2, 0], [0, 4]], dtype=np.uint8)
    assert gate.reason(undefined).tolist() == [0, 1, 2, 4]


def test_a_setting_says_whether_what_is_not_decided_passes():
    codes = np.arange(4, dtype=np.uint8)
    assert gate.VERDICTS == ("ABSENT", "UNDECIDED", "REFUSE", "APPROVE")
    assert gate.passes(codes).tolist() == [True, True, False, True]
    assert gate.passes(codes, undecided_passes=False).tolist() == [False, False, False, True]
