"""`candlecast migrate`: bring the database's schema up to date."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from candlecast import settings as configuration
from candlecast.errors import ConfigurationError


def register(commands: Any) -> None:
    command = commands.add_parser(
        "migrate",
        help="bring the database's schema up to date",
        description="Apply the migrations that the database lacks, each in one transaction, under an advisory lock.",
    )
    command.add_argument(
        "--database-url", metavar="URL", help="postgresql://… (better in DATABASE_URL: flags are visible)"
    )
    command.add_argument("--json", action="store_true", help="print the applied files as a JSON list")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from candlecast.store.migrate import MIGRATIONS, migrate

    settings = configuration.load(database_url=args.database_url)
    if settings.database_url is None:
        raise ConfigurationError("no database: set DATABASE_URL")
    applied = asyncio.run(migrate(settings.database_url, MIGRATIONS))
    print(json.dumps(applied) if args.json else "\n".join(applied) or "the schema is up to date")
    return 0
