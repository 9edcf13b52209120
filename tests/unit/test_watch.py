"""What a version did of late, and what of it is not borne."""

from __future__ import annotations

import math

import numpy as np

from candlecast.watch import Limits, Traffic, Watch, fault

LIMITS = Limits(rows_min=10, not_finite_max=3, error_ratio=0.2, latency_ratio=3, latency_ms=1, confidence_ratio=0.2)
BEFORE = Traffic(rows=100, requests=20, window_ms=2.0, confidence=0.7)


def windows(rows: int) -> np.ndarray:
    return np.zeros((rows, 4, 3), np.float32)


def test_it_counts_what_happened_within_its_window_and_forgets_the_rest():
    now = [0.0]
    watch = Watch(10, clock=lambda: now[0])
    watch.answered(windows(8), np.zeros((8, 20), np.float32), 0.016)
    watch.spoke(np.array([0.6, 0.8, np.nan]))
    now[0] = 9
    watch.answered(windows(2), np.zeros((2, 20), np.float32), 0.014)
    watch.failed()
    seen = watch.of_late()
    assert (seen.rows, seen.requests, seen.failures, seen.not_finite) == (10, 3, 1, 0)
    assert math.isclose(seen.window_ms, 3.0)
    assert math.isclose(seen.confidence, 0.7)
    now[0] = 10.4
    assert watch.of_late().rows == 2
    assert math.isnan(watch.of_late().confidence)
    now[0] = 30
    assert watch.of_late().rows == 0


def test_an_output_that_is_not_finite_counts_unless_its_window_was_not_either():
    watch, given, outputs = Watch(), windows(4), np.zeros((4, 20), np.float32)
    outputs[1, 3], outputs[2, 19] = np.nan, np.inf
    given[2, 0, 0] = np.nan
    watch.answered(given, outputs, 0.001)
    assert watch.of_late().not_finite == 1


def test_each_fault_is_told_and_nothing_else_is():
    good = Traffic(rows=100, requests=20, failures=3, not_finite=2, window_ms=5.9, confidence=0.55)
    assert fault(good, BEFORE, LIMITS) is None
    cases = {
        "NOT_FINITE": Traffic(rows=4, requests=1, not_finite=3, window_ms=1, confidence=0.7),
        "ERRORS": Traffic(rows=100, requests=20, failures=4, window_ms=2, confidence=0.7),
        "LATENCY": Traffic(rows=100, requests=20, window_ms=6.1, confidence=0.7),
        "CONFIDENCE": Traffic(rows=100, requests=20, window_ms=2, confidence=0.53),
    }
    for word, traffic in cases.items():
        assert (fault(traffic, BEFORE, LIMITS) or "").startswith(f"{word}:")


def test_a_version_that_answers_nothing_at_all_is_told_by_its_errors():
    assert (fault(Traffic(requests=10, failures=10), BEFORE, LIMITS) or "").startswith("ERRORS")


def test_few_rows_and_nothing_to_compare_with_prove_nothing():
    slow = Traffic(rows=9, requests=3, failures=3, window_ms=1_000, confidence=0.5)
    assert fault(slow, BEFORE, LIMITS) is None
    assert fault(Traffic(rows=100, requests=20, window_ms=1_000, confidence=0.5), None, LIMITS) is None


def test_what_is_fast_enough_is_not_slow_whatever_was_before():
    quick = Traffic(rows=100, requests=20, window_ms=0.9, confidence=0.7)
    assert fault(quick, Traffic(rows=100, requests=20, window_ms=0.1, confidence=0.7), LIMITS) is None
