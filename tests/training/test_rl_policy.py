"""The environment's rewards are the simulator's, and PPO finds a pattern that is there to be found."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
from gymnasium.utils.env_checker import check_env

from candlecast.strategies import rl_ml
from candlecast.strategies.columns import Held, Seen
from candlecast.training.replay import Said
from candlecast.training.rl_policy import SCALE, TradingEnv, trained
from candlecast.training.simulator import Bars, Rules
from candlecast.training.strategy import Traded

INTERVAL_MS = 900_000
FREE = Rules(fees=0, slippage=0)


def market(count=600, seed=0):
    """Return bars whose next return has the sign of the edge, and what is said of them."""
    rng = np.random.default_rng(seed)
    edge = np.repeat(rng.choice([-0.5, 0.5], (count // 6, 1)), 6, axis=0)
    moves = 0.002 * np.sign(np.vstack([[0.0], edge[:-1, 0][:, None]])) + rng.normal(0, 0.0005, (count, 1))
    close = 100 * np.exp(np.cumsum(moves, axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    times = INTERVAL_MS * np.arange(count, dtype=np.int64)
    bars = Bars(("AAA",), INTERVAL_MS, times, opened, np.maximum(opened, close), np.minimum(opened, close), close)
    full = {name: np.full((count, 1), 0.5, np.float32) for name in ("confidence", "agreement", "expected")}
    return bars, Said(
        is_forecast=np.ones((count, 1), bool),
        direction=np.zeros((count, 1), np.int8),
        strength=np.zeros((count, 1), np.int8),
        reasons=np.zeros((count, 1), np.uint32),
        stop_loss=np.full((count, 1), 0.025),
        take_profit=np.full((count, 1), 0.05),
        edge=edge.astype(np.float32),
        **full,
    )


def test_the_environment_keeps_to_gymnasium_and_its_rewards_add_up_to_the_equity():
    bars, said = market()
    env = TradingEnv(bars, said, Rules(), episode_bars=100)
    check_env(env, skip_render_check=True)
    env.reset(seed=1)
    rng, total, over = np.random.default_rng(2), 0.0, False
    while not over:
        _, reward, _, over, told = env.step(rng.integers(3))
        total += reward
    assert told["equity"] != 1
    assert total / SCALE == pytest.approx(np.log(told["equity"]))


def test_ppo_learns_a_pattern_that_is_there_and_its_policy_outlives_the_file(tmp_path):
    bars, said = market()
    policy = trained(TradingEnv(bars, said, FREE, episode_bars=128), steps=4_096, seed=1, rollout=512)
    policy.save(tmp_path, {"steps": 4_096})
    loaded = rl_ml.load(tmp_path)

    def decide(seen, held):
        return rl_ml.positions(loaded.actions(rl_ml.observe(seen, held)).argmax(axis=1), seen, held)

    unseen = market(seed=7)
    outcome = Traded(*unseen, FREE).whole(decide)
    assert outcome.equity[-1] > 1.3  # all of the pattern brings about 3; nothing known, about 1


def one(**changed):
    values = {"side": 0.0, "size": 1.0, "confidence": 0.6, "edge": 0.2, "agreement": 1.0, "expected": 0.001,
              "stop_loss": 0.01, "take_profit": 0.02, "sentiment": np.nan, "sentiment_age_ms": np.nan}  # fmt: skip
    columns = {name: np.array([value]) for name, value in (values | changed).items() if name != "degraded"}
    return Seen(**columns, degraded=np.array([changed.get("degraded", False)]))


def test_limits_are_not_overruled_and_nothing_is_opened_without_a_whole_forecast():
    nothing = Held(*np.zeros((3, 1)), *np.full((2, 1), np.nan))
    stopped = Held(np.ones(1), np.ones(1), np.full(1, -0.02), np.full(1, 0.01), np.full(1, 0.02))
    long = np.array([1])
    assert rl_ml.positions(long, one(), nothing) == [1]
    assert rl_ml.positions(long, one(degraded=True), nothing) == [0]
    assert rl_ml.positions(long, one(edge=np.nan), nothing) == [0]
    assert rl_ml.positions(long, one(), stopped) == [0]
    assert np.isfinite(rl_ml.observe(one(edge=np.nan), nothing)).all()


def test_a_policy_of_other_observations_is_refused(tmp_path):
    rl_ml.Policy([(np.zeros((9, 3)), np.zeros(3))]).save(tmp_path, {})
    path = tmp_path / "rl_policy.json"
    path.write_text(path.read_text().replace("held_gain", "luck"))
    with pytest.raises(ValueError, match="luck"):
        rl_ml.load(tmp_path)
