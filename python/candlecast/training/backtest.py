"""Bundles, ensembles, candle files → what trading their forecasts would have brought. Knows no flags and no pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from candlecast.candle_files import CandleFile
from candlecast.errors import ConfigurationError
from candlecast.feature_files import Advance, Recording, recording
from candlecast.filters import Thresholds
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble
from candlecast.portfolio import Limits
from candlecast.training import performance
from candlecast.training.performance import returns_of
from candlecast.training.replay import Said, replay
from candlecast.training.simulator import Bars, Outcome, Rules, buy_and_hold, simulate
from candlecast.training.sources import ms_of, utc
from candlecast.training.speakers import Speaker, onnx, together, walked
from candlecast.training.subject import Subject
from candlecast.values import F64, I64, Bool

Trade = Callable[[Bars, Said, Rules], Outcome]
WALK: Final = "walk-forward"
"""The bars for which fits spoke that had not seen them."""
LUCK_T: Final = 2.0
"""Mean returns whose t statistic stays below this are what luck gives, too."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """One model's trades and what they amount to."""

    name: str
    subject: Subject
    bars: Bars
    outcome: Outcome
    held: F64  # [T] equity of buying and holding the same symbols
    said: dict[str, int]  # forecasts, signals and reasons, counted
    numbers: dict[str, Any]  # performance.summary, with in_sample: the share of bars that who spoke was trained on
    strategy: str = ""  # that decided; "": none, its signals are traded

    @property
    def warnings(self) -> list[str]:
        """Say all that makes the numbers doubtful, what was suspicious in the training too."""
        told = [f"{text[:1].upper()}{text[1:]}." for text in self.subject.suspicions]
        return [self.warning, *told] if self.warning else told

    @property
    def warning(self) -> str | None:
        """Say when the bars may be those that it was trained on."""
        share, data = self.numbers["in_sample"], self.subject.trained_on
        if share is None or data is None:
            return f"{self.name}: its manifest does not say which span it was trained on: it may be this one."
        if not share:
            return None
        text = (
            f"IN SAMPLE: {share:.0%} of the tested bars lie in the span {self.name} was trained on"
            f" ({data['from'][:10]} to {data['to'][:10]}); there it knew the answers, and the result says nothing about"
            " the future."
        )
        if walk := self.numbers["spans"].get(WALK):
            text += (
                f" On the other bars of that span the fits of its walk-forward spoke, which had not seen them:"
                f" {walk['return']:+.1%} in {walk['trades']:,} trades."
            )
        elif held_out := self.numbers["spans"].get("validation"):
            text += (
                f" On the bars of its validation, which chose when to stop and the temperatures, but no weight:"
                f" {held_out['return']:+.1%} in {held_out['trades']:,} trades."
            )
        return text

    @property
    def verdict(self) -> str:
        """Say in one sentence what came out."""
        numbers, held = self.numbers, self.held[-1] - 1
        if not numbers["trades"] and self.strategy:
            return f"{self.name} never traded: none of {self.said['forecasts']:,} forecasts was enough for it."
        if not numbers["trades"]:
            return f"{self.name} never traded: none of its {self.said['forecasts']:,} forecasts passed the filters."
        t = numbers["t_statistic"] or 0.0
        luck = "" if abs(t) >= LUCK_T else f" No edge is shown: t = {t:.1f}, luck alone reaches ±{LUCK_T:.0f}."
        done = "gained" if numbers["return"] > 0 else "lost"
        return (
            f"{self.name} {done} {abs(numbers['return']):.1%} after costs in {numbers['trades']:,} trades, its largest"
            f" drawdown was {numbers['max_drawdown']:.1%}; buy and hold made {held:+.1%}.{luck}"
        )


def as_signalled(bars: Bars, said: Said, rules: Rules) -> Outcome:
    """Trade what a model says as it is."""
    return simulate(bars, said.signals(), rules)


