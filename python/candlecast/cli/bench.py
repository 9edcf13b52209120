"""`candlecast bench`: how fast a running server is, beside what the same forecasts cost without it."""

from __future__ import annotations

import argparse
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast import client
from candlecast import settings as configuration
from candlecast.errors import CandlecastError

if TYPE_CHECKING:
    from candlecast.bench.baselines import OnnxInProcess
    from candlecast.bench.figures import Figure
    from candlecast.models.bundle import Bundle

_SYMBOLS = 1_000
_GROUPS = ("burst", "closed", "latency", "scale")


def register(commands: Any) -> None:
    command = commands.add_parser(
        "bench",
        help="measure a running server",
        description="Measure a running server with made-up candles of symbols BENCH.00000, BENCH.00001, …: bursts of "
        "many symbols, 32 callers, one symbol on a schedule. IT WRITES ROWS into that server's database (some 700,000 "
        "candles the first time, 150,000 forecasts) and leaves the symbols in its memory; a later run goes on with "
        "them. Remove the rows with: DELETE FROM candles WHERE symbol LIKE 'BENCH.%%'; DELETE FROM "
        "ml_prediction_rows WHERE symbol LIKE 'BENCH.%%'; DELETE FROM ml_outcome_rows WHERE symbol LIKE 'BENCH.%%'. "
        "The symbols leave memory when the server starts without its snapshots.",
        epilog="Baselines that are not there are left out: ONNX Runtime needs onnxruntime in this environment and the "
        "bundle, bare Triton needs --triton. Examples: candlecast bench --yes; candlecast bench --json --yes "
        '--triton "$(cat STATE_DIR/triton_address)" > bench.json',
    )
    command.add_argument(
        "--server", default=client.DEFAULT_SERVER, metavar="ADDR", help="HOST:PORT (default %(default)s)"
    )
    command.add_argument("--triton", metavar="ADDR", help="HOST:PORT of the gRPC door of Triton, for its baseline")
    command.add_argument("--model", metavar="NAME", help="the model in Triton (default: the setting)")
    command.add_argument("--bundle", type=Path, metavar="DIR", help="what is served (default: the newest here)")
    command.add_argument(
        "--symbols",
        type=int,
        choices=(1_000, 10_000),
        default=_SYMBOLS,
        help="with 10000 also scale_10000 and rss_10000_mb, on 6.7 million candles (default %(default)s)",
    )
    command.add_argument("--only", nargs="+", choices=_GROUPS, metavar="WHAT", help=f"some of {', '.join(_GROUPS)}")
    command.add_argument("--quick", action="store_true", help="a few seconds for each measure: rough figures")
    command.add_argument("--yes", action="store_true", help="do not ask before writing")
    command.add_argument("--json", action="store_true", help="print a list of name, ours, baseline, ratio, unit")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import grpc
    import uvloop

    from candlecast.bench.figures import as_json

    if not args.yes and sys.stdin.isatty() and not _agreed(args.server):
        return 1
    try:
        figures = uvloop.run(_bench(args))
    except client.ServerError as error:
        hint = "; `candlecast up` starts a server" if error.code is grpc.StatusCode.UNAVAILABLE else ""
        raise CandlecastError(f"{args.server}: {error}{hint}") from error
    except TimeoutError as error:
        raise CandlecastError(f"{args.server}: no answer in time") from error
    print_table(figures, to_stderr=args.json)
    if args.json:
        print(as_json(figures))
    return 0


async def _bench(args: argparse.Namespace) -> list[Figure]:
    import numpy as np

    from candlecast.bench import machine, measures
    from candlecast.bench.baselines import bare_triton, windows_of
    from candlecast.bench.figures import COST, Figure, in_order
    from candlecast.bench.market import Market, names, simulated

    settings = configuration.load()
    bundle = _bundle(args.bundle, settings.model_repository / settings.model)
    histories = simulated()
    say(machine.line())
    say(f"candles: simulated, {len(histories)} random walks under {args.symbols:,} names")
    onnx = _onnx(bundle)
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(client.AsyncClient(args.server))
        plan = measures.QUICK if args.quick else measures.Plan()
        bench = measures.Bench(connection, Market(names(args.symbols), histories), plan, say, onnx=onnx)
        server = bench.server_pid = machine.listener(args.server)
        bench.rests = None if server is None else lambda: machine.household(server)
        await bench.teach(args.symbols)
        if onnx is not None or args.triton:
            bench.windows = windows_of(Market(names(_SYMBOLS), histories), np.arange(_SYMBOLS), bundle)
        if args.triton:
            assert bench.windows is not None
            model = args.model or settings.model
            bench.rivals[""] = await stack.enter_async_context(bare_triton(args.triton, model, bench.windows[:64]))
        only, figures = args.only or _GROUPS, list[Figure]()
        if "burst" in only:
            say("burst_1000")
            figures.append(await bench.burst(measures.BURST, "burst_1000"))
        if "closed" in only:
            say("closed_32")
            figures += await bench.closed()
        if "latency" in only:
            say("latency_50")
            figures += await bench.latency()
        if "scale" in only:
            figures += await bench.scales(args.symbols)
        if not args.only:
            why = "needs a server around a model that does nothing: `make bench` in a clone"
            figures.append(measures.absent("overhead_null_us", why, "everything but the model", COST))
            figures.append(bench.resident(args.symbols))
        return in_order(figures)


def _bundle(path: Path | None, model: Path) -> Bundle | None:
    """Load the bundle that was named, or the newest of the configured model if there is one."""
    from candlecast.models.bundle import Bundle

    if path is not None:
        return Bundle.load(path)
    versions = [int(folder.name) for folder in model.glob("*") if folder.name.isdigit()]
    return Bundle.load(model / str(max(versions))) if versions else None


def _onnx(bundle: Bundle | None) -> OnnxInProcess | None:
    from candlecast.bench.baselines import OnnxInProcess

    if bundle is None:
        say("no bundle here: no ONNX Runtime beside the server (--bundle DIR)")
        return None
    try:
        return OnnxInProcess(bundle)
    except ImportError:
        say("onnxruntime is not installed here: no ONNX Runtime beside the server")
        return None


def _agreed(server: str) -> bool:
    print(
        f"This writes candles and forecasts of symbols BENCH.* into the database of the server at {server} and slows "
        "it down meanwhile (candlecast bench --help says how to remove them). Go on? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def say(text: str) -> None:
    """Show progress, away from the result."""
    print(text, file=sys.stderr, flush=True)


def print_table(figures: list[Figure], *, to_stderr: bool = False) -> None:
    """Print the figures as a table, and what is to be said of each below it."""
    from rich.console import Console
    from rich.table import Table

    from candlecast.bench.figures import as_rows

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("what")
    for column in ("ours", "baseline", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for row in as_rows(figures):
        table.add_row(*row)
    out = sys.stderr if to_stderr else sys.stdout
    console = Console(file=out, highlight=False, width=None if out.isatty() else 120)
    console.print(table)
    for figure in figures:
        if figure.note:
            console.print(f"{figure.name}: {figure.note}", markup=False)
