"""Do what a small network does that was trained by reinforcement on the backtester's rules.

    python -m candlecast.strategies.rl_ml --server 127.0.0.1:50051 --symbols BTCUSDT

It sees a forecast and its own position, and says flat, long or short. `python -m candlecast.training.rl_policy` trains
it; its weights are beside this file (rl_policy.npz, and rl_policy.json, which says on what it was trained).
Out: when it says so, or at its stop, take or time, which it cannot overrule.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from candlecast.outputs import HOLD_BARS
from candlecast.strategies.columns import F64, Held, Seen, is_over

NAME: Final = "rl_ml"
MODEL: Final = ""
"""Whose forecasts are followed: whatever the server serves."""
OBSERVED: Final = (
    "edge", "confidence", "agreement", "expected", "stop_loss", "take_profit", "held_side", "held_bars", "held_gain",
)  # fmt: skip
"""The columns of an observation, each about 1 in size."""
SIDES: Final = np.array([0.0, 1.0, -1.0])
"""Of the actions."""
FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Policy:
    """Layers of weights [in, out] and biases [out]; tanh between them."""

    layers: Sequence[tuple[F64, F64]]

    def actions(self, observed: F64) -> F64:
        """Return the scores [N, 3] of observations [N, 9]; the largest is done."""
        *hidden, (weights, biases) = self.layers
        for weight, bias in hidden:
            observed = np.tanh(observed @ weight + bias)
        scores: F64 = observed @ weights + biases
        return scores

    def save(self, folder: Path, told: dict[str, object]) -> None:
        """Write rl_policy.npz, and beside it what is to be told of it."""
        arrays = {
            f"{kind}{i}": array for i, pair in enumerate(self.layers) for kind, array in zip("wb", pair, strict=True)
        }
        np.savez(folder / "rl_policy.npz", **arrays)  # type: ignore[arg-type]
        text = json.dumps({"observed": OBSERVED, "layers": len(self.layers)} | told, indent=1)
        (folder / "rl_policy.json").write_text(text + "\n")


def load(folder: Path) -> Policy:
    """Read a policy.

    Raises:
        OSError: it is not there.
        ValueError: it is of other observations, or no such file.
    """
    told = json.loads((folder / "rl_policy.json").read_text())
    if tuple(told["observed"]) != OBSERVED:
        raise ValueError(f"{folder}: the policy observes {told['observed']}, this program {list(OBSERVED)}")
    with np.load(folder / "rl_policy.npz", allow_pickle=False) as arrays:
        return Policy([(arrays[f"w{i}"], arrays[f"b{i}"]) for i in range(told["layers"])])


def observe(seen: Seen, held: Held) -> F64:
    """Return the observations [N, 9]; what is not finite is 0."""
    columns = (
        3 * seen.edge, 5 * (seen.confidence - 0.5), seen.agreement, 200 * seen.expected, 100 * seen.stop_loss,
        50 * seen.take_profit, held.side, held.bars / HOLD_BARS, 100 * held.gain,
    )  # fmt: skip
    observed: F64 = np.nan_to_num(np.clip(np.column_stack(columns), -5, 5))
    return observed


def positions(action: F64, seen: Seen, held: Held) -> F64:
    """Return the positions wanted [N] of actions [N]; nothing is opened on a forecast that a part was missing from."""
    side = SIDES[action.astype(np.int64)]
    opens = (side != 0) & (side != held.side)
    can_open = ~seen.degraded & np.isfinite(seen.edge)
    return np.where(is_over(held) | (opens & ~can_open), 0.0, side)


@cache
def shipped() -> Policy:
    """Return the policy beside this file."""
    return load(FOLDER)


def decide(seen: Seen, held: Held) -> F64:
    """Return the positions wanted [N]."""
    return positions(shipped().actions(observe(seen, held)).argmax(axis=1), seen, held)


if __name__ == "__main__":
    from candlecast.strategies.live import main

    raise SystemExit(main(NAME, decide, MODEL))
