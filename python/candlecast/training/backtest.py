"""Bundles and candle files → what trading their forecasts would have brought. Knows no flags and no pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from candlecast.candle_files import CandleFile
from candlecast.errors import ConfigurationError
from candlecast.feature_files import Advance, Recording, recording
from candlecast.filters import Thresholds
from candlecast.models.bundle import Bundle
from candlecast.portfolio import Limits
from candlecast.training import performance
from candlecast.training.replay import Speaker, onnx, replay
from candlecast.training.simulator import Bars, Outcome, Rules, buy_and_hold, simulate
from candlecast.training.sources import utc
from candlecast.values import F64, I64, Bool

LUCK_T: Final = 2.0
"""Mean returns whose t statistic stays below this are what luck gives, too."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """One model's trades and what they amount to."""

    name: str
    bundle: Bundle
    bars: Bars
    outcome: Outcome
    held: F64  # [T] equity of buying and holding the same symbols
    said: dict[str, int]  # forecasts, signals and reasons, counted
    numbers: dict[str, Any]  # performance.summary, with in_sample: the share of bars within the span it was trained on

    @property
    def warning(self) -> str | None:
        """Say what makes the numbers doubtful."""
        share, data = self.numbers["in_sample"], self.bundle.manifest.data
        if share is None:
            return f"{self.name}: its manifest does not say which span it was trained on: it may be this one."
        if not share:
            return None
        text = (
            f"IN SAMPLE: {share:.0%} of the tested bars lie in the span {self.name} was trained on"
            f" ({data['from'][:10]} to {data['to'][:10]}); there it knew the answers, and the result says nothing about"
            " the future."
        )
        if held_out := self.numbers["spans"].get("validation"):
            text += (
                f" On the bars of its validation, which chose when to stop and the temperatures, but no weight:"
                f" {held_out['return']:+.1%} in {held_out['trades']:,} trades."
            )
        return text

    @property
    def verdict(self) -> str:
        """Say in one sentence what came out."""
        numbers, held = self.numbers, self.held[-1] - 1
        if not numbers["trades"]:
            return f"{self.name} never traded: none of its {self.said['forecasts']:,} forecasts passed the filters."
        t = numbers["t_statistic"] or 0.0
        luck = "" if abs(t) >= LUCK_T else f" No edge is shown: t = {t:.1f}, luck alone reaches ±{LUCK_T:.0f}."
        done = "gained" if numbers["return"] > 0 else "lost"
        return (
            f"{self.name} {done} {abs(numbers['return']):.1%} after costs in {numbers['trades']:,} trades, its largest"
            f" drawdown was {numbers['max_drawdown']:.1%}; buy and hold made {held:+.1%}.{luck}"
        )


