"""Filters, positions and scores of a bar close of 1,000 symbols, beside the filters that need nothing but the forecast.

Usage: python bench/signals.py [--rows 1000] [--times 300] [--json FILE]. Windows are made up and 92 KB each, as
many as the rows, so that they are as cold as in serving. Each time is another close: returns are new, positions move,
and the book is full, so that every forecast is compared with open positions. Target: 2 ms at the median.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from candlecast.features import NAMES, STATES, WINDOW
from candlecast.filters import Thresholds, judge
from candlecast.interpret import interpret
from candlecast.portfolio import Limits, Portfolio
from candlecast.signals import RETURN, Signals
from candlecast.values import Candles, symbols

BAR_MS = 900_000
TARGET_MS = 2.0


def outputs(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Return outputs [B, 20] of which about half pass the filters that need nothing but the forecast."""
    lean = rng.normal(0, 1.5, (rows, 1, 1)) * np.array([1.0, -1.0, 0.0]) + rng.normal(0, 0.3, (rows, 4, 3))
    returns, risks = rng.normal(0, 0.006, (rows, 4)), np.abs(rng.normal(0, 0.01, (rows, 4)))
    return np.column_stack([returns, lean.reshape(rows, 12), risks]).astype(np.float32)


def close(names: np.ndarray, price: np.ndarray, bar: int) -> Candles:
    """Return the candles of a close."""
    values = np.full((len(names), 8), np.nan)
    values[:, :4] = price[:, None] * np.array([1, 1.002, 0.998, 1])
    count = len(names)
    return Candles(names, np.full(count, BAR_MS), np.full(count, bar * BAR_MS), values, np.zeros(count, dtype=np.bool_))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=300)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    names = symbols([f"S{i}USDT" for i in range(args.rows)])
    windows = np.zeros((args.rows, WINDOW, len(NAMES)), dtype=np.float32)
    windows[:, :, NAMES.index(RETURN)] = rng.normal(0, 0.3, (args.rows, WINDOW))
    windows[:, -1] = rng.normal(0, 1, (args.rows, len(NAMES)))
    price = np.full(args.rows, 100.0)
    state, gaps = np.full(args.rows, STATES.index("READY"), dtype=np.uint8), np.zeros(args.rows, dtype=np.bool_)
    signals = Signals(NAMES, STATES, Thresholds(), Portfolio(Limits()))
    spent: dict[str, list[float]] = {"filters + hybrid": [], "without memory or scores": []}
    passed = held = 0
    for bar in range(1_000, 1_000 + args.times + 20):
        meaning, candles = interpret(outputs(rng, args.rows), np.ones(4)), close(names, price, bar)
        windows[:, -1, NAMES.index(RETURN)] = rng.normal(0, 0.3, args.rows)
        started = time.perf_counter()
        signal = signals.judge(meaning, candles, windows, state, gaps)
        middle = time.perf_counter()
        alone = judge(meaning, state, gaps, Thresholds(), states=STATES)
        ended = time.perf_counter()
        if bar >= 1_020:  # the first closes fill the book
            spent["filters + hybrid"].append((middle - started) * 1e3)
            spent["without memory or scores"].append((ended - middle) * 1e3)
            passed += int((alone.direction != 0).sum())
            held += int((signal.verdicts.direction != 0).sum())
    print(f"{args.rows} forecasts a close, {args.times} closes; a close has on average")
    print(f"{passed / args.times:.0f} that pass the filters without memory, and {held / args.times:.1f} signals")
    figures = {}
    for name, times in spent.items():
        figures[name] = {"p50_ms": float(np.median(times)), "p99_ms": float(np.percentile(times, 99))}
        print(f"{name:26s} p50 {figures[name]['p50_ms']:.2f} ms   p99 {figures[name]['p99_ms']:.2f} ms")
    if args.json:
        args.json.write_text(json.dumps(figures))
    return 0 if figures["filters + hybrid"]["p50_ms"] <= TARGET_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
