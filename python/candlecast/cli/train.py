"""`candlecast train patchtst`: flags → training. Knows no torch until it runs."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from candlecast import settings as configuration
from candlecast.errors import ConfigurationError

DESCRIPTION = """Train PatchTST on candle files: walk-forward metrics beside base rates first, then the model itself,
written as a bundle (fp16 ONNX, manifest, golden vectors). Ctrl-C keeps the best checkpoint of the fit under way."""
EXTRA = ("torch", "onnx", "onnxscript", "onnxruntime")


def register(commands: Any) -> None:
    """Add `train` with its kinds of model."""
    train = commands.add_parser("train", help="train a model on candle files")
    kinds = train.add_subparsers(dest="kind", metavar="MODEL", required=True)
    patchtst = kinds.add_parser("patchtst", help="the transformer that serves", description=DESCRIPTION)
    add = patchtst.add_argument
    add("--data", nargs="+", type=Path, required=True, metavar="FILE", help="candle files (Parquet, CSV), one interval")
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
    add("--folds", type=_positive, help="walk-forward folds (default 3)")
    add("--epochs", type=_positive, help="passes over the train part, at most (default 2)")
    add("--stride", type=_positive, help="every n-th candle is a sample (default 4)")
    add("--seed", type=int, help="of weights and order (default 0)")
    add("--version", type=_positive, default=1, help="of the bundle (default 1)")
    add("--config", type=Path, metavar="FILE", help="TOML: [network] and [fit]; flags win over it")
    add("--json", action="store_true", help="print the manifest as JSON on standard output")
    patchtst.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train and print the metrics.

    Raises:
        ConfigurationError: the train extra is missing, or the data or the configuration does not do.
    """
    if any(find_spec(name) is None for name in EXTRA):
        raise ConfigurationError("training needs torch: run `make train-env` (uv sync --extra train)")
    # Before torch is loaded: threads that wait must not spin while others want the cores (measured on two busy cores:
    # 650 → 1,800 windows/s).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from candlecast.training.config import Config
    from candlecast.training.train import train_patchtst

    given = {name: getattr(args, name) for name in ("folds", "stride", "seed") if getattr(args, name) is not None}
    config = replace(Config.load(args.config), **given)
    if args.epochs is not None:
        config = replace(config, fit=replace(config.fit, epochs=args.epochs))
    asked = args.optional_inputs
    if asked and "none" in asked and len(asked) > 1:
        raise ConfigurationError("--optional-inputs: none stands alone")
    manifest = train_patchtst(
        args.data,
        args.out,
        symbols=args.symbols,
        start_ms=args.start,
        end_ms=args.end,
        optional_inputs=[] if asked == ["none"] else asked,
        reference_symbol=configuration.load(reference_symbol=args.reference_symbol).reference_symbol,
        version=args.version,
        config=config,
    )
    out = args.out.resolve()
    if out.name == str(manifest.version) and out.parent.name == manifest.name:  # a version in a Triton repository
        from candlecast import outputs
        from candlecast.triton.repository import write_config

        features = manifest.feature_set
        write_config(out.parent, manifest.name, features.window, len(features.columns), outputs.COUNT)
    if args.json:
        print((args.out / "manifest.json").read_text(), end="")
    else:
        _print_table(manifest.metrics)
        print(f"bundle {manifest.name} v{manifest.version} written to {args.out}")
    return 0


def _print_table(metrics: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    mean = metrics["walk_forward"].get("mean")
    if mean is None:
        return
    columns = {"log_loss": "log-loss", "brier": "Brier", "accuracy": "accuracy", "balanced_accuracy": "balanced"}
    columns |= {"side_accuracy": "side"}
    table = Table(box=None, title="walk-forward test parts, mean of the folds: model (base rate)")
    table.add_column("", no_wrap=True)
    for title in (*columns.values(), "abs. error"):
        table.add_column(title, justify="right")
    for horizon, numbers in mean["horizons"].items():
        table.add_row(horizon, *(_cell(numbers[name]) for name in columns), _cell(numbers["return_mae"]))
    for risk, numbers in mean["risks"].items():
        table.add_row(risk, *("" for _ in columns), _cell(numbers["mae"]))
    Console().print(table)


def _cell(pair: dict[str, float]) -> str:
    return f"{pair['model']:.4f} ({pair['base']:.4f})"


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
