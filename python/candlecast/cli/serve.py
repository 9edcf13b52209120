"""`candlecast serve`: the server alone, against a PostgreSQL and a Triton that run elsewhere."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from candlecast import settings as configuration
from candlecast.lifecycle import say


def register(commands: Any) -> None:
    command = commands.add_parser(
        "serve",
        help="run the server against an external PostgreSQL and Triton",
        description="Run the gRPC server. PostgreSQL comes from --database-url or DATABASE_URL (migrate it first with "
        "`candlecast migrate`), Triton from --triton.",
    )
    command.add_argument("--grpc", metavar="HOST:PORT", help="listen here (default 127.0.0.1:50051)")
    command.add_argument("--metrics", metavar="HOST:PORT", help="for Prometheus (default 127.0.0.1:9464; '': none)")
    command.add_argument("--triton", metavar="HOST:PORT", help="Triton's gRPC door (default 127.0.0.1:8001)")
    command.add_argument(
        "--database-url", metavar="URL", help="postgresql://… (better in DATABASE_URL: flags are visible)"
    )
    command.add_argument("--model-repository", metavar="DIR|URL", help="where the model's bundle is")
    command.add_argument(
        "--allow-simulated",
        action="store_true",
        default=None,
        help="serve a gate that was trained on simulated order flow, too",
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import uvloop

    from candlecast.server.app import serve
    from candlecast.server.source import synced

    settings = configuration.load(
        grpc=args.grpc,
        triton=args.triton,
        metrics=args.metrics,
        database_url=args.database_url,
        model_repository=args.model_repository,
        allow_simulated=args.allow_simulated,
    )

    async def run() -> None:
        await synced(settings, lambda line: say(line, sys.stderr))
        await serve(settings, lambda address: say(f"candlecast serves gRPC on {address}", sys.stdout))

    uvloop.run(run())
    return 0
