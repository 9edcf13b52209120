"""`candlecast migrate`: bring the database's schema up to date."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from candlecast import settings as configuration
from candlecast.errors import ConfigurationError


def register(commands: Any) -> None:
    command = commands.add_parser(
        "migrate",
        help="bring the database's schema up to date",
        description="Apply the migrations that the database lacks, each in one transaction, under an advisory lock. "
        "Grafana, Metabase and people log in as candlecast_read, which sees views only, once it has a password.",
    )
    command.add_argument(
        "--database-url", metavar="URL", help="postgresql://… (better in DATABASE_URL: flags are visible)"
    )
    command.add_argument(
        "--reader-password-file", type=Path, metavar="FILE", help="let candlecast_read log in with the password in FILE"
    )
    command.add_argument("--json", action="store_true", help="print the applied files as a JSON list")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from candlecast.store.migrate import MIGRATIONS, migrate

    settings = configuration.load(database_url=args.database_url)
    if settings.database_url is None:
        raise ConfigurationError("no database: set DATABASE_URL")
    applied = asyncio.run(migrate(settings.database_url, MIGRATIONS))
    if args.reader_password_file is not None:
        from candlecast.store.reader import let_reader_in

        try:
            password = args.reader_password_file.read_text().strip()
        except OSError as error:
            raise ConfigurationError(f"--reader-password-file: {error}") from error
        views = asyncio.run(let_reader_in(settings.database_url, password))
        print(f"candlecast_read may log in and sees {views} views", file=sys.stderr)
    print(json.dumps(applied) if args.json else "\n".join(applied) or "the schema is up to date")
    return 0
