"""From the rows of report.sql to the sections of the page, in words. Knows neither SQL nor HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from candlecast.report.page import Page, Section, Table
from candlecast.report.svg import Line, bars, columns, count, lines

Rows = Sequence[Mapping[str, Any]]


def page(found: Mapping[str, Rows], since: date, until: datetime, place: str) -> Page:
    """Tell what was found, by the names of report.sql, from a day until now; `place` says in which database."""
    days = found["per_day"]
    signals = sum(row["longs"] + row["shorts"] for row in days)
    forecasts = signals + sum(row["neutrals"] for row in days)
    facts = [
        (f"{forecasts:,}", "forecasts"),
        (f"{signals:,}", f"signals ({_percent(signals / forecasts if forecasts else None)} of them)"),
        (f"{sum(row['missed'] for row in found['missed']):,}", "forecasts missed"),
        (_ms(max((row["p99_us"] for row in found["latency"]), default=None)), "worst hour's P99 of a forecast"),
        (_number(sum(row["pnl"] for row in found["strategies"]) if found["strategies"] else None), "realised PnL"),
        (f"{sum(row['closed'] for row in found['strategies']):,}", "trades closed"),
    ]
    return Page(
        title=f"candlecast, {since:%d %B %Y} to {until:%d %B %Y}",
        text=f"Times are UTC; days are those of a forecast's close. Read at {until:%H:%M} from {place}.",
        facts=facts,
        sections=[
            _made(found),
            _confidence(found),
            _accuracy(found),
            _calibration(found),
            _exits(found),
            _strategies(found),
            _risk(found),
            _latency(found),
            _features(found),
            _doubts(found),
            _trainings(found),
        ],
    )


def _made(found: Mapping[str, Rows]) -> Section:
    days = found["per_day"]
    plot = columns(
        "Forecasts by day and direction",
        [f"{row['day']:%d %b}" for row in days],
        [
            (name, [float(row[key]) for row in days])
            for name, key in (("LONG", "longs"), ("SHORT", "shorts"), ("NEUTRAL", "neutrals"))
        ],
    )
    rows = [
        [
            f"{r['model']} v{r['version']}",
            f"{r['forecasts']:,}",
            f"{r['signals']:,}",
            _percent(r["signals"] / r["forecasts"]),
            _fraction(r["mean_confidence"]),
        ]
        for r in found["models"]
    ]
    table = Table(["model", "forecasts", "signals", "share", "mean confidence"], rows)
    return Section("Forecasts", plots=[plot], tables=[table], none="No forecast closed in this time.")


def _confidence(found: Mapping[str, Rows]) -> Section:
    rows = found["confidence"]
    plot = columns(
        "Forecasts by confidence",
        [f"{row['confidence_from']:.2f}" for row in rows],
        [("forecasts", [float(row["forecasts"]) for row in rows])],
    )
    why = bars("Why there was no signal", [(row["reason"], float(row["forecasts"])) for row in found["reasons"]], count)
    text = "How sure forecasts were, in steps of 0.05, and why the others gave no signal; one may have several reasons."
    return Section("Confidence and reasons", text, [plot, why])


def _accuracy(found: Mapping[str, Rows]) -> Section:
    skill = [
        Line(_horizon(bars_), *_columns(rows, _day, "skill"))
        for bars_, rows in _grouped(found["skill"], "horizon_bars").items()
    ]
    plot = lines("Skill by day", skill, _percent)
    rows = [
        [
            _horizon(row["horizon_bars"]),
            f"{row['forecasts']:,}",
            _percent(row["hit_rate"]),
            _percent(row["base_rate"]),
            _percent(_skill(row)),
            _percent(row["mae"], 3),
            _percent(row["base_mae"], 3),
        ]
        for row in found["accuracy"]
    ]
    table = Table(["horizon", "forecasts", "right", "base rate", "skill", "mean error", "of who expects 0"], rows)
    text = (
        "Base rate: what saying the most frequent class each time reaches. Skill: better in log-loss than knowing how"
        " often each class comes; above 0 a forecast is worth something, below it is worse than that knowledge."
    )
    return Section("How right they were", text, [plot], [table], none="No outcome is known yet in this time.")


def _calibration(found: Mapping[str, Rows]) -> Section:
    series = [
        Line(_horizon(bars_), *_columns(rows, lambda row: row["mean_confidence"], "hit_rate"))
        for bars_, rows in _grouped(found["calibration"], "horizon_bars").items()
    ]
    plot = lines("Hit rate by probability", series, _share, over_time=False, diagonal=True)
    text = "Of forecasts that gave their likeliest class so much probability (across), how often it came (up)."
    return Section("Calibration", f"{text} On the dashed line they mean what they say.", [plot])


def _exits(found: Mapping[str, Rows]) -> Section:
    rows = [
        [
            f"{r['direction']} {r['exit_reason']}",
            f"{r['signals']:,}",
            _percent(r["win_rate"]),
            _percent(r["mean_return"], 2),
            _fraction(r["mean_bars"], 1),
        ]
        for r in found["exits"]
    ]
    table = Table(["signal and end", "signals", "won", "mean return", "bars"], rows)
    return Section(
        "Stops and takes", "LONG and SHORT forecasts, entered at the next open, before costs.", tables=[table]
    )


def _strategies(found: Mapping[str, Rows]) -> Section:
    equity = [
        Line(name, *_columns(rows, _day, "total_pnl"))
        for name, rows in list(_grouped(found["equity"], "strategy").items())[:6]
    ]
    rows = [
        [
            r["strategy"],
            f"{r['opened']:,}",
            f"{r['closed']:,}",
            _percent(r["win_rate"]),
            _number(r["pnl"]),
            _fraction(r["profit_factor"]),
            _number(r["fees"]),
        ]
        for r in found["strategies"]
    ]
    table = Table(["strategy", "opened", "closed", "won", "PnL", "profit factor", "fees"], rows)
    plot = lines("Realised PnL since the first day", equity, _number)
    return Section(
        "Strategies",
        "Realised, after fees, from the first day of this page on.",
        [plot],
        [table],
        "No strategy traded.",
    )


def _risk(found: Mapping[str, Rows]) -> Section:
    fall = []
    for name, days in list(_grouped(found["equity"], "strategy").items())[:6]:
        x, y = _columns(days, _day, "total_pnl")
        peak, below = 0.0, list[float]()
        for total in y:
            peak = max(peak, total)
            below.append(total - peak)
        fall.append(Line(name, x, below))
    rows = [
        [
            r["symbol"],
            r["strategy"],
            r["side"],
            f"{r['positions']:,}",
            _number(r["exposure"]),
            f"{r['oldest_entry']:%d %b %H:%M}",
        ]
        for r in found["exposure"]
    ]
    table = Table(["open now", "strategy", "side", "positions", "value at entry", "oldest"], rows)
    plot = lines("How far realised PnL is below its peak", fall, _number)
    return Section(
        "Risk", "How far PnL is below its best in this time, and what is open now.", [plot], [table], "Nothing is open."
    )


def _latency(found: Mapping[str, Rows]) -> Section:
    series = [
        Line(name, *_columns(found["latency"], lambda row: row["hour"].timestamp(), key, 1e-3))
        for name, key in (("P50", "p50_us"), ("P95", "p95_us"), ("P99", "p99_us"))
    ]
    return Section("Latency", "All stages of a forecast, in ms, by the hour.", [lines("Latency in ms", series, count)])


def _features(found: Mapping[str, Rows]) -> Section:
    rows = found["importance"]
    title = f"Importance for {rows[0]['model']} v{rows[0]['version']}" if rows else ""
    important = bars(title, [(row["feature"], row["score"]) for row in rows], lambda share: _percent(share, 1))
    series = [
        Line(name, *_columns(found["features"], lambda row: row["hour"].timestamp(), key))
        for name, key in (("NaN", "nan_features"), ("without variance", "still_features"))
    ]
    text = "Features that are NaN, or did not move within the window, for each forecast; and those that matter most."
    return Section("Features", text, [lines("Features that are not there", series, count), important])


def _doubts(found: Mapping[str, Rows]) -> Section:
    rows = [[row["reason"], f"{row['missed']:,}"] for row in found["missed"]]
    gaps, degraded = (sum(row[key] for row in found["per_day"]) for key in ("gap_filled", "degraded"))
    text = (
        f"{gaps:,} forecasts had a filled gap in their window; {degraded:,} were made without a member of an ensemble,"
        " or by the gate's heuristic. Missed are those that were not made while they were worth something."
    )
    return Section("Doubts", text, tables=[Table(["missed because", "forecasts"], rows)], none="None was missed.")


def _trainings(found: Mapping[str, Rows]) -> Section:
    rows = [
        [
            f"{r['model']} v{r['version']}",
            r["family"],
            r["status"],
            _count(r["data_points"]),
            _hours(r["duration_s"]),
            f"{r['started_at']:%d %b %H:%M}",
        ]
        for r in found["trainings"]
    ]
    table = Table(["model", "family", "status", "samples", "took", "started"], rows)
    return Section("Trainings", tables=[table], none="No model was trained.")


def _grouped(rows: Rows, key: str) -> dict[Any, list[Mapping[str, Any]]]:
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _columns(rows: Rows, x: Any, y: str, factor: float = 1.0) -> tuple[list[float], list[float]]:
    return [float(x(row)) for row in rows], [math.nan if row[y] is None else factor * float(row[y]) for row in rows]


def _day(row: Mapping[str, Any]) -> float:
    return datetime.combine(row["day"], time(), UTC).timestamp()


def _horizon(bars: int) -> str:
    return "1 bar" if bars == 1 else f"{bars} bars"


def _skill(row: Mapping[str, Any]) -> float | None:
    return 1 - row["log_loss"] / row["base_log_loss"] if row["base_log_loss"] else None


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _share(share: float) -> str:
    return f"{100 * share:.0f} %"


def _fraction(number: float | None, digits: int = 2) -> str:
    return "–" if number is None else f"{number:.{digits}f}"


def _number(number: float | None) -> str:
    if number is None:
        return "–"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:,.4g}"


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _ms(us: float | None) -> str:
    return "–" if us is None else f"{us / 1000:.1f} ms"


def _hours(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
