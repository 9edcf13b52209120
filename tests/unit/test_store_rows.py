import numpy as np
import pytest

from candlecast.errors import StorageUnavailable
from candlecast.store import predictions
from candlecast.store.pool import is_refusal, place_of, unavailable
from candlecast.store.queries import STATEMENTS
from tests.integration.conftest import FEATURES, STATES, forecasts

NAMES = """
    symbol interval_ms close_time_ms model version bundle feature_set_hash close volume state gap_filled
    features features_hash feature_count nan_count zero_variance_count mean std min max
    rsi macd bb_position atr_pct volume_ratio trend_strength outputs probabilities direction strength
    confidence quality agreement move edge stop_loss take_profit reasons decode features_us queue model_us interpret
"""
COLUMNS = {name: i for i, name in enumerate(NAMES.split())}


def column(rows, name):
    return [row[COLUMNS[name]] for row in rows]


def test_the_summary_is_that_of_the_finite_features():
    given = forecasts(50)
    given.rows[3, 5], given.rows[4, :3], given.rows[5, 7] = np.nan, (np.nan, np.inf, -np.inf), np.inf
    given.rows[6] = np.nan
    rows = predictions.rows_of(given, FEATURES, STATES)
    for i, values in enumerate(given.rows):
        kept = values[np.isfinite(values)].astype(float)
        found = rows[i][COLUMNS["mean"] : COLUMNS["max"] + 1]
        if len(kept):
            np.testing.assert_allclose(found, [kept.mean(), kept.std(), kept.min(), kept.max()], rtol=1e-5, atol=1e-6)
        else:
            assert found == (None,) * 4
    assert column(rows, "nan_count")[3:7] == [1, 1, 0, len(FEATURES)]


def test_a_not_a_number_becomes_null_and_never_sorts_above_a_threshold():
    given = forecasts(4)
    given.meaning.confidence[1] = np.nan
    rows = predictions.rows_of(given, FEATURES, STATES)
    assert column(rows, "confidence")[1] is None
    assert column(rows, "confidence")[2] == given.meaning.confidence[2]
    assert [value is None for value in column(rows, "volume")] == [False, True, False, True]


def test_indicators_are_found_by_the_name_of_the_feature_and_absent_ones_are_null():
    given = forecasts(3)
    rows = predictions.rows_of(given, FEATURES, STATES)
    assert column(rows, "rsi") == given.rows[:, 0].tolist()
    assert column(rows, "macd") == given.rows[:, 1].tolist()
    assert column(rows, "trend_strength") == [None] * 3
    swapped = predictions.rows_of(given, [FEATURES[1], FEATURES[0], *FEATURES[2:]], STATES)
    assert column(swapped, "rsi") == given.rows[:, 1].tolist()


def test_arrays_are_little_endian_single_precision():
    given = forecasts(5)
    rows = predictions.rows_of(given, FEATURES, STATES)
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(np.frombuffer(row[COLUMNS["features"]], "<f4"), given.rows[i])
        np.testing.assert_array_equal(np.frombuffer(row[COLUMNS["outputs"]], "<f4"), given.outputs[i])


def test_words_stand_for_codes():
    given = forecasts(9)
    rows = predictions.rows_of(given, FEATURES, STATES)
    assert column(rows, "state") == ["READY"] * 9
    words = {1: "LONG", -1: "SHORT", 0: "NEUTRAL"}
    assert column(rows, "direction") == [words[side] for side in given.direction.tolist()]
    assert {*column(rows, "strength")} <= {"WEAK", "NORMAL", "STRONG"}


@pytest.mark.parametrize("unsigned", [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_hash_of_64_bits_keeps_them_all(unsigned):
    signed = predictions._signed(unsigned)
    assert -(1 << 63) <= signed < 1 << 63
    assert signed % (1 << 64) == unsigned


@pytest.mark.parametrize(
    ("dsn", "place"),
    [
        ("postgresql://user:s3cret@db.example:6543/candles", "db.example:6543/candles"),
        ("postgresql://user:s3cret@a:1,b:2/candles", "a:1,b:2/candles"),
        ("postgresql://user:s3@cret@db/candles?sslmode=require", "db/candles"),
        ("postgresql://user:s3cret@/candles?host=/run/postgresql", "/run/postgresql/candles"),
        ("postgresql://user:s3?cret@db/candles", "(no host)"),
        ("nonsense", "(no host)"),
    ],
)
def test_messages_name_the_place_and_never_the_password(dsn, place):
    assert place_of(dsn) == place
    error = unavailable(ConnectionRefusedError("refused"), place_of(dsn))
    assert isinstance(error, StorageUnavailable)
    assert place in str(error)
    assert not {"s3", "cret"} & {*str(error).replace("@", " ").split()}
    assert "cret" not in str(error)


def test_only_the_data_is_to_blame_for_a_refusal():
    assert is_refusal(ValueError("a value too large"))
    assert not is_refusal(ConnectionResetError())
    assert not is_refusal(TimeoutError())


def test_every_statement_has_its_name_and_its_end():
    assert {"record", "create_months", "known_candles", "recent_predictions"} <= STATEMENTS.keys()
    assert all(statement.endswith(";") and "-- name:" not in statement for statement in STATEMENTS.values())
