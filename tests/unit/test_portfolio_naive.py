"""The filters that remember, against their definition written down anew: one candle, one forecast after the other."""

from dataclasses import dataclass

import numpy as np
import pytest

from candlecast.filters import BIT, Reason
from candlecast.portfolio import Candidates, Limits, Others, Portfolio

BARS = 96


@dataclass
class Held:
    side: int
    quality: float
    signal_ms: int
    until_ms: int
    stop_loss: float
    take_profit: float
    mark: float
    entry: float | None = None


class Naive:
    """What contract section 4 says, in plain Python over dictionaries."""

    def __init__(self, limits):
        self.limits, self.held, self.gains, self.signals, self.judged, self.past = limits, {}, {}, [], {}, {}

    def leave(self, series, price, close):
        held = self.held.pop(series)
        if held.entry is not None:
            gain = held.side * (price - held.entry) / held.entry - self.limits.trade_cost
            self.gains.setdefault(series, []).append((held.signal_ms, close, gain))

    def move(self, close, candles):
        for series, held in list(self.held.items()):
            if series in candles and held.signal_ms < close:
                open_, high, low, held.mark = candles[series]
                before, held.entry = held.entry, open_ if held.entry is None else held.entry
                stop, take = (
                    held.entry * (1 + sign * held.side * part)
                    for sign, part in ((-1, held.stop_loss), (1, held.take_profit))
                )
                worst, best = (low, high) if held.side > 0 else (high, low)
                if before is not None and held.side * (open_ - stop) <= 0:
                    self.leave(series, open_, close)
                elif before is not None and held.side * (open_ - take) >= 0:
                    self.leave(series, take, close)
                elif held.side * (worst - stop) <= 0:
                    self.leave(series, stop, close)
                elif held.side * (best - take) >= 0:
                    self.leave(series, take, close)
                elif close >= held.until_ms:
                    self.leave(series, held.mark, close)
            elif close > held.until_ms:  # its candle stays away
                self.leave(series, held.mark, close)

    def sharpe(self, series):
        trades = self.gains.get(series, [])
        if len(trades) < 30:
            return np.inf
        gains = np.array([gain for *_, gain in trades])
        years = (max(t[1] for t in trades) - min(t[0] for t in trades)) / (365 * 86_400_000)
        return gains.mean() / gains.std(ddof=1) * np.sqrt(len(gains) / years)

    def correlation(self, a, b):
        if a == b:
            return 1.0
        if a not in self.past or b not in self.past or self.past[a][1] != self.past[b][1]:
            return np.nan
        ends = [self.past[series][0] for series in (a, b)]
        if abs(ends[0] - ends[1]) > 32:
            return np.nan
        bars = [
            bar for bar in range(min(ends) - BARS + 1, min(ends) + 1) if all(bar in self.past[s][2] for s in (a, b))
        ]
        return np.corrcoef(*([self.past[s][2][bar] for bar in bars] for s in (a, b)))[0, 1]

    def judge(self, close, rows, others):
        """Judge rows, dictionaries; no two of them are of one candle."""
        if others:
            self.move(close, others)
        bits, fresh = {}, []
        for row in rows:
            known = self.judged.get(row["series"])
            if known and known[0] == close and (known[2] or not row["passes"]):
                bits[row["series"]] = known[1]
            else:
                fresh.append(row)
        for row in fresh:
            if not row["forming"]:
                bar = close // row["interval_ms"]
                mine = self.past.setdefault(row["series"], [bar - 1, row["interval_ms"], {}])
                if bar >= mine[0]:
                    if bar - BARS > mine[0]:
                        mine[2].clear()  # what lies before a gap is no more than the window
                    mine[0] = bar
                    mine[2].update({bar - k: row["past"][BARS - 1 - k] for k in range(BARS)})
        self.move(close, {row["series"]: row["ohlc"] for row in fresh if not row["forming"]})
        left = self.limits.max_signals_per_minute - sum(close - 60_000 < ms <= close for ms in self.signals)
        for row in sorted(fresh, key=lambda row: -row["quality"]):
            reasons, series = set(), row["series"]
            if row["side"]:
                alike = {s: held for s, held in self.held.items() if held.side == row["side"]}
                if self.sharpe(series) < self.limits.min_sharpe_ratio:
                    reasons.add(Reason.LOW_SHARPE)
                if row["quality"] + sum(held.quality for held in alike.values()) > self.limits.max_position_score:
                    reasons.add(Reason.POSITION_LIMIT)
                if any(self.correlation(series, s) > self.limits.max_correlation for s in alike):
                    reasons.add(Reason.CORRELATED_POSITION)
                if row["passes"] and not reasons:
                    if left <= 0:
                        reasons.add(Reason.RATE_LIMITED)
                    elif not row["forming"]:
                        left -= 1
                        self.enter(row, close)
            bits[series] = sum(BIT[reason] for reason in reasons)
            if not row["forming"] and close >= self.judged.get(series, (close,))[0]:
                self.judged[series] = (close, bits[series], row["passes"])
        return [bits[row["series"]] for row in rows]

    def enter(self, row, close):
        series, price = row["series"], row["ohlc"][3]
        self.signals.append(close)
        if series in self.held:
            self.leave(series, price, close)
        until = close + self.limits.position_bars_max * row["interval_ms"]
        self.held[series] = Held(row["side"], row["quality"], close, until, 0.01, 0.02, price)


