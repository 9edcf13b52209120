"""What is recorded of the order flow: the last trade of each interval, once, and never without limit."""

import numpy as np
import pytest

from candlecast.gate import ABSENT, APPROVE, Decisions
from candlecast.order_flow import OrderFlow
from candlecast.values import FlowBatch, symbols

START = 1_700_000_000_000


def trades(ts, price=None, first_id=0):
    ts = np.asarray(ts, dtype=np.int64) + START
    price = 100 + np.sin(ts / 700) if price is None else np.asarray(price, dtype=np.float64)
    return ts, first_id + np.arange(len(ts), dtype=np.int64), price, np.ones(len(ts))


def keys(records):
    """Return (symbol, ms since the start) of records."""
    if records is None:
        return []
    return [(name.decode(), int(ts) - START) for name, ts in zip(records.symbol, records.ts_ms, strict=True)]


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def flow_of(**given):
    clock = Clock()
    return OrderFlow(record_interval_ms=1_000, clock=clock, **given), clock


TIMES = [0, 10, 999, 1_000, 1_500, 4_100, 4_100, 4_200, 9_999, 10_000]
LAST = [999, 1_500, 4_200, 9_999, 10_000]


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_the_last_trade_of_each_interval_is_recorded_however_trades_are_batched(size):
    flow, _ = flow_of()
    whole = flow_of()[0]._flow.push("A", trades=trades(TIMES))
    found = []
    for start in range(0, len(TIMES), size):
        part = tuple(column[start : start + size] for column in trades(TIMES))
        flow.push(FlowBatch("A", part))
        if (records := flow.take_records()) is not None:
            found.append(records)
    found.append(flow.take_records(all_of_them=True))
    assert [key for records in found for key in keys(records)] == [("A", ts) for ts in LAST]
    ends = [2, 4, 7, 8, 9]
    np.testing.assert_array_equal(np.concatenate([records.rows for records in found]), whole.rows[ends])
    assert not np.concatenate([records.gate_asked for records in found]).any()


def test_an_interval_without_a_further_trade_is_recorded_when_nothing_came_for_so_long():
    flow, clock = flow_of()
    flow.push(FlowBatch("QUIET", trades([0, 100])))
    clock.now = 0.9
    flow.push(FlowBatch("BUSY", trades([0])))
    assert flow.take_records() is None
    clock.now = 1.1
    assert keys(flow.take_records()) == [("QUIET", 100)]
    assert flow.take_records() is None
    assert keys(flow.take_records(all_of_them=True)) == [("BUSY", 0)]


def test_trades_that_were_not_accepted_are_counted_and_make_no_record():
    flow, _ = flow_of()
    flow.push(FlowBatch("A", trades([5_000, 6_000])))
    flow.take_records(all_of_them=True)
    again = flow.push(FlowBatch("A", trades([5_000, 6_000])))
    late = flow.push(FlowBatch("A", trades([10], first_id=7)))
    wrong = flow.push(FlowBatch("A", trades([7_000], price=[np.nan])))
    assert (again.trades, late.trades, wrong.trades) == ((0, 2, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    assert flow.take_records(all_of_them=True) is None


def test_an_event_far_in_the_future_is_refused_and_does_not_make_the_others_late():
    flow, _ = flow_of()
    far = trades([0, 10**12])
    assert flow.push(FlowBatch("A", far)).trades == (1, 0, 0, 1)
    assert flow.push(FlowBatch("A", trades([20], first_id=9))).trades == (1, 0, 0, 0)


def test_records_that_nobody_takes_are_limited_and_the_oldest_go_first():
    flow, _ = flow_of(records_max=3)
    flow.push(FlowBatch("A", trades(1_000 * np.arange(6))))  # the sixth interval is not over
    assert flow.dropped == 2
    records = flow.take_records()
    assert keys(records) == [("A", ts) for ts in (2_000, 3_000, 4_000)]
    flow.push(FlowBatch("A", trades([6_000], first_id=6)))
    flow.give_back(records)
    assert keys(flow.take_records()) == [("A", ts) for ts in (3_000, 4_000, 5_000)]
    assert flow.dropped == 3


def test_what_the_gate_was_asked_about_is_recorded_with_what_it_said():
    flow, _ = flow_of()
    flow.push(FlowBatch("A", trades([0, 10])))
    flow.take_records(all_of_them=True)
    states = flow.at(symbols(["A", "NOBODY"]), START + 50)
    assert states.ts_ms.tolist() == [START + 50, 0]
    said = Decisions(np.array([APPROVE, ABSENT]), np.array([0.9, np.nan]), np.array([False, False]))
    flow.decided(states, said)
    records = flow.take_records()
    assert keys(records) == [("A", 50)]
    assert (records.gate_asked.tolist(), records.gate_verdict.tolist(), records.gate_probability.tolist()) == (
        [True],
        [APPROVE],
        [0.9],
    )
