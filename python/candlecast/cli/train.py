"""`candlecast train MODEL`: flags → training. Knows no framework until it runs."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from candlecast import settings as configuration
from candlecast.errors import ConfigurationError

if TYPE_CHECKING:
    from candlecast.models.bundle import Bundle
    from candlecast.settings import Settings
    from candlecast.training.config import Config
    from candlecast.training.targets import Target
    from candlecast.values import Candles

KINDS = {
    "patchtst": "the transformer that serves",
    "lstm": "a recurrent network",
    "xgboost": "boosted trees on the newest row",
    "lightgbm": "boosted trees on the newest row, leaf by leaf",
}
NETWORKS = ("patchtst", "lstm")
RESUME = {
    True: "go on with the training that was interrupted, from OUT.resume",
    False: "changes nothing: trees take minutes, keep no checkpoints, and begin anew",
}
"""What --resume does, by whether it is a network."""
DESCRIPTION = """Train {kind} ({what}) on candles: walk-forward metrics beside base rates first, then the model itself,
written as a bundle (ONNX, manifest, golden vectors). Ctrl-C writes the best step of the fit under way, unless --out
holds a bundle, which stays{resumed}. With a database (--database or DATABASE_URL) the
training is on record: ml_trainings and others."""
EXTRA = ("torch", "onnx", "onnxscript", "onnxruntime", "xgboost", "lightgbm", "optuna")
DATABASE = "database"
GUESSES = {"model": "model", "base": "base rate", "persistence": "persistence"}
"""Who is measured, as a table calls it."""


def register(commands: Any) -> None:
    """Add `train` with its kinds of model."""
    train = commands.add_parser("train", help="train a model on candles")
    kinds = train.add_subparsers(dest="kind", metavar="MODEL", required=True)
    for kind, what in KINDS.items():
        parser = kinds.add_parser(kind, help=what, description=_description(kind, what))
        _add_flags(parser, is_network=kind in NETWORKS)
        if kind not in NETWORKS:
            _add_target(parser)
        parser.set_defaults(run=run, target=None)


def _description(kind: str, what: str) -> str:
    resumed = "; --resume goes on from there" if kind in NETWORKS else ""
    return DESCRIPTION.format(kind=kind, what=what, resumed=resumed)


def _add_flags(parser: argparse.ArgumentParser, is_network: bool) -> None:
    add = parser.add_argument
    add(
        "--data",
        nargs="+",
        required=True,
        metavar="FILE",
        help="candle files (Parquet, CSV) of one interval; or `database`, or a postgresql:// URL: the table candles",
    )
    add(
        "--out",
        type=Path,
        required=True,
        metavar="BUNDLE",
        help="folder of the bundle, such as triton_models/patchtst/1; a bundle there is replaced",
    )
    add("--symbols", nargs="+", metavar="SYMBOL", help="train on these symbols only")
    add(
        "--reference-symbol",
        metavar="SYMBOL",
        help="compare the others with it; its candles are used whatever --symbols says (default: the setting"
        " reference_symbol, BTCUSDT)",
    )
    add(
        "--optional-inputs",
        nargs="+",
        type=_optional_input,
        metavar="NAME",
        help="quote_volume, trades, taker_buy_volume, reference; or none. The model is served with the same (default:"
        " the columns that every file carries, and reference when its candles are among the files)",
    )
    add("--from", dest="start", type=_time_ms, metavar="TIME", help="first candle's open, ISO 8601, UTC")
    add("--to", dest="end", type=_time_ms, metavar="TIME", help="candles that open before this, labels included")
    add("--interval-ms", type=_positive, default=900_000, metavar="MS", help="of a database's candles (default 900000)")
    add("--folds", type=_positive, help="walk-forward folds (default 3)")
    add("--rolling", type=_positive, metavar="BARS", help="train parts of at most so many bars (default: all before)")
    if is_network:
        add("--epochs", type=_positive, help="passes over the train part, at most (default 2)")
    add("--stride", type=_positive, help="every n-th candle is a sample (default 4)")
    add("--seed", type=int, help="of weights and order (default 0)")
    add("--version", type=_positive, default=1, help="of the bundle (default 1)")
    add("--config", type=Path, metavar="FILE", help="TOML: [network], [lstm], [trees] and [fit]; flags win over it")
    add("--resume", action="store_true", help=RESUME[is_network])
    add(
        "--search",
        type=_positive,
        metavar="TRIALS",
        help="first try so many settings on the first fold (Optuna), then train with the best",
    )
    add(
        "--storage",
        metavar="FILE",
        help="keep the search there and go on with it: a file, or a postgresql:// URL (schema optuna)",
    )
    add("--database", metavar="URL", help="keep the training on record there (default: DATABASE_URL)")
    add("--session", type=UUID, metavar="UUID", help="under this id (default: a new one)")
    add(
        "--report", type=Path, metavar="REPORT.html", help="write tables and plots of all folds here, and as .md beside"
    )
    add("--json", action="store_true", help="print the manifest as JSON on standard output")


def _add_target(parser: argparse.ArgumentParser) -> None:
    """Add what asks another question than the 20 outputs."""
    add = parser.add_argument_group(
        "another question",
        "instead of the 20 outputs; such a bundle is on record, but not served as a forecaster",
    ).add_argument
    add(
        "--target",
        choices=("direction", "volatility", "profitable"),
        help="of the hours after a candle: BUY, SELL or HOLD; the volatility; whether buying pays its costs",
    )
    add("--hours", type=float, help="how many (default 24)")
    add("--threshold", type=float, help="of a direction: BUY above it, SELL below minus it, a fraction (default 0.02)")
    add("--costs", type=float, help="of buying and selling together, for profitable: a fraction (default 0.0015)")


def run(args: argparse.Namespace) -> int:
    """Train and print the metrics.

    Raises:
        ConfigurationError: the train extra is missing, or the data or the configuration does not do.
    """
    bundle = trained(args)
    manifest = bundle.manifest
    if args.report:
        from candlecast.training import report

        report.write(args.report, report.of_training(manifest))
    if args.json:
        print((args.out / "manifest.json").read_text(), end="")
    else:
        (_print_table if args.target is None else _print_answers)(manifest.metrics)
        print(f"bundle {manifest.name} v{manifest.version} written to {args.out}")
    return 0


def trained(args: argparse.Namespace) -> Bundle:
    """Train as the flags of this command say, and return the bundle that was written; raises as `run`."""
    if any(find_spec(name) is None for name in EXTRA):
        raise ConfigurationError("training needs torch: run `make train-env` (uv sync --extra train)")
    # Before torch is loaded: threads that wait must not spin while others want the cores (measured on two busy cores:
    # 650 → 1,800 windows/s).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    if args.storage and not args.search:
        raise ConfigurationError("--storage is where --search keeps its trials; give --search TRIALS too")
    if args.report and (args.target or args.report.suffix != ".html"):
        raise ConfigurationError("--report is an HTML page about the 20 outputs: name it .html, and leave --target out")
    settings = configuration.load(reference_symbol=args.reference_symbol, database_url=args.database)
    bundle = _train(args, _config(args), settings)
    manifest, out = bundle.manifest, args.out.resolve()
    if out.name == str(manifest.version) and out.parent.name == manifest.name:  # a version in a Triton repository
        from candlecast.triton.repository import write_config

        features = manifest.feature_set
        write_config(out.parent, manifest.name, features.window, len(features.columns), manifest.outputs["count"])
    return bundle


def _train(args: argparse.Namespace, config: Config, settings: Settings) -> Bundle:
    """Train, on record where there is a database."""
    from dataclasses import asdict

    from candlecast.training import record, train
    from candlecast.training.search import Search

    asked = args.optional_inputs
    if asked and "none" in asked and len(asked) > 1:
        raise ConfigurationError("--optional-inputs: none stands alone")
    target = _target(args)
    with record.opened(settings.database_url, session_id=args.session) as log:
        shared: dict[str, Any] = {
            "symbols": args.symbols,
            "start_ms": args.start,
            "end_ms": args.end,
            "optional_inputs": [] if asked == ["none"] else asked,
            "reference_symbol": settings.reference_symbol,
            "version": args.version,
            "config": config,
            "note": log.progress,
        }
        about = {"version": args.version, "family": args.kind, "config": asdict(config)}
        if target is None:
            log.started(args.kind, **about)
            searched = Search(args.search, args.storage) if args.search else None
            data = candles_of(args, settings.database_url, settings.reference_symbol)
            bundle = train.train(args.kind, data, args.out, resume=args.resume, searched=searched, **shared)
        else:
            from candlecast.training.tabular_recipe import name_of, train_tabular

            log.started(name_of(args.kind, target), target=target.name, horizon_bars=(), **about)
            data = candles_of(args, settings.database_url, settings.reference_symbol)
            bundle = train_tabular(args.kind, target, data, args.out, **shared)
        log.finished(bundle)
    return bundle


def _target(args: argparse.Namespace) -> Target | None:
    """Return the other question that is asked; None: the 20 outputs.

    Raises:
        ConfigurationError: a flag goes with another one.
    """
    from candlecast.training.targets import Target

    flags = {name: getattr(args, name, None) for name in ("hours", "threshold", "costs")}
    given: dict[str, float] = {name: value for name, value in flags.items() if value is not None}
    if args.target is None:
        if given:
            raise ConfigurationError(f"--{next(iter(given))} belongs to --target; give that too")
        return None
    if args.resume or args.search:
        raise ConfigurationError("--target knows no --resume and no --search: leave them out")
    return Target(args.target, **given)


def _config(args: argparse.Namespace) -> Config:
    from candlecast.training.config import Config

    given = {name: getattr(args, name) for name in ("folds", "stride", "seed") if getattr(args, name) is not None}
    if args.rolling is not None:
        given["rolling_bars"] = args.rolling
    config = replace(Config.load(args.config), **given)
    if getattr(args, "epochs", None) is not None:
        config = replace(config, fit=replace(config.fit, epochs=args.epochs))
    return config


def database_of(data: list[str], database_url: str | None) -> str | None:
    """Return the URL of the database that --data names; None: it names files.

    Raises:
        ConfigurationError: it names both, or no database is known.
    """
    bases = [name for name in data if name == DATABASE or name.startswith(("postgresql://", "postgres://"))]
    if not bases:
        return None
    if len(data) > 1:
        raise ConfigurationError("--data: a database stands alone; give files or it")
    url = database_url if bases == [DATABASE] else bases[0]
    if url is None:
        raise ConfigurationError("--data database: which one? Give --database URL or set DATABASE_URL")
    return url


def candles_of(
    args: argparse.Namespace, database_url: str | None, reference_symbol: str | None
) -> list[Path] | Candles:
    """Return the candle files of --data, or the candles of the database.

    Raises:
        ConfigurationError: both are given, or no database is known, or it has no such candles.
        StorageUnavailable: it does not answer.
    """
    url = database_of(args.data, database_url)
    if url is None:
        return [Path(name) for name in args.data]
    from candlecast.store.history import read_candles

    chosen = {"interval_ms": args.interval_ms, "start_ms": args.start, "end_ms": args.end}
    if args.symbols is None:
        return read_candles(url, **chosen)
    if reference_symbol is None:
        return read_candles(url, symbols=args.symbols, **chosen)
    try:
        return read_candles(url, symbols=sorted({*args.symbols, reference_symbol}), **chosen)
    except ConfigurationError:  # the reference may not be there; what was asked for must
        return read_candles(url, symbols=args.symbols, **chosen)


def _print_table(metrics: dict[str, Any]) -> None:
    """Print how good the model is, and beneath it the base rate and persistence where they were measured."""
    from rich.console import Console
    from rich.table import Table

    mean = metrics["walk_forward"].get("mean")
    if mean is None:
        return
    columns = {"log_loss": "log-loss", "brier": "Brier", "accuracy": "accuracy", "balanced_accuracy": "balanced"}
    columns |= {"side_accuracy": "side", "return_mae": "abs. error"}
    table = Table(box=None, title="walk-forward test parts, mean of the folds", pad_edge=False, collapse_padding=True)
    for title in ("", "", *columns.values()):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for horizon, numbers in mean["horizons"].items():
        for who, named in GUESSES.items():
            if who in numbers["log_loss"]:
                cells = (_cell(numbers[name], who) for name in columns)
                table.add_row(horizon if who == "model" else "", named, *cells)
    for risk, numbers in mean["risks"].items():
        for who, named in GUESSES.items():
            if who in numbers["mae"]:
                blank = [""] * (len(columns) - 1)
                table.add_row(risk if who == "model" else "", named, *blank, _cell(numbers["mae"], who))
    Console().print(table)


def _print_answers(metrics: dict[str, Any]) -> None:
    """Print how good the answers to another question are."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, title="walk-forward test parts, mean of the folds")
    for title in ("", "", *GUESSES.values()):
        table.add_column(title, justify="right" if title else "left")
    for horizon, numbers in metrics["walk_forward"].get("mean", {"horizons": {}})["horizons"].items():
        for metric, triple in numbers.items():
            if "model" in triple:
                table.add_row(horizon, metric, *(f"{triple[who]:.4f}" for who in GUESSES))
    if table.row_count:
        Console().print(table)


def _cell(metric: dict[str, float], who: str) -> str:
    return f"{metric[who]:.4f}" if who in metric else ""


def _time_ms(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO time such as 2024-01-31 or 2024-01-31T12:00") from None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def _optional_input(text: str) -> str:
    from candlecast.features import OPTIONAL_INPUTS

    if text not in (*OPTIONAL_INPUTS, "none"):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(OPTIONAL_INPUTS)}, none")
    return text


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
