import numpy as np
import pytest

from candlecast.features import NAMES
from candlecast.rules import COLUMNS, VOTES, Rules, hybrid

RULES = Rules(NAMES)


def row(**values):
    """A feature row on which nobody votes, but for these columns."""
    made = np.zeros(len(NAMES), dtype=np.float32)
    made[NAMES.index(COLUMNS["adx"])] = -0.5  # below 25
    for name, value in values.items():
        made[NAMES.index(COLUMNS[name])] = value
    return made


@pytest.mark.parametrize(
    ("values", "who", "vote"),
    [
        ({"rsi": (29 - 50) / 25}, "rsi", 1),
        ({"rsi": (71 - 50) / 25}, "rsi", -1),
        ({"rsi": (31 - 50) / 25}, "rsi", 0),
        ({"macd": 0.01}, "macd", 1),
        ({"macd": -0.01}, "macd", -1),
        ({"bollinger": -1.1}, "bollinger", 1),
        ({"bollinger": 1.1}, "bollinger", -1),
        ({"stochastic": (19 - 50) / 50}, "stochastic", 1),
        ({"stochastic": (81 - 50) / 50}, "stochastic", -1),
        ({"adx": (26 - 25) / 15, "di": 0.2}, "adx_di", 1),
        ({"adx": (26 - 25) / 15, "di": -0.2}, "adx_di", -1),
        ({"adx": (24 - 25) / 15, "di": 2.0}, "adx_di", 0),
        ({"ma_cross": 1 / 24}, "ma_cross", 1),
        ({"ma_cross": -1 / 24}, "ma_cross", -1),
        ({"rsi": np.nan, "macd": 1.0}, "macd", 1),
    ],
)
def test_each_indicator_votes_alone_and_a_vote_is_a_sixth_of_the_score(values, who, vote):
    rows = np.array([row(**values)])
    assert dict(zip(VOTES, RULES.votes(rows)[0].tolist(), strict=True)) == dict.fromkeys(VOTES, 0) | {who: vote}
    assert RULES.score(rows)[0] == pytest.approx(vote / 6)


def test_votes_are_read_by_name_wherever_the_columns_are():
    names = NAMES[::-1]
    rows = np.random.default_rng(1).normal(0, 1, (50, len(NAMES))).astype(np.float32)
    np.testing.assert_array_equal(Rules(names).votes(rows[:, ::-1]), RULES.votes(rows))


def test_a_feature_set_without_a_voter_is_refused():
    with pytest.raises(ValueError, match="rsi_14"):
        Rules([name for name in NAMES if name != "rsi_14"])


def test_the_hybrid_score_is_seven_parts_model_and_three_parts_rules():
    edge, score = np.array([0.5, -1.0, np.nan]), np.array([-1.0, -1.0, 1.0])
    np.testing.assert_allclose(hybrid(edge, score), [0.7 * 0.5 - 0.3, -1.0, np.nan])
    np.testing.assert_allclose(hybrid(edge, score, 0.0), [-1.0, -1.0, np.nan])
