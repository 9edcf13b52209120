"""`candlecast export`: what a bundle may hold beside its ONNX file. Knows no torch until it runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from candlecast.errors import BundleError, ConfigurationError

DESCRIPTION = """Give a bundle model.pt2, the PyTorch program that serves it on an NVIDIA GPU without a container: its
weights are read from model.onnx bit by bit, and its answers to the golden windows are compared before anything is
replaced. Beside the version folders it writes how Triton runs the model: config.pbtxt and configs/*.pbtxt. With
--reference it gives a bundle that was trained before reference.json instead, what its drift is measured against."""

TREES = ("xgboost", "lightgbm")


def register(commands: Any) -> None:
    command = commands.add_parser(
        "export", help="give a bundle its PyTorch program, or its reference", description=DESCRIPTION
    )
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="its folder, such as triton_models/patchtst/1")
    command.add_argument("--configs-only", action="store_true", help="write the configurations alone (needs no torch)")
    command.add_argument(
        "--reference",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="write reference.json alone, from the candle files that the bundle's manifest lists",
    )
    command.add_argument("--json", action="store_true", help="print what was done as JSON on standard output")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the program and the configurations, or the reference.

    Raises:
        ConfigurationError: torch is missing, or the candles are not those of the bundle.
        BundleError: the bundle is damaged, not of our training, or its program computes other values.
    """
    from candlecast import outputs
    from candlecast.models.bundle import PROGRAM, Bundle
    from candlecast.triton import repository

    if args.reference:
        written = add_reference(args.bundle, args.reference)
        print(
            json.dumps(written)
            if args.json
            else f"{written['file']} written to {args.bundle}: {written['bytes']} bytes"
        )
        return 0
    done: dict[str, Any] = {"bundle": str(args.bundle)}
    if not args.configs_only:
        done |= add_program(args.bundle)
    manifest = Bundle.load(args.bundle).manifest
    folder = args.bundle.resolve()
    if folder.name == str(manifest.version) and folder.parent.name == manifest.name:  # a version in a Triton repository
        features = manifest.feature_set
        shape = (manifest.name, features.window, len(features.columns), outputs.COUNT)
        repository.write_config(folder.parent, *shape)
        done["configs"] = [str(folder.parent / path) for path in repository.configs(*shape)]
    if args.json:
        print(json.dumps(done))
    else:
        if "relative_error" in done:
            print(
                f"{PROGRAM} written to {args.bundle}: {done['relative_error']['all']:.1e} of the largest golden answer"
            )
        for path in done.get("configs", []):
            print(f"wrote {path}")
    return 0


def add_program(path: Path) -> dict[str, Any]:
    """Write model.pt2 into the bundle at `path`, replacing one that is there; say its size and relative error.

    Raises:
        ConfigurationError: torch is missing.
        BundleError: the bundle is damaged, not of our training, of trees or an ensemble, or its program computes other
            values; nothing changed.
    """
    from candlecast.models import bundle

    old = bundle.Bundle.load(path)
    if old.manifest.name in TREES:
        raise BundleError(
            f"{path} holds {old.manifest.name} trees, which have no PyTorch program: ONNX Runtime serves them"
            " (the setting triton_backend = onnxruntime)"
        )
    _require_torch("the program")
    from candlecast.training import export, program
    from candlecast.training.patchtst import NetworkConfig

    try:
        network = NetworkConfig(**old.manifest.training["config"]["network"])
    except (KeyError, TypeError) as error:
        raise BundleError(f"{path}: its manifest does not say which network it holds ({error})") from error
    content = program.to_program(program.from_onnx((path / bundle.MODEL).read_bytes(), network))
    answers = program.run(content, old.golden_inputs)
    errors = export.check_parity(f"{path}: the program's golden answer", answers, old.golden_outputs)
    bundle.amend(old, program=content)
    return {"program_bytes": len(content), "relative_error": errors}


def add_reference(path: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Write reference.json into the bundle at `path`, replacing one that is there; say its size.

    Raises:
        ConfigurationError: torch is missing, or the files are not those that the bundle was trained on.
        BundleError: the bundle is damaged, or does not say what it was trained on; nothing changed.
    """
    from candlecast.models import bundle

    old = bundle.Bundle.load(path)
    _require_torch("the reference")
    from candlecast.training import reference

    found = reference.of_bundle(old, files)
    bundle.amend(old, reference=found)
    return {"bundle": str(path), "file": bundle.REFERENCE, "bytes": (path / bundle.REFERENCE).stat().st_size}


def _require_torch(what: str) -> None:
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("torch", "onnx", "onnxscript", "onnxruntime")):
        raise ConfigurationError(f"{what} needs torch: run `make train-env` (uv sync --extra train)")