def backtest(
    files: Sequence[CandleFile],
    bundles: Sequence[Bundle],
    rules: Rules,
    thresholds: Thresholds,
    *,
    limits: Limits | None = None,
    symbols: Sequence[str] | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    on_replay: Callable[[int], Advance] = lambda candles: lambda count: None,
    speaker: Callable[[Bundle], Speaker] = onnx,
) -> list[Backtest]:
    """Trade the forecasts of every bundle on the bars that open in [start_ms, end_ms); candles before warm up.

    Bundles with the same optional inputs and reference symbol share one replay.

    Args:
        limits: of the filters that remember, each model by itself; costs and bars are those of the rules. None: none.
        on_replay: told how many candles a replay takes, gives what is told its progress.

    Raises:
        BundleError: a bundle was trained on other features than this core computes, or cannot be run.
        ConfigurationError: the files lack what a bundle needs, or nothing is left of them.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for k, bundle in enumerate(bundles):
        bundle.check_feature_set()
        features = bundle.manifest.feature_set
        groups.setdefault((*features.optional_inputs, features.reference_symbol), []).append(k)
    names, done = _names(bundles), dict[int, Backtest]()
    if limits is not None:
        limits = replace(limits, position_bars_max=rules.hold_bars, trade_cost=2 * (rules.fees + rules.slippage))
    for members in groups.values():
        used = _recording(files, bundles[members[0]], symbols)
        speakers = [speaker(bundles[k]) for k in members]
        bars, said = replay(
            used,
            speakers,
            thresholds,
            limits=limits,
            start_ms=start_ms,
            end_ms=end_ms,
            advance=on_replay(used.candles),
        )
        held = buy_and_hold(bars, rules)
        for k, words in zip(members, said, strict=True):
            outcome = simulate(bars, words.signals(), rules)
            data = bundles[k].manifest.data
            numbers = performance.summary(outcome, bars, _spans(bundles[k], bars.open_time_ms))
            numbers["in_sample"] = float(_within(data, bars.open_time_ms).mean()) if "from" in data else None
            done[k] = Backtest(names[k], bundles[k], bars, outcome, held, words.counts(), numbers)
    return [done[k] for k in range(len(bundles))]


def document(
    tests: Sequence[Backtest], rules: Rules, thresholds: Thresholds, limits: Limits | None = None
) -> dict[str, Any]:
    """Return everything as one JSON value."""
    bars = tests[0].bars
    returns = performance.returns_of(tests[0].held)
    return {
        "warnings": [test.warning for test in tests if test.warning],
        "verdicts": [test.verdict for test in tests],
        "data": {
            "from": utc(int(bars.open_time_ms[0])),
            "to": utc(int(bars.open_time_ms[-1])),
            "interval_ms": bars.interval_ms,
            "bars": len(bars.open_time_ms),
            "symbols": list(bars.symbols),
        },
        "rules": asdict(rules),
        "filters": asdict(thresholds) | (_of_signals(limits) if limits else {}),
        "models": {test.name: _described(test) | test.numbers for test in tests},
        "buy_and_hold": performance.of_returns(returns, performance.YEAR_MS / bars.interval_ms),
    }


def _of_signals(limits: Limits) -> dict[str, Any]:
    """Return the limits that the rules do not say."""
    return {name: value for name, value in asdict(limits).items() if name not in ("position_bars_max", "trade_cost")}


def _described(test: Backtest) -> dict[str, Any]:
    manifest = test.bundle.manifest
    return {"model": manifest.name, "version": manifest.version, "bundle_sha256": test.bundle.sha256, "said": test.said}


def _recording(files: Sequence[CandleFile], bundle: Bundle, symbols: Sequence[str] | None) -> Recording:
    features, interval_ms = bundle.manifest.feature_set, bundle.manifest.data.get("interval_ms")
    if interval_ms and (other := next((file for file in files if file.interval_ms != interval_ms), None)):
        raise ConfigurationError(
            f"{other.path} has candles of {other.interval_ms} ms, {bundle.path} was trained on {interval_ms} ms: give"
            " files of its interval"
        )
    giving = set(symbols or (symbol for file in files for symbol in file.candles))
    # The reference itself is computed without one.
    is_alone = giving == {features.reference_symbol}
    return recording(
        files,
        symbols=symbols,
        reference_symbol=features.reference_symbol,
        optional_inputs=[name for name in features.optional_inputs if not (is_alone and name == "reference")],
    )


def _names(bundles: Sequence[Bundle]) -> list[str]:
    """Return a name for each bundle; its folder is added where name and version are not enough."""
    plain = [f"{bundle.manifest.name} v{bundle.manifest.version}" for bundle in bundles]
    return [
        name if plain.count(name) == 1 else f"{name} ({_short(bundle.path)})"
        for name, bundle in zip(plain, bundles, strict=True)
    ]


def _short(path: Path) -> str:
    return "/".join(path.resolve().parts[-2:])


def _spans(bundle: Bundle, open_time_ms: I64) -> dict[str, Bool]:
    """Return which bars [T] the shipped fit was trained and validated on, the test spans of the walk-forward's folds
    (which the shipped fit has seen), and what its data does not reach.
    """
    data, training, metrics = bundle.manifest.data, bundle.manifest.training, bundle.manifest.metrics
    spans = dict(training.get("shipped", {}).get("spans", {}))
    for number, fold in enumerate(metrics.get("walk_forward", {}).get("folds", []), 1):
        spans[f"fold {number}"] = fold["spans"]["test"]
    masks = {name: _within(span, open_time_ms) for name, span in spans.items()}
    return masks | ({"unseen": ~_within(data, open_time_ms)} if "from" in data else {})


def _within(span: Mapping[str, Any], open_time_ms: I64) -> Bool:
    start_ms = _ms(span["from"])
    end_ms = _ms(span["before"]) if "before" in span else _ms(span["to"]) + 1
    inside: Bool = (open_time_ms >= start_ms) & (open_time_ms < end_ms)
    return inside


def _ms(iso: str) -> int:
    return int(np.datetime64(datetime.fromisoformat(iso).replace(tzinfo=None), "ms").astype(np.int64))
