"""`candlecast doctor`: look at every part from outside, say what is well, and for what is not one thing to do."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast import settings as configuration

if TYPE_CHECKING:
    from candlecast.cli.doctor_checks import Finding

_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[bold red]FAIL[/]"}


def register(commands: Any) -> None:
    command = commands.add_parser(
        "doctor",
        help="examine this installation and say what to do",
        description="Examine versions, settings, the state directory, ports, health, PostgreSQL, its schema and clock, "
        "the journal, the model and Triton, all at once, each within a time limit. It changes nothing and needs "
        "nothing to run; beside a running `candlecast up` it finds that one's database and Triton in the state "
        "directory, unless DATABASE_URL or --triton say otherwise.",
        epilog="Each finding is ok, warn (works, or simply does not run) or fail. Exit code: 0 nothing failed, 1 "
        "something did, 78 the settings are wrong. Examples: candlecast doctor --state-dir DIR; "
        "candlecast doctor --json | jq '.[] | select(.status != \"ok\")'",
    )
    command.add_argument("--state-dir", type=Path, metavar="DIR", help="as for `up` (default: the user's data home)")
    command.add_argument("--grpc", metavar="HOST:PORT", help="the server (default 127.0.0.1:50051)")
    command.add_argument("--http", metavar="HOST:PORT", help="the web door (default 127.0.0.1:8080)")
    command.add_argument("--triton", metavar="HOST:PORT", help="Triton's gRPC door (default: that of `up`)")
    command.add_argument(
        "--json", action="store_true", help="print one JSON array: check, status, found, advice of each finding"
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from candlecast.cli.doctor_checks import Status, examine

    settings = configuration.load(state_dir=args.state_dir, grpc=args.grpc, http=args.http, triton=args.triton)
    findings = asyncio.run(examine(settings))
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_table(findings)
    return int(any(finding.status is Status.FAIL for finding in findings))


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        found = escape(finding.found)
        if finding.advice:
            found += f"\n[cyan]→ {escape(finding.advice)}[/]"
        table.add_row(_MARKS[finding.status], finding.check, found)
    console = Console(highlight=False)
    console.print(table)
    counts = Counter[str](finding.status for finding in findings)
    console.print(", ".join(f"{counts[status]} {status}" for status in _MARKS if counts[status]), style="bold")
