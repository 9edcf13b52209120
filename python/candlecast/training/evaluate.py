"""Measure outputs against labels, beside the base rate and persistence, with intervals. Knows no network and no files.

base         the class frequencies and the medians of the train part, whatever the candle
persistence  things go on as they went: the class frequencies, in the train part, after what the last bars of the same
             length did (LONG, SHORT, NEUTRAL); the price stays (return 0, the random walk); the risks of the last bars
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from candlecast import outputs
from candlecast.filters import Thresholds, judge
from candlecast.interpret import interpret
from candlecast.training import metrics
from candlecast.training.data import Samples
from candlecast.training.labels import UNKNOWN, Labels, base_rates
from candlecast.training.metrics import Guess, Sums
from candlecast.training.temperature import called
from candlecast.values import F32, F64, I64

PNL_HORIZON: Final = outputs.HORIZONS.index("4h")
NO_EDGE: Final = "No edge"
DAY_MS: Final = 86_400_000

Metric = dict[str, float]
"""{"model": …, "base": …, "persistence": …, "low": …, "high": …}; the last three as far as they could be computed.

A calibration error has "chance" beside: what would be measured if the model's probabilities were right."""


def measure(
    answers: F32,
    labels: Labels,
    temperatures: F64,
    train_rates: F64,
    train: Labels,
    *,
    past: Labels | None = None,
    train_past: Labels | None = None,
    bars: I64 | None = None,
    thresholds: F64 | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the metrics of finite outputs [N, 20] against their labels [N].

    Args:
        temperatures: calibration [4], fitted on validation.
        train_rates: class frequencies [4, 3] of the train part, `labels.base_rates`.
        train: labels of the train part.
        past: how the bars before each row [N] went; without it and `train_past` there is no persistence beside.
        bars: number of the bar that each row [N] stands on, such as open time / interval; without it no intervals.
        thresholds: of a move [4], fitted on validation, by which the model calls a class; the likeliest is its rivals'.
        seed: of the bootstrap.
    """
    guesses = {"model": _read(answers, temperatures), "base": base(train_rates, train, len(answers))}
    if past is not None and train_past is not None:
        guesses["persistence"] = persistence(train_rates, train, train_past, past)
    if thresholds is not None:
        calls = {name: guess.probabilities.argmax(axis=-1) for name, guess in guesses.items()}
        calls["model"] = called(guesses["model"].probabilities, thresholds)
        guesses = {name: replace(guess, calls=calls[name]) for name, guess in guesses.items()}
    bar = np.zeros(len(answers), dtype=np.int64) if bars is None else bars - bars.min()
    by_bar = {name: metrics.sum_up(guess, labels, bar, int(bar.max()) + 1) for name, guess in guesses.items()}
    raw = metrics.sum_up(_read(answers, np.ones(4)), labels, bar, int(bar.max()) + 1)
    whole = {name: _whole(sums) for name, sums in by_bar.items()}
    # One draw of blocks for all: differences between model, base and raw are of the same bars.
    drawn = {name: metrics.resample(sums, seed) for name, sums in by_bar.items()}
    return _document(whole, drawn, _whole(raw), metrics.resample(raw, seed))


def measure_samples(
    samples: Samples, index: I64, answers: F32, temperatures: F64, train: I64, thresholds: F64 | None = None
) -> dict[str, Any]:
    """Return `measure` of the outputs [B, 20] of the samples at `index` [B], with all that the samples know."""
    known = samples.labels.take(train)
    return measure(
        answers,
        samples.labels.take(index),
        temperatures,
        base_rates(known),
        known,
        past=samples.past and samples.past.take(index),
        train_past=samples.past and samples.past.take(train),
        bars=samples.open_time_ms[index] // samples.interval_ms,
        thresholds=thresholds,
    )


def base(rates: F64, train: Labels, rows: int) -> Guess:
    """Return the base rate's guess for any rows: frequencies [4, 3] and the medians of the train part."""
    return Guess(
        probabilities=np.broadcast_to(rates, (rows, *rates.shape)),
        returns=np.broadcast_to(np.median(train.returns, axis=0), (rows, 4)),
        risks=np.broadcast_to(np.median(train.risks, axis=0), (rows, 4)),
    )


def persistence(rates: F64, train: Labels, train_past: Labels, past: Labels) -> Guess:
    """Return persistence's guess for the rows of `past` [N]; where the past is incomplete, the base rate's."""
    probabilities = np.empty((len(past.at), 4, 3))
    for h in range(len(outputs.HORIZONS)):
        went, came = train_past.directions[:, h].astype(np.int64), train.directions[:, h].astype(np.int64)
        known = went != UNKNOWN
        counts = np.bincount(went[known] * 3 + came[known], minlength=9).reshape(3, 3)
        after = (counts + rates[h]) / (counts.sum(axis=1, keepdims=True) + 1)  # a past never seen: the base rate
        probabilities[:, h] = np.concatenate([after, rates[h : h + 1]])[past.directions[:, h]]  # UNKNOWN is the last
    risks = np.where(np.isfinite(past.risks), past.risks, np.median(train.risks, axis=0))
    return Guess(probabilities, np.zeros((len(past.at), 4)), risks)


def average(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the plain mean over the folds of every metric in `measure`'s answers; rows and bins are added up.

    Intervals are those of a mean of independent folds: their half-widths are added in squares. A calibration error is
    the mean of errors whose signs differ from one market to the next; `calibration_error_pooled` is that of all test
    parts taken as one.
    """

    def mean(values: list[Any], metric: str = "") -> Any:
        if isinstance(values[0], list):
            return [round(sum(numbers), 6) for numbers in zip(*values, strict=True)]
        if not isinstance(values[0], dict):
            return round(float(np.mean(values)), 6)
        shared = [key for key in values[0] if all(key in value for value in values)]
        joined = {
            key: mean([value[key] for value in values], key if key in metrics.RANGES else metric) for key in shared
        }
        for bound, sign in (("low", -1), ("high", 1)):
            if bound in joined:
                width = math.hypot(*(value[bound] - value["model"] for value in values)) / len(values)
                joined[bound] = round(float(metrics.within(joined["model"] + sign * width, metric)), 6)
        return joined

    joined = {key: mean([fold[key] for fold in folds]) for key in ("horizons", "risks", "reliability")}
    for horizon, bins in joined["reliability"].items():
        joined["horizons"][horizon]["calibration_error_pooled"] = {
            "raw": _calibration_error(bins["raw"]),
            "model": _calibration_error(bins["scaled"]),
        }
    return {"rows": sum(fold["rows"] for fold in folds)} | joined


def _calibration_error(bins: dict[str, list[float]]) -> float:
    rows, hits, confidence = (np.asarray(bins[name]) for name in ("rows", "hits", "confidence"))
    return round(float(np.abs(hits - confidence).sum() / rows.sum()), 6)


def verdict(measured: dict[str, Any]) -> str:
    """Say in a sentence or two whether the model knows anything, and whether it knows the direction too."""
    skills = {name: numbers["skill"] for name, numbers in measured["horizons"].items()}
    if any("low" not in skill for skill in skills.values()):
        least = metrics.BLOCKS_MIN * metrics.BLOCK_BARS
        return f"Cannot be told: fewer than {least} bars of data give no interval around the skill."
    skilled = [name for name, skill in skills.items() if skill["low"] > 0]
    if not skilled:
        return f"{NO_EDGE}: on no horizon does the interval of the skill over the base rate lie above 0."
    sides = {name: measured["horizons"][name]["side_accuracy"] for name in skilled}
    sided = [name for name, side in sides.items() if side["low"] > max(side["base"], 0.5)]
    how = f"The skill over the base rate lies above 0 at {', '.join(skilled)}"
    if not sided:
        return f"{how}, but the side of a move is not known at any: it is knowledge of volatility, not of direction."
    return f"{how}; the side of a move is known at {', '.join(sided)}."


def simple_pnl(answers: F32, labels: Labels, temperatures: F64, open_time_ms: I64) -> tuple[I64, F64]:
    """Return the times [T] and PnL [T] of taking every signal for 4 hours, before costs: a sketch, no backtest.

    Signals are those of serving: interpretation and default filters. Those of one bar share a sixteenth of the capital,
    neutral ones their part unused, and are booked together at the bar they began on.
    """
    meaning = interpret(answers, temperatures)
    ready, whole = np.zeros(len(answers), dtype=np.uint8), np.zeros(len(answers), dtype=np.bool_)
    side = judge(meaning, ready, whole, Thresholds(), states=("READY",)).direction
    times, bar = np.unique(open_time_ms, return_inverse=True)
    gained = np.bincount(bar, side * labels.returns[:, PNL_HORIZON].astype(np.float64)) / np.bincount(bar)
    return times, gained / outputs.HORIZON_BARS[PNL_HORIZON]


def by_day(open_time_ms: I64, pnl: F64) -> dict[str, Any]:
    """Return the PnL [T] of bars as a manifest keeps it: the first UTC day and the sum of each day since."""
    day = open_time_ms // DAY_MS
    sums = np.bincount(day - day[0], pnl)
    return {"from_ms": int(day[0]) * DAY_MS, "days": [round(float(one), 6) for one in sums]}


def _read(answers: F32, temperatures: F64) -> Guess:
    meaning = interpret(answers, temperatures)
    return Guess(meaning.probabilities, meaning.returns, meaning.risks)


def _whole(sums: Sums) -> Sums:
    return {name: part.sum(axis=0) for name, part in sums.items()}


def _document(
    whole: dict[str, Sums], drawn: dict[str, Sums | None], raw: Sums, raw_drawn: Sums | None
) -> dict[str, Any]:
    """Lay out the sums [4, K] of all guesses, and those of resamples [R, 4, K], as a nested dict of metrics."""
    model, rivals = drawn["model"], [name for name in whole if name != "model"]

    def entries(of: Callable[[Sums], dict[str, F64]]) -> dict[str, dict[str, F64]]:
        """Return each metric as {model, base, …: [4] or [4, 3]}."""
        found = {metric: {"model": value} for metric, value in of(whole["model"]).items()}
        for name in rivals:
            for metric, value in of(whole[name]).items():
                found[metric][name] = value
        for metric, values in (of(model) if model else {}).items():
            bounds = metrics.interval(found[metric]["model"], values)
            found[metric]["low"], found[metric]["high"] = (metrics.within(bound, metric) for bound in bounds)
        return found

    directions = entries(metrics.of_directions)
    before = directions["calibration_error_raw"] = dict(directions["calibration_error"])
    before["model"] = metrics.of_directions(raw)["calibration_error"]
    if raw_drawn:
        drawn_before = metrics.of_directions(raw_drawn)["calibration_error"]
        bounds = metrics.interval(before["model"], drawn_before)
        before["low"], before["high"] = (metrics.within(bound, "calibration_error") for bound in bounds)
    if model:
        directions["calibration_error"]["chance"] = metrics.calibration_by_chance(whole["model"], model)
    directions = {"skill": _skill(whole, drawn, "base")} | directions
    if "persistence" in whole:
        directions["skill_over_persistence"] = _skill(whole, drawn, "persistence")
    directions |= entries(metrics.of_returns)
    classes, risks = entries(metrics.of_classes), entries(metrics.of_risks)
    came = whole["model"]["confusion"].reshape(4, 3, 3).sum(axis=2)
    horizons: dict[str, dict[str, Any]] = {}
    for h, horizon in enumerate(outputs.HORIZONS):
        horizons[horizon] = {metric: _at(entry, h) for metric, entry in directions.items()}
        horizons[horizon] |= {
            metric: {name: _at(entry, (h, c)) for c, name in enumerate(outputs.CLASSES)}
            for metric, entry in classes.items()
        }
        frequencies = (came[h] / came[h].sum()).round(6).tolist()
        horizons[horizon]["frequencies"] = dict(zip(outputs.CLASSES, frequencies, strict=True))
    return {
        "rows": int(whole["model"]["rows"][0, 0]),
        "horizons": horizons,
        "risks": {
            name: {metric: _at(entry, k) for metric, entry in risks.items()}
            for k, name in enumerate(outputs.RISK_NAMES)
        },
        "reliability": {
            horizon: {when: _bins(sums, h) for when, sums in (("raw", raw), ("scaled", whole["model"]))}
            for h, horizon in enumerate(outputs.HORIZONS)
        },
    }


def _skill(whole: dict[str, Sums], drawn: dict[str, Sums | None], rival: str) -> dict[str, F64]:
    """Return 1 - log-loss / the rival's log-loss [4], of the model (with its interval) and of the guesses."""
    losses = {name: sums["log_loss"][..., 0] for name, sums in whole.items()}
    skill = {name: 1 - loss / losses[rival] for name, loss in losses.items() if rival == "base" or name == "model"}
    model, other = drawn["model"], drawn[rival]
    if model and other:
        resampled = 1 - model["log_loss"][..., 0] / other["log_loss"][..., 0]
        skill["low"], skill["high"] = metrics.interval(skill["model"], resampled, metrics.SKILL_COVERAGE)
    return skill


def _at(entry: dict[str, F64], at: int | tuple[int, int]) -> Metric:
    return {name: round(float(values[at]), 6) + 0.0 for name, values in entry.items()}


def _bins(sums: Sums, h: int) -> dict[str, list[float]]:
    """Return rows, summed confidence and hits of each bin of the calibration error."""
    return {name: sums[f"bin_{name}"][h].round(6).tolist() for name in ("rows", "confidence", "hits")}
