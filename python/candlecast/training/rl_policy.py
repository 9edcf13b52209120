"""Trains the policy of `strategies/rl_ml.py`: an environment of Gymnasium over the backtester's rules, PPO on it.

    python -m candlecast.training.rl_policy --data candles/*-15m.parquet --from 2024-05-31 --to 2024-07-01 --out FOLDER

Give a span that the forecasting model has not learnt from: on its training bars it knows the answers, and a policy that
is trained there trusts it too much.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO

from candlecast.candle_files import survey
from candlecast.filters import Thresholds
from candlecast.strategies.rl_ml import OBSERVED, SIDES, Policy, observe, positions
from candlecast.training.backtest import recorded
from candlecast.training.replay import Said, replay
from candlecast.training.simulator import Bars, Rules
from candlecast.training.sources import utc
from candlecast.training.speakers import together
from candlecast.training.strategy import Traded
from candlecast.training.subject import Subject
from candlecast.values import F32

EPISODE_BARS: Final = 672
"""A week of quarters of an hour."""
SCALE: Final = 100.0
"""Of the rewards: log returns of a bar are small."""
HIDDEN: Final = (16, 16)
FREE: Final = Rules(fees=0.0, slippage=0.0)


class TradingEnv(gymnasium.Env[F32, np.int64]):
    """A week of one symbol. Action: flat, long or short; reward: the log return of the equity after costs, scaled."""

    def __init__(self, bars: Bars, said: Said, rules: Rules, episode_bars: int = EPISODE_BARS) -> None:
        if len(bars.open) <= episode_bars:
            raise ValueError(f"{len(bars.open)} bars are no episode of {episode_bars}")
        self._bars, self._said, self._rules, self._count = bars, said, rules, episode_bars
        self.observation_space = spaces.Box(-5.0, 5.0, (len(OBSERVED),), np.float32)
        self.action_space = spaces.Discrete(len(SIDES))

    def without_costs(self) -> TradingEnv:
        """Return the same market, in which trading is free."""
        return TradingEnv(self._bars, self._said, FREE, self._count)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[F32, dict[str, Any]]:
        super().reset(seed=seed)
        start = int(self.np_random.integers(len(self._bars.open) - self._count))
        symbol = int(self.np_random.integers(len(self._bars.symbols)))
        span = slice(start, start + self._count), slice(symbol, symbol + 1)
        some = {field.name: getattr(self._said, field.name)[span] for field in fields(Said)}
        prices = {name: getattr(self._bars, name)[span] for name in ("open", "high", "low", "close")}
        name, times = self._bars.symbols[symbol], self._bars.open_time_ms[span[0]]
        bars = replace(self._bars, symbols=(name,), open_time_ms=times, **prices)
        self._traded, self._t = Traded(bars, Said(**some), self._rules), 0
        self._equity = self._traded.simulation.step(0)
        return self._observed(), {}

    def step(self, action: np.int64) -> tuple[F32, float, bool, bool, dict[str, Any]]:
        traded, t = self._traded, self._t
        traded.want(t, positions(np.array([action]), traded.seen(t), traded.held(t)))
        self._t += 1
        equity = traded.simulation.step(self._t)
        reward = SCALE * float(np.log(max(equity, 1e-6) / max(self._equity, 1e-6)))
        self._equity = equity
        is_last = self._t == self._count - 1
        return self._observed(), reward, False, is_last, {"equity": equity}

    def _observed(self) -> F32:
        observed: F32 = observe(self._traded.seen(self._t), self._traded.held(self._t))[0].astype(np.float32)
        return observed


def trained(env: TradingEnv, *, steps: int, seed: int, rollout: int = 2048) -> Policy:
    """Train a policy by PPO on the CPU; the same seed gives the same one.

    The first half is without costs: with them it learns that doing nothing is best before it has seen what a forecast
    is worth.

    Args:
        rollout: steps between two updates, a multiple of 256.
    """
    import torch

    torch.set_num_threads(1)
    model = PPO(
        "MlpPolicy", env.without_costs(), seed=seed, device="cpu", n_steps=rollout, batch_size=256, gamma=0.98,
        ent_coef=0.003, learning_rate=3e-4, policy_kwargs={"net_arch": list(HIDDEN)}, verbose=0,
    )  # fmt: skip
    model.learn(steps // 2)
    model.set_env(env)
    model.learn(steps - steps // 2, reset_num_timesteps=False)
    network: Any = model.policy
    layers = [one for one in network.mlp_extractor.policy_net if hasattr(one, "weight")] + [network.action_net]
    as_arrays = [tuple(p.detach().numpy().astype(np.float64) for p in (one.weight.T, one.bias)) for one in layers]
    return Policy([(weight, bias) for weight, bias in as_arrays])


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and write rl_policy.npz and rl_policy.json."""
    parser = argparse.ArgumentParser(prog="python -m candlecast.training.rl_policy", description=__doc__)
    add = parser.add_argument
    add("--data", nargs="+", type=Path, required=True, metavar="FILE", help="candle files")
    add("--model", type=Path, default=Path("triton_models/patchtst/1"), metavar="BUNDLE")
    add("--from", dest="start", type=_time_ms, required=True, metavar="TIME", help="first bar, ISO 8601, UTC")
    add("--to", dest="end", type=_time_ms, required=True, metavar="TIME", help="bars that open before this")
    add("--steps", type=int, default=350_000)
    add("--seed", type=int, default=0)
    add("--out", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args(arguments)
    subject, rules = Subject.load(args.model), Rules()
    files = [survey(path) for path in args.data]
    recording = recorded(files, subject, None)
    bars, (said,) = replay(recording, [together(subject)], Thresholds(), start_ms=args.start, end_ms=args.end)
    policy = trained(TradingEnv(bars, said, rules), steps=args.steps, seed=args.seed)
    policy.save(
        args.out,
        {
            "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "span": {"from": utc(int(bars.open_time_ms[0])), "to": utc(int(bars.open_time_ms[-1]))},
            "symbols": bars.symbols,
            "steps": args.steps,
            "seed": args.seed,
            "model": {"name": subject.name, "version": subject.version, "bundle_sha256": subject.sha256},
            "libraries": {name: version(name) for name in ("gymnasium", "stable-baselines3", "torch")},
        },
    )
    print(
        f"trained on {len(bars.open):,} bars of {len(bars.symbols)} symbols: {args.out}/rl_policy.npz", file=sys.stderr
    )
    return 0


def _time_ms(text: str) -> int:
    time = datetime.fromisoformat(text)
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


if __name__ == "__main__":
    raise SystemExit(main())
