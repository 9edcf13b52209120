"""The model bundle: a folder that says everything about one trained model. Knows no torch, no ONNX and no server.

model.onnx           features f32 [-1, 96, F] → outputs f32 [-1, 20]
model.pt2            the same as a torch.export program, for a GPU without a container; may be absent
manifest.json        the Manifest below, with the sha256 of every other file
golden_inputs.npy    f32 [4, 96, F], real windows
golden_outputs.npy   f32 [4, 20], what model.onnx answers to them
reference.json       how the rows it was trained on and its answers are distributed (reference.py); may be absent
fold-1.onnx, …       the fits of its walk-forward, which a backtest asks about the bars they have not seen; no server
                     needs them, so copies that are served leave them out

A bundle whose manifest names another target under `training` answers another question, with K outputs instead of 20,
and is not served as a forecaster.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from candlecast import outputs
from candlecast.errors import BundleError, Refusal
from candlecast.features import NAMES, OPTIONAL_INPUTS, feature_set_hash
from candlecast.models import folder
from candlecast.models.folder import MANIFEST
from candlecast.models.reference import Reference, parse
from candlecast.values import F32, SYMBOL

FORMAT: Final = 2
WINDOW: Final = 96
OUTPUTS: Final = {"count": outputs.COUNT}
FORECAST: Final = "forecast"
"""The target of a model that answers with the 20 outputs."""
MODEL, PROGRAM = "model.onnx", "model.pt2"
GOLDEN_INPUTS, GOLDEN_OUTPUTS = "golden_inputs.npy", "golden_outputs.npy"
REFERENCE: Final = "reference.json"
CONTENTS: Final = (MODEL, GOLDEN_INPUTS, GOLDEN_OUTPUTS)
OPTIONAL: Final = (PROGRAM, REFERENCE)
FILES: Final = (*CONTENTS, *OPTIONAL, MANIFEST)
"""All that a bundle may hold, but the folds: what is served."""
FOLDS_MAX: Final = 50
FOLDS: Final = tuple(f"fold-{number}.onnx" for number in range(1, FOLDS_MAX + 1))


@dataclass(frozen=True, slots=True)
class FeatureSet:
    name: str
    hash: str  # 16 hex digits, of the ordered columns, their formula versions and the optional inputs
    columns: list[str]
    optional_inputs: list[str]  # those in use, in the order of OPTIONAL_INPUTS
    reference_symbol: str | None  # given when "reference" is in use
    window: int = WINDOW


@dataclass(frozen=True, slots=True)
class Manifest:
    """What manifest.json says; field for field, but `files`, which `write` fills in."""

    name: str
    version: int
    created_at: str  # ISO 8601, UTC
    feature_set: FeatureSet
    data: dict[str, Any]  # files: [{name, sha256, rows, from, to}], symbols (of the samples), interval_ms, from, to
    code_commit: str
    training: dict[str, Any]
    metrics: dict[str, Any]  # each number beside its base rate
    temperatures: list[float]  # of the 4 horizons, > 0
    files: dict[str, str] = field(default_factory=dict)  # name: sha256
    outputs: dict[str, int] = field(default_factory=lambda: dict(OUTPUTS))
    format: int = FORMAT


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle whose files were checked against its manifest."""

    path: Path
    manifest: Manifest
    sha256: str  # of manifest.json, hence of everything
    golden_inputs: F32  # [4, 96, F]
    golden_outputs: F32  # [4, 20], or [4, K] of another target
    reference: Reference | None = None  # None: it has none

    @property
    def feature_set_hash(self) -> int:
        """The 64-bit hash of the feature set the model was trained with."""
        return int(self.manifest.feature_set.hash, 16)

    @property
    def target(self) -> str:
        """What the outputs mean: FORECAST, or the name of another question."""
        return _target(self.manifest)

    @property
    def has_program(self) -> bool:
        """Whether it can be served by PyTorch as well."""
        return PROGRAM in self.manifest.files

    def fold(self, number: int) -> Path | None:
        """Return the model of a fold of the walk-forward, from 1; None where this copy has none."""
        name = FOLDS[number - 1]
        return self.path / name if name in self.manifest.files and (self.path / name).exists() else None

    def check_folds(self) -> None:
        """Raise BundleError when the model of a fold that is here is not the file that the manifest names."""
        there = [name for name in FOLDS if name in self.manifest.files and (self.path / name).exists()]
        folder.check(self.path, there, self.manifest.files)

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read the bundle in folder `path`.

        Raises:
            BundleError: a file is missing, differs from its sha256, or does not have the shape the manifest says.
        """
        text = folder.read(path, MANIFEST)
        manifest = _manifest(path, text)
        for name in OPTIONAL:
            if name not in manifest.files and (path / name).exists():
                raise BundleError(f"{path}: {name} is none of the files its manifest names; remove it")
        folder.check(path, [name for name in (MODEL, PROGRAM) if name in manifest.files], manifest.files)
        small = (GOLDEN_INPUTS, GOLDEN_OUTPUTS, *([REFERENCE] if REFERENCE in manifest.files else []))
        contents = folder.read_checked(path, small, manifest.files)
        windows = (4, WINDOW, len(manifest.feature_set.columns))
        return cls(
            path=path,
            manifest=manifest,
            sha256=hashlib.sha256(text).hexdigest(),
            golden_inputs=folder.array(path, GOLDEN_INPUTS, contents[GOLDEN_INPUTS], windows),
            golden_outputs=folder.array(path, GOLDEN_OUTPUTS, contents[GOLDEN_OUTPUTS], (4, manifest.outputs["count"])),
            reference=_reference(path, contents.get(REFERENCE), windows[2]),
        )

    def check_feature_set(self) -> None:
        """Raise BundleError, saying what differs, unless the core computes what the model was trained on."""
        mine = self.manifest.feature_set
        here = feature_set_hash(mine.optional_inputs)
        if int(mine.hash, 16) != here:
            raise BundleError(
                f"bundle {self.manifest.name} v{self.manifest.version} was trained on feature set {mine.name}"
                f" 0x{mine.hash}; with its optional inputs ({', '.join(mine.optional_inputs) or 'none'}) this server"
                f" computes 0x{here:016x}: {_difference(mine.columns)}; train it again",
                Refusal.FEATURE_SET_MISMATCH,
            )

    def check_reference(self, symbol: str) -> None:
        """Raise BundleError when the model compares with another reference symbol than `symbol`, the one configured."""
        mine = self.manifest.feature_set.reference_symbol
        if mine not in (None, symbol):
            raise BundleError(
                f"bundle {self.manifest.name} v{self.manifest.version} was trained with the reference symbol {mine};"
                f" the setting reference_symbol is {symbol}: change it, or serve another model",
                Refusal.REFERENCE_MISMATCH,
            )


def check_place(path: Path) -> None:
    """Raise BundleError when `path` holds something that a bundle may not replace."""
    folder.check_place(path, (*FILES, *FOLDS))


def write(
    path: Path,
    manifest: Manifest,
    model: bytes,
    golden_inputs: F32,
    golden_outputs: F32,
    *,
    program: bytes | None = None,
    reference: Reference | None = None,
    folds: Sequence[bytes] = (),
) -> Bundle:
    """Write the bundle to folder `path`, replacing a bundle that is there, and return it as loaded.

    Everything is written, synced and checked beside `path` first: on any error what was there stays as it was.

    Raises:
        BundleError: `path` holds something that is no bundle, or what would be written is none.
    """
    path = path.absolute()
    check_place(path)
    contents = {MODEL: model, GOLDEN_INPUTS: folder.npy(golden_inputs), GOLDEN_OUTPUTS: folder.npy(golden_outputs)}
    if program is not None:
        contents[PROGRAM] = program
    if reference is not None:
        contents[REFERENCE] = reference.as_bytes()
    contents |= dict(zip(FOLDS, folds, strict=False))
    folder.replace(path, contents, asdict(manifest), Bundle.load)
    return Bundle.load(path)


def amend(old: Bundle, *, program: bytes | None = None, reference: Reference | None = None) -> Bundle:
    """Write a bundle anew with this program or reference, and all else as it is.

    Raises:
        BundleError: as `write`.
    """
    if program is None and old.has_program:
        program = (old.path / PROGRAM).read_bytes()
    return write(
        old.path,
        old.manifest,
        (old.path / MODEL).read_bytes(),
        old.golden_inputs,
        old.golden_outputs,
        program=program,
        reference=reference or old.reference,
        folds=[(old.path / name).read_bytes() for name in FOLDS if (old.path / name).exists()],
    )


def _reference(path: Path, content: bytes | None, features: int) -> Reference | None:
    try:
        return None if content is None else parse(content, features)
    except ValueError as error:
        raise BundleError(f"{path}: {REFERENCE} cannot be used: {error}") from error


def _manifest(path: Path, text: bytes) -> Manifest:
    try:
        document = json.loads(text)
        if "members" in document:
            raise BundleError(f"{path} is an ensemble, which has no model of its own: name one of its members")
        if document["format"] != FORMAT:
            raise BundleError(
                f"{path}: bundle format {document['format']}, this candlecast reads {FORMAT}; train it again"
            )
        manifest = Manifest(**document | {"feature_set": FeatureSet(**document["feature_set"])})
        wrong = _wrong(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path}: {MANIFEST} is damaged or incomplete: {error}") from error
    if wrong:
        raise BundleError(f"{path}: {MANIFEST}: {wrong}")
    return manifest


def _wrong(manifest: Manifest) -> str | None:
    """Say what is wrong with the manifest; a value of an unexpected type may raise TypeError."""
    kinds = {
        "name": str,
        "version": int,
        "created_at": str,
        "code_commit": str,
        "data": dict,
        "training": dict,
        "metrics": dict,
    }
    for name in (f.name for f in fields(manifest) if f.name in kinds):
        if not isinstance(getattr(manifest, name), kinds[name]):
            return f"{name} is not a {kinds[name].__name__}"
    if manifest.version < 1:
        return f"version {manifest.version} is below 1"
    if missing := [name for name in CONTENTS if name not in manifest.files]:
        return f"files lacks {', '.join(missing)}"
    if features := _wrong_features(manifest.feature_set):
        return f"feature_set.{features}"
    if manifest.feature_set.window != WINDOW:
        return f"this candlecast serves windows of {WINDOW} rows"
    if _target(manifest) != FORECAST:
        count = manifest.outputs.get("count")
        return None if type(count) is int and count >= 1 else f"outputs {manifest.outputs} have no count"
    if manifest.outputs != OUTPUTS:
        return f"this candlecast serves {outputs.COUNT} outputs, not {manifest.outputs}"
    if len(manifest.temperatures) != 4 or not all(0 < t < float("inf") for t in manifest.temperatures):
        return f"temperatures {manifest.temperatures} are not 4 positive numbers"
    return None


def _target(manifest: Manifest) -> str:
    return str(manifest.training.get("target", {"name": FORECAST})["name"])


def _wrong_features(features: FeatureSet) -> str | None:
    used, reference = features.optional_inputs, features.reference_symbol
    if len(features.hash) != 16 or int(features.hash, 16) < 0:
        return f"hash {features.hash!r} is not 16 hex digits"
    if not features.columns or len(set(features.columns)) != len(features.columns):
        return "columns is empty or repeats a name"
    if used != [name for name in OPTIONAL_INPUTS if name in used]:
        return f"optional_inputs {used} are not some of {', '.join(OPTIONAL_INPUTS)}, in this order, each once"
    if (reference is not None) != ("reference" in used):
        return f"reference_symbol {reference!r} does not go with optional_inputs {used}"
    if reference is not None and not SYMBOL.fullmatch(reference):
        return f"reference_symbol {reference!r} is no symbol"
    return None


def _difference(columns: list[str]) -> str:
    """Say how a bundle's columns differ from the core's."""
    if columns == list(NAMES):
        return f"the {len(NAMES)} columns have the same names, but not the same formulas"
    pairs = list(zip_longest(columns, NAMES, fillvalue="none"))
    first = next(k for k, (there, here) in enumerate(pairs) if there != here)
    return (
        f"of its {len(columns)} columns and the {len(NAMES)} here, the first that differs is column {first}:"
        f" {pairs[first][0]}, here {pairs[first][1]}"
    )
