"""The command line: one small module per command, each with `register(subparsers)`; exit codes 0, 1, 2 and 78."""

from __future__ import annotations

import argparse
import logging
import sys

from candlecast import __version__
from candlecast.errors import CandlecastError, ConfigurationError
from candlecast.lifecycle import prepare_grpc

EXIT_FAILED = 1
EXIT_CONFIGURATION = 78


def parser() -> argparse.ArgumentParser:
    """Build the whole command line."""
    from candlecast.cli import (
        backtest,
        bench,
        dashboard,
        doctor,
        ensemble,
        evaluate,
        export,
        features,
        flow_features,
        gate,
        migrate,
        models,
        predictions,
        replay,
        replay_flow,
        report,
        retention,
        schedule,
        serve,
        top,
        train,
        up,
    )

    whole = argparse.ArgumentParser(
        prog="candlecast",
        description="Answers at the close of a candle: features in Rust, PatchTST on Triton, forecasts in PostgreSQL.",
        epilog="Settings: candlecast.toml < environment CANDLECAST_* < flags. Start with: candlecast up",
    )
    whole.add_argument("--version", action="version", version=f"candlecast {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    running = (up, serve, dashboard, migrate, models, replay, replay_flow, predictions, top)
    training = (features, flow_features, train, gate, schedule, evaluate, ensemble, backtest, export)
    for command in (*running, *training, report, retention, doctor, bench):
        command.register(commands)
    return whole


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration, 130 Ctrl-C."""
    prepare_grpc()
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    args = parser().parse_args(argv)
    try:
        code: int = args.run(args)
    except ConfigurationError as error:
        print(f"candlecast: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except CandlecastError as error:
        print(f"candlecast: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt as error:
        if str(error):
            print(f"candlecast: {error}", file=sys.stderr)
        return 130
    return code
