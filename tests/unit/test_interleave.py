"""Columns into records by the core, against NumPy's own structured arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast._rust import interleave
from candlecast.packed import places

RECORD = np.dtype(
    [("name", "S32"), ("a", ">f8"), ("b", "<f4"), ("c", ">i2"), ("d", "u1"), ("e", "?"), ("f", "<u8"), ("g", ">i4"),
     ("many", "<f8", (3,)), ("h", ">i8"), ("i", "<u4")]
)  # fmt: skip
PLACES = places(RECORD)


@given(st.integers(0, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_records_are_those_of_a_structured_array(count, seed, some):
    rng = np.random.default_rng(seed)
    at = np.flatnonzero(rng.random(count) < 0.5) if some else None
    rows = count if at is None else len(at)
    columns = {
        "name": np.array([f"S{k}" for k in rng.integers(0, 10**6, rows)], dtype="S32"),
        "a": rng.normal(size=(rows, 2))[:, 1],  # strided
        "b": rng.normal(size=rows),
        "c": rng.integers(-(2**15), 2**15, rows),
        "d": rng.integers(0, 256, rows).astype(np.uint8),
        "e": rng.random(rows) < 0.5,
        "f": rng.integers(0, 2**64, rows, dtype=np.uint64),
        "g": rng.integers(-(2**31), 2**31, rows).astype(np.int32),
        "many": rng.normal(size=(rows, 3)).astype(np.float32),
        "h": int(rng.integers(-(2**62), 2**62)),
        "i": rng.integers(0, 2**32, rows).astype(np.uint32),
    }
    expected = np.zeros(count, RECORD)
    expected["g"] = -7
    empty = expected[:1].tobytes() if count else bytes(RECORD.itemsize)
    for name, column in columns.items():
        expected[name][slice(None) if at is None else at] = column
    got = interleave(empty, count, [(at, [(*PLACES[name], column) for name, column in columns.items()])])
    assert got == expected.tobytes()


@pytest.mark.parametrize(
    ("field", "column", "kind", "words"),
    [
        ((0, "<f8"), np.zeros(2), ValueError, "a column has 2 rows, not 3"),
        ((4, "<f8"), np.zeros(3), ValueError, "a record has 8 bytes, none at 11"),
        ((0, "<f8"), np.zeros((3, 2)), ValueError, "a record has 8 bytes"),
        ((0, "<c16"), np.zeros(3), TypeError, "not written as <c16"),
        ((0, "<f8"), np.zeros(3, dtype=np.complex64), TypeError, "complex64 with 1 dimensions is not written"),
        ((0, "<f8"), np.zeros(3, dtype="S32"), TypeError, "text is not written as <f8"),
        ((0, "<f8"), "text", TypeError, "real number"),
    ],
)
def test_what_does_not_fit_is_refused(field, column, kind, words):
    with pytest.raises(kind, match=words):
        interleave(bytes(8), 3, [(None, [(*field, column)])])
    with pytest.raises(ValueError, match="no record 3"):
        interleave(bytes(8), 3, [(np.array([3]), [])])


def test_blanks_come_behind_a_text_and_not_within():
    texts = np.array([b"AB", b"A\0B", b""], dtype="S32")
    got = interleave(bytes(32), 3, [(None, [(0, "|blank", texts)])])
    assert got == b"AB".ljust(32) + b"A\0B".ljust(32) + b" " * 32
