"""`make test-learning`: each family on a market with a known future; how much of what can be known does it learn?

Usage: python -m tests.learning.run [--families NAME …] [--bars N] [--json FILE]. A family's share is the fall of its
log-loss below the base rate's, over the oracle's fall, both averaged over the four horizons of the held-out candles.
Exits with 1 when a share is below 0.95.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from candlecast import outputs
from candlecast.interpret import interpret
from candlecast.training.config import Config
from candlecast.training.data import Samples, prepare
from candlecast.training.family import families
from candlecast.training.fit import FitConfig
from candlecast.training.labels import base_rates
from candlecast.training.lstm import LstmConfig
from candlecast.training.patchtst import NetworkConfig
from candlecast.training.sources import read_history
from candlecast.training.splits import EMBARGO_BARS, Span
from candlecast.training.temperature import fit_temperatures, log_loss
from candlecast.training.trees import TreesConfig
from candlecast.values import F64, I64
from tests.learning.plant import INTERVAL_MS, START_MS, market, oracle

SHARE_MIN = 0.95
BARS = 100_000
CONFIG = Config(
    network=NetworkConfig(patch=4, stride=4, width=64, layers=1, heads=2, feedforward=128, dropout=0.3),
    lstm=LstmConfig(width=32, layers=1),
    fit=FitConfig(epochs=1, batch_rows=64, learning_rate=2e-3, weight_decay=0.1, checks_per_epoch=5, threads=2),
    trees=TreesConfig(rounds_max=80, learning_rate=0.15, depth=2, leaves=4, rows_min=400, colsample=1.0),
)


def measure(names: list[str], bars: int, config: Config = CONFIG) -> dict[str, Any]:
    """Train the families on one market and measure them on its end; log-losses are [4 horizons]."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        candles, state = market(0, bars)
        candles.write_parquet(folder / "PLANT-15m.parquet")
        samples = prepare(read_history([folder / "PLANT-15m.parquet"]), folder, 1, lambda _: None)
        train, validation, test = _parts(samples)
        came = samples.labels.take(test).directions
        known = oracle()[state[(samples.open_time_ms[test] - START_MS) // INTERVAL_MS]]
        rates = np.broadcast_to(base_rates(samples.labels.take(train)), known.shape)
        base, best = log_loss(rates, came), log_loss(known, came)
        found: dict[str, Any] = {"train_rows": len(train), "test_rows": len(test), "base": base, "oracle": best}
        found["families"] = {}
        for name in names:
            began = time.monotonic()
            loss = _loss(name, config, samples, train, validation, test)
            share = float((base - loss).mean() / (base - best).mean())
            found["families"][name] = {"loss": loss, "share": share, "seconds": time.monotonic() - began}
            print(f"{name}: share {share:.3f}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    return found


def _parts(samples: Samples) -> tuple[I64, I64, I64]:
    """Return the first 70 % for training, a quarter of the next 10 % for validation, half of the last 20 % held out."""
    times = samples.open_time_ms
    edges = times[0] + INTERVAL_MS * np.array([0, 0.7, 0.8, 1]) * len(times)
    train, validation, test = (Span(int(a), int(b) - EMBARGO_BARS * INTERVAL_MS) for a, b in pairwise(edges))
    return train.of(times), validation.of(times)[::4], test.of(times)[::2]


def _loss(name: str, config: Config, samples: Samples, train: I64, validation: I64, test: I64) -> F64:
    model = families()[name](config).fit(samples, train, validation, 0, lambda *_: None)
    directions = samples.labels.directions
    temperatures = fit_temperatures(model.predict(samples, validation), directions[validation])
    answers = interpret(model.predict(samples, test), temperatures)
    return log_loss(answers.probabilities, directions[test])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(families()), choices=list(families()))
    parser.add_argument("--bars", type=int, default=BARS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    found = measure(args.families, args.bars)
    _print(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2, default=lambda array: array.tolist()) + "\n")
    failed = [name for name, one in found["families"].items() if not one["share"] >= SHARE_MIN]
    print(f"below {SHARE_MIN} of the oracle's gain: {', '.join(failed)}" if failed else "all reach what is asked for")
    return 1 if failed else 0


def _print(found: dict[str, Any]) -> None:
    title = f"log-loss, {found['test_rows']:,} held-out candles, {found['train_rows']:,} trained on"
    table = Table(box=None, title=title)
    for column in ("", *outputs.HORIZONS, "share", "seconds"):
        table.add_column(column, justify="right" if column else "left")
    for name in ("base", "oracle"):
        table.add_row(name, *(f"{loss:.4f}" for loss in found[name]))
    for name, one in found["families"].items():
        table.add_row(name, *(f"{loss:.4f}" for loss in one["loss"]), f"{one['share']:.3f}", f"{one['seconds']:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
