"""`candlecast predictions`: stored forecasts of a running server, as a table, and the newest of a symbol in detail."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from candlecast import outputs
from candlecast.cli.telling import finite as _finite
from candlecast.cli.telling import fraction as _return
from candlecast.cli.telling import minute as _time
from candlecast.cli.telling import number as _number
from candlecast.cli.telling import told as _told
from candlecast.cli.telling import word as _word
from candlecast.errors import CandlecastError

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.table import Table

    from candlecast.v1.history_pb2 import StoredPrediction

LIMIT_MAX = 1_000
INDICATORS = ("rsi", "macd", "bb_position", "atr_pct", "volume_ratio", "trend_strength")
SUMMARY = ("mean", "std", "min", "max")


def register(commands: Any) -> None:
    command = commands.add_parser(
        "predictions",
        help="show stored forecasts and what came after them",
        description="Show the newest stored forecasts of a running server, newest close first. With --symbol and no"
        " --limit the newest forecast of the symbol in detail: what the model saw, what it said, how that was read, and"
        " the outcome so far.",
    )
    command.add_argument("--symbol", metavar="SYMBOL", help="of this one (default: all)")
    command.add_argument("--limit", type=_count, metavar="N", help=f"how many, at most {LIMIT_MAX} (default 20)")
    command.add_argument("--detail", action="store_true", help="a box for each of them instead of a table")
    command.add_argument("--server", metavar="ADDR", help="HOST:PORT (default: the setting grpc)")
    command.add_argument("--json", action="store_true", help="print one JSON list on standard output")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask the server and print.

    Raises:
        CandlecastError: it does not answer, or refuses the symbol.
    """
    import grpc

    from candlecast import settings as configuration
    from candlecast.client import Client, ServerError

    server = args.server or configuration.load().grpc
    is_detailed = args.detail or (args.symbol is not None and args.limit is None)
    limit = args.limit or (1 if is_detailed else 20)
    try:
        with Client(server) as client:
            found = list(client.list_predictions(args.symbol or "", page_size=limit).predictions)
    except ServerError as error:
        hint = "; `candlecast up` starts a server" if error.code is grpc.StatusCode.UNAVAILABLE else ""
        raise CandlecastError(f"{server}: {error}{hint}") from error
    if args.json:
        print(json.dumps([as_json(prediction) for prediction in found], allow_nan=False))
        return 0
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120)
    if not found:
        of_symbol = f" of {args.symbol}" if args.symbol else ""
        print(f"no forecast{of_symbol} is stored yet: send candles, as `candlecast replay` does")
    elif is_detailed:
        for prediction in found:
            console.print(boxed(prediction))
    else:
        console.print(table(found))
    return 0


def as_json(prediction: StoredPrediction) -> dict[str, Any]:
    """Return everything under the names of the contract; None for what is absent or not finite."""
    f, seen = prediction.forecast, prediction.features
    return {
        "symbol": f.symbol,
        "interval_ms": f.interval_ms,
        "close_time_ms": f.close_time_ms,
        "close": prediction.close,
        "direction": _word(f, "direction"),
        "strength": _word(f, "strength"),
        **{name: _finite(getattr(f, name)) for name in _READ},
        "reasons": list(f.reasons),
        "state": _word(f, "state"),
        "gap_filled": f.gap_filled,
        "degraded": f.degraded,
        **{
            name: getattr(f, name) if f.HasField(name) else None
            for name in ("gate_probability", "gate_approved", "model_agreement")
        },
        "model": {"name": f.model.name, "version": f.model.version, "bundle_sha256": f.model.bundle_sha256},
        "features_hash": f"{f.features_hash:014x}",
        "features": {
            "count": seen.count,
            "nan_count": seen.nan_count,
            "zero_variance_count": seen.zero_variance_count,
            **{name: _told(seen, name) for name in (*SUMMARY, *INDICATORS)},
        },
        "outputs": [_finite(value) for value in prediction.outputs],
        "horizons": {
            name: {
                "expected_return": _finite(horizon.expected_return),
                "p_long": _finite(horizon.p_long),
                "p_short": _finite(horizon.p_short),
                "p_neutral": _finite(horizon.p_neutral),
                "actual_return": _told(came, "actual_return"),
                "actual_direction": _word(came, "actual_direction") if came.HasField("actual_return") else None,
                "hit": _told(came, "hit"),
                "error": _told(came, "error"),
            }
            for name, horizon, came in zip(outputs.HORIZONS, f.horizons, prediction.outcomes, strict=True)
        },
        "risks": {name: _finite(getattr(f, name)) for name in outputs.RISK_NAMES},
        "exit": {
            "reason": prediction.exit_reason or None,
            "return": _told(prediction, "exit_return"),
            "bars": prediction.exit_bars or None,
        },
        "times_us": {name: getattr(f.times, f"{name}_us") for name in _STAGES},
        "created_at_ms": prediction.created_at_ms,
    }


