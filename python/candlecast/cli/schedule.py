"""`candlecast schedule train|judge|gate`: one run of what a timer repeats. Loads what it needs to run."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from candlecast import settings as configuration
from candlecast.cli.model_server import model_server
from candlecast.cli.train import KINDS
from candlecast.errors import ConfigurationError

if TYPE_CHECKING:
    from candlecast.models.bundle import Bundle
    from candlecast.settings import Settings
    from candlecast.training.comparison import Comparison
    from candlecast.training.schedule import Said
    from candlecast.values import Candles

DAY_MS: Final = 86_400_000
ABOUT = """Train, evaluate, push, shadow, and promote only if better. Each command does one run and ends: systemd timers
(deploy/systemd) or any other scheduler repeat it. A run that keeps the champion says why and is a good run (exit code
0)."""
TRAIN = """Train what is served, the setting model, again on all but the newest candles, and compare it with the
champion on these, which neither was trained on: log-loss, mean over the horizons, with an interval. Certainly better by
the setting promote_margin: it is pushed, heard as shadow and promoted. Not yet known: it is pushed and heard as shadow,
and `candlecast schedule judge` decides by its live forecasts. Worse: nobody hears it, and it stays where it was
written. While a version is heard, no other is trained for shadow_days_max days. What follows `--` goes to `candlecast
train`."""
JUDGE = """Compare the shadow, or the challenger, with the champion by their live forecasts, as does `candlecast models
compare`: better by promote_margin, it is promoted; worse, or heard for shadow_days_max days without a verdict, it is
unloaded."""
GATE = """Train the gate again and keep the better one (`candlecast gate retrain`, to which what follows `--` goes, such
as -- --by log_loss); a running server takes a new version up by itself."""


def register(commands: Any) -> None:
    schedule = commands.add_parser("schedule", help="train again, and promote what is better", description=ABOUT)
    actions = schedule.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_train(actions)
    judging = actions.add_parser("judge", help="judge the version that is heard", description=JUDGE)
    judging.add_argument(
        "--interval-ms", type=int, default=900_000, metavar="MS", help="of the candles (default 900000)"
    )
    _add_server(judging)
    judging.set_defaults(run=judge)
    gate = actions.add_parser("gate", help="train the gate again", description=GATE)
    gate.add_argument("--data", nargs="+", required=True, metavar="FILE", help="recorded order flow")
    gate.add_argument("--json", action="store_true", help="print one JSON value on standard output")
    gate.add_argument("flags", nargs=argparse.REMAINDER, metavar="-- FLAG …", help="for `candlecast gate retrain`")
    gate.set_defaults(run=retrain_gate)


def _add_train(actions: Any) -> None:
    parser = actions.add_parser("train", help="train the served model again", description=TRAIN)
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="FILE", help="candle files; or `database`: the table candles")
    add(
        "--holdout-days",
        type=float,
        default=14.0,
        metavar="DAYS",
        help="the newest, which are not trained on: 12 or more, or nothing is known of them (default 14)",
    )
    add("--train-days", type=float, default=730.0, metavar="DAYS", help="before them, to train on (default 730)")
    add("--interval-ms", type=int, default=900_000, metavar="MS", help="of a database's candles (default 900000)")
    add("--work", type=Path, metavar="DIR", help="where bundles are written (default: trained, in state_dir)")
    add("--costs", type=float, help="of a round trip, a fraction (default: as a backtest has it, 0.0012)")
    _add_server(parser)
    add("flags", nargs=argparse.REMAINDER, metavar="-- FLAG …", help="for `candlecast train`, such as -- --epochs 4")
    parser.set_defaults(run=train)


def _add_server(parser: Any) -> None:
    parser.add_argument("--server", metavar="HOST:PORT", help="of gRPC (default: the setting grpc)")
    parser.add_argument("--database", metavar="URL", help="(default: DATABASE_URL)")
    parser.add_argument("--json", action="store_true", help="print one JSON line on standard output")


def train(args: argparse.Namespace) -> int:
    """Train, compare, and roll out what was earned.

    Raises:
        ConfigurationError: another model is served, or the data does not do.
        CandlecastError: training failed, the server is away, or the new version does not hold; what serves stays.
    """
    from candlecast.training import schedule

    settings = configuration.load(database_url=args.database, grpc=args.server)
    if settings.model not in KINDS:
        raise ConfigurationError(
            f"the setting model is {settings.model}, which is none of {', '.join(KINDS)}: its members are not trained"
            " again by themselves, for they are weighed together"
        )
    end_ms = _end_ms(args)
    border_ms = round(end_ms - args.holdout_days * DAY_MS)
    with model_server(settings) as server:
        said = schedule.retrain(
            server,
            lambda version: _train(args, settings, version, border_ms),
            lambda champion, bundle: _contest(args, settings, champion, bundle, border_ms),
            shadow_ms_max=round(settings.shadow_days_max * DAY_MS),
            now_ms=round(time.time() * 1000),
        )
    return _print(said, args.json)


def judge(args: argparse.Namespace) -> int:
    """Judge the version that is heard.

    Raises:
        ConfigurationError: no database is known.
        CandlecastError: server or database are away.
    """
    from candlecast.cli.models_compare import compared
    from candlecast.training import schedule

    settings = configuration.load(database_url=args.database, grpc=args.server)
    url, now_ms = _database(settings), round(time.time() * 1000)

    def compare(champion: int, challenger: int, since_ms: int) -> Comparison:
        return compared(
            url,
            (settings.model, champion),
            (settings.model, challenger),
            days=max(now_ms - since_ms, 1) / DAY_MS,
            interval_ms=args.interval_ms,
            margin=settings.promote_margin,
        )

    with model_server(settings) as server:
        said = schedule.judge(server, compare, shadow_ms_max=round(settings.shadow_days_max * DAY_MS), now_ms=now_ms)
    return _print(said, args.json)


def retrain_gate(args: argparse.Namespace) -> int:
    """Run `candlecast gate retrain`."""
    from candlecast.cli import parser

    flags = ["--json"] * args.json + _rest(args.flags)
    command = parser().parse_args(["gate", "retrain", "--data", *args.data, *flags])
    code: int = command.run(command)
    return code


def _train(args: argparse.Namespace, settings: Settings, version: int, border_ms: int) -> Bundle:
    from candlecast.cli import parser
    from candlecast.cli.train import trained

    work = args.work or settings.state_dir / "trained"
    out = work / settings.model / str(version)
    out.parent.mkdir(parents=True, exist_ok=True)
    flags = ["--interval-ms", str(args.interval_ms), "--from", _iso(round(border_ms - args.train_days * DAY_MS))]
    if args.database:
        flags += ["--database", args.database]
    flags += ["--to", _iso(border_ms), "--version", str(version), "--out", str(out), *_rest(args.flags)]
    return trained(parser().parse_args(["train", settings.model, "--data", *args.data, *flags]))


def _contest(args: argparse.Namespace, settings: Settings, champion: int, bundle: Bundle, border_ms: int) -> Comparison:
    from candlecast.filters import Thresholds
    from candlecast.models.bundle import Bundle
    from candlecast.training.comparison import round_trip
    from candlecast.training.contest import contest

    return contest(
        Bundle.load(settings.model_repository / settings.model / str(champion)),
        bundle,
        _candles(args, settings, border_ms),
        costs=round_trip() if args.costs is None else args.costs,
        margin=settings.promote_margin,
        thresholds=Thresholds(
            min_confidence=settings.min_confidence,
            strong_confidence=settings.strong_confidence,
            min_agreement=settings.min_agreement,
            min_expected_return=settings.min_expected_return,
        ),
        say=lambda line: print(f"candlecast: {line}", file=sys.stderr),
    )


def _candles(args: argparse.Namespace, settings: Settings, border_ms: int) -> list[Path] | Candles:
    """Return the files, or the stored candles from some time before the border on: windows have to be complete."""
    if args.data != ["database"]:
        return [Path(name) for name in args.data]
    from candlecast.features import Features
    from candlecast.store.history import read_candles

    start_ms = border_ms - 2 * Features(symbols_max=1, conflicts_max=1).need * args.interval_ms
    return read_candles(_database(settings), interval_ms=args.interval_ms, start_ms=start_ms)


def _end_ms(args: argparse.Namespace) -> int:
    """Return when the newest candle of the files opened; with a database now."""
    if args.data == ["database"]:
        return round(time.time() * 1000)
    from candlecast import candle_files

    return max(int(candle_files.read(Path(name)).open_time_ms.max()) for name in args.data)


def _database(settings: Settings) -> str:
    if settings.database_url is None:
        raise ConfigurationError("which database? Give --database URL or set DATABASE_URL")
    return settings.database_url


def _print(said: Said, as_json: bool) -> int:
    if as_json:
        print(json.dumps(said.as_json()))
    else:
        about = f" version {said.version}" if said.version else ""
        print(f"{said.step.value}{about}: {said.why}")
    return 0


def _rest(flags: Sequence[str]) -> list[str]:
    return [flag for k, flag in enumerate(flags) if k or flag != "--"]


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
