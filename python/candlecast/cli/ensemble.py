"""`candlecast ensemble`: bundles → weights → a model set that is served as one."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlecast.errors import ConfigurationError

if TYPE_CHECKING:
    from candlecast.models.ensemble import Manifest

DESCRIPTION = """Make an ensemble of bundles of one model repository. A member's weight is its walk-forward skill over
the base rate, 1 - log-loss / base log-loss, mean over the horizons, as its manifest has it; never its accuracy. One
that does not beat the base rate gets no weight and is not asked; if none does, all weigh the same, and this says so.
Serve it with the setting model = "ensemble" (CANDLECAST_MODEL=ensemble candlecast up)."""


def register(commands: Any) -> None:
    command = commands.add_parser("ensemble", help="weigh bundles and serve them as one", description=DESCRIPTION)
    command.add_argument(
        "bundles", nargs="+", type=Path, metavar="BUNDLE", help="a member's folder, such as triton_models/patchtst/1"
    )
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="REPOSITORY/ensemble/VERSION, in the members' repository; an ensemble there is replaced",
    )
    command.add_argument("--json", action="store_true", help="print the manifest as JSON on standard output")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Weigh the members and write the ensemble.

    Raises:
        ConfigurationError: --out is no place for an ensemble.
        BundleError: a member is damaged or cannot be weighed, or the members do not fit together.
    """
    from candlecast.models import ensemble
    from candlecast.models.bundle import Bundle
    from candlecast.training import suspicion

    out = args.out.resolve()
    if out.parent.name != ensemble.NAME or not out.name.isdigit() or int(out.name) < 1:
        raise ConfigurationError(
            f"--out {args.out}: an ensemble lies in {ensemble.NAME}/VERSION of a model repository, such as"
            f" triton_models/{ensemble.NAME}/1"
        )
    bundles = [Bundle.load(path) for path in args.bundles]
    for path, bundle in zip(args.bundles, bundles, strict=True):
        place = out.parent.parent / bundle.manifest.name / str(bundle.manifest.version)
        if path.resolve() != place:
            raise ConfigurationError(
                f"{path}: a member lies in the ensemble's own model repository, this one in {place}"
            )
    manifest = ensemble.weigh(bundles, int(out.name))
    ensemble.write(out, manifest)
    for bundle in bundles:
        for text in suspicion.found_in(bundle.manifest.metrics):
            print(f"candlecast: {bundle.path}: {text}: do not trust its skill, and so its weight", file=sys.stderr)
    if any(ensemble.measured_on(bundle) != ensemble.measured_on(bundles[0]) for bundle in bundles[1:]):
        print(
            "candlecast: the members were measured on different symbols or times, so that their skills are not quite"
            " comparable: train them on the same data with the same folds",
            file=sys.stderr,
        )
    if args.json:
        print(json.dumps(asdict(manifest)))
    else:
        _print_table(manifest)
        print(f"{manifest.name} v{manifest.version} written to {args.out}")
    return 0


def _print_table(manifest: Manifest) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, title="walk-forward skill over the base rate: 1 - log-loss / base log-loss")
    horizons = list(manifest.members[0].log_loss)
    for title in ("member", *horizons, "mean", "weight"):
        table.add_column(title, justify="left" if title == "member" else "right", no_wrap=True)
    for member in manifest.members:
        skills = [member.log_loss[horizon]["skill"] for horizon in horizons]
        table.add_row(
            f"{member.name} v{member.version}",
            *(f"{skill:+.4f}" for skill in (*skills, member.skill)),
            f"{member.weight:.3f}" if member.weight else "0: not asked",
        )
    Console().print(table)
    if manifest.weighting == "equal":
        print("No member beats the base rate, so that all weigh the same: do not expect the ensemble to.")
