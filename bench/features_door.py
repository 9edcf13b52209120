"""What the Python door of the feature core costs: one call for 1,000 symbols, beyond the Rust work behind it.

Prints nanoseconds per symbol-candle, medians of the rounds: the whole call, the core's part of it (as it says itself),
and the door between: names, arrays, checks, answers. First for candles that move every engine, then for LATE ones,
which move none: what is left of the core then is its book-keeping.
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
PARTS = "call", "core", "door"


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

    def push(bar: int) -> tuple[float, float]:
        times, values = candles(bar)
        started = time.perf_counter_ns()
        pushed = market.push(names, intervals, times, values, closed, NOW_MS, none)
        return (time.perf_counter_ns() - started) / SYMBOLS, pushed.core_ns / SYMBOLS

    for bar in range(market.need):
        push(bar)
    figures = dict[str, float]()
    for kind, first, step in ("moved", market.need, 1), ("late", 0, 0):
        call, core = np.array([push(first + step * i) for i in range(args.rounds)]).T
        figures |= {
            f"{kind}_{name}_ns": float(np.median(ns)) for name, ns in zip(PARTS, (call, core, call - core), strict=True)
        }
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:14} {value:8.0f}")


if __name__ == "__main__":
    main()