def backtest(
    files: Sequence[CandleFile],
    served: Sequence[Bundle | Ensemble],
    rules: Rules,
    thresholds: Thresholds,
    *,
    limits: Limits | None = None,
    symbols: Sequence[str] | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    on_replay: Callable[[int], Advance] = lambda candles: lambda count: None,
    speaker: Callable[[Bundle], Speaker] = onnx,
    trade: Trade = as_signalled,
    strategy: str = "",
) -> list[Backtest]:
    """Trade the forecasts of every bundle and ensemble on the bars that open in [start_ms, end_ms); candles before
    warm up.

    Those with the same optional inputs and reference symbol share one replay.

    Args:
        limits: of the filters that remember, each model by itself; costs and bars are those of the rules. None: none.
        on_replay: told how many candles a replay takes, gives what is told its progress.
        speaker: how a bundle, or a member of an ensemble, answers.
        trade: what is done with what a model says; as it is, or as the strategy of this name decides.

    Raises:
        BundleError: one was trained on other features than this core computes, is no forecaster, or cannot be run.
        ConfigurationError: the files lack what one needs, or nothing is left of them.
    """
    subjects = [Subject.of(one) for one in served]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for k, subject in enumerate(subjects):
        features = subject.features
        groups.setdefault((*features.optional_inputs, features.reference_symbol), []).append(k)
    names, done = _names(subjects), dict[int, Backtest]()
    if limits is not None:
        limits = replace(limits, position_bars_max=rules.hold_bars, trade_cost=2 * (rules.fees + rules.slippage))
    for group in groups.values():
        used = recorded(files, subjects[group[0]], symbols)
        speakers = [together(subjects[k], speaker) for k in group]
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
        for k, words in zip(group, said, strict=True):
            outcome = trade(bars, words, rules)
            numbers = performance.summary(outcome, bars, _spans(subjects[k], bars.open_time_ms))
            seen = _in_sample(subjects[k], bars.open_time_ms)
            numbers["in_sample"] = None if seen is None else float(seen.mean())
            name = f"{names[k]} by {strategy}" if strategy else names[k]
            done[k] = Backtest(name, subjects[k], bars, outcome, held, words.counts(), numbers, strategy)
    return [done[k] for k in range(len(subjects))]


