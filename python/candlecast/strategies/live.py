"""The command of a strategy: flags → forecasts as they are made → its trader. Decides nothing itself."""

from __future__ import annotations

import argparse
import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import grpc

from candlecast.client import DEFAULT_SERVER, Client, SentimentScore, ServerError
from candlecast.signal_log import SignalLog
from candlecast.strategies.columns import Decide
from candlecast.strategies.scores import read
from candlecast.strategies.trader import Trader
from candlecast.v1.types_pb2 import Forecast

PAUSE_S: Final = 5.0
"""Between attempts to reach a server that is away, for as long as the strategy runs."""
FLUSH_S: Final = 30.0
"""For what the last run could not send: only then is the server's record whole."""
AGE_MAX_INTERVALS: Final = 2
"""Of a forecast that is acted on: its price is of then."""
AWAY: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
log = logging.getLogger("candlecast.strategies")


def main(
    name: str, decide: Decide, model: str, *, uses_sentiment: bool = False, arguments: Sequence[str] | None = None
) -> int:
    """Run a strategy until SIGINT or SIGTERM; return the exit code."""
    args = _parser(name, model, uses_sentiment).parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with SignalLog(args.queue or f"{name}.queue", args.server) as queue, Client(args.server) as client:
            trader = Trader(name, decide, queue, args.stake, args.fees, args.slippage)
            _until_it_is_there(lambda: _begin(client, queue, trader, getattr(args, "scores", None)))
            log.info("trading strategy=%s open=%d server=%s", name, len(trader.positions), args.server)
            while True:
                _until_it_is_there(lambda: listen(client, trader, args, uses_sentiment))
    except KeyboardInterrupt:
        log.info("stopping strategy=%s", name)
        return 0
    except (ServerError, OSError, ValueError) as error:
        log.error("%s", error)
        return 1


def listen(client: Client, trader: Trader, args: argparse.Namespace, uses_sentiment: bool) -> None:
    """Act on every forecast of a subscription that is fresh enough.

    Raises:
        ServerError: the subscription ended.
    """
    for forecast in client.subscribe(symbols=args.symbols, every=True):
        age_ms = time.time() * 1000 - forecast.close_time_ms
        is_old = not args.any_age and age_ms > AGE_MAX_INTERVALS * forecast.interval_ms
        if is_old or forecast.forming or args.model not in ("", forecast.model.name):
            continue
        sentiment = as_of(client, forecast) if uses_sentiment else None
        before = len(trader.positions)
        side = trader.act(forecast, sentiment)
        if len(trader.positions) != before:
            log.info("position strategy=%s symbol=%s side=%+d", trader.name, forecast.symbol, side)


def as_of(client: Client, forecast: Forecast) -> SentimentScore | None:
    """Return what was said of the symbol by the close; None as well when the server does not answer."""
    try:
        return client.sentiment_as_of([forecast.symbol], forecast.close_time_ms).get(forecast.symbol)
    except ServerError as error:
        log.warning("no sentiment symbol=%s error=%s", forecast.symbol, error)
        return None


def _begin(client: Client, queue: SignalLog, trader: Trader, scores: Path | None) -> None:
    if not queue.flush(FLUSH_S):
        log.warning("signals of the last run still wait bytes=%d because=%s", queue.waiting_bytes, queue.failure)
    trader.restore(client)
    if scores is not None:
        told = client.put_sentiment([SentimentScore(**asdict(row)) for row in read(scores)])
        log.info("scores created=%d known=%d", told.created, told.known)


def _until_it_is_there(step: Any) -> None:
    while True:
        try:
            step()
            return
        except ServerError as error:
            if error.code not in AWAY:
                raise
            log.warning("the server is away: %s", error)
        time.sleep(PAUSE_S)


def _parser(name: str, model: str, uses_sentiment: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m candlecast.strategies.{name}", description=f"Trade {name} on paper."
    )
    add = parser.add_argument
    add("--server", default=DEFAULT_SERVER, metavar="HOST:PORT")
    add("--symbols", nargs="+", default=[], metavar="SYMBOL", help="default: all that the server forecasts")
    add("--model", default=model, help=f"act on forecasts of this one only (default: {model or 'of any'})")
    add("--stake", type=float, default=1_000.0, help="quote currency of a position (default 1000)")
    add("--fees", type=float, default=0.0004, help="of the value of each fill (default %(default)s)")
    add("--slippage", type=float, default=0.0002, help="of the price, against us (default %(default)s)")
    add("--queue", help=f"file of what is not sent yet (default {name}.queue); one process at a time")
    add("--any-age", action="store_true", help="act on old forecasts as well: for a server that is fed history")
    if uses_sentiment:
        add("--scores", type=Path, metavar="FILE.csv", help="bring these first: symbol, ts_ms, score, source")
    return parser


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
