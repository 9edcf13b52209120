"""`candlecast gate label|train|evaluate|retrain`: from recorded order flow to a gate. Loads what it needs to run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast import settings as configuration
from candlecast.cli.train import _time_ms, database_of
from candlecast.errors import ConfigurationError

if TYPE_CHECKING:
    from candlecast.training.gate_data import Recording
    from candlecast.training.gate_labels import Label
    from candlecast.training.gate_recipe import Config

DATA = """data (Parquet or CSV): trades and a book of the same name before the kind, as in
  binance-spot-BTCUSDT-20240808-trades.parquet and binance-spot-BTCUSDT-20240808-bbo.parquet,
or what `candlecast flow-features` or `candlecast gate label` wrote. Several recordings are taken together, by time.
`--data database`, or a postgresql:// URL, is the table order_flow_features: what servers have seen. It has the last
trade of each interval (flow_record_interval_ms), so the path of a label is coarser than that of every trade; nothing is
labelled across a pause of more than a minute, and of more than five million records the newest are taken."""
LABELS = """The label says of a trade whether, within the horizon, the price
  reversion   moves by at least SIGMAS σ towards VWAP, and past it (asked where |price_dist| > --min-distance)
  momentum    moves on by at least SIGMAS σ, away from VWAP (asked there, too)
  breakout    moves by at least SIGMAS σ to whichever side (asked of every trade)
