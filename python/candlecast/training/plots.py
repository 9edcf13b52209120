"""The pictures of a report, as SVG. Knows no files; every function draws one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes

from candlecast import outputs
from candlecast.training import page
from candlecast.training.page import GREY, LOSS, MODEL, RAW, svg
from candlecast.values import F64, I64

BARS_MAX: Final = 25
"""Features in the importance picture."""
NOISE_ROWS: Final = 20
"""Fewer in a bin of the reliability diagram say little."""


def reliability(bins: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> str:
    """Draw how often the likeliest class came against how probable it was said to be, before and after scaling."""
    with page.figure(11, 3.6) as figure:
        axes = figure.subplots(2, len(outputs.HORIZONS), sharex="col", height_ratios=(4, 1))
        for column, horizon in enumerate(outputs.HORIZONS):
            above, below = axes[:, column]
            used: list[F64] = []
            for when, colour in (("raw", RAW), ("scaled", MODEL)):
                rows, confidence, hits = (np.array(bins[horizon][when][key]) for key in ("rows", "confidence", "hits"))
                there = rows > 0
                x, y = confidence[there] / rows[there], hits[there] / rows[there]
                # Bins of a few rows are noise: drawn, but not joined.
                solid = rows[there] >= min(max(0.002 * rows.sum(), NOISE_ROWS), rows.max())
                label = {"raw": "before scaling", "scaled": "after scaling"}[when]
                above.plot(x[solid], y[solid], "o-", color=colour, markersize=4, linewidth=1.4, label=label)
                above.plot(x[~solid], y[~solid], "o", color=colour, markersize=3, alpha=0.35, markeredgewidth=0)
                if when == "scaled":
                    edges = np.arange(len(rows)) / len(rows)
                    below.bar(edges, rows / rows.sum(), width=0.9 / len(rows), align="edge", color=MODEL, alpha=0.5)
                used += [x[solid], y[solid]]
            seen = np.concatenate(used)
            low, high = max(seen.min() - 0.05, 0), min(seen.max() + 0.05, 1)
            above.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle="--")
            above.set(xlim=(low, high), ylim=(low, high), title=horizon)
            below.set(yticks=[], xlabel="probability said")
            below.spines["left"].set_visible(False)
            above.grid(visible=True)
        axes[0, 0].set_ylabel("share that came")
        axes[1, 0].set_ylabel("rows")
        axes[0, 0].legend(loc="upper left", fontsize=8)
        return svg(figure)


def skills(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Draw the skill over the base rate per horizon and part (fold), with its interval."""
    with page.figure(11, 1.4 + 0.3 * len(parts)) as figure:
        axes = figure.subplots(1, len(outputs.HORIZONS), sharey=True, sharex=True)
        for axis, horizon in zip(axes, outputs.HORIZONS, strict=True):
            for row, (_, measured) in enumerate(parts):
                skill = measured["horizons"][horizon]["skill"]
                if "low" in skill:
                    axis.plot([skill["low"], skill["high"]], [row, row], color=MODEL, linewidth=2.2, alpha=0.45)
                axis.plot(skill["model"], row, "o", color=MODEL, markersize=5)
                if "persistence" in skill:
                    axis.plot(skill["persistence"], row, "D", color=RAW, markersize=4)
            axis.axvline(0, color=LOSS, linewidth=1)
            axis.set(title=horizon, xlabel="skill over the base rate", ylim=(len(parts) - 0.4, -0.6))
            axis.grid(visible=True, axis="x")
        axes[0].set_yticks(range(len(parts)), [name for name, _ in parts])
        axes[-1].plot([], [], "o", color=MODEL, markersize=5, label="model")
        axes[-1].plot([], [], "D", color=RAW, markersize=4, label="persistence")
        figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
        return svg(figure)


def equity(open_time_ms: I64, pnl: F64, what: str) -> str:
    """Draw the sum of the PnL [T] of each bar over time, and how far it is below its highest."""
    curve = np.cumsum(pnl)
    below = curve - np.maximum(np.maximum.accumulate(curve), 0)
    time = open_time_ms.astype("datetime64[ms]")
    with page.figure(11, 3.4) as figure:
        above, under = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot(time, curve, color=MODEL, linewidth=1.2)
        above.axhline(0, color=GREY, linewidth=1)
        above.set(title=what, ylabel="sum of returns")
        under.fill_between(time, below, 0, color=LOSS, alpha=0.45, linewidth=0)
        under.set(ylabel="drawdown")
        for axis in (above, under):
            axis.grid(visible=True)
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
        return svg(figure)


def importance(scores: Mapping[str, float]) -> str:
    """Draw the largest shares of features in the model's answers."""
    largest = sorted(scores.items(), key=lambda item: -item[1])[:BARS_MAX]
    with page.figure(11, 0.22 * len(largest) + 0.8) as figure:
        axis: Axes = figure.subplots()
        axis.barh([name for name, _ in largest], [score for _, score in largest], color=MODEL, height=0.7)
        axis.invert_yaxis()
        axis.margins(y=0.01)
        axis.set(xlabel="share of the importance")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
        axis.grid(visible=True, axis="x")
        return svg(figure)
