"""`candlecast top`: the newest forecast of every symbol, live, and what came of it so far. Knows the screen."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final, cast

from candlecast.cli.top_board import Board
from candlecast.errors import CandlecastError

if TYPE_CHECKING:
    from rich.console import Console

    from candlecast.client import AsyncClient

POLL_S: Final = 5.0
"""Pause between two looks at outcomes."""
DRAW_S: Final = 0.5
"""Pause between two pictures."""
PAGE_ROWS: Final = 1_000
PAGES_MAX: Final = 4
"""Of stored forecasts in one look."""
SYMBOLS_MAX: Final = 50
"""Which may be named."""
OF_SYMBOL_ROWS: Final = 50
"""Stored forecasts of a named symbol in one look: two more than the longest horizon has bars."""
RESUME_S: Final = 86_400.0
"""For so long a server that went away is waited for."""
DESCRIPTION = """Show the newest forecast of every symbol as it is made: state, direction, confidence, expected returns,
what the gate said, how long the forecast took, and what came of it so far; where nothing is known yet, what came of the
one before (with its close). Signals stand first. Ctrl-C ends it. Without a terminal it prints once."""


def register(commands: Any) -> None:
    command = commands.add_parser("top", help="watch forecasts as they are made", description=DESCRIPTION)
    command.add_argument(
        "--symbols", type=_symbols, default=(), metavar="A,B,…", help=f"of these only, at most {SYMBOLS_MAX}"
    )
    command.add_argument("--once", action="store_true", help="print the table once")
    command.add_argument("--server", metavar="ADDR", help="HOST:PORT (default: the setting grpc)")
    command.add_argument("--json", action="store_true", help="print one JSON list once, on standard output")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it.

    Raises:
        CandlecastError: the server does not answer, or refuses a symbol.
    """
    import grpc
    from rich.console import Console

    from candlecast import settings as configuration
    from candlecast.client import ServerError

    server = args.server or configuration.load().grpc
    console = Console()
    is_live = console.is_terminal and not (args.once or args.json)
    if not console.is_terminal:
        console = Console(width=160)
    try:
        board = asyncio.run(_run(server, args.symbols, is_live))
    except ServerError as error:
        hint = "; `candlecast up` starts a server" if error.code is grpc.StatusCode.UNAVAILABLE else ""
        raise CandlecastError(f"{server}: {error}{hint}") from error
    except KeyboardInterrupt:
        if not is_live:
            raise
        return 0
    if args.json:
        print(json.dumps(board.as_json(), allow_nan=False))
    elif not len(board):
        print("no forecast is stored yet: send candles, as `candlecast replay` does")
    else:
        console.print(board.table(server))
    return 0


async def _run(server: str, symbols: Sequence[str], is_live: bool) -> Board:
    from rich.console import Console

    from candlecast.cli.screen import Screen
    from candlecast.client import AsyncClient

    async with AsyncClient(server, resume_s=RESUME_S) as client:
        board = Board()
        await look(client, board, symbols)
        if is_live:
            with Screen(sys.stdout.fileno()) as screen:
                console = Console(file=cast("IO[str]", screen))
                await watch(client, board, symbols, console, server, screen.takes_more)
        return board


async def look(client: AsyncClient, board: Board, symbols: Sequence[str]) -> None:
    """Take what is stored, and where symbols stand that have no forecast.

    Raises:
        ServerError.
    """
    for symbol in symbols:
        for prediction in (await client.list_predictions(symbol, page_size=OF_SYMBOL_ROWS)).predictions:
            board.stored(prediction)
        if symbol not in board.symbols:
            board.waits(await client.get_symbol(symbol))
    if symbols:
        return
    token = ""
    for page in range(PAGES_MAX):
        # This close and the one before; the rest of what is known changes only by the hour.
        if page and 2 * len(board) <= page * PAGE_ROWS:
            break
        found = await client.list_predictions(page_size=PAGE_ROWS, page_token=token)
        for prediction in found.predictions:
            board.stored(prediction)
        if not (token := found.next_page_token):
            break


async def watch(
    client: AsyncClient,
    board: Board,
    symbols: Sequence[str],
    console: Console,
    server: str,
    takes_more: Callable[[], bool] = lambda: True,
) -> None:
    """Show the board and keep it up to date, until it is cancelled.

    Args:
        takes_more: says whether the terminal takes another picture; while it does not, none is drawn.

    Raises:
        ServerError: the subscription ended for good.
    """
    from rich.live import Live

    from candlecast.client import ServerError

    async def follow() -> None:
        async for forecast in client.subscribe(symbols=symbols):
            board.heard(forecast)

    async def ask() -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await look(client, board, symbols)
                board.complaint = ""
            except ServerError as error:
                board.complaint = f"since {datetime.now(UTC):%H:%M:%S} no answer: {error.code.name}"

    with Live(console=console, screen=True, auto_refresh=False) as live:
        following, asking = asyncio.create_task(follow()), asyncio.create_task(ask())
        try:
            while not following.done():
                begin = time.monotonic()
                if takes_more():
                    live.update(board.table(server, rows_max=max(console.height - 4, 1)), refresh=True)
                spent = time.monotonic() - begin  # of a large table: never more than half the time
                await asyncio.wait({following}, timeout=max(DRAW_S, spent))
            following.result()
        finally:
            following.cancel()
            asking.cancel()
            await asyncio.gather(following, asking, return_exceptions=True)


def _symbols(text: str) -> tuple[str, ...]:
    symbols = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not 1 <= len(symbols) <= SYMBOLS_MAX:
        raise argparse.ArgumentTypeError(f"1 to {SYMBOLS_MAX} symbols, with commas between them")
    return symbols
