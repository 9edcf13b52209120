"""`candlecast retention`: partitions made ahead; months that are older than is kept go into Parquet files."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast import settings as configuration
from candlecast.cli.report import url_of

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from candlecast.settings import Settings
    from candlecast.store.retention import Plan

DESCRIPTION = """Make the monthly partitions of the next months, and take out the months that are older than the
settings retention_candles_months, retention_predictions_months and retention_flow_months say (0, the default: nothing
is ever removed). Such a month is detached, written to a Parquet file in retention_archive_dir, read again and compared,
and only then dropped. A run that was killed is finished by the next one. What is counted by day (accuracy, strategies)
stays."""
EXAMPLE = """example:
  CANDLECAST_RETENTION_PREDICTIONS_MONTHS=6 candlecast retention --dry-run
      forecasts of this month and the six before stay; says which months would go, and changes nothing
  beside `candlecast up` the database is found by its state directory; else set DATABASE_URL, with the role that ran
  `candlecast migrate`. deploy/systemd has a timer. A file is read by polars, pandas, DuckDB; one of candles also by
  `candlecast replay` and `candlecast train --data`."""


def register(commands: Any) -> None:
    command = commands.add_parser(
        "retention",
        help="make partitions ahead, archive and drop old months",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    command.add_argument("--archive-dir", type=Path, metavar="DIR", help="(default: the setting)")
    command.add_argument("--database-url", metavar="URL", help="postgresql://… (better in DATABASE_URL)")
    command.add_argument("--state-dir", type=Path, metavar="DIR", help="of `candlecast up`")
    command.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do one run.

    Raises:
        ConfigurationError: no database is known.
        CandlecastError: a month could not be archived or dropped; it is kept, and the next run goes on with it.
    """
    settings = configuration.load(
        database_url=args.database_url, state_dir=args.state_dir, retention_archive_dir=args.archive_dir
    )
    done = asyncio.run(_run(settings, url_of(settings), args.dry_run))
    if args.json:
        print(json.dumps(done))
    else:
        _tell(done)
    return 0


async def _run(settings: Settings, url: str, is_dry: bool) -> dict[str, Any]:
    from candlecast.store import retention
    from candlecast.store.pool import open_pool

    directory = settings.retention_archive_dir or settings.state_dir / "archive"
    kept = {
        "candles": settings.retention_candles_months,
        "ml_predictions": settings.retention_predictions_months,
        "order_flow_features": settings.retention_flow_months,
    }
    async with (
        open_pool(url, connections_max=1, command_timeout_ms=retention.TIMEOUT_MS) as pool,
        pool.connection() as connection,
    ):
        if not is_dry:
            await retention.begin(connection)
        plan = await retention.plan(connection, kept, settings.retention_ahead_months, datetime.now(UTC).date())
        told = _planned(plan, is_dry)
        if is_dry:
            return told
        await retention.make_ahead(connection, plan.ahead)
        if plan.old and settings.retention_archive:
            await asyncio.to_thread(retention.make_room, directory, max(part.bytes for part in plan.old))
        with _progress() as progress:
            for part, said in zip(plan.old, told["months"], strict=True):
                begin = time.monotonic()
                retired, archived = await retention.retire(connection, part), None
                if settings.retention_archive:
                    bar = progress.add_task(f"{part.table} {part.month:%Y-%m}", total=None)

                    def show(done: int, of: int, bar: TaskID = bar) -> None:
                        progress.update(bar, completed=done, total=of)

                    archived = await retention.archive(connection, retired, directory, show)
                    said |= {"rows": archived.rows, "file": str(archived.file), "file_bytes": archived.bytes}
                await retention.drop(connection, retired)
                retention.log_month(part, archived, begin)
    return told


def _planned(plan: Plan, is_dry: bool) -> dict[str, Any]:
    return {
        "dry_run": is_dry,
        "made_ahead": [{"table": table, "month": f"{month:%Y-%m}"} for table, month in plan.ahead],
        "months": [
            {
                "table": part.table,
                "month": f"{part.month:%Y-%m}",
                "bytes": part.bytes,
                "left_by_a_run_before": part.retired,
            }
            for part in plan.old
        ],
    }


def _progress() -> AbstractContextManager[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


def _tell(done: dict[str, Any]) -> None:
    is_dry = done["dry_run"]
    if done["made_ahead"]:
        months = ", ".join(f"{one['table']} {one['month']}" for one in done["made_ahead"])
        print(f"partitions {'to make' if is_dry else 'made'}: {months}")
    for one in done["months"]:
        size = f"{one['bytes'] / 1e6:,.1f} MB"
        if is_dry:
            print(f"{one['table']} {one['month']}: would be taken out, {size}")
        elif "file" in one:
            print(f"{one['table']} {one['month']}: {one['rows']:,} rows, {size}, now {one['file']}")
        else:
            print(f"{one['table']} {one['month']}: dropped, {size}")
    if not done["months"]:
        print("no month is older than is kept")
