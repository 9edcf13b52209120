"""The gate's bundle: a folder that says everything about one trained gate. Knows no scikit-learn, no ONNX, no server.

model.onnx               features f32 [-1, 3] → probabilities f32 [-1, 2]
manifest.json            the GateManifest below, with the sha256 of every other file
golden_inputs.npy        f32 [16, 3], real rows
golden_outputs.npy       f32 [16, 2], what model.onnx answers to them
training_metrics.json    the manifest's metrics and every combination that was tried
feature_importance.json  by feature
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from candlecast import gate
from candlecast.errors import BundleError
from candlecast.models import folder
from candlecast.values import F32

NAME: Final = "gate"
FORMAT: Final = 1
GOLDEN_ROWS: Final = 16
MODEL, GOLDEN_INPUTS, GOLDEN_OUTPUTS = "model.onnx", "golden_inputs.npy", "golden_outputs.npy"
METRICS, IMPORTANCE = "training_metrics.json", "feature_importance.json"
CONTENTS: Final = (MODEL, GOLDEN_INPUTS, GOLDEN_OUTPUTS, METRICS, IMPORTANCE)
FILES: Final = (*CONTENTS, folder.MANIFEST)


@dataclass(frozen=True, slots=True)
class GateManifest:
    """What manifest.json says; field for field, but `files`, which `write` fills in."""

    version: int
    created_at: str  # ISO 8601, UTC
    simulated: bool  # trained on a simulated market: not to be served to anyone who trades
    threshold: float  # approve above it
    label: dict[str, Any]  # kind, horizon_ms, sigmas, distance_min
    data: dict[str, Any]  # recordings: [{name, files: [{name, sha256}], rows, from, to}], from, to, sha256
    code_commit: str
    training: dict[str, Any]  # params, how they were chosen, fitted_until_ms
    metrics: dict[str, Any]  # each number beside its base rate, of the newest data, which the model has not seen
    features: list[str] = field(default_factory=lambda: list(gate.FEATURES))
    files: dict[str, str] = field(default_factory=dict)  # name: sha256
    name: str = NAME
    format: int = FORMAT


@dataclass(frozen=True, slots=True, eq=False)
class GateBundle:
    """A bundle whose files were checked against its manifest."""

    path: Path
    manifest: GateManifest
    sha256: str  # of manifest.json, hence of everything
    golden_inputs: F32  # [16, 3]
    golden_outputs: F32  # [16, 2]

    @classmethod
    def load(cls, path: Path) -> GateBundle:
        """Read the bundle in folder `path`.

        Raises:
            BundleError: a file is missing, differs from its sha256, or is not what a gate of this candlecast has.
        """
        text = folder.read(path, folder.MANIFEST)
        manifest = _manifest(path, text)
        contents = folder.read_checked(path, CONTENTS, manifest.files)
        rows = (GOLDEN_ROWS, len(gate.FEATURES))
        return cls(
            path=path,
            manifest=manifest,
            sha256=hashlib.sha256(text).hexdigest(),
            golden_inputs=folder.array(path, GOLDEN_INPUTS, contents[GOLDEN_INPUTS], rows),
            golden_outputs=folder.array(
                path, GOLDEN_OUTPUTS, contents[GOLDEN_OUTPUTS], (GOLDEN_ROWS, len(gate.CLASSES))
            ),
        )

    def check_real(self, allow_simulated: bool = False) -> None:
        """Raise BundleError for one that was trained on a simulated market, unless that is allowed."""
        if self.manifest.simulated and not allow_simulated:
            raise BundleError(
                f"{self.path}: gate v{self.manifest.version} was trained on a simulated market and knows nothing of a"
                " real one; train it on recordings, or say --allow-simulated"
            )


def write(
    path: Path,
    manifest: GateManifest,
    model: bytes,
    golden_inputs: F32,
    golden_outputs: F32,
    metrics: dict[str, Any],
    importance: dict[str, Any],
) -> GateBundle:
    """Write the bundle to folder `path`, replacing a gate's bundle that is there, and return it as loaded.

    Raises:
        BundleError: `path` holds something else, or what would be written is no bundle. What was there stays.
    """
    path = path.absolute()
    folder.check_place(path, FILES)
    contents = {
        MODEL: model,
        GOLDEN_INPUTS: folder.npy(golden_inputs),
        GOLDEN_OUTPUTS: folder.npy(golden_outputs),
        METRICS: folder.as_json(metrics),
        IMPORTANCE: folder.as_json(importance),
    }
    folder.replace(path, contents, asdict(manifest), GateBundle.load)
    return GateBundle.load(path)


def newest(model: Path) -> GateBundle | None:
    """Return the bundle with the highest version in a model's folder; None when there is none.

    Raises:
        BundleError: that version is damaged.
    """
    versions = [int(one.name) for one in model.iterdir() if one.name.isdigit()] if model.is_dir() else []
    return GateBundle.load(model / str(max(versions))) if versions else None


def _manifest(path: Path, text: bytes) -> GateManifest:
    try:
        document = json.loads(text)
        if document["name"] != NAME or document["format"] != FORMAT:
            raise BundleError(
                f"{path}: {document['name']}, format {document['format']}: no gate of format {FORMAT}; train it again"
            )
        manifest = GateManifest(**document)
        if manifest.features != list(gate.FEATURES):
            raise BundleError(f"{path}: its features are {manifest.features}, here {list(gate.FEATURES)}")
        if missing := [name for name in CONTENTS if name not in manifest.files]:
            raise BundleError(f"{path}: {folder.MANIFEST}: files lacks {', '.join(missing)}")
        if manifest.version < 1 or not 0 < manifest.threshold < 1 or type(manifest.simulated) is not bool:
            raise BundleError(f"{path}: {folder.MANIFEST}: version, threshold or simulated is not one")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: {folder.MANIFEST} is damaged or incomplete: {error}") from error
    return manifest
