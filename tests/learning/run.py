"""`make test-learning`: each family on a market with a known future; how much of what can be known does it learn?

Usage: python -m tests.learning.run [--families NAME …] [--bars N] [--json FILE]. A family's share at a horizon is the
fall of its log-loss below the base rate's, over the oracle's fall; the plant speaks about the horizons at which the
oracle's is 0.1 or more, and the mean over these counts. Exits with 1 when it is below 0.95 for a family.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
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
from candlecast.training.patchtst import NetworkConfig
from candlecast.training.sources import read_history
from candlecast.training.splits import walk_forward
from candlecast.training.temperature import fit_temperatures, log_loss
from candlecast.training.trees import TreesConfig
from tests.learning.plant import INTERVAL_MS, START_MS, market, oracle

SHARE_MIN = 0.95
GAIN_MIN = 0.1
"""Of the oracle, in nats: at horizons with less, some thousand candles say more of themselves than of the plant."""
BARS = 16_000
CONFIG = Config(
    network=NetworkConfig(width=64, layers=1, heads=2, feedforward=128, dropout=0.2),
    fit=FitConfig(epochs=4, batch_rows=128, learning_rate=1e-3, threads=2),
    trees=TreesConfig(
        rounds_max=100,
        learning_rate=0.1,
        patience_rounds=10,
        rows_min=400,
        leaves=4,
        depth=2,
        subsample=1.0,
        colsample=1.0,
    ),
)


def measure(names: list[str], bars: int, config: Config = CONFIG) -> dict[str, Any]:
    """Train the families on the first half of a market and measure them on the second; log-losses are [4 horizons]."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        candles, state = market(0, bars)
        candles.write_parquet(folder / "PLANT-15m.parquet")
        samples = prepare(read_history([folder / "PLANT-15m.parquet"]), folder, 1, lambda _: None)
        times = samples.open_time_ms
        split = walk_forward(int(times[0]), int(times[-1]) + INTERVAL_MS, INTERVAL_MS, folds=1)[0]
        assert split.test
        train, validation, test = (span.of(times) for span in (split.train, split.validation, split.test))
        came = samples.labels.take(test).directions
        known = oracle()[state[(times[test] - START_MS) // INTERVAL_MS]]
        rates = np.broadcast_to(base_rates(samples.labels.take(train)), known.shape)
        base, best = log_loss(rates, came), log_loss(known, came)
        spoken_of = base - best >= GAIN_MIN
        found: dict[str, Any] = {"train_rows": len(train), "test_rows": len(test), "base": base, "oracle": best}
        found["families"] = {}
        for name in names:
            began = time.monotonic()
            loss = _loss(name, config, samples, train, validation, test)
            share = float(((base - loss) / (base - best))[spoken_of].mean())
            found["families"][name] = {"loss": loss, "share": share, "seconds": time.monotonic() - began}
            print(f"{name}: share {share:.3f}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    return found


def _loss(name: str, config: Config, samples: Samples, train: Any, validation: Any, test: Any) -> Any:
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
    title = f"log-loss on {found['test_rows']:,} held-out candles after {found['train_rows']:,} of training"
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
