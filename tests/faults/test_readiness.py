"""What is asserted of readiness after every row can itself be wrong: here it meets histories that are made up."""

import re

import pytest

from tests.faults.readiness import Fault, Told, check


def fault(began_s, over_s=0.0, repaired_s=float("inf")):
    return Fault(began_s, over_s, repaired_s)


def test_a_server_that_is_always_ready_has_to_say_so():
    assert check([(0.0, True)], [], stays_ready=True) == Told()
    with pytest.raises(AssertionError, match="has to say"):
        check([(0.0, True)], [], stays_ready=False)
    with pytest.raises(AssertionError, match="has to say"):
        check([(0.0, True)], [fault(1.0)], stays_ready=True)


def test_the_times_are_the_worst_of_all_faults():
    changes = [(0.0, True), (11.0, False), (15.0, True), (42.0, False), (50.0, True)]
    assert check(changes, [fault(10.0), fault(40.0, over_s=48.0)], stays_ready=False) == Told(2.0, 5.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([(0.0, True)], "never told"),
        ([(0.0, True), (14.0, False), (15.0, True)], "told after 4.0 s"),
        ([(0.0, True), (11.0, False), (22.0, True)], "ready again 12.0 s after"),
        ([(0.0, True), (11.0, False)], "ready again inf s after"),
        ([(0.0, True), (11.0, False), (12.0, True), (19.0, False), (24.0, True)], "ready again 14.0 s after"),
        ([(0.0, True), (5.0, False), (6.0, True), (11.0, False), (12.0, True)], "without a fault"),
        ([(0.0, True), (11.0, False), (12.0, True), (25.0, False), (25.1, True)], "without a fault.*1 times, 0.10 s"),
    ],
)
def test_a_readiness_that_lies_is_found_out(changes, said):
    with pytest.raises(AssertionError) as found:
        check(changes, [fault(10.0)], stays_ready=False)
    assert re.search(said, str(found.value))


def test_of_a_fault_that_is_repaired_at_once_nobody_has_to_be_told():
    assert check([(0.0, True)], [fault(10.0, repaired_s=12.0)], stays_ready=False) == Told()
    with pytest.raises(AssertionError, match="never told"):
        check([(0.0, True)], [fault(10.0, repaired_s=14.0)], stays_ready=False)


def test_what_a_fault_brings_about_ends_where_the_next_one_begins():
    changes = [(0.0, True), (10.5, False), (12.0, True), (13.9, False), (17.0, True)]
    assert check(changes, [fault(10.0), fault(14.0)], stays_ready=False) == Told(0.5, 3.0)