@pytest.mark.parametrize("seed", range(20))
def test_every_forecast_is_judged_as_the_definition_says(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 9))
    limits = Limits(
        max_signals_per_minute=int(rng.integers(1, 5)), max_correlation=float(rng.choice([0.1, 0.5, 0.9])),
        min_sharpe_ratio=float(rng.choice([-1e9, 0.5])), max_position_score=float(rng.choice([0.8, 2.0, 1e9])),
        position_bars_max=int(rng.integers(1, 12)), trade_cost=0.001,
    )  # fmt: skip
    returns = rng.normal(0, 0.3, (count, 1_800)).astype(np.float32)
    returns[1::2] += returns[: len(returns[1::2])]
    intervals = np.where(rng.random(count) < 0.3, 300_000, 900_000)
    naive, core, seen, now = Naive(limits), Portfolio(limits), set(), 330 * 300_000

    def candle():
        price = 100 + rng.normal(0, 1.5, 3)
        return price[0], price.max() + 0.1, price.min() - 0.1, price[1]

    while (now := now + 300_000 * int(rng.choice([1, 3, 6, 99], p=[0.2, 0.7, 0.08, 0.02]))) < 1_800 * 300_000:
        interval = int(rng.choice(intervals))
        if now % interval:
            continue
        bar, close = now // interval, now
        of = np.flatnonzero(intervals == interval)
        rows = [
            {"series": s, "interval_ms": interval, "ohlc": candle(), "side": int(rng.integers(-1, 2)),
             "quality": float(rng.random()), "passes": bool(rng.random() < 0.7), "forming": bool(rng.random() < 0.1),
             "past": returns[s, bar - BARS + 1 : bar + 1]}
            for s in rng.permutation(of)[: int(rng.integers(1, len(of) + 1))].tolist()
        ]  # fmt: skip
        left = [s for s in of.tolist() if s not in {row["series"] for row in rows} and rng.random() < 0.3]
        others = {s: candle() for s in left}
        for given in (rows, rows[:1]) if rng.random() < 0.2 else (rows,):  # the first of them is sent again
            columns = {name: np.array([row[name] for row in given]) for name in rows[0]}
            candidates = Candidates(
                columns["series"], columns["interval_ms"], np.full(len(given), close), columns["ohlc"],
                columns["side"].astype(np.int8), columns["quality"], np.full(len(given), 0.01),
                np.full(len(given), 0.02), columns["passes"], columns["forming"],
            )  # fmt: skip
            beside = (
                Others(np.array(left), np.full(len(left), close), np.array(list(others.values()))) if left else None
            )
            got = core.judge(candidates, columns["past"], beside).tolist()
            assert got == naive.judge(close, given, others)
            seen.update(got)
        held = core.core.open
        assert held.series.tolist() == list(naive.held)
        np.testing.assert_array_equal(held.entry, [h.entry or np.nan for h in naive.held.values()])
    assert len(seen) > 1
    for s in range(count):
        trades, total, _ = core.core.trades(s)
        assert trades == len(naive.gains.get(s, []))
        assert total == pytest.approx(sum(gain for *_, gain in naive.gains.get(s, [])))
