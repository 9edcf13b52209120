"""What the Python door of the feature core costs: one call for 1,000 symbols, against the Rust work behind it.

Prints CPU nanoseconds per symbol-candle: the whole call; the same call with candles that are LATE, for which no engine
moves (names, arrays, checks, book-keeping, answers: all but the features); and the difference. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from candlecast import _rust

SYMBOLS = 1_000
INTERVAL_MS = 900_000
NOW_MS = 2**62


def candles(bar: int) -> tuple[np.ndarray, np.ndarray]:
    """Return open times [N] and values [N, 8] of one bar of every symbol."""
    close = 100 + 10 * np.sin(0.011 * bar + np.arange(SYMBOLS))
    values = np.column_stack([close - 0.1, close + 0.2, close - 0.2, close, np.full((SYMBOLS, 4), 50.0)])
    return np.full(SYMBOLS, bar * INTERVAL_MS), np.ascontiguousarray(values)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="calls of each kind (default 300)")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    args = parser.parse_args()
    market = _rust.Market(optional_inputs=_rust.OPTIONAL_INPUTS, reference_symbol="S0")
    names, intervals = [f"S{i}" for i in range(SYMBOLS)], np.full(SYMBOLS, INTERVAL_MS)
    closed = np.zeros(SYMBOLS, dtype=np.bool_)
    none = np.empty((0, _rust.WINDOW, len(_rust.catalog())), dtype=np.float32)

    def push(bar: int) -> float:
        times, values = candles(bar)
        started = time.process_time_ns()
        market.push(names, intervals, times, values, closed, NOW_MS, none)
        return (time.process_time_ns() - started) / SYMBOLS

    for bar in range(market.need):
        push(bar)
    moved, late = np.array([(push(market.need + i), push(0)) for i in range(args.rounds)]).T
    figures = {"call_ns": np.median(moved), "door_ns": np.median(late), "features_ns": np.median(moved - late)}
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:12} {value:8.0f}")


if __name__ == "__main__":
    main()
