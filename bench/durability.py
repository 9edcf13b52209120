"""What waiting for the disk costs a reply: one symbol, candle by candle, waiting and not waiting in turn.

Usage: python bench/durability.py [CANDLES]. Prints medians and 99th percentiles in ms of one `candlecast up`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from candlecast.client import WAIT_DURABLE, WAIT_FAST, Client, messages  # noqa: E402
from candlecast.features import Features  # noqa: E402
from tests.market_simulator import candles  # noqa: E402
from tests.stack import Stack  # noqa: E402

NEED = Features(symbols_max=1, conflicts_max=1).need


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    history = messages(candles("DURABLE", NEED + count))
    taken: dict[str, list[float]] = {"durable": [], "fast": []}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        Path(temporary).chmod(0o755)  # PostgreSQL may run as another user
        stack = Stack(Path(temporary) / "state")
        stack.start()
        try:
            with Client(stack.grpc) as client:
                client.backfill(history[:NEED])
                for i, candle in enumerate(history[NEED:]):
                    name, wait = ("durable", WAIT_DURABLE) if i % 2 else ("fast", WAIT_FAST)
                    started = time.perf_counter()
                    client.predict([candle], wait=wait)
                    taken[name].append((time.perf_counter() - started) * 1e3)
        finally:
            stack.stop()
    for name, times in taken.items():
        print(f"{name:8} p50 {np.percentile(times, 50):6.2f} ms   p99 {np.percentile(times, 99):6.2f} ms")
    print(f"waiting for the disk adds {np.median(taken['durable']) - np.median(taken['fast']):.2f} ms at p50")


if __name__ == "__main__":
    main()
