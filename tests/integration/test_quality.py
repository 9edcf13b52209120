"""What rules about outcomes read: the newest days of one version and one strategy, when there are enough."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from candlecast.alert_rules import DEFAULTS, AlertRule
from candlecast.tracking.quality import QualityWatch
from tests.integration.conftest import MODEL

DAY = date(2026, 1, 31)
COUNTS = """
INSERT INTO ml_accuracy_counts (model, version, interval_ms, symbol, day, horizon_bars, bin, forecasts, hits, longs,
    shorts, neutrals, side_hits, confidence, log_loss, brier, error, error_size, error_square, return_size)
VALUES ($1, $2, 900000, $3, $4, $5, $6, $7, $8, $9, 0, $7::bigint - $9::bigint, 0, $10, 0, 0, 0, 0, 0, 0)"""
TRADES = """
INSERT INTO ml_strategy_days (strategy, symbol, day, opened, closed, wins, losses, pnl, gross_profit, gross_loss, fees,
    return_sum, return_square_sum, holding_s, peak, trough, drawdown)
VALUES ($1, $2, $3, 0, $4, $5, 0, $6, 0, 0, 0, $7, 0, 0, 0, 0, 0)"""


def rule(metric, **more):
    return AlertRule(name=f"r_{metric}", metric=metric, below=0, count_min=100, **more)


async def found(dsn, pool, *rules, model=MODEL):
    watch = QualityWatch(dsn, rules, lambda: model)
    assert [watch.value(one) for one in rules] == [None] * len(rules)
    await watch.look(pool)
    return [watch.value(one) for one in rules]


async def test_accuracy_is_of_the_newest_days_of_the_version_that_answers_at_one_horizon(dsn, pool):
    rules = [rule("hit_rate", days=2), rule("hit_rate_over_base", days=2), rule("calibration_error", days=2)]
    assert await found(dsn, pool, *rules) == [None] * 3  # of nothing, nothing is known
    who = MODEL.name, MODEL.version
    #                              symbol      day                       bars bin  n  hits longs confidence
    for counted in (
        (*who, "AUSDT", DAY, 1, 10, 40, 20, 10, 20.0),  # as sure as right
        (*who, "BUSDT", DAY, 1, 16, 40, 20, 10, 32.0),  # surer than right
        (*who, "BUSDT", DAY - timedelta(1), 1, 16, 20, 8, 10, 16.0),
        (*who, "BUSDT", DAY - timedelta(2), 1, 16, 500, 0, 0, 400.0),  # before these days
        (*who, "BUSDT", DAY, 4, 16, 500, 0, 0, 400.0),  # of another horizon
        (MODEL.name, 9, "BUSDT", DAY, 1, 16, 500, 0, 0, 400.0),  # of another version
    ):
        await pool.fetch(COUNTS, *counted)
    assert await found(dsn, pool, *rules) == pytest.approx([0.48, 0.48 - 0.7, (12 + 8) / 100])
    short = [rule("hit_rate", days=1), rule("hit_rate", days=3, horizon_bars=16)]
    assert await found(dsn, pool, *short) == [None, None]  # 80 are too few, and there are none


async def test_trades_are_of_the_newest_days_of_one_strategy(dsn, pool):
    for counted in (
        ("candlecast", "", DAY, 60, 20, -30.0, -0.3),
        ("candlecast", "AUSDT", DAY, 60, 20, -30.0, -0.3),  # the same, of a symbol
        ("candlecast", "", DAY - timedelta(6), 40, 20, 10.0, 0.1),
        ("candlecast", "", DAY - timedelta(7), 1_000, 1_000, 9e9, 9e9),
        ("candlecast", "", DAY + timedelta(3), 0, 0, 0.0, 0.0),  # nothing was closed on it
        ("mine", "", DAY, 100, 100, 5.0, 1.0),
    ):
        await pool.fetch(TRADES, *counted)
    rules = [
        rule("win_rate"),
        rule("mean_return"),
        rule("pnl"),
        rule("pnl", strategy="mine"),
        rule("pnl", strategy="no"),
    ]
    for one, value in zip(rules, (0.4, -0.002, -20.0, 5.0, None), strict=True):
        assert await found(dsn, pool, one) == [value if value is None else pytest.approx(value)]


async def test_a_version_that_comes_begins_with_nothing_known(dsn, pool):
    current = [MODEL]
    await pool.fetch(COUNTS, MODEL.name, MODEL.version, "AUSDT", DAY, 1, 10, 5_000, 100, 2_500, 2_500.0)
    hit_rate = next(one for one in DEFAULTS if one.name == "hit_rate")
    watch = QualityWatch(dsn, [hit_rate], lambda: current[0])
    await watch.look(pool)
    assert hit_rate.is_beyond(watch.value(hit_rate))
    current[0] = replace(MODEL, version=MODEL.version + 1)
    await watch.look(pool)
    assert watch.value(hit_rate) is None
