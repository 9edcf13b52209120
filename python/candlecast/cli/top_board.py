"""The newest forecast of each series and what came of it, as a table and as JSON. Knows no server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from candlecast import outputs
from candlecast.cli.telling import finite, fraction, minute, number, told, word

if TYPE_CHECKING:
    from rich.table import Table

    from candlecast.v1.forecasts_pb2 import GetSymbolResponse
    from candlecast.v1.history_pb2 import StoredPrediction
    from candlecast.v1.types_pb2 import Forecast

SERIES_MAX: Final = 20_000
"""That are kept; those that were not heard of for longest go first."""
STAGES: Final = ("decode", "features", "queue", "model", "interpret", "spool")
STYLES: Final = {"LONG": "green", "SHORT": "red", "NEUTRAL": "dim"}

Series = tuple[str, int]
"""Symbol and interval in ms."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known after one forecast."""

    close_time_ms: int
    known: int  # horizons, of four
    hits: int
    exit_reason: str  # empty: not known
    exit_return: float | None

    def __str__(self) -> str:
        if self.exit_reason:
            return self.exit_reason + (f" {fraction(self.exit_return)}" if self.exit_return is not None else "")
        return f"{self.hits} of {self.known} hit" if self.known else "not yet known"


class Board:
    """Hears of forecasts in any order."""

    def __init__(self) -> None:
        self._forecasts: dict[Series, Forecast] = {}
        self._outcomes = dict[Series, Outcome]()  # of the newest with something known
        self._waiting: dict[Series, GetSymbolResponse] = {}
        self.complaint = ""
        """Why what is shown may be old."""

    def __len__(self) -> int:
        return len(self._forecasts) + len(self._waiting)

    @property
    def symbols(self) -> set[str]:
        """Return those that have a forecast."""
        return {symbol for symbol, _ in self._forecasts}

    def heard(self, forecast: Forecast) -> None:
        """Take a forecast, unless a later one of its series is there."""
        series = forecast.symbol, forecast.interval_ms
        known = self._forecasts.pop(series, None)
        self._forecasts[series] = known if known and known.close_time_ms > forecast.close_time_ms else forecast
        self._waiting.pop(series, None)
        while len(self._forecasts) > SERIES_MAX:
            gone = next(iter(self._forecasts))
            del self._forecasts[gone]
            self._outcomes.pop(gone, None)

    def stored(self, prediction: StoredPrediction) -> None:
        """Take a stored forecast and what came after it."""
        forecast = prediction.forecast
        series = forecast.symbol, forecast.interval_ms
        known = self._forecasts.get(series)
        if known is None or forecast.close_time_ms > known.close_time_ms:
            self.heard(forecast)
        came = [one for one in prediction.outcomes if one.HasField("actual_return")]
        before = self._outcomes.get(series)
        if (came or prediction.exit_reason) and (before is None or forecast.close_time_ms >= before.close_time_ms):
            self._outcomes[series] = Outcome(
                forecast.close_time_ms,
                len(came),
                sum(one.hit for one in came),
                prediction.exit_reason,
                told(prediction, "exit_return"),
            )

    def waits(self, found: GetSymbolResponse) -> None:
        """Take where a symbol stands that has no forecast."""
        self._waiting[found.symbol, found.interval_ms] = found

    def table(self, title: str, rows_max: int | None = None) -> Table:
        """Return the signals of the newest closes first, at most so many rows."""
        from rich.table import Table

        forecasts = sorted(self._forecasts.values(), key=_order)
        words = [word(f, "direction") for f in forecasts]
        counts = "  ".join(f"{side} {words.count(side)}" for side in STYLES)
        shown = Table(
            box=None,
            padding=(0, 1, 0, 0),
            title=f"{title}  {len(self)} series  {counts}  {datetime.now(UTC):%H:%M:%S} UTC  {self.complaint}".rstrip(),
            title_justify="left",
        )
        texts = {"symbol", "close (UTC)", "state", "direction", "gate", "outcome so far"}
        for name in ("symbol", "close (UTC)", "state", "direction", "confidence", *outputs.HORIZONS, "gate",
                     "latency ms", "outcome so far"):  # fmt: skip
            shown.add_column(name, justify="left" if name in texts else "right", no_wrap=True)
        for f, direction in list(zip(forecasts, words, strict=True))[:rows_max]:
            shown.add_row(
                f.symbol,
                minute(f.close_time_ms),
                word(f, "state"),
                direction,
                number(f.confidence, 3),
                *(fraction(horizon.expected_return) for horizon in f.horizons),
                _gate(f),
                number(_latency_us(f) / 1000, 2),
                self._so_far(f),
                style=STYLES[direction],
            )
        blank = [""] * (len(outputs.HORIZONS) + 3)
        for at in list(self._waiting.values())[: None if rows_max is None else max(rows_max - len(forecasts), 0)]:
            state = word(at.status, "state")
            shown.add_row(at.symbol, "", f"{state} {at.status.have}/{at.status.need}", "–", *blank, "")
        return shown

    def as_json(self) -> list[dict[str, Any]]:
        """Return the same, all of it; None for what is absent or not finite."""
        return [
            *map(self._forecast, sorted(self._forecasts.values(), key=_order)),
            *map(_standing, self._waiting.values()),
        ]

    def _so_far(self, f: Forecast) -> str:
        known = self._outcomes.get((f.symbol, f.interval_ms))
        if known is None:
            return "not yet known"
        return str(known) if known.close_time_ms == f.close_time_ms else f"{minute(known.close_time_ms)[11:]}: {known}"

    def _forecast(self, f: Forecast) -> dict[str, Any]:
        known = self._outcomes.get((f.symbol, f.interval_ms))
        return {
            "symbol": f.symbol,
            "interval_ms": f.interval_ms,
            "close_time_ms": f.close_time_ms,
            "state": word(f, "state"),
            "direction": word(f, "direction"),
            "strength": word(f, "strength"),
            "confidence": finite(f.confidence),
            "quality": finite(f.quality),
            "expected_returns": {
                name: finite(horizon.expected_return)
                for name, horizon in zip(outputs.HORIZONS, f.horizons, strict=True)
            },
            "reasons": list(f.reasons),
            "gate": {"approved": told(f, "gate_approved"), "probability": told(f, "gate_probability")},
            "latency_us": _latency_us(f),
            "outcome": None
            if known is None
            else {
                "close_time_ms": known.close_time_ms,
                "horizons_known": known.known,
                "hits": known.hits,
                "exit_reason": known.exit_reason or None,
                "exit_return": known.exit_return,
            },
        }


def _standing(at: GetSymbolResponse) -> dict[str, Any]:
    status = at.status
    return {
        "symbol": at.symbol,
        "interval_ms": at.interval_ms,
        "close_time_ms": None,
        "state": word(status, "state"),
        "have": status.have,
        "need": status.need,
    }


def _order(f: Forecast) -> tuple[int, bool, float, str]:
    quality = finite(f.quality)
    return -f.close_time_ms, word(f, "direction") == "NEUTRAL", -(quality if quality is not None else 0.0), f.symbol


def _gate(f: Forecast) -> str:
    approved, p = told(f, "gate_approved"), told(f, "gate_probability")
    if approved is None:
        return "–"
    said = "approves" if approved else "refuses"
    return said if p is None else f"{said} {number(p, 2)}"


def _latency_us(f: Forecast) -> int:
    """Return the time from its message to its record on disk; of a stored one without the latter."""
    return sum(getattr(f.times, f"{name}_us") for name in STAGES)