def document(
    tests: Sequence[Backtest], rules: Rules, thresholds: Thresholds, limits: Limits | None = None
) -> dict[str, Any]:
    """Return everything as one JSON value."""
    bars = tests[0].bars
    returns = returns_of(tests[0].held)
    return {
        "warnings": [text for test in tests for text in test.warnings],
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


def as_metrics(test: Backtest) -> list[tuple[int, dict[str, Any]]]:
    """Return the numbers as `evaluate.measure` lays metrics out, by fold: all bars and those unseen are 0.

    What buying and holding brought in the same bars stands beside as the base.
    """
    bars, numbers, held = test.bars, test.numbers, returns_of(test.held)

    def part(name: str, of: Mapping[str, Any], mask: Bool) -> dict[str, Any]:
        bases = performance.of_returns(held[mask], numbers["periods_per_year"])
        metrics = {
            key: {"model": float(value)} | ({"base": bases[key]} if bases.get(key) is not None else {})
            for key, value in of.items()
            if isinstance(value, int | float) and key not in ("periods_per_year", "in_sample")
        }
        times = bars.open_time_ms[mask]
        span = {"from": utc(int(times[0])), "before": utc(int(times[-1]) + bars.interval_ms)}
        return {"horizons": {name: metrics}, "spans": {"test": span}}

    everything = np.ones(len(bars.open_time_ms), dtype=np.bool_)
    told = [(0, part("all", numbers, everything) | {"rows": test.said["forecasts"]})]
    for name, mask in _spans(test.subject, bars.open_time_ms).items():
        if name in numbers["spans"] and (name in ("unseen", WALK) or name.startswith("fold ")):
            number, shown = (int(name.removeprefix("fold ")), "all") if name.startswith("fold ") else (0, name)
            told.append((number, part(shown, numbers["spans"][name], mask)))
    return told


def _of_signals(limits: Limits) -> dict[str, Any]:
    """Return the limits that the rules do not say."""
    return {name: value for name, value in asdict(limits).items() if name not in ("position_bars_max", "trade_cost")}


def _described(test: Backtest) -> dict[str, Any]:
    subject = test.subject
    told = {"model": subject.name, "version": subject.version, "bundle_sha256": subject.sha256, "said": test.said}
    return told | ({"members": subject.described_members()} if subject.is_ensemble else {})


def recorded(files: Sequence[CandleFile], subject: Subject, symbols: Sequence[str] | None) -> Recording:
    features, interval_ms = subject.features, subject.interval_ms
    if interval_ms and (other := next((file for file in files if file.interval_ms != interval_ms), None)):
        raise ConfigurationError(
            f"{other.path} has candles of {other.interval_ms} ms, {subject.path} was trained on {interval_ms} ms: give"
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


def _names(subjects: Sequence[Subject]) -> list[str]:
    """Return a name for each; its folder is added where name and version are not enough."""
    plain = [subject.title for subject in subjects]
    return [
        name if plain.count(name) == 1 else f"{name} ({_short(subject.path)})"
        for name, subject in zip(plain, subjects, strict=True)
    ]


def _short(path: Path) -> str:
    return "/".join(path.resolve().parts[-2:])


def _spans(subject: Subject, open_time_ms: I64) -> dict[str, Bool]:
    """Return which bars [T] the shipped fit was trained and validated on, those of the walk-forward's folds (for which
    their own fits speak, or, where the bundle holds none, the shipped fit, which has seen them), all for which no
    member's shipped fit speaks (WALK), and what its data does not reach.

    Of an ensemble they are those of any member: what one has trained on no longer counts as validation.
    """
    masks: dict[str, Bool] = {}
    for bundle in subject.members:
        for name, inside in _spans_of(bundle, open_time_ms).items():
            masks[name] = masks[name] | inside if name in masks else inside
    if subject.is_ensemble and "train" in masks and "validation" in masks:
        masks["validation"] = masks["validation"] & ~masks["train"]
    walk = np.logical_and.reduce([_walked(bundle, open_time_ms) for bundle in subject.members])
    if walk.any():
        masks[WALK] = walk
    data = subject.trained_on
    return masks | ({"unseen": ~_within(data, open_time_ms)} if data else {})


def _spans_of(bundle: Bundle, open_time_ms: I64) -> dict[str, Bool]:
    training, metrics = bundle.manifest.training, bundle.manifest.metrics
    own = {fold.number: fold.span for fold in walked(bundle)}
    spoken = _walked(bundle, open_time_ms)
    masks = {
        name: _within(span, open_time_ms) & ~spoken
        for name, span in training.get("shipped", {}).get("spans", {}).items()
    }
    for number, fold in enumerate(metrics.get("walk_forward", {}).get("folds", []), 1):
        span = own.get(number)
        masks[f"fold {number}"] = span.holds(open_time_ms) if span else _within(fold["spans"]["test"], open_time_ms)
    return masks


def _walked(bundle: Bundle, open_time_ms: I64) -> Bool:
    """Return for which bars [T] a fit of the bundle's walk-forward speaks."""
    found = np.zeros(len(open_time_ms), dtype=np.bool_)
    for fold in walked(bundle):
        found |= fold.span.holds(open_time_ms)
    return found


def _in_sample(subject: Subject, open_time_ms: I64) -> Bool | None:
    """Return on which bars [T] somebody speaks who was trained on them; None: a manifest does not say."""
    if subject.trained_on is None:
        return None
    found = np.zeros(len(open_time_ms), dtype=np.bool_)
    for bundle in subject.members:
        found |= _within(bundle.manifest.data, open_time_ms) & ~_walked(bundle, open_time_ms)
    return found


def _within(span: Mapping[str, Any], open_time_ms: I64) -> Bool:
    start_ms = ms_of(span["from"])
    end_ms = ms_of(span["before"]) if "before" in span else ms_of(span["to"]) + 1
    inside: Bool = (open_time_ms >= start_ms) & (open_time_ms < end_ms)
    return inside
