"""Measures for how many bars each column remembers where its history began, and renews what publishes it.

Usage: python bench/features_memory.py. Writes python/candlecast/features_memory.json and docs/features.md, from seeded
random candles that have every optional input and a reference, so that anyone gets the same numbers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from candlecast.candle_files import survey  # noqa: E402
from candlecast.feature_checks import Recursion, check_recursion  # noqa: E402
from candlecast.feature_files import recording  # noqa: E402
from candlecast.feature_page import MEMORY_FILE, markdown  # noqa: E402
from candlecast.features import NAMES, OPTIONAL_INPUTS  # noqa: E402
from tests.features.markets import MIDNIGHT_MS, PRICES, VALUES, Candles, with_optional_inputs  # noqa: E402

BARS = 20_000
MARKETS = ((100.0, 0.01), (30_000.0, 0.1), (1e-5, 1e-8), (40.0, 0.25))  # price and tick: the last is coarse
SYMBOL, REFERENCE = "ETHUSDT", "BTCUSDT"


def market(seed: int, price: float, tick: float) -> Candles:
    """Return a random walk of prices whose volatility comes back to 0.3 % a bar, with every optional input."""
    random = np.random.default_rng(seed)
    log_pace = np.zeros(BARS)
    for i, shock in enumerate(random.normal(0, 0.1, BARS - 1)):
        log_pace[i + 1] = 0.98 * log_pace[i] + shock
    pace = 0.003 * np.exp(log_pace)
    close = price * np.exp(np.cumsum(random.normal(0, 1, BARS) * pace))
    open_ = np.concatenate([[price], close[:-1]])
    high = np.maximum(open_, close) * np.exp(np.abs(random.normal(0, 0.5, BARS)) * pace)
    low = np.minimum(open_, close) * np.exp(-np.abs(random.normal(0, 0.5, BARS)) * pace)
    prices = np.maximum(np.round(np.array([open_, high, low, close]) / tick), 1) * tick
    columns = dict(zip(PRICES, prices, strict=True)) | {"volume": random.lognormal(5, 0.8, BARS)}
    columns["open_time_ms"] = MIDNIGHT_MS + np.arange(float(BARS)) * 900_000
    return with_optional_inputs(Candles(columns, 900_000), seed)


def measure(candles: Candles, folder: Path) -> Recursion:
    """Write the candles and their reference to files and ask the check that users have."""
    time, close = candles.columns["open_time_ms"].astype(np.int64), candles.columns["reference_close"]
    columns = {"ts": time} | {name: candles.columns[name] for name in VALUES}
    reference = {"ts": time} | dict.fromkeys(PRICES, close) | {"volume": np.zeros(BARS)}
    files = [folder / f"{symbol}-15m.parquet" for symbol in (SYMBOL, REFERENCE)]
    pl.DataFrame(columns).write_parquet(files[0])
    pl.DataFrame(reference).filter(pl.col("close").is_finite()).write_parquet(files[1])
    used = recording([survey(file) for file in files], symbols=[SYMBOL], reference_symbol=REFERENCE)
    assert used.optional_inputs == OPTIONAL_INPUTS
    return check_recursion(used, used.core)


def main() -> None:
    found = []
    for seed, (price, tick) in enumerate(MARKETS):
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(market(seed, price, tick), Path(folder)))
    bars: dict[str, int | None] = {}
    for k, name in enumerate(NAMES):
        each = [one.columns[k].bars for one in found]
        bars[name] = None if None in each else max(count for count in each if count is not None)
    starts = len(found[0].starts_ms)
    source = f"{len(MARKETS)} seeded random markets of {BARS:,} candles, {starts} later beginnings each"
    MEMORY_FILE.write_text(json.dumps({"source": source, "bars": bars}, indent=1) + "\n")
    (ROOT / "docs" / "features.md").write_text(markdown())
    print(f"{len(bars)} columns measured on {source}")


if __name__ == "__main__":
    main()
