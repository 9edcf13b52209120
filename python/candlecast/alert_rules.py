"""When somebody is told: the rules as settings, and those that hold unless told otherwise. Knows no number's source.

A rule is a table [[alert_rules]] in candlecast.toml; docs/alerts.md says what may stand in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Severity = Literal["info", "warning", "critical"]
Metric = Literal[
    "not_ready", "degraded", "journal_ratio", "drain_lag_s", "hit_rate", "hit_rate_over_base", "calibration_error",
    "win_rate", "mean_return", "pnl",
]  # fmt: skip
METRICS: Final[Mapping[Metric, str]] = {
    "not_ready": "1 while the canary forecast fails, else 0",
    "degraded": "1 while forecasts are flagged because the model is too old, else 0",
    "journal_ratio": "share of the journal in use, 0 to 1",
    "drain_lag_s": "age of the oldest row that waits for PostgreSQL, seconds",
    "hit_rate": "share of the forecasts whose likeliest class came",
    "hit_rate_over_base": "the hit rate less the share of the class that came most",
    "calibration_error": "mean distance of the probability of the likeliest class from how often it came",
    "win_rate": "share of the closed trades that won",
    "mean_return": "mean return of a closed trade on its value at entry, after fees",
    "pnl": "sum of what the closed trades brought, after fees, in money",
}
ACCURACY: Final = ("hit_rate", "hit_rate_over_base", "calibration_error")
"""Of the version that answers, at one horizon."""
TRADES: Final = ("win_rate", "mean_return", "pnl")
"""Of one strategy."""
OWN: Final = "candlecast"
"""The strategy of the server's own signals."""
RULES_MAX: Final = 50


class AlertRule(BaseModel):
    """A number that should not stand beyond a limit for long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[a-z][a-z0-9_]{0,39}$")
    metric: Metric
    above: float | None = Field(default=None, allow_inf_nan=False)
    below: float | None = Field(default=None, allow_inf_nan=False)
    clears_at: float | None = Field(default=None, allow_inf_nan=False)  # absent: at the limit
    for_s: float = Field(default=0, ge=0, allow_inf_nan=False)
    severity: Severity = "warning"
    text: str = Field(default="", max_length=300)  # with {value} where the number stands; absent: says metric and limit
    days: int = Field(default=7, ge=1, le=365)  # newest ones with an outcome
    count_min: int = Field(default=200, ge=1)  # of forecasts, or trades, with fewer of which nothing is known
    horizon_bars: Literal[1, 4, 16, 48] = 1
    strategy: str = OWN

    @property
    def limit(self) -> float:
        limit = self.above if self.above is not None else self.below
        assert limit is not None, "one of them is given"
        return limit

    @property
    def is_of_outcomes(self) -> bool:
        return self.metric in ACCURACY or self.metric in TRADES

    def is_beyond(self, value: float) -> bool:
        """Say whether a number is beyond the limit."""
        return value > self.limit if self.above is not None else value < self.limit

    def is_clear(self, value: float) -> bool:
        """Say whether a number ends what has begun."""
        end = self.limit if self.clears_at is None else self.clears_at
        return value <= end if self.above is not None else value >= end

    def told(self, value: float) -> str:
        """Return what is said of a number."""
        side = "above" if self.above is not None else "below"
        return (
            self.text
            or f"{self.metric} is {{value:.4g}}, the rule {self.name} wants to hear of it {side} {self.limit:g}"
        ).format(value=value)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"rule {self.name}: give one of above and below")
        if self.clears_at is not None and not (self.is_clear(self.clears_at) and not self.is_beyond(self.clears_at)):
            side = "above" if self.above is not None else "below"
            raise ValueError(f"rule {self.name}: clears_at {self.clears_at:g} lies {side} its limit {self.limit:g}")
        of = {"days": ACCURACY + TRADES, "count_min": ACCURACY + TRADES, "horizon_bars": ACCURACY, "strategy": TRADES}
        for name, metrics in of.items():
            if name in self.model_fields_set and self.metric not in metrics:
                raise ValueError(f"rule {self.name}: {name} is for {', '.join(metrics)}, not for {self.metric}")
        try:
            self.told(0.5)
        except (LookupError, ValueError, AttributeError) as error:
            raise ValueError(f"rule {self.name}: text {self.text!r} takes {{value}} and no more ({error})") from error
        return self


DEFAULTS: Final = (
    AlertRule(
        name="not_ready", metric="not_ready", above=0.5, for_s=60, severity="critical",
        text="the canary forecast fails: clients are told NOT_SERVING",
    ),
    AlertRule(
        name="journal", metric="journal_ratio", above=0.7,
        text="the journal is {value:.0%} full: new candles are refused when it is",
    ),
    AlertRule(name="drain", metric="drain_lag_s", above=300, text="PostgreSQL is {value:.0f} s behind"),
    AlertRule(
        name="degraded", metric="degraded", above=0.5, text="forecasts are degraded: the model is too old",
    ),
    AlertRule(
        name="hit_rate", metric="hit_rate_over_base", below=-0.02, clears_at=0, count_min=1_000,
        text="over 7 days the hit rate at one bar was {value:+.1%} from that of who always says the commonest class",
    ),
    AlertRule(
        name="calibration", metric="calibration_error", above=0.1, clears_at=0.07, count_min=1_000,
        text="over 7 days the probabilities at one bar were {value:.1%} off what came",
    ),
    AlertRule(
        name="pnl", metric="mean_return", below=-0.003, clears_at=-0.002, days=30, count_min=50,
        text="over 30 days the server's own signals brought {value:+.2%} a trade, after fees",
    ),
)  # fmt: skip
"""Each is replaced by one of the same name."""


def wrong(given: Sequence[AlertRule]) -> str | None:
    """Say what is wrong with rules beside each other."""
    names = [rule.name for rule in given]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        return f"{', '.join(repeated)}: a name is given to one rule"
    return f"at most {RULES_MAX} rules" if len(given) > RULES_MAX else None


def rules_of(given: Sequence[AlertRule], off: Sequence[str] = ()) -> list[AlertRule]:
    """Return the rules that hold: the given ones, and the defaults that are neither replaced by one of them nor off."""
    absent = {rule.name for rule in given} | set(off)
    return [*(rule for rule in DEFAULTS if rule.name not in absent), *given]
