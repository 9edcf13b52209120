"""Seeded random markets that the core and the naive definitions are compared on. Nothing to trade on.

The columns are those of the golden files: the eight values of a candle, its open time and the reference's close.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PRICES = ("open", "high", "low", "close")
OPTIONAL = ("quote_volume", "trades", "taker_buy_volume", "reference_close")  # NaN = absent on that bar
VALUES = (*PRICES, "volume", *OPTIONAL[:3])
MIDNIGHT_MS = 1_700_006_400_000


@dataclass(frozen=True)
class Candles:
    """Contiguous candles of one symbol, by column."""

    columns: dict[str, Array]
    interval_ms: int

    def __len__(self) -> int:
        return len(self.columns["close"])

    def with_columns(self, **columns: Array) -> Candles:
        return replace(self, columns={**self.columns, **columns})

    def without(self, *names: str) -> Candles:
        """Return the candles with these columns absent on every bar."""
        return self.with_columns(**{name: np.full(len(self), np.nan) for name in names})


def walk(
    seed: int,
    *,
    bars: int = 900,
    price: float = 100.0,
    tick: float = 0.01,
    volatility: float = 0.003,
    start: int = 0,
    interval_ms: int = 900_000,
) -> Candles:
    """Return a random walk without optional inputs.

    Args:
        seed: the same arguments give the same candles.
        bars: number of candles.
        price: first open, about.
        tick: prices are multiples of it; 0 leaves them unrounded.
        volatility: typical log return of a bar; it wanders.
        start: bars after midnight UTC at which the history starts.
        interval_ms: length of a bar.
    """
    random = np.random.default_rng(seed)
    pace = volatility * np.exp(np.cumsum(random.normal(0, 0.02, bars)))
    close = price * np.exp(np.cumsum(random.normal(0, 1, bars) * pace))
    open_ = np.concatenate([[price], close[:-1]]) * np.exp(random.normal(0, 0.2, bars) * pace)
    high = np.maximum(open_, close) * np.exp(np.abs(random.normal(0, 0.5, bars)) * pace)
    low = np.minimum(open_, close) * np.exp(-np.abs(random.normal(0, 0.5, bars)) * pace)
    prices = np.array([open_, high, low, close])
    if tick > 0:
        prices = np.maximum(np.round(prices / tick), 1) * tick
    columns = dict(zip(PRICES, prices, strict=True))
    columns["volume"] = random.lognormal(5, 0.8, bars)
    columns["open_time_ms"] = MIDNIGHT_MS + (start + np.arange(float(bars))) * interval_ms
    return Candles(columns, interval_ms).without(*OPTIONAL)


def with_optional_inputs(candles: Candles, seed: int) -> Candles:
    """Add every optional input, some beyond what is plausible, a correlated reference, and holes in all of them."""
    random, n = np.random.default_rng([seed, 1]), len(candles)
    c, v = candles.columns, candles.columns["volume"]
    quote_volume = v * (c["low"] + random.uniform(-0.1, 1.1, n) * (c["high"] - c["low"]))
    trades = np.ceil(v / random.uniform(0.5, 2, n))
    taker_buy_volume = v * random.uniform(-0.05, 1.05, n).clip(min=0)
    for series in (quote_volume, trades, taker_buy_volume):
        series[random.random(n) < 0.03] = 0
        series[random.random(n) < 0.03] = np.nan
    taker_buy_volume[500:530] = np.nan
    moves = np.diff(np.log(c["close"]), prepend=np.log(c["close"][0]))
    reference = 30_000 * np.exp(np.cumsum(0.6 * moves + random.normal(0, moves.std(), n)))
    for hole in (slice(0, 5), slice(240, 241), slice(400, 403), slice(600, 610)):
        reference[hole] = np.nan
    return candles.with_columns(
        quote_volume=quote_volume, trades=trades, taker_buy_volume=taker_buy_volume, reference_close=reference
    )


def lively() -> Candles:
    return with_optional_inputs(walk(1), 1)


def plain() -> Candles:
    """Return unrounded prices without optional inputs that start within a bucket of every higher timeframe."""
    return walk(2, tick=0, start=37, interval_ms=300_000)


def dull() -> Candles:
    """Return a start without volume, flat and volumeless stretches, point bars and jumps by ten."""
    candles = with_optional_inputs(walk(3, bars=2060, tick=0.05, start=70), 3)
    prices = np.array([candles.columns[name] for name in PRICES])
    volume = candles.columns["volume"].copy()
    prices[:, :40] = prices[0, 0]
    volume[1:60] = 0
    prices[:, 300:420] = prices[3, 300:420]  # point bars
    prices[:, 450:] *= 10  # a jump between two bars
    prices[:, 700:] /= 10
    prices[:2, 700] *= 10  # a jump within a bar
    prices[:, 760:1460] = prices[3, 759]  # flat for longer than any window, and until Wilder's averages have faded
    volume[800:1450] = 0
    prices[:, 1540:1640:3] = prices[3, 1540]  # one price again and again
    volume[1540:1640:3] = 0
    volume[1700:1705] *= 1e6
    volume[1740:1840] = 0  # prices move, nothing trades
    prices[1, 1880:] = np.maximum(prices[0, 1880:], prices[3, 1880:])  # no wicks
    prices[2, 1880:] = np.minimum(prices[0, 1880:], prices[3, 1880:])
    volume[1880:] = np.round(volume[1880:], -2)  # ties
    reference = candles.columns["reference_close"].copy()
    reference[1500:1620] = reference[1499]
    amounts = {name: np.where(volume == 0, 0.0, candles.columns[name]) for name in OPTIONAL[:3]}
    return candles.with_columns(
        **dict(zip(PRICES, prices, strict=True)), volume=volume, reference_close=reference, **amounts
    )


def asleep() -> Candles:
    """Return one price and no volume for so long that every column has a value, then a market."""
    candles = walk(9, tick=0.25, start=50)
    prices = np.array([candles.columns[name] for name in PRICES])
    prices[:, :650] = prices[0, 650]
    volume = np.where(np.arange(len(candles)) < 650, 0, candles.columns["volume"])
    return candles.with_columns(**dict(zip(PRICES, prices, strict=True)), volume=volume)


def tiny_prices() -> Candles:
    return with_optional_inputs(walk(4, price=1e-8, tick=1e-12, start=3), 4)


def huge_prices() -> Candles:
    return with_optional_inputs(walk(5, price=1e6, tick=0.5, volatility=0.0004, start=95), 5)


def coarse_ticks() -> Candles:
    """Return prices a few ticks apart, so that many comparisons meet ties."""
    return with_optional_inputs(walk(6, price=40, tick=0.25, start=17), 6)


def whole_ticks() -> Candles:
    """Return prices that are large whole numbers, which TA-Lib's absolute thresholds ask for."""
    candles = with_optional_inputs(walk(7, bars=1000, price=50_000, tick=1), 7)
    returns = np.random.default_rng(8).normal(0, 0.003, len(candles))
    return candles.with_columns(reference_close=30_000 * np.exp(np.cumsum(returns)))


MAKERS = (lively, plain, dull, asleep, tiny_prices, huge_prices, coarse_ticks, whole_ticks)
MARKETS = {make.__name__: make for make in MAKERS}
