"""Trades and equity → numbers, contract section 6. Pure arrays; None where a number does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from candlecast.training.simulator import Bars, Exit, Outcome, Trades
from candlecast.values import F64, I64, Bool

DAY_MS: Final = 86_400_000
YEAR_MS: Final = 365 * DAY_MS
"""Crypto trades every day."""

Numbers = dict[str, Any]


def returns_of(equity: F64) -> F64:
    """Return the simple returns [T] of an equity [T] that was 1 before; 0 from a ruin on."""
    before = np.concatenate([[1.0], equity[:-1]])
    solvent = np.minimum.accumulate(before) > 0
    return np.where(solvent, equity / np.where(solvent, before, 1) - 1, 0.0)


def sharpe(returns: F64, per_year: float) -> float | None:
    """Return mean / standard deviation (of a sample) of the returns, per year."""
    deviation = returns.std(ddof=1) if len(returns) > 1 else 0.0
    return float(returns.mean() / deviation * np.sqrt(per_year)) if deviation > 0 else None


def sortino(returns: F64, per_year: float) -> float | None:
    """Return mean / root mean square of the negative returns, per year."""
    downside = np.sqrt(np.mean(np.minimum(returns, 0) ** 2)) if len(returns) else 0.0
    return float(returns.mean() / downside * np.sqrt(per_year)) if downside > 0 else None


def drawdown(returns: F64) -> F64:
    """Return how far below its peak so far the compounded equity is after each return, >= 0; [T]."""
    equity = np.cumprod(1 + returns)
    below: F64 = 1 - equity / np.maximum.accumulate(np.maximum(equity, 1.0))
    return below


def profit_factor(pnl: F64) -> float | None:
    """Return gross profit / gross loss; None without a loss."""
    loss = -pnl[pnl < 0].sum()
    return float(pnl[pnl > 0].sum() / loss) if loss > 0 else None


def of_returns(returns: F64, per_year: float) -> Numbers:
    """Measure per-bar returns [T]."""
    ratio = sharpe(returns, per_year)
    return {
        "return": float(np.prod(1 + returns) - 1),
        "sharpe": ratio,
        "sortino": sortino(returns, per_year),
        "max_drawdown": float(drawdown(returns).max(initial=0.0)),
        "t_statistic": None if ratio is None else ratio * float(np.sqrt(len(returns) / per_year)),
    }


def of_trades(trades: Trades, bars: Bars, symbol_bars: int) -> Numbers:
    """Measure closed trades; `symbol_bars` is the number of bars in which there could have been one, of all symbols."""
    pnl, count = trades.pnl, len(trades)
    held = trades.exit_bar - trades.entry_bar + 1
    hour = 3_600_000 / bars.interval_ms
    return {
        "trades": count,
        "pnl": float(pnl.sum()),
        "win_rate": float((pnl > 0).mean()) if count else None,
        "profit_factor": profit_factor(pnl) if count else None,
        "expectancy": float((pnl / (trades.size * trades.entry)).mean()) if count else None,
        "fees": float(trades.fees.sum()),
        "funding": float(trades.funding.sum()),
        "exposure": float(held.sum() / symbol_bars) if symbol_bars else None,
        "holding_h": float(held.mean() / hour) if count else None,
    }


def turnover(filled: F64, equity: F64, interval_ms: int) -> float | None:
    """Return the value that was filled in each bar [T] over the mean equity [T], a day."""
    days = len(equity) * interval_ms / DAY_MS
    return float(filled.sum() / max(float(equity.mean()), 1e-12) / days) if len(equity) else None


def filled_in(trades: Trades, bars: int) -> F64:
    """Return the value of all fills in each bar [T]."""
    filled = np.zeros(bars)
    for bar, price in ((trades.entry_bar, trades.entry), (trades.exit_bar, trades.exit)):
        np.add.at(filled, bar, trades.size * price)
    return filled


def of_symbol(outcome: Outcome, bars: Bars, s: int) -> Numbers:
    """Measure one symbol by itself, over all bars: as an account that began with its share of the capital."""
    trades, count = outcome.trades.take(outcome.trades.symbol == s), len(bars.open_time_ms)
    share = 1 / len(bars.symbols)
    equity = 1 + outcome.gains[:, s] / share
    return {
        **of_returns(returns_of(equity), YEAR_MS / bars.interval_ms),
        **of_trades(trades, bars, int(np.isfinite(bars.open[:, s]).sum())),
        "turnover_per_day": turnover(filled_in(trades, count) / share, equity, bars.interval_ms),
    }


def summary(outcome: Outcome, bars: Bars, spans: Mapping[str, Bool]) -> Numbers:
    """Return the numbers of a backtest: in all, and by symbol, side, month and span.

    Args:
        spans: name → the bars [T] that belong to it; a trade belongs where it was closed, a fill where it was made.
    """
    trades, per_year = outcome.trades, YEAR_MS / bars.interval_ms
    returns, has_bar = returns_of(outcome.equity), np.isfinite(bars.open)
    filled = filled_in(trades, len(returns))

    def part(mask: Bool) -> Numbers:
        closed = trades.take(mask[trades.exit_bar])
        return {
            **of_returns(returns[mask], per_year),
            **of_trades(closed, bars, int(has_bar[mask].sum())),
            "turnover_per_day": turnover(filled[mask], outcome.equity[mask], bars.interval_ms),
        }

    return {
        **of_returns(returns, per_year),
        "periods_per_year": per_year,
        "equity": float(outcome.equity[-1]) if len(outcome.equity) else 1.0,
        **of_trades(trades, bars, int(has_bar.sum())),
        "turnover_per_day": turnover(filled, outcome.equity, bars.interval_ms),
        "exits": {why.name.lower(): int((trades.why == why).sum()) for why in Exit},
        "symbols": {symbol: of_symbol(outcome, bars, s) for s, symbol in enumerate(bars.symbols)},
        "sides": {
            name: of_trades(trades.take(trades.side == side), bars, int(has_bar.sum()))
            for name, side in (("long", 1), ("short", -1))
        },
        "months": {name: part(mask) for name, mask in months_of(bars.open_time_ms).items()},
        "spans": {name: part(mask) for name, mask in spans.items() if mask.any()},
    }


def months_of(open_time_ms: I64) -> dict[str, Bool]:
    """Return for each UTC month, as 2024-01, which of the times [T] lie in it."""
    month = open_time_ms.astype("datetime64[ms]").astype("datetime64[M]")
    return {str(name): month == name for name in np.unique(month)}


COLUMNS: Final = {
    "return": "return",
    "max_drawdown": "drawdown",
    "sharpe": "Sharpe",
    "sortino": "Sortino",
    "t_statistic": "t",
    "trades": "trades",
    "win_rate": "wins",
    "profit_factor": "profit factor",
    "expectancy": "per trade",
    "exposure": "exposure",
    "turnover_per_day": "turnover/day",
    "holding_h": "held, h",
}
"""What a table shows of the numbers, and its headings."""
_PERCENT: Final = {"return": 1, "pnl": 2, "max_drawdown": 1, "win_rate": 1, "expectancy": 3, "exposure": 1, "fees": 1}


def shown(key: str, value: float | None) -> str:
    """Return a number as people read it."""
    if value is None:
        return "–"
    if key in _PERCENT:
        return f"{value:+.{_PERCENT[key]}%}" if key in ("return", "pnl", "expectancy") else f"{value:.{_PERCENT[key]}%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