_READ = (
    "confidence", "quality", "agreement", "move", "edge", "stop_loss", "take_profit", "rule_score", "hybrid_score",
    "size_multiplier",
)  # fmt: skip
_STAGES = ("decode", "features", "queue", "model", "interpret")


def table(found: Sequence[StoredPrediction]) -> Table:
    """Return one line for each forecast."""
    from rich.table import Table

    shown = Table(box=None, padding=(0, 1, 0, 0))
    for title in (
        "close (UTC)",
        "symbol",
        "direction",
        "confidence",
        "quality",
        *outputs.HORIZONS,
        "outcome",
        "reasons",
    ):
        is_word = title in ("close (UTC)", "symbol", "direction", "reasons")
        shown.add_column(title, justify="left" if is_word else "right", no_wrap=title != "reasons")
    for prediction in found:
        f = prediction.forecast
        shown.add_row(
            _time(f.close_time_ms),
            f.symbol,
            _word(f, "direction"),
            _number(f.confidence, 3),
            _number(f.quality, 3),
            *(_return(horizon.expected_return) for horizon in f.horizons),
            _so_far(prediction),
            ", ".join(f.reasons),
        )
    return shown


def boxed(prediction: StoredPrediction) -> Panel:
    """Return one forecast in detail."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table

    f, seen = prediction.forecast, prediction.features
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold")
    facts.add_column()
    missing = f", {seen.nan_count} NaN" if seen.nan_count else ""
    still = f", {seen.zero_variance_count} did not move" if seen.zero_variance_count else ""
    summary = "  ".join(f"{name} {_number(_told(seen, name), 4)}" for name in SUMMARY)
    facts.add_row("features", f"{seen.count}{missing}{still}   hash {f.features_hash:014x}")
    facts.add_row("", summary)
    facts.add_row("", "  ".join(f"{name} {_number(_told(seen, name), 4)}" for name in INDICATORS))
    facts.add_row(
        "outputs", "  ".join(_number(value, 4) for value in prediction.outputs[outputs.RETURNS]) + "  (returns)"
    )
    for h, name in enumerate(outputs.HORIZONS):
        logits = prediction.outputs[outputs.LOGITS][3 * h : 3 * h + 3]
        facts.add_row("", "  ".join(_number(value, 4) for value in logits) + f"  (logits {name}: LONG, SHORT, NEUTRAL)")
    risks = "  ".join(f"{name} {_return(getattr(f, name))}" for name in outputs.RISK_NAMES)
    facts.add_row("", risks)
    facts.add_row("read as", f"{_word(f, 'direction')}, {_word(f, 'strength')}   " + "  ".join(
        f"{name} {_number(getattr(f, name), 4)}" for name in _READ))  # fmt: skip
    if f.HasField("gate_approved"):
        said = "approves" if f.gate_approved else "refuses"
        facts.add_row("gate", f"{said}, p {_number(_told(f, 'gate_probability'), 3)}")
    facts.add_row("reasons", ", ".join(f.reasons) or "none: it is a signal")
    flags = [name for name in ("gap_filled", "degraded") if getattr(f, name)]
    facts.add_row("state", ", ".join((_word(f, "state"), *flags)))
    facts.add_row("model", f"{f.model.name} v{f.model.version}   bundle {f.model.bundle_sha256[:12]}")
    facts.add_row("time", "  ".join(f"{name} {getattr(f.times, f'{name}_us')} µs" for name in _STAGES))
    held = f" after {prediction.exit_bars} bars" if prediction.exit_bars else ""
    facts.add_row("outcome", _so_far(prediction) + held)
    horizons = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("horizon", "expected", "p long", "p short", "p neutral", "actual", "came", "hit", "error"):
        horizons.add_column(title, justify="left" if title == "horizon" else "right")
    for name, horizon, came in zip(outputs.HORIZONS, f.horizons, prediction.outcomes, strict=True):
        known = came.HasField("actual_return")
        hit = _told(came, "hit")
        horizons.add_row(
            name,
            _return(horizon.expected_return),
            *(_number(p, 3) for p in (horizon.p_long, horizon.p_short, horizon.p_neutral)),
            _return(came.actual_return) if known else "–",
            _word(came, "actual_direction") if known else "–",
            "–" if hit is None else "yes" if hit else "no",
            _return(_told(came, "error")),
        )
    title = f"{f.symbol}  close {_time(f.close_time_ms)} UTC at {prediction.close:g}"
    return Panel(Group(facts, "", horizons), title=title, title_align="left")


def _so_far(prediction: StoredPrediction) -> str:
    """Say what is known of the outcome."""
    if prediction.exit_reason:
        gain = f" {_return(prediction.exit_return)}" if prediction.HasField("exit_return") else ""
        return f"{prediction.exit_reason}{gain}"
    known = [came for came in prediction.outcomes if came.HasField("actual_return")]
    if not known:
        return "not yet known"
    return f"{sum(came.hit for came in known)} of {len(known)} hit"


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= LIMIT_MAX:
        raise argparse.ArgumentTypeError(f"must be 1 to {LIMIT_MAX}")
    return value