with VWAP and σ as of the trade. A trade whose horizon its recording does not cover has no label."""
TRAIN = """Train the gate: StandardScaler and GradientBoostingClassifier of scikit-learn, chosen by ROC AUC on five
purged chronological folds over the grid n_estimators 50 100 200 × depth 3 5 7 × learning rate .01 .1 .2 × subsample
.8 .9 1, measured on the newest part, which no fit sees, and written as a bundle: model.onnx, manifest.json, golden
vectors, training_metrics.json, feature_importance.json. While combinations are compared a fit takes at most --rows
rows, evenly spaced: trades next to each other share their future and are near copies. No quantised variant is made."""
RETRAIN = """Train a gate on the data and compare it with the newest version in the model's folder, on the newest data,
which neither was fitted on. A new version is written only if it is better by the margin; else what is there is kept,
and the answer says why. Both are exit code 0: look at `rolled_out` of --json. A first gate must be better than the base
rate. The label and the approval threshold of a retrained gate are those of the one that serves."""


def register(commands: Any) -> None:
    gate = commands.add_parser("gate", help="label, train and judge the gate on order flow")
    kinds = gate.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_label(kinds)
    _add_train(kinds)
    _add_evaluate(kinds)
    _add_retrain(kinds)


def _parser(kinds: Any, name: str, about: str, description: str, run: Callable[..., int]) -> Any:
    parser = kinds.add_parser(
        name,
        help=about,
        description=description,
        epilog=DATA,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=partial(run, wrong_usage=parser.error))
    return parser


def _add_label(kinds: Any) -> None:
    parser = _parser(kinds, "label", "say what came after each trade", f"Label recorded trades.\n\n{LABELS}", label)
    _add_data(parser, required=True)
    _add_label_flags(parser)
    parser.add_argument(
        "--out", type=Path, metavar="OUT.parquet", help="write recording, the gate's record, and label (null: none)"
    )
    _add_json(parser)


def _add_train(kinds: Any) -> None:
    parser = _parser(kinds, "train", "train a gate", f"{TRAIN}\n\n{LABELS}", train)
    _add_data(parser, required=False)
    _add_label_flags(parser)
    _add_fit_flags(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="BUNDLE", help="its folder, such as triton_models/gate/1"
    )
    parser.add_argument("--version", type=_positive, default=1, help="of the bundle (default 1)")
    _add_json(parser)


def _add_evaluate(kinds: Any) -> None:
    parser = _parser(
        kinds, "evaluate", "measure a gate on newer data", "Measure a bundle on what it was not fitted on.", evaluate
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="its folder, such as triton_models/gate/1")
    _add_data(parser, required=True)
    _add_json(parser)


def _add_retrain(kinds: Any) -> None:
    parser = _parser(kinds, "retrain", "train a gate and keep the better one", RETRAIN, retrain)
    _add_data(parser, required=False)
    _add_label_flags(parser)
    _add_fit_flags(parser)
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="versions are here (default: gate, in the setting model_repository)",
    )
    parser.add_argument("--by", choices=("auc", "log_loss"), default="auc", help="what is compared (default auc)")
    parser.add_argument(
        "--margin", type=float, help="by how much it must be better (default 0.005 of AUC, 0.002 of log-loss)"
    )
    _add_json(parser)


def _add_data(parser: Any, required: bool) -> None:
    add = parser.add_argument
    add("--data", nargs="+", required=required, metavar="FILE", help="recorded order flow; or database")
    add(
        "--symbol",
        nargs="+",
        metavar="SYMBOL",
        help="of all files (default: what their names say); of a database: only these (default: all)",
    )
    add("--from", dest="start", type=_time_ms, metavar="TIME", help="of a database: from here on, ISO 8601, UTC")
    add("--to", dest="end", type=_time_ms, metavar="TIME", help="of a database: before this")
    add(
        "--database", metavar="URL", help="read by `--data database`; keeps trainings on record (default: DATABASE_URL)"
    )
    add("--stale-ms", type=_positive, default=5_000, metavar="MS", help="for how long a book speaks (default 5000)")


def _add_label_flags(parser: Any) -> None:
    add = parser.add_argument_group("label").add_argument
    add("--label", choices=("reversion", "momentum", "breakout"), default="reversion", help="(default reversion)")
    add("--horizon-s", type=float, default=60.0, metavar="S", help="how long is looked ahead (default 60)")
    add("--sigmas", type=float, default=1.5, help="of how many σ the move must be (default 1.5)")
    add("--min-distance", type=float, default=0.5, help="|price_dist| must be above (default 0.5)")


def _add_fit_flags(parser: Any) -> None:
    add = parser.add_argument_group("training").add_argument
    add(
        "--grid", choices=("full", "small"), default="full", help="81 combinations, or 4 for a quick try (default full)"
    )
    add("--rows", type=_positive, default=5_000, help="of a fit while combinations are compared (default 5000)")
    add("--fit-rows", type=_positive, default=50_000, help="of the last fit, at most (default 50000)")
    add("--min-samples", type=_positive, default=1_000, help="labelled trades below which nothing is trained")
    add("--test-share", type=float, default=0.2, help="of the samples, the newest, for measuring (default 0.2)")
    add("--threshold", type=float, help="approve above this probability (default 0.65)")
    add("--seed", type=int, default=0, help="of the boosting's draws (default 0)")
    add(
        "--simulate",
        action="store_true",
        help="without --data: a simulated market; the bundle says so, and no server takes it without --allow-simulated",
    )


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON value on standard output")


def label(args: argparse.Namespace, wrong_usage: Callable[[str], Any]) -> int:
    """Print how many trades have which label, and write them."""
    if args.out is not None and args.out.suffix != ".parquet":
        wrong_usage(f"--out: {args.out} does not end in .parquet")
    if args.out is not None and not args.out.parent.is_dir():
        raise ConfigurationError(f"--out: there is no folder {args.out.parent}")
    from candlecast.training import gate_data

    asked = _label(args)
    frames = [gate_data.labelled(recording, asked) for recording in _recordings(args)]
    told = [gate_data.counted(frame) for frame in frames]
    if args.out is not None:
        gate_data.write_labelled(args.out, frames)
    if args.json:
        print(json.dumps({"label": asked.words, "recordings": told, "out": str(args.out) if args.out else None}))
        return 0
    columns = ("recording", "trades", "all features", "labelled", "positive rate", "minutes")
    _table(asked.words, columns, [tuple(one.values()) for one in told])
    return 0


def train(args: argparse.Namespace, wrong_usage: Callable[[str], Any]) -> int:
    """Train and write a bundle."""
    _check_data(args, wrong_usage)
    from candlecast.training import gate_recipe, gate_record

    config = _config(args)
    with gate_record.opened(_database(args)) as record, _progress(config) as on_scored:
        trained = gate_recipe.train(
            _recordings(args),
            config,
            version=args.version,
            simulated=args.simulate,
            say=_say,
            on_scored=on_scored,
        )
        bundle = trained.write(args.out)
        manifest = bundle.manifest
        rows = manifest.training["samples"]
        about = {"simulated": args.simulate, "bundle_sha256": bundle.sha256}
        record.ended(version=manifest.version, data_points=rows, metrics=manifest.metrics, **about)
    out = args.out.resolve()
    if out.name == str(args.version) and out.parent.name == bundle.manifest.name:  # a version in a Triton repository
        from candlecast.triton.repository import write_gate_config

        write_gate_config(out.parent)
    if args.json:
        print((args.out / "manifest.json").read_text(), end="")
        return 0
    _print_metrics(bundle.manifest.metrics)
    for name, share in trained.importance.items():
        print(f"{name}: {share['gain']:.0%} of the splits' gain")
    if note := bundle.manifest.data.get("note"):
        print(note)
    print(f"bundle gate v{args.version} written to {args.out}{' (simulated)' if args.simulate else ''}")
    return 0


def evaluate(args: argparse.Namespace, wrong_usage: Callable[[str], Any]) -> int:
    """Measure a bundle."""
    _check_extra()
    from candlecast.models.gate_bundle import GateBundle
    from candlecast.training import gate_recipe

    metrics = gate_recipe.evaluate(GateBundle.load(args.bundle), _recordings(args))
    if args.json:
        print(json.dumps(metrics))
    else:
        _print_metrics(metrics)
    return 0


def retrain(args: argparse.Namespace, wrong_usage: Callable[[str], Any]) -> int:
    """Train, compare, and keep the better one."""
    _check_data(args, wrong_usage)
    from candlecast.training import gate_recipe, gate_record
    from candlecast.triton.repository import write_gate_config

    folder = (args.model or configuration.load().model_repository / "gate").absolute()
    config = _config(args)
    with gate_record.opened(_database(args)) as record, _progress(config) as on_scored:
        said = gate_recipe.retrain(
            folder,
            _recordings(args),
            config,
            by=args.by,
            margin=args.margin,
            simulated=args.simulate,
            say=_say,
            on_scored=on_scored,
        )
        compared = {said["by"]: {"model": said["new"], "base": said["old"]}} if "new" in said else {}
        about = {"rolled_out": said["rolled_out"], "reason": said["reason"]}
        record.ended(version=said["version"], data_points=said.get("rows"), metrics=compared, **about)
    if said["rolled_out"] and not (folder / "config.pbtxt").exists():
        write_gate_config(folder)
    if args.json:
        print(json.dumps(said))
    else:
        print(f"{'new version ' + str(said['version']) if said['rolled_out'] else 'kept'}: {said['reason']}")
    return 0


def _check_data(args: argparse.Namespace, wrong_usage: Callable[[str], Any]) -> None:
    if bool(args.data) == args.simulate:
        wrong_usage("--data FILE … or --simulate: exactly one of them")
    _check_extra()


def _check_extra() -> None:
    if any(find_spec(name) is None for name in ("sklearn", "skl2onnx", "onnxruntime")):
        raise ConfigurationError("training needs scikit-learn: run `make train-env` (uv sync --extra train)")


def _recordings(args: argparse.Namespace) -> list[Recording]:
    from candlecast.training import gate_data

    if getattr(args, "simulate", False):
        from candlecast.training.gate_simulated import simulated

        return [simulated(seed=args.seed)]
    if url := database_of(args.data, _database(args)):
        from candlecast.store.flow_history import read_flow

        stored = read_flow(url, symbols=args.symbol, start_ms=args.start, end_ms=args.end, say=_say)
        return gate_data.of_database(stored, _say)
    if args.start is not None or args.end is not None:
        raise ConfigurationError("--from and --to are for --data database; files are taken whole")
    if args.symbol and len(args.symbol) > 1:
        raise ConfigurationError("--symbol: files are of one symbol; give one, or leave it to their names")
    symbol = args.symbol[0] if args.symbol else None
    return gate_data.read([Path(name) for name in args.data], symbol=symbol, stale_ms=args.stale_ms, say=_say)


def _database(args: argparse.Namespace) -> str | None:
    return configuration.load(database_url=args.database).database_url


def _label(args: argparse.Namespace) -> Label:
    from candlecast.training.gate_labels import Label

    return Label(args.label, round(args.horizon_s * 1000), args.sigmas, args.min_distance)


def _config(args: argparse.Namespace) -> Config:
    from candlecast import gate
    from candlecast.training.gate_recipe import Config

    return Config(
        label=_label(args),
        grid=args.grid,
        threshold=gate.THRESHOLD if args.threshold is None else args.threshold,
        samples_min=args.min_samples,
        rows_max=args.rows,
        fit_rows_max=args.fit_rows,
        test_share=args.test_share,
        seed=args.seed,
    )


def _print_metrics(metrics: dict[str, Any]) -> None:
    rows = []
    for name, pair in metrics.items():
        if isinstance(pair, dict) and "model" in pair:
            target = metrics["targets"].get(name)
            hoped = f"{target['at_least']:g} to {target['at_most']:g}" if target else ""
            rows.append((name.replace("_", " "), pair["model"], pair["base"], pair.get("heuristic", ""), hoped))
    title = (
        f"{metrics['rows']:,} samples in {metrics['minutes_with_samples']} minutes,"
        f" {metrics['from']} to {metrics['to']},"
        f" {metrics['positive_rate']:.1%} positive, approved above {metrics['threshold']}"
    )
    _table(title, ("", "model", "base rate", "heuristic", "hoped for"), rows)
    if interval := metrics["auc"]["interval_95"]:
        print(f"AUC, 95 % over minutes drawn again: {interval[0]:.3f} to {interval[1]:.3f}")
    over_time = ", ".join("one class" if one["auc"] is None else f"{one['auc']:.3f}" for one in metrics["over_time"])
    print(f"AUC over time: {over_time}")


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, title=title, title_justify="left")
    for k, name in enumerate(columns):
        table.add_column(name, justify="right" if k else "left", no_wrap=k == 0)
    for row in rows:
        table.add_row(
            *("none" if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row)
        )
    Console().print(table)


@contextmanager
def _progress(config: Config) -> Iterator[Callable[[int], None]]:
    from candlecast.cli.flow_features import progress

    with progress("cross-validation", config.combinations, "fits") as advance:
        yield advance


def _say(line: str) -> None:
    print(f"candlecast: {line}", file=sys.stderr)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
