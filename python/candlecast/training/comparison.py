"""Two versions of a model beside each other: which is better, by how much, and can that be known? Pure arrays.

Every number is a ratio of sums over bars (`metrics`), and both versions are drawn again together, block by block: the
interval is around their difference in the same bars. Of the same candles, as champion and shadow hear them, it is far
narrower than each one's own; of a split each spoke of other symbols, and it is as wide as that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from candlecast import outputs
from candlecast.training import metrics
from candlecast.training.labels import Labels, label
from candlecast.training.metrics import Guess, Sums
from candlecast.training.simulator import Rules
from candlecast.values import F64, I64, Candles, Heard

PNL_HORIZON: Final = outputs.HORIZONS.index("4h")
METRICS: Final = {"log_loss": "log_loss", "brier": "brier", "hit_rate": "accuracy"}
"""What is compared at each horizon, and how `metrics` calls it; a hit: the likeliest class came."""
WHO: Final = ("champion", "challenger")
PAIRED_SHARE: Final = 0.5
"""Of the forecasts of the one that said less; with fewer of the same candles, all of both are compared."""
DAY_MS: Final = 86_400_000
Z: Final = 1.959964
"""Of the normal distribution, for metrics.COVERAGE."""

Verdict = Literal["better", "worse", "not yet known"]
Entry = dict[str, float]
"""champion, challenger, difference (challenger - champion), and where they could be computed low and high of it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a version said of N candles, and what came after them."""

    heard: Heard
    labels: Labels

    def __len__(self) -> int:
        return len(self.heard)

    def take(self, index: I64) -> Judged:
        """Return the candles at index [K]."""
        return Judged(self.heard.take(index), self.labels.take(index))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A challenger beside a champion."""

    champion: str
    challenger: str
    verdict: Verdict
    sentence: str
    paired: bool  # both spoke of the same candles
    rows: dict[str, int]  # forecasts of each that were measured
    bars: int  # from the first to the last
    symbols: int
    days: float
    horizons: dict[str, dict[str, Entry]]  # by horizon and metric
    mean: dict[str, Entry]  # over the horizons
    pnl: Entry  # after costs, per forecast, of taking each signal for 4 hours; a fraction
    signals: dict[str, int]
    latency_ms: Entry  # mean time in the model, of a forecast's batch; empty: not measured
    latency_p99_ms: dict[str, float]
    left_out: dict[str, int]  # forecasts that could not be measured, by why

    @classmethod
    def empty(cls, names: tuple[str, str], left_out: dict[str, int]) -> Comparison:
        """Return the comparison of nothing."""
        old, new = names
        why = "; ".join(f"{reason}: {count}" if count else reason for reason, count in left_out.items())
        why = why or "they did not speak"
        sentence = f"Not yet known whether {new} is better than {old}: no forecasts of both can be measured ({why})."
        none = dict.fromkeys(WHO, 0)
        return cls(old, new, "not yet known", sentence, True, none, 0, 0, 0.0, {}, {}, {}, none, {}, {}, left_out)


def round_trip() -> float:
    """Return what buying and selling cost together, a fraction, as a backtest has it by default."""
    rules = Rules()
    return 2 * (rules.fees + rules.slippage)


def outcomes(heard: Heard, candles: Candles, interval_ms: int) -> Judged:
    """Return those forecasts whose outcome is known by now, with their labels, contract section 3.

    Args:
        candles: of the same interval, of each symbol in time order; what is missing leaves forecasts without outcome.
    """
    found: list[tuple[I64, Labels]] = [(np.zeros(0, dtype=np.int64), _no_labels())]
    open_time_ms = heard.close_time_ms - interval_ms
    for symbol in np.unique(heard.symbol):
        asked = np.flatnonzero(heard.symbol == symbol)
        mine = candles.take(candles.symbol == symbol)
        high, low, close = mine.values[:, 1], mine.values[:, 2], mine.values[:, 3]
        labels = label(mine.open_time_ms, interval_ms, high, low, close)
        labelled = mine.open_time_ms[labels.at]
        place = np.searchsorted(labelled, open_time_ms[asked])
        here = place < len(labelled)
        here[here] = labelled[place[here]] == open_time_ms[asked][here]
        found.append((asked[here], labels.take(place[here])))
    index = np.concatenate([at for at, _ in found])
    columns = ([getattr(one, name) for _, one in found] for name in Labels.__slots__)
    return Judged(heard.take(index), Labels(*map(np.concatenate, columns)))


