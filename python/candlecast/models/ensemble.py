"""An ensemble: a folder with nothing but a manifest.json, which names bundles and their weights. Knows no server.

REPOSITORY/ensemble/1/manifest.json      the Manifest below
REPOSITORY/patchtst/1/ ...               the members, ordinary bundles of the same repository
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from candlecast import __version__
from candlecast.ensemble import skill, weights_of
from candlecast.errors import BundleError
from candlecast.models.bundle import FORECAST, Bundle
from candlecast.models.folder import MANIFEST
from candlecast.outputs import HORIZONS
from candlecast.values import F64

FORMAT: Final = 1
NAME: Final = "ensemble"


@dataclass(frozen=True, slots=True)
class Member:
    """One model of an ensemble."""

    name: str
    version: int
    sha256: str  # of its manifest.json, hence of everything
    log_loss: dict[str, dict[str, float]]  # by horizon: model, base, skill; walk-forward, mean of the folds
    skill: float  # mean over the horizons
    weight: float  # 0: it is not asked


@dataclass(frozen=True, slots=True)
class Manifest:
    """What manifest.json says, field for field."""

    name: str
    version: int
    created_at: str  # ISO 8601, UTC
    candlecast: str  # the version that wrote it
    weighting: Literal["skill", "equal"]  # equal: no member beats the base rate
    feature_set: str  # hash, 16 hex digits, of every member's
    reference_symbol: str | None
    members: list[Member]
    format: int = FORMAT


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """An ensemble whose members were loaded and are those that its manifest names."""

    path: Path
    manifest: Manifest
    sha256: str  # of manifest.json, hence of all members
    members: tuple[Bundle, ...]  # those with a weight
    weights: F64  # [M] of these, their sum 1

    @property
    def feature_set_hash(self) -> int:
        """The 64-bit hash of the feature set of every member."""
        return self.members[0].feature_set_hash

    @property
    def temperatures(self) -> F64:
        """The calibration [M, 4] of the members."""
        return np.array([bundle.manifest.temperatures for bundle in self.members])

    @classmethod
    def load(cls, path: Path) -> Ensemble:
        """Read the ensemble in folder `path`, and its members from the repository that holds it.

        Raises:
            BundleError: a manifest or a member is missing, damaged, or not the one that was weighed.
        """
        try:
            text = (path / MANIFEST).read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: {MANIFEST} cannot be read ({error.strerror})") from error
        manifest = _manifest(path, text)
        asked = [member for member in manifest.members if member.weight > 0]
        bundles = []
        for member in asked:
            bundle = Bundle.load(path.parent.parent / member.name / str(member.version))
            if bundle.sha256 != member.sha256:
                raise BundleError(
                    f"{path}: {bundle.path} has changed since the ensemble was made: weigh its members again with"
                    " `candlecast ensemble`"
                )
            bundles.append(bundle)
        require_equal_features(bundles)
        weights = np.array([member.weight for member in asked])
        return cls(path, manifest, hashlib.sha256(text).hexdigest(), tuple(bundles), weights / weights.sum())


def load(path: Path) -> Bundle | Ensemble:
    """Read what lies in folder `path`: a bundle, or an ensemble and its members.

    Raises:
        BundleError: it is damaged.
    """
    return Ensemble.load(path) if is_ensemble(path) else Bundle.load(path)


def members_of(served: Bundle | Ensemble) -> tuple[Bundle, ...]:
    """Return the bundles that are asked."""
    return served.members if isinstance(served, Ensemble) else (served,)


def is_ensemble(path: Path) -> bool:
    """Say whether the folder holds an ensemble, and no model of its own."""
    try:
        return "members" in json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def weigh(bundles: Sequence[Bundle], version: int) -> Manifest:
    """Return the manifest of an ensemble of these, weighted by their walk-forward skill over the base rate.

    Raises:
        BundleError: one says no skill, they have not the same features, or one is named twice.
    """
    require_equal_features(bundles)
    named = [(bundle.manifest.name, bundle.manifest.version) for bundle in bundles]
    if twice := {f"{name} v{number}" for name, number in named if named.count((name, number)) > 1}:
        raise BundleError(f"named twice: {', '.join(sorted(twice))}")
    losses = [_log_losses(bundle) for bundle in bundles]
    skills = np.array([np.mean([loss["skill"] for loss in of.values()]) for of in losses])
    features = bundles[0].manifest.feature_set
    return Manifest(
        name=NAME,
        version=version,
        created_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        candlecast=__version__,
        weighting="skill" if (skills > 0).any() else "equal",
        feature_set=features.hash,
        reference_symbol=features.reference_symbol,
        members=[
            Member(name, number, bundle.sha256, loss, round(float(ability), 6), round(float(weight), 6))
            for (name, number), bundle, loss, ability, weight in zip(
                named, bundles, losses, skills, weights_of(skills), strict=True
            )
        ],
    )


def write(path: Path, manifest: Manifest) -> Ensemble:
    """Write the ensemble to folder `path`, replacing one that is there, and return it as loaded.

    Raises:
        BundleError: the members do not lie in the repository of `path`, or it holds something else or cannot be
            written; what was there stays as it was.
    """
    path = path.absolute()
    if (path.parent.name, path.name) != (manifest.name, str(manifest.version)):
        raise BundleError(f"{path}: an ensemble lies in REPOSITORY/{manifest.name}/{manifest.version}")
    if path.exists() and not (path.is_dir() and {file.name for file in path.iterdir()} <= {MANIFEST}):
        raise BundleError(f"{path} holds something else than an ensemble; choose another folder")
    text = json.dumps(asdict(manifest), indent=2, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as scratch:
            new = Path(scratch) / MANIFEST
            with new.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Ensemble.load(new.parent)
            path.mkdir(exist_ok=True)
            new.replace(path / MANIFEST)
    except OSError as error:
        raise BundleError(f"{path}: cannot be written ({error.strerror}); nothing was changed") from error
    return Ensemble.load(path)


def require_equal_features(bundles: Sequence[Bundle]) -> None:
    """Raise BundleError, naming who differs, unless all are forecasters trained on the same features."""
    for bundle in bundles:
        if bundle.target != FORECAST:
            raise BundleError(f"{bundle.path} is a model of {bundle.target}, no forecaster: it cannot be a member")
    given = [
        (f"{bundle.manifest.name} v{bundle.manifest.version}", asdict(bundle.manifest.feature_set))
        for bundle in bundles
    ]
    first, of_first = given[0]
    for word, key in (("feature set", "hash"), ("reference symbol", "reference_symbol")):
        differ = [f"{name} with {of[key]}" for name, of in given if of[key] != of_first[key]]
        if differ:
            raise BundleError(
                f"the members of an ensemble need the same {word}: {first} was trained with {of_first[key]},"
                f" but {', '.join(differ)}"
            )


def measured_on(bundle: Bundle) -> Any:
    """Return what skills must share to be compared: the symbols and the test spans of the folds."""
    manifest = bundle.manifest
    folds = manifest.metrics.get("walk_forward", {}).get("folds", [])
    return manifest.data.get("symbols"), [fold.get("spans", {}).get("test") for fold in folds]


def _log_losses(bundle: Bundle) -> dict[str, dict[str, float]]:
    """Return log-loss of model and base rate, and the skill, by horizon."""
    manifest = bundle.manifest
    try:
        horizons = manifest.metrics["walk_forward"]["mean"]["horizons"]
        pairs = {h: (float(horizons[h]["log_loss"]["model"]), float(horizons[h]["log_loss"]["base"])) for h in HORIZONS}
        losses = {h: {"model": model, "base": base, "skill": skill(model, base)} for h, (model, base) in pairs.items()}
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise BundleError(
            f"{bundle.path}: its manifest has no walk-forward log-loss beside the base rate's ({error!r}), so"
            " it cannot be weighed: train it with folds"
        ) from error
    if not np.isfinite([list(loss.values()) for loss in losses.values()]).all():
        raise BundleError(f"{bundle.path}: its walk-forward log-loss is not finite")
    return losses


def _manifest(path: Path, text: bytes) -> Manifest:
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise BundleError(f"{path}: ensemble format {document['format']}, this candlecast reads {FORMAT}")
        members = [Member(**member) for member in document["members"]]
        manifest = Manifest(**document | {"members": members})
        weights = [member.weight for member in members]
        is_sound = all(0 <= weight < float("inf") for weight in weights) and sum(weights) > 0
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: {MANIFEST} is damaged or incomplete: {error}") from error
    if not is_sound:
        raise BundleError(f"{path}: {MANIFEST}: weights {weights} are not numbers of at least 0 with a sum above 0")
    return manifest
