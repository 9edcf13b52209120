"""`candlecast dashboard`: the web door, in its own process."""

from __future__ import annotations

import argparse
from typing import Any

from candlecast import settings as configuration


def register(commands: Any) -> None:
    command = commands.add_parser(
        "dashboard",
        help="run the web door against a server and its database",
        description="Serve /healthz, /readyz and /api/ml/predictions/ (OpenAPI at /docs). It only reads.",
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

    settings = configuration.load(http=args.http, grpc=args.grpc, database_url=args.database_url)
    host, _, port = settings.http.rpartition(":")
    uvicorn.run(create_app(settings), host=host, port=int(port), log_level="warning", access_log=False)
    return 0