def compare_stored(
    champion: Heard, challenger: Heard, candles: Candles, interval_ms: int, *, names: tuple[str, str], costs: float,
    margin: float = 0.0,
) -> Comparison:  # fmt: skip
    """Compare what two versions said, on the same candles where both spoke, by what came; arguments as of `compare`."""
    both = _same(champion, challenger)
    paired = len(both[0]) >= PAIRED_SHARE * min(len(champion), len(challenger))
    heard = (champion, challenger)
    if paired:
        heard = champion.take(both[0]), challenger.take(both[1])
    judged = [outcomes(one, candles, interval_ms) for one in heard]
    left_out = {
        f"of {name} no outcome yet": len(one) - len(known)
        for name, one, known in zip(names, heard, judged, strict=True)
    }
    first, second = judged
    return compare(
        first, second, interval_ms, names=names, costs=costs, margin=margin, paired=paired, left_out=left_out
    )


def compare(
    champion: Judged, challenger: Judged, interval_ms: int, *, names: tuple[str, str], costs: float,
    margin: float = 0.0, paired: bool = True, left_out: dict[str, int] | None = None, seed: int = 0,
) -> Comparison:  # fmt: skip
    """Compare two versions by what they said and what came.

    Args:
        names: of champion and challenger.
        costs: of a round trip, a fraction of what is traded.
        margin: by how much the mean log-loss must be lower, with certainty, to be called better.
        paired: row for row they are of the same candles.
    """
    finite = [one.heard.spoken.finite for one in (champion, challenger)]
    gone = {f"of {name} not finite": int((~here).sum()) for name, here in zip(names, finite, strict=True)}
    skipped = {why: count for why, count in ((left_out or {}) | gone).items() if count}
    if paired:
        finite = [finite[0] & finite[1]] * 2
    judged = [one.take(np.flatnonzero(here)) for one, here in zip((champion, challenger), finite, strict=True)]
    if not all(map(len, judged)):
        return Comparison.empty(names, skipped)
    heard = [one.heard for one in judged]
    first_ms = min(int(one.close_time_ms.min()) for one in heard)
    bar = [(one.close_time_ms - first_ms) // interval_ms for one in heard]
    bars = 1 + max(int(one.max()) for one in bar)
    sums = [_sum_up(one, at, bars, costs) for one, at in zip(judged, bar, strict=True)]
    whole = [_measured({name: part.sum(axis=0) for name, part in one.items()}) for one in sums]
    # The same seed, the same bars: the same blocks are drawn of both.
    drawn = [_measured(found) for one in sums if (found := metrics.resample(one, seed)) is not None]
    wider = _wider(bars / metrics.BLOCK_BARS) if drawn else 1.0
    entries = {name: _entries(name, whole, drawn, wider) for name in whole[0]}
    mean = {metric: entries[f"mean_{metric}"][0] for metric in METRICS}
    pnl = entries["pnl"][0]
    verdict = _verdict(mean["log_loss"], pnl, margin)
    timed = all(np.isfinite(one.spoken.model_us).all() for one in heard)
    return Comparison(
        champion=names[0],
        challenger=names[1],
        verdict=verdict,
        sentence=_sentence(names, verdict, mean["log_loss"], pnl, margin, bars, interval_ms),
        paired=paired,
        rows=dict(zip(WHO, map(len, judged), strict=True)),
        bars=bars,
        symbols=len(np.unique(np.concatenate([one.symbol for one in heard]))),
        days=round(bars * interval_ms / DAY_MS, 2),
        horizons={
            horizon: {metric: entries[metric][h] for metric in METRICS} for h, horizon in enumerate(outputs.HORIZONS)
        },
        mean=mean,
        pnl=pnl,
        signals={name: int(np.count_nonzero(one.spoken.side)) for name, one in zip(WHO, heard, strict=True)},
        latency_ms=entries["latency_ms"][0] if timed else {},
        latency_p99_ms={
            name: round(float(np.quantile(one.spoken.model_us, 0.99)) / 1000, 3)
            for name, one in zip(WHO, heard, strict=True)
            if timed
        },
        left_out=skipped,
    )


def _same(champion: Heard, challenger: Heard) -> tuple[I64, I64]:
    """Return where in each lie the candles of which both spoke, in the same order."""
    names, number = np.unique(np.concatenate([champion.symbol, challenger.symbol]), return_inverse=True)
    times = np.concatenate([champion.close_time_ms, challenger.close_time_ms])
    key = (times - times.min(initial=0)) * max(len(names), 1) + number
    _, first, second = np.intersect1d(
        key[: len(champion)], key[len(champion) :], assume_unique=True, return_indices=True
    )
    return first, second


def _sum_up(judged: Judged, bar: I64, bars: int, costs: float) -> Sums:
    """Return the sums [T, …] over the rows of each of T = `bars` bars."""
    spoken, labels = judged.heard.spoken, judged.labels
    sums = metrics.sum_up(Guess(spoken.probabilities, spoken.returns, spoken.risks), labels, bar, bars)
    side = spoken.side.astype(np.float64)
    net = side * labels.returns[:, PNL_HORIZON].astype(np.float64) - costs * np.abs(side)
    for name, column in (("forecasts", np.ones(len(bar))), ("pnl", net), ("model_us", spoken.model_us)):
        sums[name] = np.bincount(bar, column, minlength=bars)[:, None].astype(np.float64)
    return sums


def _measured(sums: Sums) -> dict[str, F64]:
    """Return each metric [..., 4] by horizon, its mean over them and the others [..., 1], from sums [..., K]."""
    found = metrics.of_directions(sums)
    by_horizon = {metric: found[name] for metric, name in METRICS.items()}
    return (
        by_horizon
        | {f"mean_{metric}": values.mean(axis=-1, keepdims=True) for metric, values in by_horizon.items()}
        | {"pnl": sums["pnl"] / sums["forecasts"], "latency_ms": sums["model_us"] / sums["forecasts"] / 1000}
    )


def _entries(name: str, whole: list[dict[str, F64]], drawn: list[dict[str, F64]], wider: float) -> list[Entry]:
    champion, challenger = (one[name] for one in whole)
    difference = challenger - champion
    columns = {"champion": champion, "challenger": challenger, "difference": difference}
    if drawn:
        low, high = metrics.interval(difference, drawn[1][name] - drawn[0][name])
        columns |= {"low": difference + wider * (low - difference), "high": difference + wider * (high - difference)}
    return [
        {column: round(float(values[k]), 8) + 0.0 for column, values in columns.items()} for k in range(len(champion))
    ]


def _wider(blocks: float) -> float:
    """Return by how much an interval of few blocks is too narrow: Student's t and Bessel's n - 1.

    Of two versions that know as much, drawn blocks alone call one better or worse in 11 % of cases with 8 blocks.
    """
    z, free = Z, blocks - 1
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return float(t / z * np.sqrt(blocks / free))


def _verdict(log_loss: Entry, pnl: Entry, margin: float) -> Verdict:
    """Judge by the probabilities; whoever certainly earns less is not better, whatever they say."""
    if "low" not in log_loss:
        return "not yet known"
    if log_loss["low"] > 0 or pnl["high"] < 0:
        return "worse"
    return "better" if log_loss["high"] < -margin else "not yet known"


def _sentence(
    names: tuple[str, str], verdict: Verdict, log_loss: Entry, pnl: Entry, margin: float, bars: int, interval_ms: int
) -> str:
    old, new = names
    if "low" not in log_loss:
        least = metrics.BLOCKS_MIN * metrics.BLOCK_BARS
        return (
            f"Not yet known whether {new} is better than {old}: {bars} bars are compared, and an interval needs {least}"
            f" ({least * interval_ms / DAY_MS:.0f} days)."
        )
    by = f"{log_loss['difference']:+.4f} (95 %: {log_loss['low']:+.4f} to {log_loss['high']:+.4f})"
    earns = (
        f"after costs its signals bring {pnl['difference']:+.5%} a forecast"
        f" (95 %: {pnl['low']:+.5%} to {pnl['high']:+.5%})"
    )
    if verdict == "not yet known":
        wanted = f" by {margin:g}" if margin else ""
        return (
            f"Not yet known whether {new} is better than {old}{wanted}: its log-loss differs by {by}, which may be"
            f" chance; {earns}."
        )
    return f"{new} is {verdict} than {old}: its log-loss, mean over the horizons, differs by {by}; {earns}."


def _no_labels() -> Labels:
    nothing = np.zeros((0, 4), dtype=np.float32)
    return Labels(np.zeros(0, dtype=np.int64), nothing, nothing.astype(np.int8), nothing)
