"""`candlecast dashboard`: the web door, in its own process."""

from __future__ import annotations

import argparse
from typing import Any

from candlecast import settings as configuration
from candlecast.lifecycle import give_way

WEBSOCKET_BYTES_MAX = 64 * 1024
"""Of a message from a listener: its filters."""
NICENESS = 10
"""Pages wait rather than forecasts do: what this process takes is what serving leaves."""
LEAVE_S = 1
"""For how long those who look on may go on when the door closes."""


def register(commands: Any) -> None:
    command = commands.add_parser(
        "dashboard",
        help="run the web door against a server and its database",
        description="Serve the pages at /ml/, the HTTP API (OpenAPI at /docs), the live feed, /healthz and /readyz. It"
        " reads views and asks the server; a training begun here is a process of its own and needs the admin's token.",
    )
    command.add_argument("--http", metavar="HOST:PORT", help="listen here (default 127.0.0.1:8080)")
    command.add_argument("--grpc", metavar="HOST:PORT", help="the server (default 127.0.0.1:50051)")
    command.add_argument(
        "--database-url", metavar="URL", help="postgresql://… (better in DATABASE_URL: flags are visible)"
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import uvicorn

    from candlecast.dashboard.app import create_app

    give_way(NICENESS)
    settings = configuration.load(http=args.http, grpc=args.grpc, database_url=args.database_url)
    host, _, port = settings.http.rpartition(":")
    uvicorn.run(
        create_app(settings),
        host=host,
        port=int(port),
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=WEBSOCKET_BYTES_MAX,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=LEAVE_S,
    )
    return 0
