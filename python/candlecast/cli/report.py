"""`candlecast report`: some weeks of forecasts, results and latency as one self-contained page."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from candlecast import settings as configuration
from candlecast.errors import CandlecastError, ConfigurationError

DAYS_MAX = 3_660
DESCRIPTION = """Write one HTML page about the last days: forecasts, why there was no signal, how right they were beside
the base rate, calibration, stops and takes, strategies, risk, latency and features. The page loads nothing and runs
nothing, so it can be mailed or archived. It is read from the views of the database, while everything runs."""
EXAMPLE = """example:
  candlecast report --days 30 --out report.html
      beside `candlecast up` the database is found by its state directory; else set DATABASE_URL"""


def register(commands: Any) -> None:
    command = commands.add_parser(
        "report",
        help="write a page about the last days",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--days", type=_days, default=30, metavar="N", help="how many, today included (default 30)")
    command.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="default %(default)s")
    command.add_argument("--database-url", metavar="URL", help="postgresql://… (better in DATABASE_URL)")
    command.add_argument("--state-dir", type=Path, metavar="DIR", help="of `candlecast up`")
    command.add_argument("--json", action="store_true", help="print where it is, and its numbers of rows, as JSON")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from candlecast.report.tell import page
    from candlecast.store.pool import place_of

    settings = configuration.load(database_url=args.database_url, state_dir=args.state_dir)
    url, until = url_of(settings), datetime.now(UTC)
    since = until.date() - timedelta(days=args.days - 1)
    found = asyncio.run(_read(url, since, settings.database_timeout_ms))
    _write(args.out, page(found, since, until, place_of(url)).html())
    if args.json:
        rows = {name: len(rows) for name, rows in found.items()}
        print(json.dumps({"file": str(args.out), "since": since.isoformat(), "rows": rows}))
    else:
        print(f"{args.out}: {args.days} days, {args.out.stat().st_size / 1024:.0f} KB", file=sys.stderr)
    return 0


async def _read(url: str, since: Any, timeout_ms: int) -> Any:
    from candlecast.report.read import read
    from candlecast.store.pool import open_pool

    async with open_pool(url, connections_max=1, command_timeout_ms=timeout_ms) as pool:
        return await read(pool, since)


def url_of(settings: configuration.Settings) -> str:
    """Return the database's URL, as set or as `candlecast up` says it.

    Raises:
        ConfigurationError: neither is there.
    """
    if settings.database_url is not None:
        return settings.database_url
    try:
        return (settings.state_dir / "database_url").read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f"no database: set DATABASE_URL, or run beside `candlecast up` (nothing in {settings.state_dir})"
        ) from error


def _write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}", delete=False) as aside:
            aside.write(text)
        Path(aside.name).chmod(0o644)
        Path(aside.name).replace(path)
    except OSError as error:
        raise CandlecastError(f"{path}: cannot be written: {error.strerror}") from error


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= DAYS_MAX:
        raise argparse.ArgumentTypeError(f"1 to {DAYS_MAX}")
    return days
