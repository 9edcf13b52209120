"""The page of a backtest: what makes it doubtful, what came out, then tables and plots. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from candlecast.training import page
from candlecast.training.backtest import WALK, Backtest
from candlecast.training.page import Block, Heading, Plot, Table, Text
from candlecast.training.performance import COLUMNS, drawdown, returns_of, shown
from candlecast.values import F64

POINTS_MAX: Final = 1_500
"""Points of a curve that are drawn: more cannot be seen."""
_HELD: Final = "buy and hold"
_TRADES: Final = {
    "trades": "trades",
    "pnl": "PnL",
    "win_rate": "wins",
    "profit_factor": "profit factor",
    "expectancy": "per trade",
    "fees": "fees",
    "exposure": "exposure",
    "holding_h": "held, h",
}
_EQUITY: Final = {"return": "return", "max_drawdown": "drawdown", "sharpe": "Sharpe", "sortino": "Sortino"}
_TURNOVER: Final = {"turnover_per_day": "turnover/day"}
_NOTE: Final = (
    "Returns compound; PnL and fees are shares of the equity at the start. Sharpe and Sortino are those of the equity"
    " at every close, with {per_year:,.0f} periods a year; t is the t statistic of its mean return. Per trade: the mean"
    " PnL over the value at the entry. Exposure: the share of a symbol's bars with a position. Turnover: the value of"
    " all fills over the mean equity, a day. A symbol's numbers are those of an account of its own that began with its"
    " share of the capital. Trades belong to the month and span in which they were closed."
)


_SPANS: Final = (
    "train, validation: the spans this model was fitted on; folds: the test spans of its walk-forward, whose models"
    " were others and are not in its bundle: this one was fitted later and has seen them; unseen: what its data does"
    " not reach."
)
_WALKED: Final = (
    "fold 1, …: the bars behind all that this fit of the walk-forward had seen, for which it spoke itself;"
    " walk-forward: all of them; train, validation: the other bars that the model was fitted on; unseen: what its data"
    " does not reach."
)


def write(path: Path, tests: Sequence[Backtest], told: Mapping[str, Any]) -> None:
    """Write the page, and Markdown beside it, of backtests of the same bars; `told` is their backtest.document.

    Raises:
        CandlecastError: a file cannot be written.
    """
    blocks: list[Block] = [Text(warning, "warning") for warning in told["warnings"]]
    blocks += [Text(verdict, "verdict") for verdict in told["verdicts"]]
    everything = {**told["models"], _HELD: told["buy_and_hold"]}
    blocks += [_table(COLUMNS, everything), Text(_NOTE.format(per_year=tests[0].numbers["periods_per_year"]), "note")]
    blocks += [Heading("Equity"), Plot(_equity(tests), "equity and drawdown")]
    blocks += [Heading("Months"), Plot(_months(tests), "return of each month")]
    blocks += [Heading("What was tested"), Table(["", ""], _facts(told))]
    for test in tests:
        blocks += _of(test)
    page.write(path, "Backtest of " + ", ".join(test.name for test in tests), blocks)


def _of(test: Backtest) -> list[Block]:
    numbers, said = test.numbers, test.said
    exits = ", ".join(f"{name} {count:,}" for name, count in numbers["exits"].items())
    refused = {name: count for name, count in said.items() if name.isupper()}
    reasons = ", ".join(f"{name} {count:,}" for name, count in refused.items()) or "none"
    return [
        Heading(test.name),
        Text(
            f"{said['forecasts']:,} forecasts: {said['long']:,} LONG, {said['short']:,} SHORT. Reasons of the others"
            f" (one may have several): {reasons}. Exits: {exits}."
        ),
        _table(_TRADES, numbers["sides"]),
        _table(_EQUITY | _TRADES | _TURNOVER, numbers["symbols"]),
        _table(_EQUITY | _TRADES | _TURNOVER, numbers["months"] | numbers["spans"]),
        Text(_WALKED if WALK in numbers["spans"] else _SPANS, "note"),
    ]


def _facts(told: Mapping[str, Any]) -> list[list[str]]:
    data, rules = told["data"], told["rules"]
    numbers = {name: value for name, value in told["filters"].items() if not isinstance(value, bool)}
    return [
        ["bars", f"{data['bars']:,} of {data['interval_ms'] / 60_000:g} minutes, {data['from']} to {data['to']}"],
        ["symbols", f"{len(data['symbols'])}: {', '.join(data['symbols'][:8])}" + " …" * (len(data["symbols"]) > 8)],
        ["costs", f"fees {rules['fees']:g} a fill, slippage {rules['slippage']:g}, funding {rules['funding']:g} / 8 h"],
        ["longest holding", f"{rules['hold_bars']} bars"],
        ["filters", ", ".join(f"{name} {value:g}" for name, value in numbers.items())],
    ]


def _table(columns: Mapping[str, str], rows: Mapping[str, Mapping[str, Any]]) -> Table:
    return Table(
        ["", *columns.values()],
        [[name, *(shown(key, numbers.get(key)) for key in columns)] for name, numbers in rows.items()],
    )


def _equity(tests: Sequence[Backtest]) -> str:
    """Draw every equity and, beneath, how far it is below its highest."""
    curves = [(test.name, test.outcome.equity, colour) for test, colour in zip(tests, _colours(tests), strict=True)]
    curves.append((_HELD, tests[0].held, page.GREY))
    time = tests[0].bars.open_time_ms + tests[0].bars.interval_ms
    step = -(-len(time) // POINTS_MAX)
    starts = np.arange(0, len(time), step)
    ends = np.append(starts[1:], len(time)) - 1
    with page.figure(11, 4.6) as figure:
        above, under = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
        for name, equity, colour in curves:
            width = 1.0 if name == _HELD else 1.5
            when = time[ends].astype("datetime64[ms]")
            above.plot(when, equity[ends] - 1, color=colour, linewidth=width, label=name)
            lowest = np.maximum.reduceat(drawdown(returns_of(equity)), starts)
            under.plot(when, -lowest, color=colour, linewidth=0.8 * width)
            if name != _HELD and len(tests) == 1:
                under.fill_between(when, -lowest, 0, color=colour, alpha=0.2, linewidth=0)
        above.axhline(0, color=page.GREY, linewidth=0.8)
        above.set(ylabel="return since the start")
        under.set(ylabel="drawdown")
        for axis in (above, under):
            axis.grid(visible=True)
            axis.yaxis.set_major_formatter(_percent)
        above.legend(loc="best", fontsize=8)
        return page.svg(figure)


def _months(tests: Sequence[Backtest]) -> str:
    """Draw the return of each month, models and buying and holding beside each other."""
    bars, names = tests[0].bars, list(tests[0].numbers["months"])
    groups = [(test.name, [month["return"] for month in test.numbers["months"].values()]) for test in tests]
    groups.append((_HELD, _by_month(returns_of(tests[0].held), bars.open_time_ms.astype("datetime64[ms]"))))
    width = 0.8 / len(groups)
    with page.figure(11, 2.8) as figure:
        axis = figure.subplots()
        for k, ((name, values), colour) in enumerate(zip(groups, [*_colours(tests), page.GREY], strict=True)):
            left = np.arange(len(values)) - 0.4 + k * width
            drawn = axis.bar(left, values, width=0.92 * width, align="edge", color=colour, label=name)
            if len(groups) * len(values) <= 30:
                axis.bar_label(drawn, fmt=lambda value: f"{value:+.1%}", fontsize=7, padding=2)
        axis.axhline(0, color=page.GREY, linewidth=0.8)
        axis.set_xticks(range(len(names)), names)
        axis.margins(y=0.15)
        axis.yaxis.set_major_formatter(_percent)
        axis.grid(visible=True, axis="y")
        axis.legend(loc="best", fontsize=8)
        return page.svg(figure)


def _by_month(returns: F64, time: np.ndarray[Any, np.dtype[np.datetime64]]) -> list[float]:
    month = time.astype("datetime64[M]")
    return [float(np.prod(1 + returns[month == name]) - 1) for name in np.unique(month)]


def _percent(value: float, position: float) -> str:
    return f"{100 * value:.3g}%"


def _colours(tests: Sequence[Backtest]) -> list[str]:
    return [page.COLOURS[k % len(page.COLOURS)] for k in range(len(tests))]
