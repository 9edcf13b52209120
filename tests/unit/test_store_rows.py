from dataclasses import replace

import numpy as np
import pytest

from candlecast.errors import StorageUnavailable
from candlecast.gate import RECORD, VERDICTS
from candlecast.store import records
from candlecast.store.batch import Batch
from candlecast.store.pool import is_refusal, place_of, unavailable
from candlecast.store.queries import STATEMENTS
from candlecast.store.records import Origin
from candlecast.values import StageTimes
from tests.integration.conftest import FEATURES, MODEL, STATES, candles, flow_records, forecasts

ORIGIN = Origin.of(MODEL, len(FEATURES), STATES)


def rows_of(given, names=FEATURES):
    return records.people(records.predictions(given, names), ORIGIN)


def flow_bytes(count):
    return records.flows(flow_records(count)).tobytes()


def column(rows, name):
    return [row[name] for row in rows]


def test_the_summary_is_that_of_the_finite_features():
    given = forecasts(150)  # more than are summarised at a time
    given.rows[3, 5], given.rows[4, :3], given.rows[5, 7] = np.nan, (np.nan, np.inf, -np.inf), np.inf
    given.rows[6] = np.nan
    given.rows[149, 3] = np.nan
    rows = rows_of(given)
    for i, values in enumerate(given.rows):
        kept = values[np.isfinite(values)].astype(float)
        found = [rows[i][f"features_{name}"] for name in ("mean", "std", "min", "max")]
        if len(kept):
            np.testing.assert_allclose(found, [kept.mean(), kept.std(), kept.min(), kept.max()], rtol=1e-5, atol=1e-6)
        else:
            assert found == [None] * 4
    assert column(rows, "nan_count")[3:7] == [1, 1, 0, len(FEATURES)]
    assert sum(column(rows, "nan_count")) == len(FEATURES) + 3


def test_a_not_a_number_becomes_null_and_never_sorts_above_a_threshold():
    given = forecasts(4)
    given.meaning.confidence[1] = np.nan
    rows = rows_of(given)
    assert column(rows, "confidence")[1] is None
    assert column(rows, "confidence")[2] == given.meaning.confidence[2]
    assert [value is None for value in column(rows, "volume")] == [False, True, False, True]


def test_indicators_are_found_by_the_name_of_the_feature_and_absent_ones_are_null():
    given = forecasts(3)
    rows = rows_of(given)
    assert column(rows, "rsi") == given.rows[:, 0].tolist()
    assert column(rows, "macd") == given.rows[:, 1].tolist()
    assert column(rows, "trend_strength") == [None] * 3
    swapped = rows_of(given, [FEATURES[1], FEATURES[0], *FEATURES[2:]])
    assert column(swapped, "rsi") == given.rows[:, 1].tolist()


def test_arrays_are_little_endian_single_precision():
    given = forecasts(5)
    for i, row in enumerate(rows_of(given)):
        np.testing.assert_array_equal(np.frombuffer(row["features"], "<f4"), given.rows[i])
        np.testing.assert_array_equal(np.frombuffer(row["outputs"], "<f4"), given.outputs[i])


def test_order_flow_says_what_is_undefined_and_what_the_gate_said():
    given = flow_records(8)
    rows = records.people(records.flows(given))
    assert column(rows, "ts_ms") == given.ts_ms.tolist()
    assert column(rows, "gate_verdict") == [VERDICTS[code] for code in given.gate_verdict.tolist()]
    for k, name in enumerate(RECORD):
        assert column(rows, name) == [None if x != x else x for x in given.rows[:, k].tolist()]
    assert None in column(rows, "price_dist")


def test_words_stand_for_codes_and_a_code_without_one_stays():
    given = forecasts(9)
    given.state[8] = len(STATES)
    rows = rows_of(given)
    assert column(rows, "state") == ["READY"] * 8 + [len(STATES)]
    words = {1: "LONG", -1: "SHORT", 0: "NEUTRAL"}
    assert column(rows, "direction") == [words[side] for side in given.direction.tolist()]
    strengths = ("WEAK", "NORMAL", "STRONG")
    assert column(rows, "strength") == [strengths[code] for code in given.strength.tolist()]


def test_a_time_that_no_column_holds_is_the_longest_one():
    given = replace(forecasts(2), times=StageTimes(1, 2, 1 << 40, 4, 5))
    assert column(rows_of(given), "queue_us") == [(1 << 31) - 1] * 2


def test_no_rows_are_no_bytes():
    assert records.predictions(forecasts(0), FEATURES).tobytes() == records.candles(candles(0), 1).tobytes() == b""


def test_what_was_packed_is_unpacked():
    missed = (("BTCUSDT", 1, 2, "m", 3, "R"),)
    predictions = records.predictions(forecasts(3), FEATURES).tobytes()
    batch = Batch(records.candles(candles(2), 7).tobytes(), predictions, missed, ORIGIN, flow_bytes(4))
    assert Batch.unpacked(batch.packed()) == batch
    assert batch.counts == (2, 3, 1, 4)


def test_halves_and_joined_parts_have_every_row_once():
    whole = Batch(b"", records.predictions(forecasts(7), FEATURES).tobytes(), (), ORIGIN)
    first, second = whole.halves()
    assert (first.counts, second.counts) == ((0, 4, 0, 0), (0, 3, 0, 0))
    assert Batch.joined([first, second]) == [whole]
    missed = (("A", 1, 2, "m", 3, "R"),)
    mixed = Batch(records.candles(candles(2), 7).tobytes(), whole.predictions, missed, ORIGIN, flow_bytes(5))
    assert [part.counts for part in mixed.halves()] == [(2, 0, 0, 0), (0, 7, 0, 0), (0, 0, 1, 0), (0, 0, 0, 5)]
    assert Batch.joined(mixed.halves()) == [mixed]


@pytest.mark.parametrize("unsigned", [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_hash_of_64_bits_keeps_them_all(unsigned):
    signed = records._signed(unsigned)
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
